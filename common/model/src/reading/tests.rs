use http::{HeaderMap, StatusCode};

use super::*;
use crate::Origin;

/// Bytes of the request that all of these answer; three make a token of an estimate.
const SENT: usize = 300;

fn target(protocol: Protocol) -> Target {
    let origin = Origin {
        provider: protocol.name().to_owned(),
        model: "m".to_owned(),
    };
    Target::new(protocol, origin)
}

/// Reads a body in two pieces.
fn read(protocol: Protocol, body: &str, at: usize) -> Read {
    let mut reading = target(protocol).reading(SENT);
    let (first, second) = body.as_bytes().split_at(at);
    reading.push(first);
    reading.push(second);
    reading.end()
}

const USED: Usage = Usage {
    input: 70,
    cache_read: 20,
    cache_write: 10,
    output: 9,
    reasoning: 4,
    estimated: false,
};

/// An answer of each form, of which each class but those that the protocol lacks is known.
const WHOLE: &[(Protocol, Usage, &str)] = &[
    (
        Protocol::Anthropic,
        USED,
        r#"{"type": "message", "content": [{"type": "text", "text": "Grüße"}], "stop_reason": "end_turn", "usage":
        {"input_tokens": 70, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 10, "output_tokens": 9,
         "output_tokens_details": {"thinking_tokens": 4}}}"#,
    ),
    (
        Protocol::Responses,
        USED,
        r#"{"status": "completed", "error": null, "output": [], "usage": {"input_tokens": 100, "output_tokens": 9,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 10},
        "output_tokens_details": {"reasoning_tokens": 4}}}"#,
    ),
    (
        Protocol::Chat,
        USED,
        r#"{"choices": [{"message": {"content": "Grüße"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 100,
        "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 4}}}"#,
    ),
    (
        Protocol::Gemini,
        Usage {
            input: 80,
            cache_write: 0,
            ..USED
        },
        r#"[{"candidates": [{"content": {"parts": [{"text": "Grü"}]}}]}, {"candidates": [{"content": {"parts":
        [{"text": "ße"}]}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 100,
        "cachedContentTokenCount": 20, "candidatesTokenCount": 5, "thoughtsTokenCount": 4}}]"#,
    ),
    (
        Protocol::Gemini,
        Usage {
            input: 80,
            cache_write: 0,
            ..USED
        },
        r#"{"candidates": [{"content": {"parts": [{"text": "Grüße"}]}, "finishReason": "STOP"}], "usageMetadata":
        {"promptTokenCount": 100, "cachedContentTokenCount": 20, "candidatesTokenCount": 5, "thoughtsTokenCount": 4}}"#,
    ),
    (
        Protocol::Ollama,
        Usage {
            input: 100,
            cache_read: 0,
            cache_write: 0,
            reasoning: 0,
            ..USED
        },
        r#"{"message": {"content": "Grüße"}, "done": true, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 9}"#,
    ),
    (
        Protocol::Anthropic,
        USED,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":70,\
         \"cache_read_input_tokens\":20,\"cache_creation_input_tokens\":10,\"output_tokens\":1}}}\n\n\
         data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
         data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Grüße\"}}\n\n\
         data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9,\
         \"output_tokens_details\":{\"thinking_tokens\":4}}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
];

#[test]
fn usage_is_the_same_as_stream_and_as_document_at_every_split() {
    for (protocol, usage, body) in WHOLE {
        for at in 0..=body.len() {
            let read = read(*protocol, body, at);
            assert_eq!(read.error, None, "{protocol} at {at}");
            assert_eq!(read.usage, *usage, "{protocol} at {at}");
        }
    }
}

#[test]
fn an_answer_that_was_cut_is_charged_for_the_request_and_for_what_was_received() {
    for (protocol, _, body) in WHOLE {
        let cut = body.char_indices().nth(body.len() * 3 / 5).unwrap().0;
        let read = read(*protocol, &body[..cut], 0);
        assert!(read.error.is_some(), "{protocol}");
        assert!(read.usage.estimated, "{protocol}: {read:?}");
        // Anthropic's streams say at their begin what the request was.
        let input = if body.starts_with("event:") {
            100
        } else {
            100.max(SENT as u64 / 3)
        };
        assert_eq!(read.usage.prompt(), input, "{protocol}: {read:?}");
        assert!(
            read.usage.output > 0 || *protocol == Protocol::Ollama,
            "{protocol}: {read:?}"
        );
    }
}

#[test]
fn nobody_pays_for_an_error_or_a_page() {
    for protocol in Protocol::ALL {
        let error = r#"{"error": {"type": "overloaded_error", "message": "Overloaded"}}"#;
        let refused = read(protocol, error, 5);
        assert_eq!(refused.usage, Usage::default(), "{protocol}");
        assert!(
            matches!(refused.error, Some(ModelError::Overloaded { .. })),
            "{protocol}: {refused:?}"
        );
        let page = read(protocol, "<html><title>502 Bad Gateway</title>", 3);
        assert_eq!(page.usage, Usage::default());
        let why = page.error.unwrap().to_string();
        assert!(why.contains("502 Bad Gateway"), "{why}");
    }
}

#[test]
fn one_who_goes_away_has_what_was_generated_until_then() {
    let (protocol, _, body) = WHOLE[WHOLE.len() - 1];
    let mut reading = target(protocol).reading(SENT);
    let until = body.find("data: {\"type\":\"message_delta").unwrap();
    reading.push(&body.as_bytes()[..until]);
    assert!(!reading.is_complete());
    reading.fail(ModelError::Cancelled);
    let read = reading.end();
    assert_eq!(read.error, Some(ModelError::Cancelled));
    assert_eq!((read.usage.prompt(), read.usage.estimated), (100, true));
    assert!(read.usage.output >= 2, "{read:?}");
}

#[test]
fn what_comes_after_a_message_that_cant_be_understood_is_paid_for_too() {
    let (protocol, _, body) = WHOLE[WHOLE.len() - 1];
    let at = body.find("data: {\"type\":\"message_delta").unwrap();
    let mut reading = target(protocol).reading(SENT);
    reading.push(&body.as_bytes()[..at]);
    reading.push(b"data: {odd\n\n");
    assert!(!reading.is_complete(), "its client reads on");
    let rest = "x".repeat(3000);
    reading.push(rest.as_bytes());
    let read = reading.end();
    assert!(matches!(read.error, Some(ModelError::Malformed { .. })));
    assert!(
        read.usage.estimated && read.usage.output >= 1000,
        "{read:?}"
    );
    // What the provider refused itself costs nothing, whatever it says afterwards.
    let mut refused = target(protocol).reading(SENT);
    refused.push(b"data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"\"}}\n\n");
    refused.push(rest.as_bytes());
    assert_eq!(refused.end().usage, Usage::default());
}

#[test]
fn a_refusal_has_its_class() {
    let body = br#"{"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}"#;
    let status = StatusCode::UNAUTHORIZED;
    let error = target(Protocol::Anthropic).refusal(status, &HeaderMap::new(), body);
    assert!(
        matches!(error, ModelError::Authentication { .. }),
        "{error}"
    );
}
