//! Benchmarks: one JSON object per line, medians and percentiles, the machine first.
//!
//! Numbers are reported, never asserted: a slow machine fails nothing. Absent: peers side by
//! side, and load on many agents.

mod builds;
mod dispatch;
mod figures;
mod job;

use std::path::PathBuf;

use anyhow::Context as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let builds = builds_too()?;
    figures::machine();
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
    job::issue_to_pull_request(&program).await?;
    if builds {
        builds::measure().await?;
    }
    Ok(())
}

/// Whether `--builds` was given: what it measures takes minutes.
fn builds_too() -> anyhow::Result<bool> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(false),
        ["--builds"] => Ok(true),
        _ => anyhow::bail!("unknown argument in {args:?}; there is `--builds` only"),
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
