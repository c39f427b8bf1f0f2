//! What an agent takes besides its model: the same issue, repository and answers for Patchfleet's
//! fleet and for agents that users would run instead, each by its own tools and protocol.
//!
//! The models are scripts, so that nothing is measured but the agents: the time until the repository
//! is mended, what processors and memory that took, and what a provider would have been sent. The
//! peers come from `PyPI` by the bench's own set-up, pinned by hash, and are no part of the product.

mod fleet;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use patchfleet_testkit::model::{Script, Simulator, State};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::figures::{distribution, megabytes, ratio, value};
use crate::processes;
use crate::program::command;

const RUNS: usize = 5;
/// How long one task may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// What all of them work on.
const SAMPLE_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kit/sample");

/// What one task took.
#[derive(Debug, Clone)]
struct Took {
    wall: Duration,
    /// Seconds of processors, children included.
    processor: f64,
    /// The most that all its processes had in memory at once, in bytes.
    memory: u64,
    /// What the provider counted.
    asked: State,
}

/// An agent to compare with.
struct Peer {
    name: &'static str,
    script: &'static str,
    command: fn(&Work<'_>) -> anyhow::Result<Command>,
}

/// What a peer is given.
struct Work<'a> {
    task: &'a Path,
    model: &'a Simulator,
}

const PEERS: [Peer; 2] = [
    Peer {
        name: "mini_swe_agent",
        script: "mini-swe-agent.yaml",
        command: mini_swe_agent,
    },
    Peer {
        name: "aider",
        script: "aider.yaml",
        command: aider,
    },
];

/// Measures Patchfleet and each of them.
pub(crate) async fn measure(program: &Path) -> anyhow::Result<()> {
    let own = fleet::runs(program, RUNS).await?;
    tell(
        "patchfleet",
        &own,
        "from the label to the open pull request, by a fleet that runs: workspace, tests before and after, \
         review and push included",
    );
    for peer in &PEERS {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(run(peer).await.with_context(|| peer.name.to_owned())?);
        }
        let what = "from the start of the process to its end, in a check-out that is there";
        tell(peer.name, &runs, what);
        compare(peer.name, &own, &runs);
    }
    Ok(())
}

fn milliseconds(took: &Took) -> f64 {
    took.wall.as_secs_f64() * 1000.0
}

fn tokens(took: &Took) -> f64 {
    u32::try_from(took.asked.total.prompt()).map_or(f64::MAX, f64::from)
}

fn tell(name: &str, runs: &[Took], what: &str) {
    let all = |of: fn(&Took) -> f64| runs.iter().map(of).collect::<Vec<_>>();
    distribution(
        &format!("overhead_wall_ms: {name}"),
        all(milliseconds),
        what,
    );
    let processor = all(|it| it.processor * 1000.0);
    let of = "of processors, children included";
    distribution(&format!("overhead_processor_ms: {name}"), processor, of);
    let memory = all(|it| megabytes(it.memory));
    let of = "resident at once in all its processes, the most that was seen";
    distribution(&format!("overhead_memory_mb: {name}"), memory, of);
    if let Some(last) = runs.last() {
        let calls = u32::try_from(last.asked.calls).map_or(f64::MAX, f64::from);
        value(
            &format!("overhead_calls: {name}"),
            calls,
            "of the model for one task",
        );
        let of = "of all requests of one task, four bytes each";
        value(&format!("overhead_tokens_sent: {name}"), tokens(last), of);
    }
}

/// A figure of a run.
type Figure = fn(&Took) -> f64;

/// How much more the peer takes than we do.
fn compare(name: &str, own: &[Took], peer: &[Took]) {
    let sides: [(&str, Figure); 4] = [
        ("wall", milliseconds),
        ("processor", |it| it.processor),
        ("memory", |it| megabytes(it.memory)),
        ("tokens_sent", tokens),
    ];
    for (side, of) in sides {
        ratio(
            &format!("overhead_{side} of {name} over ours"),
            median(peer, of),
            median(own, of),
        );
    }
}

