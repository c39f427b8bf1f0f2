//! Tools: how calls come, and what is said of the tokens.

use std::fmt::Write as _;

use patchfleet_testkit::model::Protocol;
use serde_json::{Value, json};

use crate::client::{ALL, Client, ask, calls, messages};

/// A stream of everything, with its events in short.
#[tokio::test]
async fn a_stream_has_the_events_of_its_protocol_in_their_order() {
    let script = "turns:\n  - thinking: Look first.\n    text: I look.\n    calls:\n      - {name: read_file, arguments: {path: src/main.rs}}\n      - {name: list_files}\n    usage: {input: 100, cache_read: 50, cache_write: 10, output: 20, reasoning: 5}\n";
    let mut seen = String::new();
    for protocol in ALL {
        let client = Client::start(script).await;
        let answer = client.ask(protocol, "Hi", true).await;
        let _ = writeln!(seen, "{protocol:?}");
        for mut event in answer.events() {
            blur(&mut event);
            let _ = writeln!(seen, "  {event}");
        }
    }
    insta::assert_snapshot!("streams", seen);
}

/// What differs from run to run.
fn blur(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "created" | "created_at" => *value = "(time)".into(),
                    _ => blur(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blur),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn calls_come_in_order_mixed_with_gaps_twice_or_at_once() {
    let shapes = ["in_order", "interleaved", "gaps", "duplicated", "at_once"];
    let turn = |shape: &str| {
        format!(
            "  - when: {{text: '^{shape}$'}}\n    wire: {{calls: {shape}}}\n    calls:\n\
             \x20     - {{name: read_file, arguments: {{path: a-rather-long-path/one.rs}}}}\n\
             \x20     - {{name: read_file, arguments: {{path: a-rather-long-path/two.rs}}}}\n"
        )
    };
    let script = format!("turns:\n{}", shapes.map(turn).concat());
    let mut seen = String::new();
    for protocol in ALL {
        let client = Client::start(&script).await;
        for shape in shapes {
            let answer = client.ask(protocol, shape, true).await;
            let events = answer.events();
            let paths: Vec<_> = calls(protocol, &events)
                .into_iter()
                .map(|(_, arguments)| {
                    serde_json::from_str::<Value>(&arguments).unwrap()["path"].clone()
                })
                .map(|path| path.as_str().unwrap()[19..].to_owned())
                .collect();
            let numbers: Vec<_> = events
                .iter()
                .filter_map(|event| number(protocol, event))
                .collect();
            let numbers = numbers.join(" ");
            let _ = writeln!(seen, "{protocol:?} {shape}: {paths:?} {numbers}");
        }
        client.nothing_failed();
    }
    insta::assert_snapshot!("calls", seen);
}

/// The numbers of the calls that an event is about.
fn number(protocol: Protocol, event: &Value) -> Option<String> {
    let numbers = |list: &Value, at: &str| {
        let numbers = list
            .as_array()?
            .iter()
            .map(|it| it.pointer(at).unwrap().to_string());
        Some(numbers.collect::<Vec<_>>().join("+"))
    };
    match protocol {
        Protocol::Anthropic => Some(event.get("index")?.to_string()),
        Protocol::Responses => Some(event.get("output_index")?.to_string()),
        Protocol::Chat => numbers(&event["choices"][0]["delta"]["tool_calls"], "/index"),
        Protocol::Ollama => numbers(&event["message"]["tool_calls"], "/function/index"),
        Protocol::Gemini => None,
    }
}

#[tokio::test]
async fn arguments_may_be_empty_no_json_or_of_a_tool_that_was_not_offered() {
    let script = "turns:\n  - calls:\n      - {name: list_files, arguments_text: ''}\n      - {name: read_file, arguments_text: '{\"path\": \"src'}\n      - {name: no_such_tool, arguments: {a: 1}}\n";
    for protocol in ALL {
        let client = Client::start(script).await;
        let answer = client.ask(protocol, "Hi", true).await;
        let calls = calls(protocol, &answer.events());
        let names: Vec<_> = calls.iter().map(|call| call.0.as_str()).collect();
        assert_eq!(names, ["list_files", "read_file", "no_such_tool"]);
        let objects = matches!(protocol, Protocol::Gemini | Protocol::Ollama);
        let (empty, broken) = if objects {
            ("{}", "\"{\\\"path\\\": \\\"src\"")
        } else {
            ("", "{\"path\": \"src")
        };
        assert_eq!(
            (calls[0].1.as_str(), calls[1].1.as_str()),
            (empty, broken),
            "{protocol:?}"
        );
    }
}

#[tokio::test]
async fn calls_without_ids_are_answered_by_their_names() {
    let script = "turns: [{calls: [{name: look, times: 2}, {name: list}], wire: {without_ids: true}}, {text: Done.}]";
    let gemini = Protocol::Gemini;
    let client = Client::start(script).await;
    let said = client.ask(gemini, "Hi", false).await.json();
    let parts = said["candidates"][0]["content"]["parts"].clone();
    assert!(parts[0]["functionCall"].get("id").is_none());
    let mut body = ask(gemini, "Hi");
    let list = messages(gemini, &mut body);
    let result = |name| json!({ "functionResponse": { "name": name, "response": {} } });
    list.push(json!({ "role": "model", "parts": parts }));
    list.push(json!({ "role": "user", "parts": [result("look"), result("list"), result("look")] }));
    assert_eq!(client.send(gemini, &body, false).await.unwrap().status, 200);

    let ollama = Protocol::Ollama;
    let client = Client::start(script).await;
    let said = client.ask(ollama, "Hi", false).await.json();
    assert!(said["message"]["tool_calls"][0].get("id").is_none());
    let mut body = ask(ollama, "Hi");
    let list = messages(ollama, &mut body);
    list.push(said["message"].clone());
    for name in ["look", "list", "look"] {
        list.push(json!({ "role": "tool", "tool_name": name, "content": "seen" }));
    }
    let answer = client.send(ollama, &body, false).await.unwrap();
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.bytes)
    );
}

