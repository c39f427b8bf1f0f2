//! The whole program: how fast it is ready, what it takes from issue to pull request besides the
//! work itself, and how much memory its processes hold.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::figures::{distribution, megabytes, value};
use crate::processes::resident;
use crate::program::{Coordinator, spawn};

const RUNS: usize = 7;

/// From the start of a process to the word that it is ready, and its memory when idle.
pub(crate) async fn start_to_ready(program: &Path) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut memory = 0;
    for _ in 0..RUNS {
        let started = Instant::now();
        let coordinator = Coordinator::on_sqlite(program).await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        memory = coordinator.resident()?;
        coordinator.kill().await?;
    }
    distribution(
        "start_to_ready_ms",
        times,
        "coordinator on a new SQLite file",
    );
    value(
        "coordinator_rss_mb",
        megabytes(memory),
        "idle, just started",
    );
    Ok(())
}

/// The demo, again and again: the time from intake to `review` without draft and tests.
pub(crate) async fn issue_to_pull_request(program: &Path) -> anyhow::Result<()> {
    let (mut overheads, mut requests) = (Vec::new(), Vec::new());
    let mut agent_memory = 0;
    for _ in 0..RUNS {
        let mut child = spawn(program, &["demo", "--json"])?;
        let out = child.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(out).lines();
        let mut run = Timeline::default();
        while let Some(line) = lines.next_line().await? {
            let event: Value = serde_json::from_str(&line)?;
            if event["event"] == "fleet_ready" {
                let pid = event["processes"][1]["pid"]
                    .as_u64()
                    .and_then(|pid| u32::try_from(pid).ok());
                agent_memory = resident(pid)?;
            }
            requests.extend(event["github_requests"].as_f64());
            run.take(&event);
        }
        if !child.wait().await?.success() {
            bail!("the demo failed");
        }
        overheads.push(run.overhead().context("the demo's timeline has gaps")?);
    }
    let what = "demo repository, intake to open pull request, without draft and test runs";
    distribution("issue_to_pr_overhead_ms", overheads, what);
    distribution(
        "github_requests_per_task",
        requests,
        "from label to merge, those that count against the hour's limit",
    );
    value(
        "agent_rss_mb",
        megabytes(agent_memory),
        "idle, just connected",
    );
    Ok(())
}

/// What a demo run says of its times, in milliseconds.
#[derive(Debug, Default)]
struct Timeline {
    review: Option<f64>,
    draft_began: Option<f64>,
    draft_ended: Option<f64>,
    tests: f64,
}

impl Timeline {
    fn take(&mut self, event: &Value) {
        let at = event["at_ms"].as_f64();
        let detail = event["detail"].as_str().unwrap_or_default();
        match event["kind"].as_str() {
            Some("phase") if detail.starts_with("generate:") => self.draft_began = at,
            Some("phase") if detail.starts_with("apply:") => self.draft_ended = at,
            Some("state") if event["state"] == "review" => self.review = at,
            _ => {}
        }
        if event["event"] == "tests" {
            self.tests += event["duration_ms"].as_f64().unwrap_or(0.0);
        }
    }

    fn overhead(&self) -> Option<f64> {
        let draft = self.draft_ended? - self.draft_began?;
        Some(self.review? - draft - self.tests)
    }
}
