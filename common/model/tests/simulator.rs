//! The client against the simulated providers, in every fault that they play.

use std::time::Duration;

use patchfleet_model::{
    Answer, Broken, Client, Conversation, Message, Model as _, ModelError, Origin, POLICY, Part,
    Protocol, Retrying, Settings, Stop, Target, Tool, ToolResult, Turn, Usage,
};
use patchfleet_resilience::{Policy, Remote};
use patchfleet_testkit::model::{Script, Simulator, State};
use secrecy::SecretString;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Two models, of which Gemini's wants its signatures back.
const MODELS: &str = "models: [{name: simulated}, {name: gemini-3-simulated}]\n";

/// Thinking, text beyond ASCII, two calls and every class of usage.
const TURN: &str = r#"
turns:
  - thinking: Let me see.
    text: Ich prüfe das.
    calls: [{name: read_file, arguments: {path: "ä.rs"}}, {name: list_files}]
    usage: {input: 100, cache_read: 50, cache_write: 20, output: 40, reasoning: 10}
"#;

async fn simulator(turns: &str) -> Simulator {
    let script = Script::parse("script", &format!("{MODELS}{turns}")).expect("a script");
    Simulator::start(script).await.expect("a port")
}

fn client(simulator: &Simulator, protocol: Protocol, settings: Settings) -> Client {
    let model = match protocol {
        Protocol::Gemini => "gemini-3-simulated",
        _ => "simulated",
    };
    let origin = Origin {
        provider: protocol.name().into(),
        model: model.into(),
    };
    let url = simulator.base_url().parse().expect("an address");
    let mut target = Target::new(protocol, origin).at(url);
    target.key = Some(SecretString::from(simulator.key()));
    target.window = Some(65_536);
    Client::new(target, settings).expect("a client")
}

fn question() -> Conversation {
    let tool = |name: &str| Tool {
        name: name.into(),
        description: format!("does {name}"),
        parameters: json!({"type": "object", "properties": {"path": {"type": "string"}}}),
    };
    let mut conversation = Conversation::question("You fix bugs.", "Fix it, bitte schön.", 1000);
    conversation.tools = vec![tool("read_file"), tool("list_files")];
    conversation
}

/// One question to a simulator with these turns.
async fn ask(protocol: Protocol, turns: &str) -> (Result<Answer, Broken>, State) {
    ask_with(protocol, turns, Settings::default()).await
}

async fn ask_with(
    protocol: Protocol,
    turns: &str,
    settings: Settings,
) -> (Result<Answer, Broken>, State) {
    let simulator = simulator(turns).await;
    let client = client(&simulator, protocol, settings);
    let answer = client.answer(&question(), &CancellationToken::new()).await;
    (answer, simulator.state())
}

/// One question with retries that wait for nothing but what the provider asks for.
async fn insist(protocol: Protocol, turns: &str) -> (Result<Answer, Broken>, State) {
    let simulator = simulator(turns).await;
    let client = client(&simulator, protocol, Settings::default());
    let policy = Policy {
        base: Duration::from_millis(1),
        ..POLICY
    };
    let model = Retrying::new(client, Remote::new("simulated", policy));
    let answer = model.answer(&question(), &CancellationToken::new()).await;
    (answer, simulator.state())
}

/// What the provider bills, in the classes that its protocol can tell apart.
fn billed(protocol: Protocol, state: &State) -> Usage {
    let total = state.total;
    let all = Usage {
        input: total.input,
        cache_read: total.cache_read,
        cache_write: total.cache_write,
        output: total.output,
        reasoning: total.reasoning,
        estimated: false,
    };
    match protocol {
        Protocol::Anthropic | Protocol::Responses | Protocol::Chat => all,
        Protocol::Gemini => Usage {
            input: all.input + all.cache_write,
            cache_write: 0,
            ..all
        },
        // It reports what it evaluated, and no class of it.
        Protocol::Ollama => Usage {
            input: all.input,
            output: all.output,
            ..Usage::default()
        },
    }
}

