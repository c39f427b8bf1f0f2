//! Runs of the engine: loops, errors, timeouts, and going on where an earlier run stopped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_flow::{
    Checkpoint, Context, Engine, Flow, Node, NodeCall, NodeError, Observer, Registry, Report, Run,
    RunError,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const FLOW: &str = "
name: draft and test
max_rounds: 3
nodes:
  - {id: draft, uses: draft}
  - {id: patch, uses: patch, on_error: {goto: draft}}
  - {id: test, uses: test, retry: {max_attempts: 2, delay: 1s}, timeout: 5s}
  - {id: publish, uses: publish, with: {text: 'round {{ $ctx.round }}'}}
edges:
  - {from: draft, to: patch}
  - {from: patch, to: test}
  - {from: test, to: publish, when: \"$ctx.verdict == 'OK'\"}
  - {from: test, to: draft}
  - {from: publish, to: end}
";

/// What the nodes do: which draft applies, which is green. Counts every real run.
#[derive(Default)]
struct Script {
    applies_from: u32,
    green_from: u32,
    hangs: bool,
    runs: Mutex<Vec<(String, u32)>>,
}

struct Scripted(std::sync::Arc<Script>);

#[async_trait]
impl Node for Scripted {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        self.0
            .runs
            .lock()
            .unwrap()
            .push((call.node.to_owned(), call.visit));
        let round = call.ctx.get("round").and_then(Value::as_u64).unwrap_or(0);
        match call.node {
            "draft" => Ok(json!({ "round": round + 1 })),
            "patch" if round < u64::from(self.0.applies_from) => {
                let found = json!({ "finding": format!("draft {round} does not apply") });
                Err(NodeError::permanent("diff_rejected", "hunk 1").with_delta(found))
            }
            "test" if self.0.hangs => {
                call.cancel.cancelled().await;
                std::future::pending().await
            }
            "test" => {
                let green = round >= u64::from(self.0.green_from);
                Ok(json!({ "verdict": if green { "OK" } else { "NG" } }))
            }
            _ => Ok(json!({ call.node: call.with })),
        }
    }
}

/// Remembers what would be durable.
#[derive(Default)]
struct Recorder {
    checkpoints: Mutex<Vec<Checkpoint>>,
    replayed: AtomicU32,
    tries: AtomicU32,
    /// The node whose checkpoint is refused.
    keeps_none_of: Option<&'static str>,
}

#[async_trait]
impl Observer for Recorder {
    async fn started(&self, _node: &str, _visit: u32) {}

    async fn finished(
        &self,
        checkpoint: &Checkpoint,
        _duration: Duration,
    ) -> Result<(), NodeError> {
        if self
            .keeps_none_of
            .is_some_and(|node| node == checkpoint.node)
        {
            return Err(NodeError::permanent("too_large", "it can't be kept"));
        }
        self.checkpoints.lock().unwrap().push(checkpoint.clone());
        Ok(())
    }

    async fn failed(&self, _node: &str, _error: &NodeError, _again: bool) {
        self.tries.fetch_add(1, Ordering::Relaxed);
    }

