//! Calls against the test kit's models: what they used, and what becomes of those that no budget has
//! room for.

use patchfleet_domain::outcome::FailureKind;
use patchfleet_domain::report::Usage as Reported;
use patchfleet_model::ModelError;
use patchfleet_proto::v1;
use patchfleet_proto::v1::reservation::Answer as Allowed;
use patchfleet_testkit::model::{Protocol, Script, Simulator, Usage};
use serde_json::{Value, json};

use super::*;
use crate::gateway::{CallLog, ModelUse};
use crate::model::kept_work::KeptWork;
use crate::model::recorded::Turns;
use crate::session::heard::{Heard, heard};
use crate::session::reporter::Reporter;

/// A request for each protocol, streaming or not, which the client shows a key of its own.
fn requests() -> Vec<(&'static str, Value)> {
    let said = json!([{"role": "user", "content": "Hi"}]);
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 500}});
    let mut requests = vec![
        ("/v1beta/models/simulated:generateContent", contents.clone()),
        (
            "/v1beta/models/simulated:streamGenerateContent",
            contents.clone(),
        ),
        (
            "/v1beta/models/simulated:streamGenerateContent?alt=sse",
            contents,
        ),
    ];
    for stream in [true, false] {
        requests.extend([
            ("/v1/messages?beta=true", json!({"model": "simulated", "max_tokens": 500, "stream": stream, "messages": said})),
            ("/v1/responses", json!({"model": "simulated", "max_output_tokens": 500, "stream": stream, "input": said})),
            ("/v1/chat/completions", json!({"model": "simulated", "max_completion_tokens": 500, "stream": stream,
                "stream_options": if stream { json!({"include_usage": true}) } else { Value::Null }, "messages": said})),
            ("/api/chat", json!({"model": "simulated", "options": {"num_predict": 500}, "stream": stream, "messages": said})),
        ]);
    }
    requests
}

const ANSWER: &str = "
allow_repeats: true
turns:
  - text: Grüße from a model that is none, in several pieces.
    thinking: Greetings are in order.
    forever: true
";

/// Where the calls are recorded.
const CALLS: &str = "calls.jsonl";

/// What the simulator has counted, what the gateway has, and what the coordinator heard.
struct Seen {
    billed: Usage,
    calls: usize,
    used: ModelUse,
    heard: Heard,
    /// Whole answers with their heads.
    answers: Vec<String>,
    /// What is recorded of each call.
    recorded: Vec<Value>,
}

/// Sends requests one after the other through a gateway whose reservations are answered in order.
async fn asked(script: &str, requests: &[(&str, Value)], allowed: Vec<Allowed>) -> Seen {
    let simulator = Simulator::start(Script::parse("script", script).unwrap());
    let simulator = simulator.await.unwrap();
    let asking = async |reporter| {
        let credential = Credential::Bearer(SecretString::from(simulator.key()));
        let budgets = budgets(reporter);
        let (gateway, folder) = opened(&simulator.base_url(), credential, budgets);
        let mut answers = Vec::new();
        for (path, body) in requests {
            let headers = "anthropic-version: 2023-06-01\r\nauthorization: Bearer none\r\n";
            let request = post(path, headers, &body.to_string());
            answers.push(answer(gateway.socket(), &request).await);
        }
        let used = gateway.close().await;
        let recorded = std::fs::read_to_string(folder.path().join(CALLS)).unwrap();
        (used, answers, recorded)
    };
    let ((used, answers, recorded), heard) = heard(allowed, asking).await;
    let lines = recorded.lines();
    let recorded = lines.map(|line| serde_json::from_str(line).unwrap());
    let recorded = recorded.collect();
    let state = simulator.state();
    assert_eq!(state.failures, [] as [&str; 0]);
    let mut billed = Usage::default();
    for request in &state.requests {
        let mut usage = request.billed;
        if request.protocol == Protocol::Ollama {
            // It says nothing of the part that was reasoning.
            usage.reasoning = 0;
        }
        billed.add(&usage);
    }
    Seen {
        billed,
        calls: state.calls,
        used,
        heard,
        answers,
        recorded,
    }
}