/// A turn of the script with more to it.
fn with(more: &str) -> String {
    format!("{TURN}    {more}\n")
}

fn results(answer: Answer) -> Turn {
    let mut turn = answer.into_turn();
    let ids: Vec<_> = turn.calls().map(|call| call.id.clone()).collect();
    turn.results = ids
        .into_iter()
        .map(|call_id| ToolResult {
            call_id,
            content: "fn main() {}".into(),
            is_error: false,
        })
        .collect();
    turn
}

#[tokio::test]
async fn each_protocol_answers_and_its_usage_is_what_the_provider_bills() {
    for protocol in Protocol::ALL {
        let (answer, state) = ask(protocol, TURN).await;
        let answer = answer.unwrap();
        assert_eq!(answer.text(), "Ich prüfe das.", "{protocol}");
        assert_eq!(answer.stop, Stop::ToolCalls, "{protocol}");
        let calls = answer.calls();
        assert_eq!(calls.len(), 2, "{protocol}");
        assert_eq!(calls[0].arguments.object().unwrap()["path"], "ä.rs");
        assert!(calls[1].arguments.object().unwrap().is_empty());
        assert_eq!(answer.usage, billed(protocol, &state), "{protocol}");
        assert!(!answer.usage.estimated, "{protocol}");
        assert_eq!(state.failures, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_conversation_goes_on_at_every_other_provider_in_the_middle_of_tool_use() {
    let turns = format!("{TURN}{}", "  - text: Done.\n");
    for from in Protocol::ALL {
        for to in Protocol::ALL {
            let simulator = simulator(&turns).await;
            let cancel = CancellationToken::new();
            let first = client(&simulator, from, Settings::default());
            let mut conversation = question();
            let answer = first.answer(&conversation, &cancel).await.unwrap();
            conversation
                .messages
                .push(Message::Assistant(results(answer)));
            let second = client(&simulator, to, Settings::default());
            let answer = second.answer(&conversation, &cancel).await;
            let answer = answer.unwrap_or_else(|broken| panic!("{from} to {to}: {broken}"));
            assert_eq!(answer.text(), "Done.", "{from} to {to}");
            assert_eq!(simulator.state().refused, 0);
        }
    }
}

#[tokio::test]
async fn the_form_of_the_bytes_changes_nothing() {
    let shapes = [
        "line_end: crlf",
        "line_end: cr",
        "bom: true",
        "comments: true",
        "multi_line: true",
        "padding: 1048576",
        "unknown_event: true",
        "unknown_block: true",
        "content_type: text/plain",
        "content_type: application/json",
        "gzip: true",
        "drip: {bytes: 7, milliseconds: 0}",
        "calls: interleaved",
        "calls: gaps",
        "calls: at_once",
        "usage: doubled",
    ];
    for protocol in Protocol::ALL {
        for shape in shapes {
            let (answer, state) = ask(protocol, &with(&format!("wire: {{{shape}}}"))).await;
            let answer = answer.unwrap_or_else(|broken| panic!("{protocol}, {shape}: {broken}"));
            assert_eq!(answer.text(), "Ich prüfe das.", "{protocol}, {shape}");
            assert_eq!(answer.calls().len(), 2, "{protocol}, {shape}");
            assert_eq!(
                answer.usage,
                billed(protocol, &state),
                "{protocol}, {shape}"
            );
        }
    }
}

#[tokio::test]
async fn usage_that_is_not_told_is_estimated() {
    for protocol in Protocol::ALL {
        for report in ["missing", "zero", "absurd"] {
            let (answer, _) = ask(protocol, &with(&format!("wire: {{usage: {report}}}"))).await;
            let usage = answer.unwrap().usage;
            assert!(usage.estimated, "{protocol}, {report}: {usage:?}");
            assert!(
                usage.output > 0 && usage.total() < 10_000,
                "{protocol}, {report}: {usage:?}"
            );
        }
    }
}

#[tokio::test]
async fn calls_of_every_kind_arrive_with_an_id_of_their_own() {
    let turns = r#"
turns:
  - calls:
      - {name: read_file, arguments: {path: a}, times: 38}
      - {name: read_file, arguments_text: "{\"path\": "}
      - {name: no_such_tool, arguments: {}}
    wire: {calls: duplicated}
"#;
    for protocol in [Protocol::Anthropic, Protocol::Responses, Protocol::Chat] {
        let (answer, _) = ask(protocol, turns).await;
        let answer = answer.unwrap();
        let calls = answer.calls();
        assert!(calls.len() >= 40, "{protocol}: {}", calls.len());
        let ids: std::collections::BTreeSet<_> = calls.iter().map(|call| &call.id).collect();
        assert_eq!(ids.len(), calls.len(), "{protocol}");
        let broken = calls.iter().filter(|call| call.arguments.object().is_err());
        assert_eq!(broken.count(), 1, "{protocol}");
        assert!(calls.iter().any(|call| call.name == "no_such_tool"));
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_anywhere_is_broken_and_paid_for() {
    for protocol in Protocol::ALL {
        let mut ended = 0;
        for events in 0..200 {
            let fault = format!(
                "fault: {{cut: {{at: {{events: {events}}}, clean: {}}}}}",
                events % 2 == 0
            );
            let (answer, state) = ask(protocol, &with(&fault)).await;
            let Err(broken) = answer else {
                ended = events;
                break;
            };
            let away = matches!(broken.error, ModelError::Away { .. });
            assert!(away, "{protocol}, {events} events: {broken:?}");
            assert!("Ich prüfe das.".starts_with(&broken.text_so_far));
            let usage = broken.usage_so_far;
            assert!(usage.is_zero() || usage.estimated, "{protocol}: {usage:?}");
            assert!(usage.output >= broken.text_so_far.len() as u64 / 3);
            assert_eq!(state.calls, 1);
        }
        assert!(ended > 2, "{protocol} ended at {ended}");
        let (answer, _) = ask(protocol, &with("fault: {cut: {at: inside_character}}")).await;
        let broken = answer.unwrap_err();
        assert!(
            "Ich pr".starts_with(&broken.text_so_far),
            "{protocol}: {broken:?}"
        );
        let (answer, _) = ask(protocol, &with("fault: {broken_json: {event: 1}}")).await;
        let broken = answer.unwrap_err();
        assert!(
            matches!(broken.error, ModelError::Malformed { .. }),
            "{protocol}: {broken:?}"
        );
    }
}

#[tokio::test]
async fn each_error_has_its_class_as_a_status_and_within_a_stream() {
    let cases = [
        ("quota", "quota"),
        ("overloaded", "overloaded"),
        ("server_error", "overloaded"),
        ("context_too_long", "context_too_long"),
        ("rate_limit", "rate_limited"),
    ];
    for protocol in Protocol::ALL {
        for (fault, word) in cases {
            for stream in [false, true] {
                let turns = with(&format!("fault: {{{fault}: {{stream: {stream}}}}}"));
                let (answer, _) = ask(protocol, &turns).await;
                let broken = answer.unwrap_err();
                let words = (broken.error.word(), protocol, fault, stream);
                // Ollama has no words but the status.
                let silent = protocol == Protocol::Ollama && stream;
                assert!(words.0 == word || silent, "{words:?}: {broken}");
            }
        }
        let (answer, _) = ask(protocol, "turns: [{fault: unauthorized}]").await;
        assert_eq!(
            answer.unwrap_err().error.word(),
            "authentication",
            "{protocol}"
        );
        let (answer, _) = ask(protocol, "turns: [{fault: {status: {code: 404}}}]").await;
        assert_eq!(
            answer.unwrap_err().error.word(),
            "unknown_model",
            "{protocol}"
        );
        let (answer, _) = ask(protocol, "turns: [{fault: html}]").await;
        assert_eq!(answer.unwrap_err().error.word(), "overloaded", "{protocol}");
        let (answer, _) = ask(protocol, "turns: [{fault: reset}]").await;
        assert_eq!(answer.unwrap_err().error.word(), "away", "{protocol}");
    }
}

#[tokio::test]
async fn the_key_and_the_model_have_to_be_known() {
    let simulator = simulator(TURN).await;
    for protocol in Protocol::ALL {
        let mut target = client(&simulator, protocol, Settings::default()).target();
        target.origin.model = "of-tomorrow".into();
        let unknown = Client::new(target.clone(), Settings::default()).unwrap();
        let broken = unknown
            .answer(&question(), &CancellationToken::new())
            .await
            .unwrap_err();
        assert_eq!(broken.error.word(), "unknown_model", "{protocol}: {broken}");
        assert!(broken.to_string().contains("of-tomorrow"), "{broken}");
        target.key = Some(SecretString::from("another-key-than-that"));
        let stranger = Client::new(target, Settings::default()).unwrap();
        let broken = stranger
            .answer(&question(), &CancellationToken::new())
            .await
            .unwrap_err();
        assert_eq!(
            broken.error.word(),
            "authentication",
            "{protocol}: {broken}"
        );
        assert!(broken.usage_so_far.is_zero());
    }
}

#[tokio::test]
async fn waits_are_kept_to_and_faults_before_the_first_byte_are_tried_again() {
    let faults = [
        "rate_limit: {wait: retry_after, seconds: 0.01}",
        "rate_limit: {wait: retry_after_ms, seconds: 0.01}",
        "rate_limit: {wait: message, seconds: 0.01}",
        "rate_limit: {wait: retry_after_date, seconds: 0.01}",
        "rate_limit: {wait: reset, seconds: 0.01}",
        "rate_limit: {wait: retry_info, seconds: 0.01}",
        "rate_limit: {wait: none}",
        "overloaded: {}",
        "server_error: {}",
        "html",
        "reset",
        "cut: {at: {events: 0}}",
    ];
    for protocol in Protocol::ALL {
        for fault in faults {
            let fault = if fault.contains(':') {
                format!("{{{fault}}}")
            } else {
                fault.to_owned()
            };
            let turns = format!("turns:\n  - text: x\n    fault: {fault}\n  - text: Done.\n");
            let (answer, state) = insist(protocol, &turns).await;
            let answer = answer.unwrap_or_else(|broken| panic!("{protocol}, {fault}: {broken}"));
            assert_eq!(answer.text(), "Done.", "{protocol}, {fault}");
            assert_eq!(
                (state.calls, state.failures.len()),
                (2, 0),
                "{protocol}, {fault}"
            );
        }
        let long = "turns: [{fault: {rate_limit: {wait: retry_after, seconds: 3600}}}, {text: no}]";
        let (answer, state) = insist(protocol, long).await;
        let after = Some(Duration::from_hours(1));
        assert_eq!(
            answer.unwrap_err().error,
            ModelError::RateLimited { after },
            "{protocol}"
        );
        assert_eq!(state.calls, 1, "{protocol}");
        for fault in ["quota: {}", "unauthorized", "context_too_long: {}"] {
            let fault = if fault.contains(':') {
                format!("{{{fault}}}")
            } else {
                fault.to_owned()
            };
            let turns = format!("turns: [{{fault: {fault}, forever: true}}]");
            let (answer, state) = insist(protocol, &turns).await;
            assert!(
                answer.is_err() && state.calls == 1,
                "{protocol}, {fault}: {}",
                state.calls
            );
        }
    }
}

#[tokio::test]
async fn silence_ends_a_stream_and_signs_of_life_do_not_prolong_a_request() {
    let brief = Duration::from_millis(300);
    for protocol in Protocol::ALL {
        let idle = Settings {
            idle: brief,
            ..Settings::default()
        };
        let stall = with("fault: {stall: {after: 2}}");
        let (answer, _) = ask_with(protocol, &stall, idle).await;
        assert_eq!(answer.unwrap_err().error.word(), "away", "{protocol}");
        let whole = Settings {
            timeout: brief,
            ..Settings::default()
        };
        let pings = with("fault: {stall: {after: 2, pings: true}}");
        let (answer, _) = ask_with(protocol, &pings, whole).await;
        assert_eq!(answer.unwrap_err().error.word(), "timed_out", "{protocol}");
    }
}

#[tokio::test]
async fn a_cancelled_stream_closes_its_connection() {
    for protocol in Protocol::ALL {
        let simulator = simulator(&with("fault: {stall: {after: 3}}")).await;
        let cancel = CancellationToken::new();
        let client = client(&simulator, protocol, Settings::default());
        let question = question();
        let stop = async {
            simulator.wait(|state| state.bytes_out > 0).await;
            cancel.cancel();
        };
        let (answer, ()) = tokio::join!(client.answer(&question, &cancel), stop);
        assert_eq!(
            answer.unwrap_err().error,
            ModelError::Cancelled,
            "{protocol}"
        );
    }
}

#[tokio::test]
async fn every_reason_to_stop_is_understood() {
    let stop = |name: &str| format!("turns: [{{text: So., stop: {name}}}]");
    for protocol in Protocol::ALL {
        let (answer, _) = ask(protocol, &stop("max_tokens")).await;
        assert_eq!(answer.unwrap().stop, Stop::OutputCut, "{protocol}");
        let (answer, _) = ask(protocol, &stop("stop_sequence")).await;
        assert_eq!(answer.unwrap().stop, Stop::End, "{protocol}");
        let cut = "turns: [{text: So., calls: [{name: read_file, arguments: {path: abcdef}}], stop: max_tokens}]";
        let (answer, _) = ask(protocol, cut).await;
        let answer = answer.unwrap();
        assert_eq!(answer.stop, Stop::OutputCut, "{protocol}");
        assert!(answer.calls().is_empty(), "{protocol}");
        if protocol == Protocol::Ollama {
            continue;
        }
        let (answer, _) = ask(protocol, &stop("content_filter")).await;
        let refused = matches!(answer.as_ref().unwrap().stop, Stop::Refused(_));
        assert!(refused, "{protocol}: {answer:?}");
        let (answer, _) = ask(protocol, &stop("refusal")).await;
        let refused = matches!(answer.as_ref().unwrap().stop, Stop::Refused(_));
        assert!(refused, "{protocol}: {answer:?}");
    }
    let (answer, _) = ask(Protocol::Anthropic, &stop("context")).await;
    assert_eq!(answer.unwrap().stop, Stop::ContextFull);
    let (answer, _) = ask(Protocol::Anthropic, &stop("pause")).await;
    assert_eq!(answer.unwrap().stop, Stop::Paused);
    let (answer, _) = ask(Protocol::Gemini, &stop("malformed_call")).await;
    assert_eq!(answer.unwrap_err().advice, Some(true));
}

#[tokio::test]
async fn a_model_without_sampling_is_asked_without_it() {
    let script =
        "models: [{name: simulated, sampling: false}]\nturns: [{text: Done.}, {text: Again.}]";
    for protocol in [Protocol::Responses, Protocol::Chat, Protocol::Anthropic] {
        let simulator = Simulator::start(Script::parse("script", script).unwrap())
            .await
            .unwrap();
        let mut target = client(&simulator, protocol, Settings::default()).target();
        target
            .takes
            .insert(patchfleet_model::Parameter::Temperature);
        let client = Client::new(target, Settings::default()).unwrap();
        let mut warm = question();
        warm.tools.clear();
        warm.sampling.temperature = Some(0.5);
        let cancel = CancellationToken::new();
        let answer = client.answer(&warm, &cancel).await;
        let answer = answer.unwrap_or_else(|broken| panic!("{protocol}: {broken}"));
        assert_eq!(answer.text(), "Done.");
        let refused = simulator.state().refused;
        assert!(refused > 0, "{protocol}");
        warm.messages.push(Message::Assistant(Turn {
            parts: vec![Part::Text("Done.".into())],
            results: Vec::new(),
        }));
        warm.messages.push(Message::User("Again?".into()));
        assert_eq!(
            client.answer(&warm, &cancel).await.unwrap().text(),
            "Again."
        );
        assert_eq!(simulator.state().refused, refused, "{protocol}");
    }
}
