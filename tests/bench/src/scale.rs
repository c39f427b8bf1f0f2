//! Many agents that do nothing, at a coordinator in a process of its own: what they cost, how fast
//! it answers them, and how fast they are back after it was killed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use patchfleet_domain::{AttemptNumber, TaskId, Work};
use patchfleet_proto::v1;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, Profile};
use patchfleet_testkit::postgres::Database;
use tokio::net::TcpListener;

use crate::figures::{distribution, megabytes, value};
use crate::program::{Coordinator, KEY};

/// Agents that connect at once.
const CONNECTING: usize = 128;
/// How long the idle ones are watched.
const WATCHED: Duration = Duration::from_secs(20);
/// Requests whose answers are timed.
const ASKED: usize = 500;

/// That many connected agents with heartbeats each five seconds.
pub(crate) async fn idle_agents(program: &Path, count: usize) -> anyhow::Result<()> {
    let database = Database::durable().await?;
    let coordinator = Coordinator::on(program, database.url(), "127.0.0.1:0").await?;
    let started = Instant::now();
    let agents = connect(&coordinator.fleet, count).await?;
    let took = started.elapsed().as_secs_f64();
    value("connect_s", took, &format!("{count} agents, 128 at once"));
    let before = coordinator.processor_seconds()?;
    tokio::time::sleep(WATCHED).await;
    let used = coordinator.processor_seconds()? - before;
    let of = format!("{count} idle agents, heartbeats each 5 s");
    value("idle_agents_cores", used / WATCHED.as_secs_f64(), &of);
    let memory = megabytes(coordinator.resident()?);
    value("idle_agents_rss_mb", memory, &of);
    let answers: Vec<f64> = futures::stream::iter(agents.iter().step_by(count / ASKED))
        .then(answer_ms)
        .try_collect()
        .await?;
    let of = format!("a request over the stream and its answer, with {of}");
    distribution("idle_agents_answer_ms", answers, &of);
    Ok(())
}

/// A coordinator is killed with that many agents and started again at the same address.
pub(crate) async fn reattach(program: &Path, count: usize) -> anyhow::Result<()> {
    let database = Database::durable().await?;
    let address = free_address().await?;
    let coordinator = Coordinator::on(program, database.url(), &address).await?;
    let agents = connect(&coordinator.fleet, count).await?;
    coordinator.kill().await?;
    let killed = Instant::now();
    let _coordinator = Coordinator::on(program, database.url(), &address).await?;
    for agent in &agents {
        agent
            .wait("a second welcome", |seen| seen.welcomes >= 2)
            .await?;
    }
    let took = killed.elapsed().as_secs_f64();
    value(
        "reattach_s",
        took,
        &format!("coordinator killed and started again, until {count} agents are back"),
    );
    Ok(())
}

pub(crate) async fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.to_string())
}

async fn connect(url: &str, count: usize) -> anyhow::Result<Vec<MockAgent>> {
    let one = |number: usize| async move {
        let id = format!("agent-{number}").parse()?;
        let agent = MockAgent::start(Profile::new(url, KEY, &id), |_| Conduct::Ignore);
        agent.wait_connected().await?;
        anyhow::Ok(agent)
    };
    let connecting = futures::stream::iter((0..count).map(one));
    connecting.buffer_unordered(CONNECTING).try_collect().await
}

/// Asks for a token that nobody gets, and waits for the answer.
async fn answer_ms(agent: &MockAgent) -> anyhow::Result<f64> {
    let work = Work {
        task: TaskId::new(),
        attempt: AttemptNumber(1),
    };
    let asked = Instant::now();
    agent.request_credential(work, v1::CredentialScope::Read, "echo");
    let answered = agent.wait("an answer", |seen| seen.credentials.contains_key("echo"));
    answered.await.context("an agent was not answered")?;
    Ok(asked.elapsed().as_secs_f64() * 1000.0)
}
