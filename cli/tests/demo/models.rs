//! The demo with a model of the user's: each provider, and what is said when there is no answer.

use std::path::Path;
use std::process::Output;

use axum::Router;
use axum::response::Html;
use patchfleet_testkit::model::{Script, Simulator};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{assert_merged, command, kit};

/// The variable of these tests that holds the key.
const KEY: &str = "A_KEY_OF_THIS_TEST";

/// What the sample's model answers, with other words in it.
fn script(changes: &[(&str, &str)]) -> Script {
    let text = std::fs::read_to_string(kit().join("sample/model.yaml")).unwrap();
    let text = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    Script::parse("model.yaml", &text).unwrap()
}

/// How the demo is asked for a model.
struct Asked<'a> {
    provider: &'a str,
    model: &'a str,
    base_url: String,
    key: Option<&'a str>,
    /// A table of models of the user's own.
    table: Option<&'a Path>,
}

impl Asked<'_> {
    /// What the demo prints, and how it ends.
    async fn demo(&self) -> Output {
        let mut demo = command(env!("CARGO_BIN_EXE_patchfleet"));
        demo.args(["demo", "--json", "--timeout", "120"])
            .args(["--provider", self.provider, "--model", self.model])
            .args(["--base-url", &self.base_url, "--api-key-env", KEY]);
        if let Some(key) = self.key {
            demo.env(KEY, key);
        }
        if let Some(table) = self.table {
            demo.env("PATCHFLEET_MODEL_TABLE", table);
        }
        let run = tokio::task::spawn_blocking(move || demo.output().unwrap());
        run.await.unwrap()
    }
}

fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let read = |line| serde_json::from_str(line).unwrap();
    text.lines().map(read).collect()
}

/// The demo by that provider, and what the simulator billed for it.
async fn mended_by(provider: &str, path: &str, model: &str) -> (Value, Simulator) {
    let simulator = Simulator::start(script(&[("name: simulated", &format!("name: {model}"))]));
    let simulator = simulator.await.unwrap();
    let asked = Asked {
        provider,
        model,
        base_url: format!("{}{path}", simulator.base_url()),
        key: Some(simulator.key()),
        table: None,
    };
    let output = asked.demo().await;
    let errors = String::from_utf8_lossy(&output.stderr);
    let objects = objects(&output);
    assert!(output.status.success(), "{objects:#?}\n{errors}");
    assert_merged(&objects);
    let usage = objects.last().unwrap()["usage"].clone();
    let state = simulator.state();
    assert!(state.failures.is_empty(), "{state:?}");
    assert_eq!(usage["calls"], state.calls, "{usage}");
    let billed = [
        ("input_tokens", state.total.input),
        ("cache_read_tokens", state.total.cache_read),
        ("cache_write_tokens", state.total.cache_write),
        ("output_tokens", state.total.output),
        ("reasoning_tokens", state.total.reasoning),
    ];
    for (class, tokens) in billed {
        assert_eq!(usage[class], tokens, "{class}: {usage}");
    }
    (usage, simulator)
}

#[tokio::test]
async fn a_model_of_anthropics_mends_the_sample() {
    let (usage, _) = mended_by("anthropic", "", "simulated").await;
    assert_eq!(usage["cost_usd"], Value::Null, "nobody knows its price");
}

#[tokio::test]
async fn a_model_whose_price_is_known_says_what_it_cost() {
    let (usage, simulator) = mended_by("anthropic", "", "claude-opus-5").await;
    let total = simulator.state().total;
    // In hundredths of a millionth of a dollar.
    let billed =
        total.input * 500 + total.cache_read * 50 + total.cache_write * 625 + total.output * 2500;
    let billed = f64::from(u32::try_from(billed).unwrap());
    let cost = usage["cost_usd"].as_f64().unwrap() * 100_000_000.0;
    // Each call is rounded up to a millionth.
    assert!((cost - billed).abs() <= 500.0, "{cost} {billed}");
}

#[tokio::test]
async fn a_model_of_openais_responses_mends_the_sample() {
    mended_by("openai", "/v1", "simulated").await;
}

#[tokio::test]
async fn a_model_of_a_compatible_server_mends_the_sample() {
    mended_by("openai-chat", "/v1", "simulated").await;
}

