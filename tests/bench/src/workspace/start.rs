//! A command that does nothing: in each of our sandboxes, and in those of others.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::ensure;
use patchfleet_agent::sandbox::{Backend, ContainerConfig, Run, Sandbox, SandboxConfig};
use patchfleet_testkit::container;
use tokio_util::sync::CancellationToken;

use super::{median, millis};
use crate::figures::{distribution, ratio, value};
use crate::program;

const STARTS: usize = 50;
/// A container takes longer.
const CONTAINERS: usize = 10;
const FIGURE: &str = "sandbox_start_ms";

/// The namespaces of the sandbox with a tenth of its mounts, and without limits, control groups, a user
/// to become, filters, or anybody who ends what is left: the floor of what bubblewrap takes.
const BUBBLEWRAP: &[&str] = &[
    "bwrap",
    "--unshare-user",
    "--unshare-all",
    "--disable-userns",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/bin",
    "/bin",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
    "/bin/true",
];

pub(super) async fn measure() -> anyhow::Result<()> {
    let own = ours(&SandboxConfig::default(), STARTS).await?;
    let none = SandboxConfig {
        backend: Backend::None,
        ..SandboxConfig::default()
    };
    ours(&none, STARTS).await?;
    let bubblewrap = theirs(BUBBLEWRAP, STARTS, "bubblewrap by itself, with few mounts").await?;
    let image = match container::image() {
        Ok(image) => image,
        Err(why) => {
            value(FIGURE, f64::NAN, &format!("no containers: {why}"));
            return Ok(());
        }
    };
    let contained = SandboxConfig {
        backend: Backend::Container,
        container: ContainerConfig {
            image: image.clone(),
            ..ContainerConfig::default()
        },
        ..SandboxConfig::default()
    };
    ours(&contained, CONTAINERS).await?;
    // Podman's own defaults are more than some hosts let anybody have; these are ours.
    let podman = [
        "podman",
        "run",
        "--rm",
        "--ulimit=nofile=4096:4096",
        "--ulimit=nproc=1024:1024",
        "--network",
        "none",
        &image,
        "/bin/true",
    ];
    let podman = theirs(&podman, CONTAINERS, "podman run by itself").await?;
    if let Some(own) = own {
        ratio("sandbox start, bubblewrap by itself", bubblewrap, own);
        ratio("sandbox start, podman run", podman, own);
    }
    Ok(())
}

/// The median of a sandbox of ours, where it can be had.
async fn ours(config: &SandboxConfig, starts: usize) -> anyhow::Result<Option<f64>> {
    let folder = tempfile::tempdir()?;
    let (work, private) = (folder.path().join("work"), folder.path().join("private"));
    std::fs::create_dir(&work)?;
    let sandbox = Sandbox::new(config, []);
    let of = format!("start and end of `true`, backend `{}`", config.backend);
    if let Err(error) = sandbox.check().await {
        value(FIGURE, f64::NAN, &format!("{of}: {error}"));
        return Ok(None);
    }
    let command = ["/bin/true".to_owned()];
    let mut times = Vec::new();
    for _ in 0..starts {
        let started = Instant::now();
        let run = Run::new(&command, &work, &private);
        sandbox.run_trusted(run, &CancellationToken::new()).await?;
        times.push(millis(started));
    }
    let middle = median(&times);
    distribution(FIGURE, times, &of);
    Ok(Some(middle))
}

/// The median of a command line of others.
async fn theirs(command: &[&str], starts: usize, of: &str) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..starts {
        let started = Instant::now();
        let mut child = program::command(command[0]);
        child
            .args(&command[1..])
            .stdin(Stdio::null())
            .current_dir(Path::new("/"));
        let output = child.output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{of}: {said}");
        times.push(millis(started));
    }
    let middle = median(&times);
    distribution(FIGURE, times, &format!("start and end of `true`, {of}"));
    Ok(middle)
}
