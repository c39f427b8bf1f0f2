//! The providers' own clients talk to the model simulator: whatever they can't read, it wrote wrong,
//! and whatever it refuses of theirs, it refuses wrongly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Stdio;

use patchfleet_testkit::model::{Protocol, Script, Simulator, State, Usage};
use serde_json::{Value, json};

const SCRIPT: &str = "
conversations:
  - when: {text: '^say it'}
    turns:
      - text: Grüße from a model that is none, in several pieces.
        thinking: Greetings are in order.
        usage: {input: 70, cache_read: 20, cache_write: 10, output: 9, reasoning: 4}
  - when: {text: '^weather'}
    turns:
      - thinking: Both cities have to be asked for, one after the other or at once.
        text: I look it up.
        calls:
          - {name: weather, arguments: {city: Köln}}
          - {name: weather, arguments: {city: Aachen}}
      - when: {tool_result: 'Köln: 20 degrees'}
        text: It is 20 degrees in both.
  - when: {text: '^once more'}
    turns:
      - fault: {rate_limit: {wait: retry_after_ms, seconds: 0.02}}
      - text: The second time it works.
  - when: {text: '^too long'}
    turns:
      - fault: {context_too_long: {}}
        forever: true
  - when: {text: '^fail midway'}
    turns:
      - text: This is begun and never ended.
        fault: {rate_limit: {wait: message, seconds: 1.5, stream: true}}
";

/// What a client saw, and what the simulator counted.
async fn run(client: &str) -> (Value, State) {
    let script = Script::parse("clients.yaml", SCRIPT).unwrap();
    let simulator = Simulator::start(script).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("npm");
    assert!(
        folder.join("node_modules/openai").exists(),
        "the clients are not installed; `make setup` does it"
    );
    #[expect(
        clippy::disallowed_methods,
        reason = "a client that is a program of Node"
    )]
    let mut command = tokio::process::Command::new("node");
    let output = command
        .arg(folder.join("clients").join(format!("{client}.mjs")))
        .env("SIMULATOR", simulator.base_url())
        .env("SIMULATOR_KEY", simulator.key())
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let state = simulator.state();
    let problems = String::from_utf8_lossy(&output.stderr);
    let refused = state.requests.iter().filter_map(|it| it.refused.as_ref());
    let refused: Vec<_> = refused.collect();
    assert!(output.status.success(), "{problems}\nrefused: {refused:#?}");
    simulator.shutdown().await;
    (serde_json::from_slice(&output.stdout).unwrap(), state)
}

fn conversation(seen: &Value) {
    let text = "Grüße from a model that is none, in several pieces.";
    assert_eq!(seen["text"], text);
    assert!(seen["pieces"].as_u64().unwrap() > 2, "{seen}");
    let calls = json!([["weather", { "city": "Köln" }], ["weather", { "city": "Aachen" }]]);
    assert_eq!(seen["calls"], calls);
    assert_eq!(seen["answer"], "It is 20 degrees in both.");
}

fn thought(seen: &Value) {
    let thought = "Both cities have to be asked for, one after the other or at once.";
    assert_eq!(seen["thought"], thought);
}

fn counts(state: &State, protocol: Protocol) {
    assert_eq!(state.failures, [] as [&str; 0]);
    assert_eq!(state.refused, 0);
    assert!(state.requests.iter().all(|it| it.protocol == protocol));
    let first = Usage {
        input: 70,
        cache_read: 20,
        cache_write: 10,
        output: 9,
        reasoning: 4,
    };
    assert_eq!(state.requests[0].billed, first);
    let mut sum = Usage::default();
    for request in &state.requests {
        sum.add(&request.billed);
    }
    assert_eq!(state.total, sum);
    assert_eq!(state.billed["simulated"], sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropics_client_streams_calls_tools_and_reads_usage_and_errors() {
    let (seen, state) = run("anthropic").await;
    conversation(&seen);
    thought(&seen);
    counts(&state, Protocol::Anthropic);
    assert_eq!(seen["stop"], "end_turn");
    assert_eq!(seen["usage"], json!([70, 20, 10, 9, 4]));
    assert_eq!(seen["waited"], "The second time it works.");
    let words = "prompt is too long: 200001 tokens > 200000 maximum";
    assert_eq!(seen["error"], json!([true, 400, words]));
    assert!(
        seen["midway"]
            .as_str()
            .unwrap()
            .contains("rate_limit_error"),
        "{seen}"
    );
    assert!(seen["counted"].as_u64().unwrap() > 2);
    assert_eq!(seen["models"], json!(["simulated"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_client_streams_calls_tools_and_reads_usage_and_errors_of_responses() {
    let (seen, state) = run("responses").await;
    conversation(&seen);
    thought(&seen);
    counts(&state, Protocol::Responses);
    assert_eq!(seen["stop"], "completed");
    assert_eq!(seen["usage"], json!([100, 20, 10, 9, 4]));
    assert_eq!(seen["waited"], "The second time it works.");
    assert_eq!(seen["error"], json!([true, 400, "context_length_exceeded"]));
    assert_eq!(seen["midway"], "rate_limit_exceeded");
    assert_eq!(seen["models"], json!(["simulated"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_client_streams_calls_tools_and_reads_usage_and_errors_of_chat_completions() {
    let (seen, state) = run("chat").await;
    conversation(&seen);
    counts(&state, Protocol::Chat);
    assert_eq!(seen["stop"], "stop");
    assert_eq!(seen["usage"], json!([100, 20, 10, 9, 4]));
    assert_eq!(seen["waited"], "The second time it works.");
    assert_eq!(seen["error"], json!([true, 400, "context_length_exceeded"]));
    assert_eq!(seen["midway"], "rate_limit_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn googles_client_streams_calls_tools_and_reads_usage_and_errors() {
    let (seen, state) = run("gemini").await;
    conversation(&seen);
    thought(&seen);
    counts(&state, Protocol::Gemini);
    assert_eq!(seen["stop"], "STOP");
    assert_eq!(seen["usage"], json!([100, 20, 0, 9, 4]));
    assert_eq!(seen["waited"], "The second time it works.");
    assert_eq!(seen["error"], json!([true, 400, "INVALID_ARGUMENT"]));
    assert!(
        seen["midway"]
            .as_str()
            .unwrap()
            .contains("RESOURCE_EXHAUSTED"),
        "{seen}"
    );
    assert!(seen["counted"].as_u64().unwrap() > 2);
    assert_eq!(seen["models"], json!(["models/simulated"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn ollamas_client_streams_calls_tools_and_reads_usage_and_errors() {
    let (seen, state) = run("ollama").await;
    conversation(&seen);
    thought(&seen);
    counts(&state, Protocol::Ollama);
    assert_eq!(seen["stop"], "stop");
    assert_eq!(seen["usage"], json!([70, 0, 0, 9, 0]));
    let words = "prompt is too long: 200001 tokens > 200000 maximum";
    assert_eq!(seen["error"], json!([true, 400, words]));
    assert!(
        seen["midway"]
            .as_str()
            .unwrap()
            .contains("Rate limit reached"),
        "{seen}"
    );
    assert_eq!(seen["models"], json!(["simulated"]));
    assert_eq!(seen["capabilities"], json!(["completion", "tools"]));
}
