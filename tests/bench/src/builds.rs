//! What a developer waits for: a build from nothing, and the tests after it.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::figures::value;

/// A build of everything in a folder of its own, then the tests on what it built.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let target = tempfile::tempdir()?;
    let target = target.path().display().to_string();
    for (figure, args, what) in [
        (
            "clean_build_s",
            ["build", "--workspace", "--all-targets"].as_slice(),
            "debug build of everything, tests included",
        ),
        (
            "test_s",
            ["nextest", "run", "--workspace"].as_slice(),
            "all tests, after the build",
        ),
    ] {
        let started = Instant::now();
        cargo(args, &target).await?;
        value(figure, started.elapsed().as_secs_f64(), what);
    }
    Ok(())
}

async fn cargo(args: &[&str], target: &str) -> anyhow::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the benchmark's door to the build"
    )]
    let mut command = Command::new("cargo");
    command.args(args).arg("--locked");
    command.env("CARGO_TARGET_DIR", target);
    // Its standard output is for figures.
    command.stdout(std::io::stderr());
    let status = command.status().await.context("can't run cargo")?;
    ensure!(
        status.success(),
        "cargo {} failed: {status}",
        args.join(" ")
    );
    Ok(())
}