    async fn replayed(&self, _checkpoint: &Checkpoint) {
        self.replayed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn run(
    script: &std::sync::Arc<Script>,
    checkpoints: Vec<Checkpoint>,
    recorder: &Recorder,
) -> Result<Report, RunError> {
    let node = || Scripted(std::sync::Arc::clone(script));
    let registry = ["draft", "patch", "test", "publish", "end"]
        .into_iter()
        .fold(Registry::new(), |registry, kind| {
            registry.with(kind, node())
        });
    let text = FLOW.replace("edges:", "  - {id: end, uses: end}\nedges:");
    let engine = Engine::new(Flow::parse(&text).unwrap(), registry).unwrap();
    let cancel = CancellationToken::new();
    engine
        .run(Run {
            ctx: Context::default(),
            checkpoints,
            observer: recorder,
            cancel,
        })
        .await
}

fn script(applies_from: u32, green_from: u32) -> std::sync::Arc<Script> {
    std::sync::Arc::new(Script {
        applies_from,
        green_from,
        ..Script::default()
    })
}

#[tokio::test]
async fn red_tests_and_rejected_diffs_lead_back_to_the_draft() {
    let recorder = Recorder::default();
    let report = run(&script(2, 3), vec![], &recorder).await.unwrap();
    let way: Vec<_> = report
        .visits
        .iter()
        .map(|visit| visit.node.as_str())
        .collect();
    let expected = "draft patch draft patch test draft patch test publish end";
    assert_eq!(way.join(" "), expected);
    assert_eq!(report.ctx.text("publish.text"), Some("round 3"));
    assert_eq!(report.ctx.text("finding"), Some("draft 1 does not apply"));
}

#[tokio::test]
async fn a_checkpoint_that_can_not_be_kept_ends_the_run_in_words() {
    let recorder = Recorder {
        keeps_none_of: Some("patch"),
        ..Recorder::default()
    };
    let error = run(&script(1, 1), vec![], &recorder).await.unwrap_err();
    let RunError::Node { node, error, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((node.as_str(), error.code.as_str()), ("patch", "too_large"));
    assert_eq!(recorder.checkpoints.lock().unwrap().len(), 1, "the draft");
}

#[tokio::test]
async fn rounds_are_bounded() {
    let error = run(&script(0, 9), vec![], &Recorder::default())
        .await
        .unwrap_err();
    let RunError::RoundsExhausted { node, rounds, ctx } = error else {
        panic!("{error}")
    };
    assert_eq!(
        (node.as_str(), rounds, ctx.text("verdict")),
        ("draft", 3, Some("NG"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_stopped_and_tried_again() {
    let script = std::sync::Arc::new(Script {
        hangs: true,
        ..Script::default()
    });
    let recorder = Recorder::default();
    let error = run(&script, vec![], &recorder).await.unwrap_err();
    let RunError::Node { node, error, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((node.as_str(), error.code.as_str()), ("test", "timeout"));
    assert_eq!(recorder.tries.load(Ordering::Relaxed), 2);
}

/// A node that fails as often as it is told to, and counts.
struct Failing {
    times: u32,
    tries: std::sync::Arc<AtomicU32>,
}

#[async_trait]
impl Node for Failing {
    async fn run(&self, _call: NodeCall<'_>) -> Result<Value, NodeError> {
        if self.tries.fetch_add(1, Ordering::Relaxed) < self.times {
            let found = json!({ "found": "what was known" });
            return Err(NodeError::retryable("away", "not now").with_delta(found));
        }
        Ok(json!({ "done": true }))
    }
}

/// Runs a flow of one failing node `a` of a policy, and `b` after it; tells how often `a` was
/// tried.
async fn run_failing(
    times: u32,
    policy: &str,
    cancel: &CancellationToken,
) -> (Result<Report, RunError>, u32) {
    let text = format!(
        "name: f\nnodes:\n  - {{id: a, uses: failing, {policy}}}\n  - {{id: b, uses: after}}\nedges: [{{from: a, to: b}}]"
    );
    let tries = std::sync::Arc::new(AtomicU32::new(0));
    let registry = Registry::new()
        .with(
            "failing",
            Failing {
                times,
                tries: std::sync::Arc::clone(&tries),
            },
        )
        .with("after", Scripted(script(0, 0)));
    let engine = Engine::new(Flow::parse(&text).unwrap(), registry).unwrap();
    let recorder = Recorder::default();
    let run = engine.run(Run {
        ctx: Context::default(),
        checkpoints: vec![],
        observer: &recorder,
        cancel: cancel.clone(),
    });
    (run.await, tries.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn tries_wait_longer_each_time() {
    let policy = "retry: {max_attempts: 4, delay: 2s, backoff: 3}";
    let started = tokio::time::Instant::now();
    let (report, tries) = run_failing(3, policy, &CancellationToken::new()).await;
    assert_eq!(report.unwrap().ctx.get("done"), Some(&json!(true)));
    assert_eq!((tries, started.elapsed().as_secs()), (4, 2 + 6 + 18));
}

#[tokio::test]
async fn an_error_that_does_not_matter_keeps_its_findings() {
    let (report, tries) = run_failing(9, "on_error: continue", &CancellationToken::new()).await;
    let report = report.unwrap();
    assert_eq!((tries, report.visits.len()), (1, 2));
    assert_eq!(report.ctx.text("found"), Some("what was known"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_called_off_does_not_wait_for_its_next_try() {
    let cancel = CancellationToken::new();
    let policy = "retry: {max_attempts: 2, delay: 1h}";
    let later = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cancel.cancel();
    };
    let started = tokio::time::Instant::now();
    let ((result, tries), ()) = tokio::join!(run_failing(9, policy, &cancel), later);
    assert_eq!(result.unwrap_err(), RunError::Cancelled);
    assert_eq!((tries, started.elapsed().as_secs()), (1, 5));
}

#[tokio::test]
async fn a_flow_that_uses_an_unknown_kind_is_refused() {
    let flow = Flow::parse("name: f\nnodes: [{id: a, uses: magic}]").unwrap();
    let error = Engine::new(flow, Registry::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "node `a` uses `magic`, which is not there"
    );
}

proptest! {
    /// Whenever the first run is cut off, the second goes the same way to the same end, and no
    /// visit that has a checkpoint is made again.
    #[test]
    fn a_cut_off_run_goes_on_where_it_stopped(applies in 0_u32..3, green in 0_u32..4, cut in 0_usize..12) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let whole = Recorder::default();
            let first = run(&script(applies, green), vec![], &whole).await.unwrap();
            let mut kept = whole.checkpoints.into_inner().unwrap();
            kept.truncate(cut);

            let again = script(applies, green);
            let recorder = Recorder::default();
            let second = run(&again, kept.clone(), &recorder).await.unwrap();
            assert_eq!(second.ctx, first.ctx);
            let way = |report: &Report| report.visits.iter().map(|it| (it.node.clone(), it.visit)).collect::<Vec<_>>();
            assert_eq!(way(&second), way(&first));
            assert_eq!(usize::try_from(recorder.replayed.into_inner()).unwrap(), kept.len());
            let runs = again.runs.lock().unwrap();
            for checkpoint in &kept {
                assert!(!runs.contains(&(checkpoint.node.clone(), checkpoint.visit)), "{checkpoint:?} was paid for twice");
            }
        });
    }
}