#[tokio::test]
async fn forty_calls_come_at_once() {
    let script = "turns: [{calls: [{name: read_file, arguments: {path: a}, times: 40}]}]";
    for protocol in ALL {
        let client = Client::start(script).await;
        let events = client.ask(protocol, "Hi", true).await.events();
        assert_eq!(calls(protocol, &events).len(), 40, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_call_that_meets_the_output_limit_is_left_unfinished() {
    let script = "turns: [{stop: max_tokens, calls: [{name: write_file, arguments: {path: a, text: cut in the middle of this}}]}]";
    for protocol in ALL {
        let client = Client::start(script).await;
        let events = client.ask(protocol, "Hi", true).await.events();
        let calls = calls(protocol, &events);
        match protocol {
            // They know whole calls only.
            Protocol::Gemini | Protocol::Ollama => assert_eq!(calls, []),
            Protocol::Anthropic | Protocol::Responses | Protocol::Chat => {
                assert!(serde_json::from_str::<Value>(&calls[0].1).is_err());
            }
        }
        let raw = serde_json::to_string(&events).unwrap();
        assert!(
            !raw.contains("content_block_stop") && !raw.contains("arguments.done"),
            "{raw}"
        );
    }
}

/// All of the output tokens that the events speak of.
fn outputs(protocol: Protocol, events: &[Value]) -> Vec<u64> {
    let counts = events.iter().map(|event| match protocol {
        Protocol::Anthropic => &event["usage"]["output_tokens"],
        Protocol::Responses => &event["response"]["usage"]["output_tokens"],
        Protocol::Chat => &event["usage"]["completion_tokens"],
        Protocol::Gemini => &event["usageMetadata"]["candidatesTokenCount"],
        Protocol::Ollama => &event["eval_count"],
    });
    counts
        .filter_map(Value::as_u64)
        .filter(|count| *count > 0 || protocol != Protocol::Gemini)
        .collect()
}

#[tokio::test]
async fn a_cache_has_what_a_prompt_repeats_from_its_start() {
    let script = "{models: [{name: simulated, cache: true}], turns: [{text: Yes., forever: true}]}";
    let long = "This is said in each of the requests. ".repeat(20);
    for protocol in ALL {
        let client = Client::start(script).await;
        let mut body = ask(protocol, &long);
        let mark = |body: &mut Value| {
            if protocol == Protocol::Anthropic {
                body["cache_control"] = json!({ "type": "ephemeral" });
            }
        };
        mark(&mut body);
        client.send(protocol, &body, false).await.unwrap();
        let (model, more) = if protocol == Protocol::Gemini {
            let said =
                |role: &str, text: &str| json!({ "role": role, "parts": [{ "text": text }] });
            (said("model", "Yes."), said("user", "And?"))
        } else {
            let said = |role: &str, text: &str| json!({ "role": role, "content": text });
            (said("assistant", "Yes."), said("user", "And?"))
        };
        messages(protocol, &mut body).extend([model, more]);
        client.send(protocol, &body, false).await.unwrap();
        let mut other = ask(protocol, &format!("Now {long}"));
        mark(&mut other);
        client.send(protocol, &other, false).await.unwrap();
        let billed: Vec<_> = client
            .simulator
            .state()
            .requests
            .iter()
            .map(|it| it.billed)
            .collect();
        assert_eq!(billed[0].cache_read, 0, "{protocol:?}");
        assert!(
            billed[1].cache_read > billed[0].prompt() * 3 / 4,
            "{protocol:?} {billed:?}"
        );
        assert!(
            billed[2].cache_read < billed[2].prompt() / 4,
            "{protocol:?} {billed:?}"
        );
        let written = protocol == Protocol::Anthropic;
        assert!(
            billed.iter().all(|it| (it.cache_write > 0) == written),
            "{billed:?}"
        );
        assert!(
            billed.iter().all(|it| (it.input == 0) == written),
            "{billed:?}"
        );
    }
}

#[tokio::test]
async fn usage_is_right_missing_zero_doubled_or_absurd() {
    let reports = ["right", "missing", "zero", "doubled", "absurd"];
    let turn = |report: &str| {
        format!(
            "  - {{when: {{text: '^{report}$'}}, text: Yes, usage: {{input: 9, output: 7}}, wire: {{usage: {report}}}}}\n"
        )
    };
    let script = format!("turns:\n{}", reports.map(turn).concat());
    for protocol in ALL {
        let client = Client::start(&script).await;
        let mut seen = Vec::new();
        for report in reports {
            seen.push(outputs(
                protocol,
                &client.ask(protocol, report, true).await.events(),
            ));
        }
        let zero = match protocol {
            // They leave a zero out.
            Protocol::Gemini | Protocol::Ollama => vec![],
            Protocol::Anthropic | Protocol::Responses | Protocol::Chat => vec![0],
        };
        let doubled = if protocol == Protocol::Gemini {
            vec![7]
        } else {
            vec![7, 7]
        };
        let absurd = if protocol == Protocol::Gemini {
            vec![]
        } else {
            vec![u64::MAX]
        };
        assert_eq!(
            seen,
            [vec![7], vec![], zero, doubled, absurd],
            "{protocol:?}"
        );
        // The simulator bills what was used, whatever it says.
        assert_eq!(client.simulator.state().total.output, 35);
    }
}
