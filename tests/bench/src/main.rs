//! Benchmarks: one JSON object per line, medians and percentiles, the machine first.
//!
//! Numbers are reported, never asserted: a slow machine fails nothing. Absent: peers side by
//! side.

mod builds;
mod dispatch;
mod figures;
mod fleet;
mod job;
mod lifecycle;

use std::path::PathBuf;

use anyhow::Context as _;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Everything but builds.
    Usual,
    /// The same, and what takes minutes: a clean build and the tests.
    Builds,
    /// Throughput alone.
    Lifecycle,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let what = what()?;
    figures::machine();
    if what != What::Lifecycle {
        program_and_latency().await?;
    }
    for (agents, tasks) in [(1, 1000), (10, 5000), (100, 10_000)] {
        lifecycle::measure(agents, tasks).await?;
    }
    if what == What::Builds {
        builds::measure().await?;
    }
    Ok(())
}

async fn program_and_latency() -> anyhow::Result<()> {
    let program = program()?;
    let size = std::fs::metadata(&program)?.len();
    figures::value(
        "binary_size_mb",
        figures::megabytes(size),
        "the release binary",
    );
    dispatch::sqlite().await?;
    dispatch::postgres().await?;
    job::start_to_ready(&program).await?;
    job::issue_to_pull_request(&program).await
}

fn what() -> anyhow::Result<What> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(What::Usual),
        ["--builds"] => Ok(What::Builds),
        ["--lifecycle"] => Ok(What::Lifecycle),
        _ => anyhow::bail!("unknown argument in {args:?}; there are `--builds` and `--lifecycle`"),
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
