//! A model that drafts, by tools or in one answer: from an issue to a pull request over the model's own
//! wire.

use patchfleet_domain::TaskState;
use patchfleet_testkit::model::script::Fault;
use patchfleet_testkit::model::{Script, Simulator};
use serde_json::{Value, json};

use crate::world::{Part, Plan, World, kit};

/// The model finds the faults of the sample, sees them, mends them and tests.
const SCRIPT: &str = r#"
turns:
  - text: I look at the code first.
    calls:
      - {name: search, arguments: {pattern: "quantity > least"}}
      - {name: read_file, arguments: {path: orders/money.py}}
      - {name: run_tests, arguments: {}}
    usage: {input: 900, output: 60}
  - calls:
      - {name: edit_file, arguments: {path: orders/discounts.py, old: "if quantity > least:", new: "if quantity >= least:"}}
      - {name: edit_file, arguments: {path: orders/money.py, old: "import ROUND_HALF_EVEN, Decimal", new: "import ROUND_HALF_UP, Decimal"}}
      - {name: edit_file, arguments: {path: orders/money.py, old: "rounding=ROUND_HALF_EVEN", new: "rounding=ROUND_HALF_UP"}}
      - {name: edit_file, arguments: {path: orders/order.py, old: "self._quantities[sku] = quantity", new: "self._quantities[sku] = self._quantities.get(sku, 0) + quantity"}}
      - {name: run_tests, arguments: {}}
    usage: {input: 1800, output: 200}
  - when: {tool_result: "PASSED, on tree"}
    calls:
      - {name: finish, arguments: {summary: "Discounts begin at their least quantity, halves are rounded up, and quantities add up."}}
    usage: {input: 2400, output: 40}
"#;

fn plan(models: &Simulator, provider: &str, path: &str) -> Plan {
    let model: Value = json!({
        "provider": provider,
        "model": "simulated",
        "url": format!("{}{path}", models.base_url()),
        "key": models.key(),
    });
    Plan {
        drafting_model: Some(model),
        ..Plan::default()
    }
}

async fn drafted_by(provider: &str, path: &str) {
    let script = Script::parse("script", SCRIPT).unwrap();
    let models = Simulator::start(script).await.unwrap();
    let world = World::with(plan(&models, provider, path)).await;
    let issue = world.open();
    world.label(issue);
    let text = world.pull_request().await.body.unwrap_or_default();
    let cost = "in 3 calls, 3 of them without a known price; 5100 tokens in";
    assert!(text.contains(cost), "{text}");
    world.merge_and_check(issue).await;
    let state = models.state();
    assert_eq!(state.calls, 3, "{state:?}");
    assert!(state.failures.is_empty(), "{state:?}");
}

#[tokio::test]
async fn an_issue_becomes_a_pull_request_by_a_model_of_anthropics_protocol() {
    drafted_by("anthropic", "").await;
}

#[tokio::test]
async fn an_issue_becomes_a_pull_request_by_a_model_of_a_compatible_server() {
    drafted_by("openai-chat", "/v1").await;
}

#[tokio::test]
async fn a_repositorys_own_budget_stops_its_task_before_a_call_that_it_has_no_room_for() {
    let script = Script::parse("script", SCRIPT).unwrap();
    let models = Simulator::start(script).await.unwrap();
    let world = World::with(Plan {
        repository_config: Some("budget: {tokens: 100}\n"),
        ..plan(&models, "anthropic", "")
    })
    .await;
    let issue = world.open();
    world.label(issue);
    world.task_in(TaskState::Waiting).await;
    world.status_says(issue, "of 100 tokens").await;
    assert_eq!(models.state().calls, 0);
}

/// Each turn is asked for in vain first, for as long as somebody waits.
fn stalling(mut script: Script) -> Script {
    let in_vain = Fault::Stall {
        after: 0,
        pings: false,
        seconds: None,
    };
    let turns = script.turns.into_iter().flat_map(|turn| {
        let mut first = turn.clone();
        first.fault = Some(in_vain.clone());
        [first, turn]
    });
    script.turns = turns.collect();
    script
}

#[tokio::test]
async fn an_agent_killed_between_any_two_turns_goes_on_and_pays_for_none_twice() {
    let script = Script::parse("script", SCRIPT).unwrap();
    let turns = script.turns.len();
    let models = Simulator::start(stalling(script)).await.unwrap();
    let mut world = World::with(Plan {
        // Each of the killed agent's is one.
        max_attempts: u32::try_from(turns).unwrap() + 1,
        ..plan(&models, "anthropic", "")
    })
    .await;
    let issue = world.open();
    world.label(issue);
    for killed in 1..=turns {
        // It waits for the answer after those that it has.
        models.wait(|state| state.faults == killed).await;
        world.kill(Part::Agent).await;
        world.start(Part::Agent).await;
    }
    world.merge_and_check(issue).await;
    let state = models.state();
    assert!(state.failures.is_empty(), "{state:?}");
    let given = state.requests.iter().filter(|it| it.fault.is_none());
    let given: Vec<_> = given.filter_map(|it| it.turn).collect();
    assert_eq!((given.len(), state.faults), (turns, turns), "{state:?}");
}

