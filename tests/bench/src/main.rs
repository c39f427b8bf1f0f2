//! Benchmarks: one JSON object per line, medians and percentiles, the machine first.
//!
//! Numbers are reported, never asserted: a slow machine fails nothing. Peers are measured in the
//! same run, on the same servers.

mod builds;
mod crowd;
mod dispatch;
mod figures;
mod fleet;
mod job;
mod lifecycle;
mod overhead;
mod peers;
mod processes;
mod program;
mod recovery;
mod scale;
mod webhook;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The program as a whole.
    Program,
    /// From the queue to an agent.
    Dispatch,
    /// Throughput.
    Lifecycle,
    /// Thousands of agents.
    Scale,
    /// Until work goes on after something died.
    Recovery,
    /// Webhooks over HTTP, beside Probot.
    Webhook,
    /// Throughput beside other queues.
    Peers,
    /// Work trees of large repositories, beside git.
    Workspace,
    /// What an agent takes besides its model, beside other agents.
    Overhead,
    /// A clean build and the tests, which takes minutes.
    Builds,
}

const PARTS: [(&str, Part); 10] = [
    ("program", Part::Program),
    ("dispatch", Part::Dispatch),
    ("lifecycle", Part::Lifecycle),
    ("scale", Part::Scale),
    ("recovery", Part::Recovery),
    ("webhook", Part::Webhook),
    ("peers", Part::Peers),
    ("workspace", Part::Workspace),
    ("overhead", Part::Overhead),
    ("builds", Part::Builds),
];

fn main() -> anyhow::Result<ExitCode> {
    // The agent's commands have this program as their supervisor, and as a stage of the sandbox.
    if let Some(code) = patchfleet_agent::enter() {
        return Ok(code);
    }
    tokio::runtime::Runtime::new()?.block_on(run())?;
    Ok(ExitCode::SUCCESS)
}

async fn run() -> anyhow::Result<()> {
    let parts = parts(std::env::args().skip(1))?;
    figures::machine();
    for part in parts {
        measure(part).await?;
    }
    Ok(())
}

/// The parts that are named; without a name all but builds.
fn parts(names: impl Iterator<Item = String>) -> anyhow::Result<Vec<Part>> {
    let known = PARTS.map(|(name, _)| name).join(", ");
    let chosen: Vec<_> = names
        .map(|name| {
            let part = PARTS.iter().find(|(known, _)| *known == name);
            let part = part.map(|(_, part)| *part);
            part.with_context(|| format!("there is no part `{name}`; there are {known}"))
        })
        .collect::<anyhow::Result<_>>()?;
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let all = PARTS.map(|(_, part)| part).into_iter();
    Ok(all.filter(|part| *part != Part::Builds).collect())
}

async fn measure(part: Part) -> anyhow::Result<()> {
    match part {
        Part::Program => {
            let program = program()?;
            let size = std::fs::metadata(&program)?.len();
            let size = figures::megabytes(size);
            figures::value("binary_size_mb", size, "the release binary");
            job::start_to_ready(&program).await?;
            job::issue_to_pull_request(&program).await
        }
        Part::Dispatch => {
            dispatch::sqlite().await?;
            dispatch::postgres().await?;
            for rate in [500, 2000] {
                dispatch::busy_postgres(rate).await?;
            }
            dispatch::crowded_postgres().await
        }
        Part::Lifecycle => {
            for (agents, tasks) in [(1, 2000), (10, 10_000), (100, 20_000), (1000, 20_000)] {
                lifecycle::measure(agents, tasks).await?;
            }
            Ok(())
        }
        Part::Scale => {
            let program = program()?;
            scale::idle_agents(&program, 10_000).await?;
            scale::reattach(&program, 1000).await
        }
        Part::Recovery => recovery::measure(&program()?).await,
        Part::Webhook => webhook::measure(&program()?).await,
        Part::Peers => peers::measure().await,
        Part::Workspace => workspace::measure().await,
        Part::Overhead => overhead::measure(&program()?).await,
        Part::Builds => builds::measure().await,
    }
}

/// The release binary beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("can't find this program's own file")?;
    let program = own.with_file_name("patchfleet");
    anyhow::ensure!(
        program.is_file(),
        "{} is missing: run `make bench`, which builds it",
        program.display()
    );
    Ok(program)
}
