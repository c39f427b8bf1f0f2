//! Second models: one that reviews what another drafted, and one that puts it into words.

use patchfleet_domain::TaskState;
use patchfleet_testkit::model::{Script, Simulator};
use serde_json::{Value, json};

use crate::drafting_model::as_blocks;
use crate::world::{Plan, REPOSITORY, World};

/// A file that only the second round brings.
const SECOND: &str = "<<<<<<< FILE orders/rounding.md\nHalf a cent is rounded up.\n>>>>>>> FILE\n";

fn verdict(status: &str, findings: &Value) -> Value {
    let verdict = json!({
        "status": status,
        "summary": "Amounts are right now.",
        "findings": findings,
        "risks": ["Invoices of last month stay wrong."],
    });
    json!({ "text": verdict.to_string() })
}

/// A simulator with conversations for whoever drafts, reviews and summarizes.
async fn models(conversations: Value) -> Simulator {
    let script = json!({
        "models": [{"name": "claude-sonnet-4-5"}, {"name": "simulated"}],
        "conversations": conversations,
    });
    let script = Script::parse("script", &script.to_string()).unwrap();
    Simulator::start(script).await.unwrap()
}

/// The draft by one protocol, the second model by another.
fn plan(models: &Simulator) -> Plan {
    let second = json!({
        "provider": "openai",
        "model": "simulated",
        "url": format!("{}/v1", models.base_url()),
        "key": models.key(),
    });
    Plan {
        drafting_mode: "diff",
        drafting_model: Some(json!({
            "provider": "anthropic",
            "model": "claude-sonnet-4-5",
            "url": models.base_url(),
            "key": models.key(),
        })),
        reviewing_model: Some(second),
        ..Plan::default()
    }
}

/// The text of the only pull request.
async fn pull_text(world: &World) -> String {
    world.pull_request().await.body.unwrap()
}

#[tokio::test]
async fn a_review_that_refuses_sends_the_change_back_and_lets_the_next_one_pass() {
    let defect = json!([{"path": "orders/money.py", "line": 13, "problem": "Say in orders/rounding.md how halves are rounded."}]);
    let models = models(json!([
        {"when": {"system": "You review", "text": "The round before was refused"}, "turns": [verdict("OK", &json!([]))]},
        {"when": {"system": "You review"}, "turns": [verdict("NG", &defect)]},
        {"when": {"text": "## Round 2(?s:.*)Say in orders/rounding.md how halves are rounded"}, "turns": [{"text": SECOND}]},
        {"turns": [{"text": as_blocks()}]},
    ]))
    .await;
    let world = World::with(plan(&models)).await;
    let issue = world.open();
    world.label(issue);
    let text = pull_text(&world).await;
    assert!(text.contains("`orders/rounding.md` is new"), "{text}");
    assert!(
        text.contains("`openai/simulated` (review 1) says OK: Amounts are right now."),
        "{text}"
    );
    assert!(
        text.contains("- Invoices of last month stay wrong."),
        "{text}"
    );
    world.merge_and_check(issue).await;
    let state = models.state();
    assert_eq!(state.calls, 4, "{state:?}");
    assert!(state.failures.is_empty(), "{state:?}");
}

#[tokio::test]
async fn a_review_that_is_none_leaves_the_rules_alone_and_words_come_from_a_third_model() {
    let words = json!({
        "title": "Three amounts",
        "changes": ["Half a cent is rounded up."],
        "next_actions": [],
    });
    let models = models(json!([
        {"when": {"system": "You review"}, "turns": [{"text": "Looks good to me."}, {"text": "{\"status\": \"GOOD\"}"}]},
        {"when": {"system": "You summarize"}, "turns": [{"text": words.to_string()}]},
        {"turns": [{"text": as_blocks()}]},
    ]))
    .await;
    let plan = plan(&models);
    let world = World::with(Plan {
        summarizing_model: plan.reviewing_model.clone(),
        ..plan
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let text = pull_text(&world).await;
    let risk =
        "Only rules reviewed the change, because the review by `openai/simulated` can't be used";
    assert!(text.contains(risk) && text.contains("GOOD"), "{text}");
    world.status_says(issue, "Half a cent is rounded up.").await;
    world.merge_and_check(issue).await;
    let state = models.state();
    assert_eq!(state.calls, 4, "{state:?}");
    assert!(state.failures.is_empty(), "{state:?}");
}

#[tokio::test]
async fn a_budget_that_is_spent_before_the_review_waits_and_goes_on_with_the_review() {
    let draft = json!({"text": as_blocks(), "usage": {"input": 59_000, "output": 500}});
    let models = models(json!([
        {"when": {"system": "You review"}, "turns": [verdict("OK", &json!([]))]},
        {"turns": [draft]},
    ]))
    .await;
    let world = World::with(Plan {
        task_tokens: Some(60_000),
        ..plan(&models)
    })
    .await;
    let issue = world.open();
    world.label(issue);
    world.task_in(TaskState::Waiting).await;
    assert_eq!(models.state().calls, 1, "the review was not asked for");
    world.say(issue, "/patchfleet approve --tokens 200000");
    let text = pull_text(&world).await;
    assert!(text.contains("says OK: Amounts are right now."), "{text}");
    let state = models.state();
    assert_eq!(state.calls, 2, "the draft is not paid for again: {state:?}");
    assert!(state.failures.is_empty(), "{state:?}");
}

#[tokio::test]
async fn a_key_that_the_reviewing_model_does_not_take_is_told_with_its_place() {
    let models = models(json!([{"turns": [{"text": as_blocks()}]}])).await;
    let mut plan = plan(&models);
    plan.reviewing_model.as_mut().unwrap()["key"] = json!("another-key");
    let world = World::with(plan).await;
    let issue = world.open();
    world.label(issue);
    let told = async || {
        let log = std::fs::read_to_string(world.folder().join("agent.log")).ok()?;
        let words =
            "the review by openai/simulated can't go on: the provider does not accept the key";
        log.contains(words).then_some(())
    };
    world.eventually("the log of the agent", told).await;
    let task = world.tasks().await.remove(0);
    assert_ne!(task.state, TaskState::Review);
    assert_eq!(task.failure, None, "it says nothing about the task");
    assert!(world.github.pulls(REPOSITORY).unwrap().is_empty());
}
