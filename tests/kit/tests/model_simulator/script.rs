//! Scripts: which turn answers which request, and mistakes.

use patchfleet_testkit::model::{Protocol, Script};
use serde_json::json;

use crate::client::{ALL, Client, ask, calls, messages, text};

#[tokio::test]
async fn conversations_go_through_their_turns_by_themselves() {
    let script = "
conversations:
  - when: {text: '^issue'}
    turns: [{text: first}, {text: second}]
  - when: {text: review, system: careful}
    turns: [{text: reviewed}]
turns: [{text: anything, forever: true}]
";
    let client = Client::start(script).await;
    let chat = Protocol::Chat;
    let say = async |texts: &[&str]| {
        let mut body = ask(chat, texts[0]);
        for pair in texts[1..].chunks(2) {
            let list = messages(chat, &mut body);
            list.push(json!({ "role": "assistant", "content": pair[0] }));
            list.push(json!({ "role": "user", "content": pair[1] }));
        }
        let answer = client.send(chat, &body, true).await.unwrap();
        text(chat, &answer.events())
    };
    assert_eq!(say(&["issue 1"]).await, "first");
    assert_eq!(say(&["issue 2"]).await, "first");
    assert_eq!(say(&["issue 2", "first", "go on"]).await, "second");
    assert_eq!(say(&["issue 1", "first", "go on"]).await, "second");
    assert_eq!(say(&["review it"]).await, "anything");
    let mut review = ask(chat, "review it");
    messages(chat, &mut review).insert(0, json!({ "role": "system", "content": "Be careful." }));
    let answer = client.send(chat, &review, true).await.unwrap();
    assert_eq!(text(chat, &answer.events()), "reviewed");
    client.nothing_failed();
}

#[tokio::test]
async fn a_script_that_ran_out_and_a_repeated_request_are_failures() {
    for protocol in ALL {
        let client = Client::start("turns: [{fault: {server_error: {}}}, {text: once}]").await;
        let statuses = [
            client.ask(protocol, "Hi", false).await.status,
            client.ask(protocol, "Hi", false).await.status,
            client.ask(protocol, "Hi", false).await.status,
        ];
        assert_eq!(
            statuses,
            [500, 200, 409],
            "{protocol:?}: only a fault may be tried again"
        );
        let mut other = ask(protocol, "Hi");
        messages(protocol, &mut other).clear();
        let fresh = ask(protocol, "Hi");
        messages(protocol, &mut other).extend(fresh_pair(protocol, &fresh));
        let answer = client.send(protocol, &other, false).await.unwrap();
        assert_eq!(answer.status, 400);
        assert!(answer.json().to_string().contains("no turn left"));
        let failures = client.simulator.state().failures;
        assert_eq!(failures.len(), 2);
        assert!(failures[0].starts_with("repeated request"), "{failures:?}");
        assert!(failures[1].starts_with("script ran out"), "{failures:?}");
    }
}

/// The same first text, an answer and another text.
fn fresh_pair(protocol: Protocol, body: &serde_json::Value) -> Vec<serde_json::Value> {
    let first = messages(protocol, &mut body.clone())[0].clone();
    let (answer, other) = match protocol {
        Protocol::Gemini => (
            json!({ "role": "model", "parts": [{ "text": "once" }] }),
            json!({ "role": "user", "parts": [{ "text": "more" }] }),
        ),
        Protocol::Anthropic | Protocol::Responses | Protocol::Chat | Protocol::Ollama => (
            json!({ "role": "assistant", "content": "once" }),
            json!({ "role": "user", "content": "more" }),
        ),
    };
    vec![first, answer, other]
}

#[tokio::test]
async fn repeats_can_be_allowed_and_a_model_can_call_tools_for_ever() {
    let client =
        Client::start("{allow_repeats: true, turns: [{text: again, forever: true}]}").await;
    for _ in 0..3 {
        assert_eq!(client.ask(Protocol::Ollama, "Hi", false).await.status, 200);
    }
    client.nothing_failed();
    let chat = Protocol::Chat;
    let client = Client::start("turns: [{calls: [{name: look}], forever: true}]").await;
    let mut body = ask(chat, "Hi");
    for _ in 0..5 {
        let answer = client.send(chat, &body, true).await.unwrap();
        let events = answer.events();
        assert_eq!(calls(chat, &events).len(), 1);
        let id = events
            .iter()
            .find_map(|event| event.pointer("/choices/0/delta/tool_calls/0/id").cloned());
        let call = json!({ "id": id, "type": "function", "function": { "name": "look", "arguments": "{}" } });
        let list = messages(chat, &mut body);
        list.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
        list.push(json!({ "role": "tool", "tool_call_id": id, "content": "nothing" }));
    }
    client.nothing_failed();
}

#[test]
fn a_mistake_in_a_script_is_named_with_line_and_field() {
    for (text, expected) in [
        (
            "turns:\n  - text: a\n    stpo: end",
            "s:3:5: turns[0]: unknown field `stpo`",
        ),
        (
            "turns:\n  - text: a\n    usage: {inptu: 3}",
            "s:3:13: turns[0].usage: unknown field `inptu`",
        ),
        (
            "turns:\n  - fault: {rate_limit: {wait: soon}}",
            "turns[0].fault.rate_limit.wait: unknown variant `soon`",
        ),
        ("turns:\n  - fault: gone", "unknown variant `gone`"),
        ("turns:\n  - {}", "a turn needs `text`"),
        ("turns:\n  - {text: a, times: 0}", "`times` is 0"),
        (
            "turns:\n  - {text: a, times: 2, forever: true}",
            "exclude each other",
        ),
        (
            "turns:\n  - calls: [{name: a, arguments: {}, arguments_text: ''}]",
            "exclude each other",
        ),
        (
            "turns:\n  - {text: a, when: {text: '('}}",
            "turns[0].when: regex parse error",
        ),
        (
            "turns:\n  - {text: ascii, fault: {cut: {at: inside_character}}}",
            "beyond ASCII",
        ),
        ("models: []\nturns: [{text: a}]", "`models` is empty"),
        ("key: a", "neither `turns` nor `conversations`"),
        ("turns: [", "s:"),
    ] {
        let error = Script::parse("s", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.starts_with("s:"), "{error}");
    }
}
