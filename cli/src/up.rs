//! `patchfleet up`: coordinator and agents in one process.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use patchfleet_agent::IdTaken;
use patchfleet_coordinator::Coordinator;
use tokio::task::JoinSet;

use crate::config::ServiceArgs;
use crate::output::Output;
use crate::{coordinator, runtime};

/// How to run everything.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Runs until it is told to end; agents end first, so that they can say goodbye. An agent whose id
/// another process has ends alone, as the others have work; one that can't begin ends all.
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
    let coordinator_shutdown = tokio_util::sync::CancellationToken::new();
    let coordinator = Coordinator::start(
        config.coordinator(args.service.file())?,
        coordinator_shutdown.clone(),
    )
    .await?;
    coordinator::announce(&coordinator, output);
    let mut agents = JoinSet::new();
    for mut agent in config.agents {
        agent.coordinator.url = format!("http://{}", coordinator.fleet_address()).parse()?;
        agents.spawn(patchfleet_agent::run(agent, shutdown.clone()));
    }
    let mut result = Ok(());
    while let Some(ended) = agents.join_next().await {
        let Err(error) = ended? else { continue };
        if error.is::<IdTaken>() && !agents.is_empty() {
            tracing::error!("{error:#}; the other agents go on without it");
        } else {
            shutdown.cancel();
        }
        result = result.and(Err(error));
    }
    coordinator_shutdown.cancel();
    let result = result.and(coordinator.join().await);
    telemetry.shutdown();
    result.map(|()| ExitCode::SUCCESS)
}
