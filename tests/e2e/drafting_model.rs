//! A model that drafts by tools: from an issue to a pull request over the model's own wire.

use patchfleet_testkit::model::{Script, Simulator};
use serde_json::{Value, json};

use crate::world::{Plan, World};

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

async fn drafted_by(provider: &str, path: &str) {
    let script = Script::parse("script", SCRIPT).unwrap();
    let models = Simulator::start(script).await.unwrap();
    let model: Value = json!({
        "provider": provider,
        "model": "simulated",
        "url": format!("{}{path}", models.base_url()),
        "key": models.key(),
    });
    let world = World::with(Plan {
        drafting_model: Some(model),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
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
