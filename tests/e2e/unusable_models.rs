//! Models that can't do what is asked of them. Each is told on the issue with what mends it; nothing is
//! asked over and over, and nothing is charged that the task does not show.

use patchfleet_domain::{FailureKind, Task, TaskState, WaitReason};
use patchfleet_testkit::model::{Script, Simulator};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::world::{Plan, REPOSITORY, World, address};

/// How the task has to end, or wait.
enum Ends {
    /// Given up, as that.
    Failed(FailureKind),
    /// It waits until the agent's model is mended.
    Waits,
}

/// A model, what comes of it, and what the issue says.
struct Case {
    mode: &'static str,
    /// `[agents.draft.model]` beside the simulator's address and key.
    model: Value,
    script: Value,
    ends: Ends,
    says: &'static [&'static str],
    /// Calls that the task is shown to have made.
    calls: u64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            mode: "tools",
            model: json!({}),
            script: json!({"turns": [{"text": "No."}]}),
            ends: Ends::Waits,
            says: &[],
            calls: 1,
        }
    }
}

/// Runs a task with the model to its end, and compares issue, agent and charges with what is expected.
async fn check(case: Case) {
    let script = Script::parse("script", &case.script.to_string()).unwrap();
    let models = Simulator::start(script).await.unwrap();
    let mut model = json!({
        "provider": "anthropic",
        "model": "simulated",
        "url": models.base_url(),
        "key": models.key(),
    });
    for (name, value) in case.model.as_object().unwrap() {
        model[name] = value.clone();
    }
    let world = World::with(Plan {
        drafting_mode: case.mode,
        drafting_model: Some(model),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let task = match case.ends {
        Ends::Failed(kind) => failed(&world, issue, kind).await,
        Ends::Waits => waits(&world).await,
    };
    for words in case.says {
        world.status_says(issue, words).await;
    }
    assert_eq!(task.attempt.0, 1, "{task:#?}");
    let (spent, billed) = (task.spent, models.state().total);
    assert_eq!(spent.calls, case.calls, "{spent:?}");
    assert_eq!(spent.tokens(), billed.prompt() + billed.output, "{spent:?}");
    world.status_says(issue, "| Models |").await;
    assert!(world.github.pulls(REPOSITORY).unwrap().is_empty());
}

/// The task, once it is given up.
async fn failed(world: &World, issue: u64, kind: FailureKind) -> Task {
    let task = world.task_in(TaskState::Failed).await;
    let failure = task.failure.as_ref().unwrap();
    assert_eq!(failure.kind, kind, "{}", failure.message);
    world.status_says(issue, kind.advice()).await;
    world.idle_agent().await;
    task
}

/// The task, once it waits for an agent that is in error.
async fn waits(world: &World) -> Task {
    let task = world.task_in(TaskState::Waiting).await;
    assert_eq!(task.wait_reason, Some(WaitReason::Agent), "{task:#?}");
    assert_eq!((task.failures, &task.failure), (0, &None), "{task:#?}");
    let list = world.get("api/v1/agents").await.unwrap();
    assert_eq!(list["agents"][0]["state"], "error", "{list}");
    let typed = async || {
        let events = world
            .get(&format!("api/v1/tasks/{}/events", task.id))
            .await?;
        let kind = FailureKind::ModelUnusable.as_str();
        events.to_string().contains(kind).then_some(())
    };
    world.eventually("the failure in the history", typed).await;
    task
}

#[tokio::test]
async fn a_model_that_its_provider_does_not_know() {
    check(Case {
        model: json!({"model": "imagined"}),
        says: &[
            "anthropic/imagined can't go on: the provider does not have the model",
            "the provider's own name for the model into agents.draft.model.model",
        ],
        ..Case::default()
    })
    .await;
}

#[tokio::test]
async fn a_key_that_its_provider_does_not_accept() {
    check(Case {
        model: json!({"key": "another-key-than-that"}),
        says: &[
            "the provider does not accept the key",
            "(401)",
            "put a key that the provider accepts where agents.draft.model.key says",
        ],
        ..Case::default()
    })
    .await;
}

#[tokio::test]
async fn a_model_that_has_to_call_tools_and_can_not() {
    check(Case {
        script: json!({
            "models": [{"name": "simulated", "tools": false}],
            "turns": [{"text": "No."}],
        }),
        says: &[
            "the model does not take 'tools'",
            "choose a model that calls tools by agents.draft.model.model",
        ],
        ..Case::default()
    })
    .await;
}

#[tokio::test]
async fn a_window_that_is_smaller_than_the_first_question() {
    check(Case {
        script: json!({
            "models": [{"name": "simulated", "context": 500}],
            "turns": [{"text": "No."}],
        }),
        ends: Ends::Failed(FailureKind::DraftFailed),
        says: &[
            "the conversation is longer than the model's window of 500 tokens",
            "give the server a larger window (agents.draft.model.window has to say the same)",
        ],
        ..Case::default()
    })
    .await;
}

#[tokio::test]
async fn an_answer_without_blocks_and_a_second_one() {
    let talks = |text: &str| json!({"text": text, "usage": {"input": 900, "output": 60}});
    check(Case {
        mode: "diff",
        script: json!({"turns": [talks("Sure!"), talks("I would change the rounding.")]}),
        ends: Ends::Failed(FailureKind::DraftFailed),
        says: &[
            "answered twice without a change that can be read: choose a stronger model",
            "1800 tokens in",
        ],
        calls: 2,
        ..Case::default()
    })
    .await;
}

#[tokio::test]
async fn a_page_of_html_instead_of_an_answer() {
    let listener = TcpListener::bind(address()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let checked = check(Case {
        model: json!({ "url": url }),
        ends: Ends::Failed(FailureKind::DraftFailed),
        says: &[
            "an HTML page came instead of an answer (\"Sign in\")",
            "mend agents.draft.model.url and agents.draft.model.provider",
        ],
        ..Case::default()
    });
    tokio::select! {
        () = checked => {}
        () = show_a_page(&listener) => panic!("nobody can connect"),
    }
}

/// Shows everybody who connects a page.
async fn show_a_page(listener: &TcpListener) {
    let body = "<!doctype html><title>Sign in</title>";
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = vec![0; 1 << 16];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        // What was sent and is not read would reset the connection.
        while matches!(stream.read(&mut request).await, Ok(1..)) {}
    }
}
