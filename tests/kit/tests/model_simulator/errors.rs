//! Errors in each provider's own form, and how they say when to come again.

use std::fmt::Write as _;

use patchfleet_testkit::model::Protocol;
use serde_json::Value;

use crate::client::{ALL, Client};

/// Faults that are a status.
const FAULTS: [&str; 11] = [
    "{rate_limit: {}}",
    "{quota: {}}",
    "{overloaded: {}}",
    "{server_error: {}}",
    "unauthorized",
    "{context_too_long: {}}",
    "{status: {code: 403, message: 'This key may not.'}}",
    "{status: {code: 529, message: Busy}}",
    "{status: {code: 504, message: Slow}}",
    "{status: {code: 500, message: No use, should_retry: false}}",
    "html",
];

#[tokio::test]
async fn each_error_has_its_providers_own_form() {
    let turns = FAULTS.map(|fault| format!("  - fault: {fault}\n"));
    let script = format!("turns:\n{}", turns.concat());
    let mut seen = String::new();
    for protocol in ALL {
        let client = Client::start(&script).await;
        for fault in FAULTS {
            let answer = client.ask(protocol, "Hi", true).await;
            let body = String::from_utf8(answer.bytes.clone()).unwrap();
            let kind = answer.header("content-type").unwrap();
            let retry = answer.header("x-should-retry");
            assert_eq!(retry.is_some(), fault.contains("should_retry"));
            let (status, body) = (answer.status, body.trim_end());
            let _ = writeln!(seen, "{protocol:?} {fault}\n  {status} {kind}\n  {body}");
        }
        let state = client.simulator.state();
        assert_eq!((state.calls, state.faults), (FAULTS.len(), FAULTS.len()));
        assert_eq!(
            state.total.prompt() + state.total.output,
            0,
            "nobody pays for a refusal"
        );
        client.nothing_failed();
    }
    insta::assert_snapshot!("errors", seen);
}

/// Where each way of saying how long to wait is found: a header with its value, or a part of the body.
fn wait(protocol: Protocol, wait: &str) -> (Option<&'static str>, &'static str) {
    match (wait, protocol) {
        ("retry_after", _) | ("reset", Protocol::Ollama) => (Some("retry-after"), "90"),
        ("retry_after_ms", _) => (Some("retry-after-ms"), "90000"),
        ("retry_after_date", _) => (Some("retry-after"), " GMT"),
        ("message", _) => (None, "try again in 90s"),
        ("reset", Protocol::Anthropic) => (Some("anthropic-ratelimit-requests-reset"), "T"),
        ("reset", Protocol::Responses | Protocol::Chat) => {
            (Some("x-ratelimit-reset-requests"), "1m30s")
        }
        ("retry_info" | "reset", Protocol::Gemini) => (None, "\"retryDelay\":\"90s\""),
        // What a provider does not have.
        _ => (None, "Rate limit reached"),
    }
}

#[tokio::test]
async fn a_time_to_wait_is_said_in_each_of_the_known_ways() {
    let ways = [
        "none",
        "retry_after",
        "retry_after_date",
        "retry_after_ms",
        "reset",
        "retry_info",
        "message",
    ];
    let turns =
        ways.map(|way| format!("  - fault: {{rate_limit: {{wait: {way}, seconds: 90}}}}\n"));
    let script = format!("turns:\n{}", turns.concat());
    for protocol in ALL {
        let client = Client::start(&script).await;
        for way in ways {
            let answer = client.ask(protocol, "Hi", false).await;
            assert_eq!(answer.status, 429);
            let (header, expected) = wait(protocol, way);
            let body = String::from_utf8_lossy(&answer.bytes);
            let found = header.map_or(&*body, |name| answer.header(name).unwrap_or_default());
            assert!(found.contains(expected), "{protocol:?} {way}: {found}");
            let plain = answer.header("retry-after").is_none() && !body.contains("again in");
            assert!(way != "none" || plain, "{protocol:?}: {body}");
        }
    }
}

#[tokio::test]
async fn an_error_after_a_200_comes_in_the_middle_of_the_stream() {
    let faults = [
        (
            "rate_limit: {wait: message, seconds: 1.3, stream: true}",
            "try again in 1.3s",
        ),
        ("quota: {stream: true}", "quota"),
        ("overloaded: {stream: true}", "verloaded"),
        ("server_error: {stream: true}", "nternal server error"),
        ("context_too_long: {stream: true}", "prompt is too long"),
    ];
    let turn =
        |fault: &str| format!("  - {{text: This is never said to its end., fault: {{{fault}}}}}\n");
    let turns = faults.map(|(fault, _)| turn(fault));
    let script = format!("turns:\n{}", turns.concat());
    for protocol in ALL {
        let client = Client::start(&script).await;
        for (fault, words) in faults {
            let answer = client.ask(protocol, "Hi", true).await;
            let events = answer.events();
            let last = events.last().unwrap();
            let error = match protocol {
                Protocol::Responses => &last["response"]["error"],
                Protocol::Anthropic | Protocol::Chat | Protocol::Gemini | Protocol::Ollama => {
                    &last["error"]
                }
            };
            assert_eq!((answer.status, answer.whole), (200, true));
            assert!(
                error.to_string().contains(words),
                "{protocol:?} {fault}: {last}"
            );
            assert!(events.len() > 1, "{protocol:?}: something came before");
        }
        let state = client.simulator.state();
        assert!(state.total.output > 0, "what was begun is paid");
    }
}

#[tokio::test]
async fn each_way_to_stop_has_its_providers_own_word() {
    let stops = [
        "end",
        "max_tokens",
        "context",
        "refusal",
        "content_filter",
        "stop_sequence",
        "pause",
        "malformed_call",
    ];
    let turn =
        |stop: &str| format!("  - {{when: {{text: '^{stop}$'}}, stop: {stop}, text: So far.}}\n");
    let turns = stops.map(turn);
    let script = format!("turns:\n{}", turns.concat());
    let mut seen = String::new();
    for protocol in ALL {
        let client = Client::start(&script).await;
        for word in stops {
            let answer = client.ask(protocol, word, false).await;
            let said = stop(protocol, &answer.json());
            let _ = writeln!(seen, "{protocol:?} {word}: {said}");
        }
        client.nothing_failed();
    }
    insta::assert_snapshot!("stops", seen);
}

fn stop(protocol: Protocol, body: &Value) -> String {
    let values = match protocol {
        Protocol::Anthropic => vec![&body["stop_reason"], &body["stop_details"]],
        Protocol::Responses => vec![&body["status"], &body["incomplete_details"], &body["error"]],
        Protocol::Chat => vec![
            &body["choices"][0]["finish_reason"],
            &body["choices"][0]["message"]["refusal"],
        ],
        Protocol::Gemini => vec![&body["candidates"][0]["finishReason"]],
        Protocol::Ollama => vec![&body["done_reason"]],
    };
    let values = values.into_iter().map(Value::to_string);
    values.collect::<Vec<_>>().join(" ")
}