#[tokio::test]
async fn a_model_of_geminis_mends_the_sample() {
    mended_by("gemini", "", "simulated").await;
}

#[tokio::test]
async fn a_model_of_ollamas_mends_the_sample_for_nothing() {
    let (usage, _) = mended_by("ollama", "", "simulated").await;
    assert_eq!(usage["cost_usd"], 0.0, "{usage}");
}

/// What is said at the end of a demo that failed.
async fn complaint(asked: Asked<'_>) -> String {
    let output = asked.demo().await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let objects = objects(&output);
    match objects.last().filter(|it| it["event"] == "demo_finished") {
        Some(last) => {
            assert_eq!(last["pull_request"], Value::Null, "{last}");
            format!(
                "{} {} {}",
                last["task"]["state"], last["failure"], last["wait"]
            )
        }
        None => errors,
    }
}

#[tokio::test]
async fn a_key_that_is_wrong_or_not_set_is_named() {
    let simulator = Simulator::start(script(&[])).await.unwrap();
    let asked = |key| Asked {
        provider: "anthropic",
        model: "simulated",
        base_url: simulator.base_url(),
        key,
        table: None,
    };
    let said = complaint(asked(Some("a-wrong-key-4711"))).await;
    assert!(said.contains("does not accept the key"), "{said}");
    assert!(!said.contains("a-wrong-key-4711"), "{said}");
    let said = complaint(asked(None)).await;
    assert!(said.contains(KEY) && said.contains("is not set"), "{said}");
}

#[tokio::test]
async fn a_model_that_the_server_does_not_have_is_named() {
    let simulator = Simulator::start(script(&[])).await.unwrap();
    let said = complaint(Asked {
        provider: "openai-chat",
        model: "imagined-7b",
        base_url: format!("{}/v1", simulator.base_url()),
        key: Some(simulator.key()),
        table: None,
    });
    let said = said.await;
    assert!(
        said.contains("does not have the model `imagined-7b`"),
        "{said}"
    );
}

#[tokio::test]
async fn a_model_without_tools_is_refused_by_its_server_or_by_the_table() {
    let changes = [("context: 200000", "context: 200000, tools: false")];
    let simulator = Simulator::start(script(&changes)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("models.json");
    let entry = r#"[{"id": "ollama", "models": [{"id": "simulated", "match": {"equals": "simulated"},
        "prices": {}, "patchfleet": {"tools": false, "free": true}}]}]"#;
    std::fs::write(&table, entry).unwrap();
    let asked = |table| Asked {
        provider: "ollama",
        model: "simulated",
        base_url: simulator.base_url(),
        key: Some(simulator.key()),
        table,
    };
    let said = complaint(asked(None)).await;
    assert!(said.contains("does not take `tools`"), "{said}");
    let said = complaint(asked(Some(&table))).await;
    assert!(
        said.contains("--model: `simulated` can't call tools"),
        "{said}"
    );
}

/// A server that answers everything with a page for people, until it is dropped.
async fn page() -> (String, DropGuard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let answer = async || Html("<html><title>Welcome to nginx!</title></html>");
    let serve = axum::serve(listener, Router::new().fallback(answer));
    let serve = serve.with_graceful_shutdown(stop.clone().cancelled_owned());
    TaskTracker::new().spawn(async move { serve.await.unwrap() });
    (format!("http://{address}"), stop.drop_guard())
}

#[tokio::test]
async fn a_server_of_pages_for_people_is_told_from_one_of_models() {
    let (base_url, _stop) = page().await;
    let said = complaint(Asked {
        provider: "gemini",
        model: "simulated",
        base_url,
        key: Some("k"),
        table: None,
    });
    let said = said.await;
    assert!(
        said.contains("Welcome to nginx!") && said.contains("mend agents.draft.model.url"),
        "{said}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_run_is_named_at_once() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let said = complaint(Asked {
        provider: "ollama",
        model: "simulated",
        base_url: base_url.clone(),
        key: Some("k"),
        table: None,
    });
    let said = said.await;
    assert!(
        said.contains(&base_url) && said.contains("ollama serve"),
        "{said}"
    );
}
