//! A draft whose conversation outgrows the model's window: its old turns are summed up, and an agent that
//! goes on pays for the summary no more than for any other answer.

use patchfleet_testkit::model::script::Fault;
use patchfleet_testkit::model::{Script, Simulator};
use serde_json::{Value, json};

use crate::world::{Part, Plan, World};

/// A turn of many words, after which the provider has counted so many tokens.
fn wordy(number: u32, tokens: u32) -> Value {
    json!({
        "text": format!("{number}: {}", "I think about it. ".repeat(1_200)),
        "calls": [{"name": "search", "arguments": {"pattern": format!("nothing {number}")}}],
        "usage": {"input": tokens, "output": 100},
    })
}

fn edit(path: &str, old: &str, new: &str) -> Value {
    json!({"name": "edit_file", "arguments": {"path": path, "old": old, "new": new}})
}

/// Three turns fill a window of 32,000 tokens; then the model sums up, mends the sample and finishes.
fn script() -> Script {
    let edits = [
        edit(
            "orders/discounts.py",
            "if quantity > least:",
            "if quantity >= least:",
        ),
        edit(
            "orders/money.py",
            "import ROUND_HALF_EVEN, Decimal",
            "import ROUND_HALF_UP, Decimal",
        ),
        edit(
            "orders/money.py",
            "rounding=ROUND_HALF_EVEN",
            "rounding=ROUND_HALF_UP",
        ),
        edit(
            "orders/order.py",
            "self._quantities[sku] = quantity",
            "self._quantities[sku] = self._quantities.get(sku, 0) + quantity",
        ),
    ];
    let finish = json!([{"name": "finish", "arguments": {"summary": "Three amounts are right."}}]);
    // What begins with notes is another conversation to the simulator.
    let noted = "your own notes(?s:.*)<untrusted-text>\\s+Three files have to be mended";
    let script = json!({
        "turns": [
            wordy(1, 9_000),
            wordy(2, 18_000),
            wordy(3, 29_000),
            {
                "when": {"text": "everything above but your instructions"},
                "text": "Three files have to be mended.",
            },
        ],
        "conversations": [
            {"when": {"text": noted}, "turns": [{"calls": edits}, {"calls": finish}]},
        ],
    });
    Script::parse("script", &script.to_string()).unwrap()
}

#[tokio::test]
async fn a_long_draft_is_summed_up_and_goes_on_at_another_agent_without_paying_again() {
    let mut script = script();
    let after = &mut script.conversations[0].turns;
    let mut in_vain = after[0].clone();
    in_vain.fault = Some(Fault::Stall {
        after: 0,
        pings: false,
        seconds: None,
    });
    after.insert(0, in_vain);
    let models = Simulator::start(script).await.unwrap();
    let mut world = World::with(Plan {
        drafting_model: Some(json!({
            "provider": "anthropic",
            "model": "simulated",
            "url": models.base_url(),
            "key": models.key(),
            "window": 32_000,
            "max_output": 4_096,
        })),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    // The first call after the summary.
    models.wait(|state| state.faults == 1).await;
    world.kill(Part::Agent).await;
    world.start(Part::Agent).await;
    world.merge_and_check(issue).await;
    let state = models.state();
    assert!(state.failures.is_empty(), "{state:?}");
    let turns: Vec<_> = state.requests.iter().filter_map(|it| it.turn).collect();
    assert_eq!(turns.len(), 7, "six answers and one in vain: {state:?}");
    assert_eq!(state.requests[4].hash, state.requests[5].hash);
    let task = world.tasks().await.remove(0);
    assert_eq!(task.spent.calls, 7, "{:?}", task.spent);
}
