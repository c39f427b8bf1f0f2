//! `patchfleet up`: coordinator and agents in one process.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use patchfleet_coordinator::Coordinator;
use patchfleet_domain::AgentId;
use patchfleet_resilience::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::ServiceArgs;
use crate::output::Output;
use crate::{coordinator, runtime};

/// How to run everything.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Runs until it is told to end, or until a part ends by itself, which is an error that names it.
/// Agents end first, so that they can report and say goodbye.
pub(crate) async fn run(args: UpArgs, output: Output) -> anyhow::Result<ExitCode> {
    let config = args.service.begin()?;
    if config.agents.is_empty() {
        bail!(
            "{}: there is no [[agents]] section; add one, or run `patchfleet coordinator`",
            args.service.file().display()
        );
    }
    let telemetry = config.start_telemetry("patchfleet")?;
    let shutdown = runtime::shutdown_on_signal()?;
    let coordinator_shutdown = CancellationToken::new();
    let coordinator = Coordinator::start(
        config.coordinator(args.service.file())?,
        coordinator_shutdown.clone(),
    )
    .await?;
    coordinator::announce(&coordinator, output);
    let mut agents = Agents::new(shutdown);
    for mut agent in config.agents {
        agent.coordinator.url = format!("http://{}", coordinator.fleet_address()).parse()?;
        agents.start(agent.id.clone(), |stop| patchfleet_agent::run(agent, stop));
    }
    let agents = agents.join(coordinator.failed()).await;
    coordinator_shutdown.cancel();
    // A stage of the coordinator that ended may be why an agent could not go on.
    let result = coordinator.join().await.and(agents);
    telemetry.shutdown();
    result.map(|()| ExitCode::SUCCESS)
}

/// The agents of this process. They end together.
struct Agents {
    running: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
}

impl Agents {
    fn new(stop: CancellationToken) -> Self {
        Self {
            running: JoinSet::new(),
            stop,
        }
    }

    /// Starts an agent, which gets what tells it to end.
    fn start<R>(&mut self, id: AgentId, agent: impl FnOnce(CancellationToken) -> R)
    where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = self.stop.clone();
        let running = agent(stop.clone());
        self.running.spawn(async move {
            let ended = watch("agent", running).await;
            let ended = match ended.unwrap_or_else(|ended| Err(ended.into())) {
                Ok(()) if !stop.is_cancelled() => Err(anyhow!("it ended without being asked to")),
                ended => ended,
            };
            ended.with_context(|| format!("the agent `{id}`"))
        });
    }

    /// Waits until all have ended. They are told to end when one of them ends by itself, or when the
    /// coordinator fails.
    ///
    /// # Errors
    /// The first that ended by itself, and why.
    async fn join(mut self, coordinator_failed: impl Future<Output = ()>) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        let ending = async {
            let mut result = Ok(());
            while let Some(ended) = self.running.join_next().await {
                let ended = ended.map_err(anyhow::Error::from).and_then(|ended| ended);
                if let Err(error) = &ended {
                    tracing::error!("{error:#}; the process ends");
                    self.stop.cancel();
                }
                result = result.and(ended);
            }
            result
        };
        let watching = async {
            coordinator_failed.await;
            stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = ending => result,
            () = watching => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AgentId {
        text.parse().unwrap()
    }

    /// An agent that goes on until it is told to end.
    async fn patient(stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn agents_that_are_told_to_end_are_no_fault() {
        let stop = CancellationToken::new();
        let mut agents = Agents::new(stop.clone());
        agents.start(id("a-1"), patient);
        agents.start(id("a-2"), patient);
        stop.cancel();
        agents.join(std::future::pending()).await.unwrap();
    }

    #[tokio::test]
    async fn an_agent_that_ends_by_itself_is_named_and_ends_the_others() {
        let mut agents = Agents::new(CancellationToken::new());
        agents.start(id("a-1"), patient);
        agents.start(id("a-2"), |_| async { bail!("no place") });
        let error = agents.join(std::future::pending()).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the agent `a-2`: no place");

        let mut agents = Agents::new(CancellationToken::new());
        agents.start(id("a-1"), patient);
        agents.start(id("a-2"), |_| async { panic!("no word") });
        let error = agents.join(std::future::pending()).await.unwrap_err();
        let said = format!("{error:#}");
        assert!(said.starts_with("the agent `a-2`: "), "{said}");
        assert!(said.ends_with("it panicked: no word"), "{said}");
    }

    #[tokio::test]
    async fn a_coordinator_that_fails_ends_the_agents_in_order() {
        let mut agents = Agents::new(CancellationToken::new());
        agents.start(id("a-1"), patient);
        agents.join(std::future::ready(())).await.unwrap();
    }
}