fn median(runs: &[Took], of: fn(&Took) -> f64) -> f64 {
    let mut values: Vec<_> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One task by a peer.
async fn run(peer: &Peer) -> anyhow::Result<Took> {
    let script = Script::read(&agents()?.join(peer.script))?;
    let model = Simulator::start(script).await?;
    let folder = tempfile::tempdir()?;
    let repository = check_out(&folder).await?;
    let task = folder.path().join("task.md");
    std::fs::write(&task, issue_text()?)?;
    let mut command = (peer.command)(&Work {
        task: &task,
        model: &model,
    })?;
    let log = std::fs::File::create(folder.path().join("log"))?;
    command
        .current_dir(&repository)
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    let (started, before) = (Instant::now(), processes::waited_for()?);
    let mut child = command.spawn()?;
    let pid = child.id().context("it was just started")?;
    let (ended, memory) =
        processes::watched(pid, tokio::time::timeout(PATIENCE, child.wait())).await;
    let wall = started.elapsed();
    let processor = processes::waited_for()? - before;
    let status = ended.context("it does not end")??;
    let log = std::fs::read_to_string(folder.path().join("log"))?;
    ensure!(status.success(), "{status}: {log}");
    let asked = model.state();
    ensure!(
        asked.failures.is_empty() && asked.refused == 0,
        "{asked:?}\n{log}"
    );
    mended(&repository).await.with_context(|| log)?;
    Ok(Took {
        wall,
        processor,
        memory,
        asked,
    })
}

fn mini_swe_agent(work: &Work<'_>) -> anyhow::Result<Command> {
    let mut command = python()?;
    command
        .arg(agents()?.join("mini_swe_agent_peer.py"))
        .env("TASK_FILE", work.task)
        .env("MODEL_URL", work.model.base_url())
        .env("MODEL_KEY", work.model.key())
        .env("MSWEA_SILENT_STARTUP", "1");
    Ok(command)
}

fn aider(work: &Work<'_>) -> anyhow::Result<Command> {
    let mut command = python()?;
    command
        .args([
            "-m",
            "aider",
            "--model",
            "openai/simulated",
            "--edit-format",
            "diff",
        ])
        .args([
            "--openai-api-base",
            &format!("{}/v1", work.model.base_url()),
        ])
        .args(["--openai-api-key", work.model.key(), "--message-file"])
        .arg(work.task)
        .args([
            "--yes-always",
            "--no-stream",
            "--no-auto-commits",
            "--no-check-update",
        ])
        .args([
            "--no-show-model-warnings",
            "--no-show-release-notes",
            "--analytics-disable",
        ])
        .args([
            "--no-gitignore",
            "--no-pretty",
            "--auto-test",
            "--test-cmd",
            "python3 -m unittest -v",
        ])
        .args(["orders/money.py", "orders/discounts.py", "orders/order.py"]);
    Ok(command)
}

/// Python with the peers, which are kept from asking for the newest prices when they start.
fn python() -> anyhow::Result<Command> {
    let mut command = command("python3");
    command
        .env("PYTHONPATH", agents()?.join("python"))
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    Ok(command)
}

fn agents() -> anyhow::Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/agents");
    ensure!(
        folder.join("python").is_dir(),
        "the agents to compare with are not installed: run `make bench`, which does it"
    );
    Ok(folder)
}

/// The sample's issue.
fn issue() -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(format!("{SAMPLE_FOLDER}/issue.json"))?;
    Ok(serde_json::from_str(&text)?)
}

fn issue_text() -> anyhow::Result<String> {
    let issue = issue()?;
    let field = |name: &str| issue["issue"][name].as_str().context("the issue has text");
    Ok(format!("{}\n\n{}", field("title")?, field("body")?))
}

/// The sample as a git repository.
async fn check_out(folder: &TempDir) -> anyhow::Result<PathBuf> {
    let repository = folder.path().join("repository");
    let script = "cp -r \"$1\" \"$2\" && cd \"$2\" && git init -q -b main && git add -A && \
        git -c user.name=b -c user.email=b@localhost commit -qm sample";
    let mut command = command("sh");
    command.args(["-c", script, "sh", &format!("{SAMPLE_FOLDER}/repository")]);
    let status = command.arg(&repository).status().await?;
    ensure!(
        status.success(),
        "the sample can't be made a repository: {status}"
    );
    Ok(repository)
}

/// An error unless the tests of the sample pass.
async fn mended(repository: &Path) -> anyhow::Result<()> {
    let mut tests = command("python3");
    tests.args(["-B", "-m", "unittest"]).current_dir(repository);
    let output = tests.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "it did not mend the sample: {said}"
    );
    Ok(())
}
