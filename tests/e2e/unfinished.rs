//! Work that a budget stops in the middle: it is kept, and what of it passes the tests is a draft pull
//! request, which the task brings up to date when it goes on.

use patchfleet_domain::{FailureKind, TaskState, WaitReason};
use patchfleet_testkit::model::{Script, Simulator};
use serde_json::{Value, json};

use crate::world::{Plan, REPOSITORY, World};

/// A call of the tool that edits.
fn edit(path: &str, old: &str, new: &str) -> Value {
    json!({"name": "edit_file", "arguments": {"path": path, "old": old, "new": new}})
}

/// The first thing that is wrong in the sample, mended.
fn first() -> Vec<Value> {
    vec![edit(
        "orders/discounts.py",
        "if quantity > least:",
        "if quantity >= least:",
    )]
}

/// All the rest.
fn rest() -> Vec<Value> {
    let money = "orders/money.py";
    vec![
        edit(
            money,
            "import ROUND_HALF_EVEN, Decimal",
            "import ROUND_HALF_UP, Decimal",
        ),
        edit(money, "rounding=ROUND_HALF_EVEN", "rounding=ROUND_HALF_UP"),
        edit(
            "orders/order.py",
            "self._quantities[sku] = quantity",
            "self._quantities[sku] = self._quantities.get(sku, 0) + quantity",
        ),
    ]
}

/// A world whose task may use fewer tokens than its model's answers, of which the first takes nearly all.
async fn stopped_after(edits: Vec<Value>, more: Vec<Value>) -> (World, Simulator, u64) {
    let finish = json!({"name": "finish", "arguments": {"summary": "Amounts are right."}});
    let later: Vec<_> = more.into_iter().chain([finish]).collect();
    let script = json!({"turns": [
        {"calls": edits, "usage": {"input": 55_000, "output": 500}},
        {"calls": later, "usage": {"input": 3000, "output": 100}},
    ]});
    let script = Script::parse("script", &script.to_string()).unwrap();
    let models = Simulator::start(script).await.unwrap();
    let world = World::with(Plan {
        drafting_model: Some(json!({
            "provider": "anthropic",
            "model": "simulated",
            "url": models.base_url(),
            "key": models.key(),
        })),
        task_tokens: Some(60_000),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let task = world.task_in(TaskState::Waiting).await;
    assert_eq!(task.wait_reason, Some(WaitReason::Budget), "{task:#?}");
    let failure = task.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::BudgetSpent, "{failure:?}");
    (world, models, issue)
}

#[tokio::test]
async fn what_passes_the_tests_is_a_draft_pull_request_until_the_task_goes_on() {
    let all = first().into_iter().chain(rest()).collect();
    let (world, models, issue) = stopped_after(all, Vec::new()).await;
    let pulls = world.github.pulls(REPOSITORY).unwrap();
    let [pull] = &pulls[..] else {
        panic!("{pulls:#?}");
    };
    let text = pull.body.as_deref().unwrap_or_default();
    for words in [
        &format!("For #{issue}. **This work is not finished:**") as &str,
        "of 60000 tokens",
        "exit code 0",
        "55000 tokens in",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("Fixes"), "{text}");
    assert!(pull.pull.as_ref().is_some_and(|it| it.draft), "{pull:#?}");
    let words = format!("/{REPOSITORY}/pull/{}", pull.number);
    world.status_says(issue, &words).await;

    world.say(issue, "/patchfleet approve --tokens 200000");
    world.task_in(TaskState::Review).await;
    let pulls = world.github.pulls(REPOSITORY).unwrap();
    let text = pulls[0].body.as_deref().unwrap_or_default();
    assert!(text.contains(&format!("Fixes #{issue}")), "{text}");
    assert!(!text.contains("not finished"), "{text}");
    world.merge_and_check(issue).await;
    let state = models.state();
    assert_eq!((state.calls, state.failures.len()), (2, 0), "{state:?}");
}

#[tokio::test]
async fn what_is_red_is_not_published_and_not_lost() {
    let (world, models, issue) = stopped_after(first(), rest()).await;
    assert!(world.github.pulls(REPOSITORY).unwrap().is_empty());
    world.say(issue, "/patchfleet approve --tokens 200000");
    world.merge_and_check(issue).await;
    let state = models.state();
    assert_eq!((state.calls, state.failures.len()), (2, 0), "{state:?}");
}