/// What mends the sample: a file, what stands in it, and what comes in its place.
pub(crate) const MENDED: &[(&str, &str, &str)] = &[
    (
        "orders/discounts.py",
        "        if quantity > least:\n",
        "        if quantity >= least:\n",
    ),
    (
        "orders/money.py",
        "from decimal import ROUND_HALF_EVEN, Decimal\n",
        "from decimal import ROUND_HALF_UP, Decimal\n",
    ),
    (
        "orders/money.py",
        "    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))\n",
        "    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))\n",
    ),
    (
        "orders/order.py",
        "        self._quantities[sku] = quantity\n",
        "        self._quantities[sku] = self._quantities.get(sku, 0) + quantity\n",
    ),
];

/// The change as passages, as a model writes them that writes those best.
pub(crate) fn as_blocks() -> String {
    let blocks = MENDED.iter().map(|(path, old, new)| {
        format!("<<<<<<< SEARCH {path}\n{old}=======\n{new}>>>>>>> REPLACE\n\n")
    });
    format!("Three amounts are wrong.\n\n{}", blocks.collect::<String>())
}

/// The change as whole files.
fn as_files() -> String {
    let paths: std::collections::BTreeSet<_> = MENDED.iter().map(|(path, ..)| *path).collect();
    let files = paths.into_iter().map(|path| {
        let mut text = std::fs::read_to_string(kit("sample/repository").join(path)).unwrap();
        for (_, old, new) in MENDED.iter().filter(|(other, ..)| *other == path) {
            text = text.replace(old, new);
        }
        format!("<<<<<<< FILE {path}\n{text}>>>>>>> FILE\n")
    });
    files.collect()
}

/// Drafts in one answer, or in two where the first can't be used; the requests are counted.
async fn answered_by((provider, path, model): (&str, &str, &str), turns: Value, calls: usize) {
    let script = json!({"models": [{"name": model}], "turns": turns});
    let script = Script::parse("script", &script.to_string()).unwrap();
    let models = Simulator::start(script).await.unwrap();
    let world = World::with(Plan {
        drafting_mode: "diff",
        drafting_model: Some(json!({
            "provider": provider,
            "model": model,
            "url": format!("{}{path}", models.base_url()),
            "key": models.key(),
        })),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;
    let state = models.state();
    assert_eq!(state.calls, calls, "{state:?}");
    assert!(state.failures.is_empty(), "{state:?}");
}

#[tokio::test]
async fn one_answer_of_blocks_becomes_a_pull_request() {
    // The table knows that it writes passages best.
    let known = ("anthropic", "", "claude-sonnet-4-5");
    let told = json!({"system": "<<<<<<< SEARCH", "text": "`orders/money.py`:\n<untrusted-text>"});
    let turns = json!([{"when": told, "text": as_blocks()}]);
    answered_by(known, turns, 1).await;
}

#[tokio::test]
async fn one_answer_of_whole_files_becomes_a_pull_request_at_a_compatible_server() {
    let unknown = ("openai-chat", "/v1", "simulated");
    let turns = json!([{"when": {"system": "Nothing may stand for lines"}, "text": as_files()}]);
    answered_by(unknown, turns, 1).await;
}

#[tokio::test]
async fn what_is_cut_or_does_not_apply_is_asked_for_once_more() {
    let wrong = as_blocks().replace("if quantity > least", "if quantity > minimum");
    let right = "<<<<<<< SEARCH orders/discounts.py\n        if quantity > least:\n=======\n        \
                 if quantity >= least:\n>>>>>>> REPLACE\n";
    let known = ("anthropic", "", "claude-sonnet-4-5");
    let turns = json!([
        {"text": wrong},
        {"when": {"text": "3 of your 4 blocks were applied(?s:.*)Nearest, from line 14"}, "text": right},
    ]);
    answered_by(known, turns, 2).await;
    let turns = json!([
        {"text": as_blocks(), "stop": "max_tokens"},
        {"when": {"text": "Your answer was cut at 16000 tokens"}, "text": as_blocks()},
    ]);
    answered_by(known, turns, 2).await;
}

#[tokio::test]
async fn a_recorded_draft_is_drafted_again_without_its_model() {
    let script = Script::parse("script", SCRIPT).unwrap();
    let models = Simulator::start(script).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("drafts");
    let Plan { drafting_model, .. } = plan(&models, "anthropic", "");
    for draft in [
        json!({"mode": "tools", "model": drafting_model, "record": record}),
        json!({"mode": "replay", "replay_dir": record}),
    ] {
        let world = World::with(Plan {
            draft: Some(draft),
            ..Plan::default()
        })
        .await;
        let issue = world.open();
        world.label(issue);
        world.merge_and_check(issue).await;
    }
    assert_eq!(models.state().calls, 3);
}
