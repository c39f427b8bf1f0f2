//! From an assignment to a workspace, and to a command in the sandbox.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use patchfleet_agent::git::Remote;
use patchfleet_agent::sandbox::{Run, Sandbox, SandboxConfig};
use patchfleet_agent::workspace::{Checkout, CloneMode, Retention, Workspace, Workspaces};
use patchfleet_domain::{AttemptNumber, TaskId, Work};
use tokio_util::sync::CancellationToken;

use super::{FILES, git, median, millis};
use crate::figures::{distribution, ratio, value};

const RUNS: usize = 3;
const CHANGES: usize = 10;
const HUNDRED: usize = 100;

/// A workspace of a large repository whose mirror is there, as a check-out of its own and over a
/// template, beside git's own check-out.
pub(super) async fn large(origin: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let agent = Agent::new(&folder.path().join("own"), origin).await?;
    let own = agent.ready("a check-out of its own").await?;
    drop(agent);
    let agent = Agent::new(&folder.path().join("laid"), origin).await?;
    let (agent, sandbox) = agent.laid().await;
    let laid = agent.ready("over a template").await?;
    over_template(&agent, &sandbox).await?;
    let (mut shared, mut plain) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let started = Instant::now();
        cloned(origin, &folder.path().join(format!("shared{run}")), true).await?;
        shared.push(millis(started));
        let started = Instant::now();
        cloned(origin, &folder.path().join(format!("plain{run}")), false).await?;
        plain.push(millis(started));
    }
    let theirs = median(&shared);
    ratio("workspace, git clone --shared", theirs, own);
    ratio(
        "workspace over a template, git clone --shared",
        theirs,
        laid,
    );
    let of = "`checkout.workers` as many as processors";
    distribution("git_clone_shared_check_out_ms", shared, of);
    distribution("git_clone_check_out_ms", plain, of);
    Ok(())
}

/// What a workspace over a template takes of the disk, and one changed file in it.
async fn over_template(agent: &Agent, sandbox: &Sandbox) -> anyhow::Result<()> {
    let workspace = agent.prepare().await?;
    let whole: u64 = workspace.layers().iter().map(|it| on_disk(it)).sum();
    let own = on_disk(workspace.layout.root());
    let of = format!("a workspace over a template, of the {whole} bytes of its files");
    value("workspace_disk_percent", percent(own, whole), &of);
    let (tree, private) = (workspace.layout.repo_clone(), workspace.layout.tests());
    let (mut snapshots, mut check_outs) = (Vec::new(), Vec::new());
    for run in 0..CHANGES {
        let command = ["cp", "-T", "/etc/passwd", &super::path(run)].map(str::to_owned);
        let run = Run {
            over: workspace.layers(),
            ..Run::new(&command, &tree, &private)
        };
        let ran = sandbox.run_trusted(run, &CancellationToken::new()).await?;
        ensure!(ran.finished.succeeded(), "{}", ran.finished.stderr_text());
        let started = Instant::now();
        let snapshot = workspace.repository.snapshot().await?;
        snapshots.push(millis(started));
        ensure!(snapshot.tree != workspace.base, "the change was not seen");
        let started = Instant::now();
        workspace.check_out(&workspace.base).await?;
        check_outs.push(millis(started));
    }
    let of = format!("one changed file in {FILES}, over a template");
    distribution("snapshot_ms", snapshots, &of);
    distribution("check_out_again_ms", check_outs, &of);
    Ok(())
}

/// Bytes that a folder takes.
fn on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => found.blocks() * 512 + on_disk(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a part of a percent does not matter"
)]
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}

/// Many workspaces of a small repository, two at a time.
pub(super) async fn hundred(origin: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let agent = Agent::new(folder.path(), origin).await?;
    agent.prepare().await?;
    let started = Instant::now();
    let all = futures::stream::iter(0..HUNDRED).map(|_| agent.prepare());
    all.buffer_unordered(2).try_collect::<Vec<_>>().await?;
    let own = millis(started);
    let of = format!("{HUNDRED} workspaces of a small repository, two at a time");
    value("hundred_workspaces_ms", own, &of);
    let started = Instant::now();
    let all = futures::stream::iter(0..HUNDRED).map(|number| {
        let place = folder.path().join(format!("clone{number}"));
        async move { cloned(origin, &place, true).await }
    });
    all.buffer_unordered(2).try_collect::<Vec<_>>().await?;
    let theirs = millis(started);
    value("hundred_git_clones_shared_ms", theirs, &of);
    ratio("hundred workspaces, git clone --shared", theirs, own);
    Ok(())
}

/// An agent's workspaces of one repository.
struct Agent {
    workspaces: Workspaces,
    origin: PathBuf,
}

impl Agent {
    async fn new(root: &Path, origin: &Path) -> anyhow::Result<Self> {
        let id = "bench".parse()?;
        Ok(Self {
            workspaces: Workspaces::open(&root.join("root"), &id, Retention::default()).await?,
            origin: origin.to_owned(),
        })
    }

    /// The same, whose work trees lie over templates, and the sandbox that can run in them.
    async fn laid(self) -> (Self, Sandbox) {
        let sandbox = Sandbox::new(&SandboxConfig::default(), []);
        let workspaces = self.workspaces.over_templates(&sandbox).await;
        let agent = Self { workspaces, ..self };
        (agent, sandbox)
    }

    /// Measures how long a workspace takes; the median.
    async fn ready(&self, kind: &str) -> anyhow::Result<f64> {
        let of = format!(
            "a workspace with {FILES} files, {kind}; one fetch with nothing new is part of it"
        );
        let started = Instant::now();
        self.prepare().await?;
        value("workspace_without_mirror_ms", millis(started), &of);
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let started = Instant::now();
            self.prepare().await?;
            times.push(millis(started));
        }
        let middle = median(&times);
        distribution("workspace_ready_ms", times, &of);
        Ok(middle)
    }

    async fn prepare(&self) -> anyhow::Result<Workspace> {
        let origin = self.origin.to_str().context("no UTF-8")?;
        let checkout = Checkout {
            work: Work {
                task: TaskId::new(),
                attempt: AttemptNumber(1),
            },
            repository: "acme/bench".parse()?,
            remote: Remote::new(origin, None)?,
            default_branch: "main".to_owned(),
            branch: "patchfleet/1-bench".to_owned(),
            pinned_base: None,
            clone: CloneMode::Mirror,
            has_contents: false,
        };
        let cancel = CancellationToken::new();
        let made = self.workspaces.prepare(&checkout, &cancel).await;
        made.map_err(|failure| anyhow::anyhow!(failure.message))
    }
}

/// Git's own way to a work tree.
async fn cloned(origin: &Path, place: &Path, is_shared: bool) -> anyhow::Result<()> {
    let mut args = vec!["-c", "checkout.workers=0", "clone", "-q"];
    args.extend(is_shared.then_some("--shared"));
    let (origin, place) = (origin.to_str(), place.to_str());
    args.extend([
        "--",
        origin.context("no UTF-8")?,
        place.context("no UTF-8")?,
    ]);
    git(None, &args).await.map(drop)
}