fn opened(base: &str, credential: Credential, budgets: Budgets) -> (Gateway, tempfile::TempDir) {
    let upstream = ModelUpstream::new(&Url::parse(base).unwrap(), credential).unwrap();
    let model = Model::new(upstream, ModelLimits::default(), &Proxies::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = CallLog::create(&folder.path().join(CALLS)).unwrap();
    let gateway = Gateway::bind(&folder.path().join("model.sock"), model, budgets, Some(log));
    (gateway.unwrap(), folder)
}

/// The coordinator's, of an attempt that is the first.
fn budgets(reporter: Reporter) -> Budgets {
    Budgets::of(reporter, (Turns::default(), KeptWork::default()))
}

fn granted(times: usize) -> Vec<Allowed> {
    vec![Allowed::Granted(v1::Granted {}); times]
}

fn exceeded(scope: &str) -> Allowed {
    Allowed::Exceeded(v1::BudgetExceeded {
        scope: scope.to_owned(),
        message: format!("the budget of this {scope} is spent"),
        tokens_left: None,
        cost_micros_left: Some(0),
    })
}

fn sum(reported: &[Reported]) -> Usage {
    let mut sum = Usage::default();
    for it in reported {
        sum.add(&Usage {
            input: it.input_tokens,
            cache_read: it.cache_read_tokens,
            cache_write: it.cache_write_tokens,
            output: it.output_tokens,
            reasoning: it.reasoning_tokens,
        });
    }
    sum
}

#[tokio::test]
async fn usage_of_every_protocol_is_what_the_provider_bills() {
    // Gemini's and Anthropic's clients show their keys elsewhere; the gateway's key is a bearer's here.
    let requests: Vec<_> = requests()
        .into_iter()
        .filter(|(path, _)| !path.starts_with("/v1beta"))
        .collect();
    let seen = asked(ANSWER, &requests, granted(requests.len())).await;
    for answer in &seen.answers {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(seen.calls, requests.len());
    assert_eq!(sum(&seen.heard.usages), seen.billed);
    assert!(seen.heard.usages.iter().all(|it| !it.estimated));
    let used: patchfleet_model::Usage = seen.used.models.values().map(|it| it.usage).sum();
    assert_eq!(
        (used.prompt(), used.output),
        (seen.billed.prompt(), seen.billed.output)
    );
    let names: Vec<_> = seen.used.models.keys().map(String::as_str).collect();
    let expected = [
        "anthropic/simulated",
        "ollama/simulated",
        "openai-chat/simulated",
        "openai/simulated",
    ];
    assert_eq!(names, expected);
    for (reserved, used) in seen.heard.reservations.iter().zip(&seen.heard.usages) {
        assert_eq!(reserved.call, used.call);
        assert!(reserved.tokens >= 500 && reserved.tokens >= used.tokens());
    }
}

#[tokio::test]
async fn geminis_calls_are_counted_in_each_of_their_forms() {
    let simulator = Simulator::start(Script::parse("script", ANSWER).unwrap());
    let simulator = simulator.await.unwrap();
    let credential = Credential::GoogleKey(SecretString::from(simulator.key()));
    let (gateway, _folder) = opened(&simulator.base_url(), credential, Budgets::none());
    let gemini = requests()
        .into_iter()
        .filter(|(path, _)| path.starts_with("/v1beta"));
    for (path, body) in gemini {
        let request = post(path, "x-goog-api-key: none\r\n", &body.to_string());
        let answer = answer(gateway.socket(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let used = gateway.close().await.models["gemini/simulated"];
    let billed = simulator.state().total;
    assert_eq!((used.calls, used.usage.estimated), (3, false));
    assert_eq!(
        (used.usage.prompt(), used.usage.output, used.usage.reasoning),
        (billed.prompt(), billed.output, billed.reasoning)
    );
}

#[tokio::test]
async fn what_no_budget_has_room_for_is_refused_in_the_words_of_its_protocol_and_nothing_is_asked_again()
 {
    for (path, body) in requests() {
        let twice = [(path, body.clone()), (path, body)];
        let seen = asked(ANSWER, &twice, vec![exceeded("task")]).await;
        assert_eq!(seen.calls, 0, "{path}");
        assert_eq!(
            seen.heard.reservations.len(),
            1,
            "the second is not asked for: {path}"
        );
        let stopped = seen.used.stopped.unwrap();
        assert_eq!(stopped.kind, FailureKind::BudgetSpent);
        for answer in seen.answers {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 402 "), "{answer}");
            assert!(head.contains("x-should-retry: false"), "{answer}");
            let body: Value = serde_json::from_str(body).unwrap();
            let words = match path.split('/').nth(1).unwrap() {
                "api" => body["error"].to_string(),
                "v1beta" => {
                    assert_eq!(body["error"]["status"], "FAILED_PRECONDITION");
                    body["error"]["message"].to_string()
                }
                _ if path.starts_with("/v1/messages") => {
                    assert_eq!(
                        (&body["type"], &body["error"]["type"]),
                        (&json!("error"), &json!("billing_error"))
                    );
                    body["error"]["message"].to_string()
                }
                _ => {
                    assert_eq!(body["error"]["code"], "insufficient_quota");
                    body["error"]["message"].to_string()
                }
            };
            assert!(words.contains("the budget of this task is spent"), "{body}");
        }
    }
}

#[tokio::test]
async fn what_costs_nothing_is_not_reserved() {
    let count = json!({"model": "simulated", "messages": [{"role": "user", "content": "Hi"}]});
    let requests = [("/v1/messages/count_tokens?beta=true", count)];
    let seen = asked(ANSWER, &requests, Vec::new()).await;
    assert!(
        seen.answers[0].contains("input_tokens"),
        "{:?}",
        seen.answers
    );
    assert!(seen.heard.reservations.is_empty() && seen.used.models.is_empty());
}

#[tokio::test]
async fn answers_that_break_are_charged_and_errors_are_not() {
    let chat = requests().remove(5);
    let cut = "
allow_repeats: true
turns:
  - {text: This answer is cut before it has come to its end., fault: {cut: {at: {events: 4}}}}
  - {fault: reset}
  - {fault: {overloaded: {}}}
  - {fault: unauthorized}
";
    let requests = [chat.clone(), chat.clone(), chat.clone(), chat];
    let seen = asked(cut, &requests, granted(4)).await;
    let [cut, reset, overloaded, refused] = &seen.heard.usages[..] else {
        panic!("{:?}", seen.heard.usages);
    };
    assert!(
        cut.estimated && cut.input_tokens > 0 && cut.output_tokens > 0,
        "{cut:?}"
    );
    assert!(reset.estimated && reset.input_tokens > 0, "{reset:?}");
    assert_eq!(reset.output_tokens, 0);
    assert_eq!((overloaded.tokens(), refused.tokens()), (0, 0));
    let (model, error) = seen.used.error.unwrap();
    assert_eq!(model, "openai-chat/simulated");
    assert!(
        matches!(error, ModelError::Authentication { .. }),
        "{error}"
    );
}

/// The client hangs up in the middle, as one does that is killed.
#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_is_settled() {
    let rig = Rig::new().await;
    let asking = async |reporter| {
        let (sender, pieces) = tokio::sync::mpsc::channel(4);
        *rig.asked.pieces.lock().unwrap() = Some(pieces);
        let base = rig.base.clone();
        let (gateway, _folder) = gateway(&base, ModelLimits::default(), budgets(reporter));
        let mut client = UnixStream::connect(gateway.socket()).await.unwrap();
        let request = post("/v1/messages", "", &asks(200));
        client.write_all(request.as_bytes()).await.unwrap();
        let begun = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1234,\"output_tokens\":1}}}\n\n";
        sender.send(Ok(Bytes::from(begun))).await.unwrap();
        let mut buffer = [0; 4096];
        let mut text = String::new();
        while !text.contains("message_start") {
            let count = client.read(&mut buffer).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        drop(client);
        gateway.close().await
    };
    let (used, heard) = heard(granted(1), asking).await;
    let [settled] = &heard.usages[..] else {
        panic!("{:?}", heard.usages);
    };
    assert_eq!((settled.input_tokens, settled.estimated), (1234, true));
    assert_eq!(settled.call, heard.reservations[0].call);
    assert_eq!(used.error.unwrap().1, ModelError::Cancelled);
}

#[tokio::test]
async fn each_call_is_recorded_as_its_client_sent_and_saw_it() {
    // Those whose key is a bearer's or needs none.
    let requests: Vec<_> = requests()
        .into_iter()
        .filter(|(path, _)| !path.starts_with("/v1beta"))
        .collect();
    let script = ANSWER.replace("Grüße", "Grüße, not my-own-key-7a90f3c4, ");
    patchfleet_guard::register_secret("my-own-key-7a90f3c4");
    let seen = asked(&script, &requests, granted(requests.len())).await;
    assert_eq!(seen.recorded.len(), requests.len());
    for ((path, body), recorded) in requests.iter().zip(&seen.recorded) {
        assert_eq!(
            (&recorded["path"], &recorded["request"]),
            (&json!(path), body)
        );
        assert_eq!(recorded["status"], 200);
        assert!(recorded["error"].is_null(), "{recorded}");
        assert!(recorded["usage"]["output"].as_u64().unwrap() > 0);
        let answer = recorded["answer"].to_string();
        assert!(answer.contains("Grüße"), "{path}: {answer}");
        assert!(!answer.contains("my-own-key"), "{path}: {answer}");
    }
    let refused = "turns: [{fault: unauthorized}]";
    let seen = asked(refused, &requests[..1], granted(1)).await;
    let recorded = &seen.recorded[0];
    assert_eq!(recorded["status"], 401);
    assert!(
        recorded["error"].as_str().unwrap().contains("key"),
        "{recorded}"
    );
}
