//! Bodies, byte by byte.

use patchfleet_model::{Answer, Broken, Event, ModelError, Part, Protocol, Stop, Usage};
use serde_json::{Value, json};

use crate::target;

/// How many bytes the request had, for estimates.
const SENT: usize = 300;

type Ended = (Vec<Event>, Result<Answer, Broken>);

/// Decodes a body that arrives in pieces.
fn decode<'a>(protocol: Protocol, pieces: impl IntoIterator<Item = &'a [u8]>) -> Ended {
    let mut decoder = target(protocol).decoder(SENT);
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(decoder.push(piece));
    }
    (events, decoder.end())
}

fn whole(protocol: Protocol, body: &str) -> Result<Answer, Broken> {
    decode(protocol, [body.as_bytes()]).1
}

/// Events with the pieces of text joined, because where they are cut does not matter.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Text(so_far)), Event::Text(more)) => so_far.push_str(&more),
            (_, event) => joined.push(event),
        }
    }
    joined
}

fn sse(events: &[Value]) -> String {
    let event = |event: &Value| match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    };
    events.iter().map(event).collect()
}

fn chat(chunks: &[Value]) -> String {
    sse(chunks) + "data: [DONE]\n\n"
}

fn lines(values: &[Value]) -> String {
    let lines: Vec<_> = values.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

/// Thinking, text and two calls, as each protocol says it.
fn body(protocol: Protocol) -> String {
    match protocol {
        Protocol::Anthropic => sse(&[
            json!({"type": "message_start", "message": {"usage": {
                "input_tokens": 10, "cache_read_input_tokens": 20,
                "cache_creation_input_tokens": 5, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block":
                {"type": "thinking", "thinking": "", "signature": ""}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 0, "delta":
                {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_delta", "index": 0, "delta":
                {"type": "signature_delta", "signature": "c2ln"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block":
                {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 1, "delta":
                {"type": "text_delta", "text": "Ich "}}),
            json!({"type": "content_block_delta", "index": 1, "delta":
                {"type": "text_delta", "text": "prüfe."}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "content_block_start", "index": 2, "content_block":
                {"type": "tool_use", "id": "c1", "name": "read_file", "input": {}}}),
            json!({"type": "content_block_delta", "index": 2, "delta":
                {"type": "input_json_delta", "partial_json": "{\"path\":"}}),
            json!({"type": "content_block_delta", "index": 2, "delta":
                {"type": "input_json_delta", "partial_json": "\"ä.rs\"}"}}),
            json!({"type": "content_block_stop", "index": 2}),
            json!({"type": "content_block_start", "index": 3, "content_block":
                {"type": "tool_use", "id": "c2", "name": "list_files", "input": {}}}),
            json!({"type": "content_block_stop", "index": 3}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage":
                {"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 8}}}),
            json!({"type": "message_stop"}),
        ]),
        Protocol::Responses => responses_body(),
        Protocol::Chat => chat(&[
            json!({"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "Ich "}}]}),
            json!({"choices": [{"index": 0, "delta": {"content": "prüfe."}}]}),
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [
                {"index": 0, "id": "c1", "type": "function", "function": {"name": "read_file", "arguments": "{\"path\":"}}]}}]}),
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [
                {"index": 0, "function": {"arguments": "\"ä.rs\"}"}},
                {"index": 3, "id": "c2", "function": {"name": "list_files", "arguments": ""}}]}}]}),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 35, "completion_tokens": 40,
                "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 8}}}),
        ]),
        Protocol::Gemini => sse(&[
            json!({"candidates": [{"content": {"role": "model", "parts": [
                {"text": "hm", "thought": true}]}}], "usageMetadata": {"promptTokenCount": 3}}),
            json!({"candidates": [{"content": {"parts": [{"text": "Ich "}]}}]}),
            json!({"candidates": [{"content": {"parts": [{"text": "prüfe."}]}}]}),
            json!({"candidates": [{"content": {"parts": [
                {"functionCall": {"id": "c1", "name": "read_file", "args": {"path": "ä.rs"}},
                 "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "c2", "name": "list_files", "args": {}}}]}}]}),
            json!({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 30, "cachedContentTokenCount": 20,
                    "toolUsePromptTokenCount": 5, "candidatesTokenCount": 32,
                    "thoughtsTokenCount": 8}}),
        ]),
        Protocol::Ollama => lines(&[
            json!({"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": false}),
            json!({"message": {"content": "Ich "}, "done": false}),
            json!({"message": {"content": "prüfe."}, "done": false}),
            json!({"message": {"content": "", "tool_calls": [
                {"id": "c1", "function": {"index": 0, "name": "read_file", "arguments": {"path": "ä.rs"}}},
                {"id": "c2", "function": {"index": 1, "name": "list_files", "arguments": {}}}]},
                "done": false}),
            json!({"message": {"content": ""}, "done": true, "done_reason": "stop",
                "prompt_eval_count": 35, "eval_count": 40}),
        ]),
    }
}

fn responses_body() -> String {
    let call = json!({"type": "function_call", "call_id": "c1", "name": "read_file",
        "arguments": "{\"path\":\"ä.rs\"}", "status": "completed"});
    let second = json!({"type": "function_call", "call_id": "c2", "name": "list_files",
        "arguments": "", "status": "completed"});
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [],
        "encrypted_content": "Z0FB"});
    let message = json!({"type": "message", "role": "assistant", "content": [
        {"type": "output_text", "text": "Ich prüfe.", "annotations": []}]});
    sse(&[
        json!({"type": "response.created", "sequence_number": 0, "response": {"usage": null}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item":
            {"type": "reasoning", "id": "rs_1", "summary": []}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0,
            "delta": "Ich "}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0,
            "delta": "prüfe."}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": message}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 2,
            "item_id": "fc_1", "delta": "{\"path\":"}),
        json!({"type": "response.output_item.done", "output_index": 2, "item": call}),
        json!({"type": "response.output_item.done", "output_index": 3, "item": second}),
        json!({"type": "response.something_new"}),
        json!({"type": "response.completed", "response": {"status": "completed",
            "output": [reasoning, message, call, second],
            "usage": {"input_tokens": 35, "output_tokens": 40,
                "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
                "output_tokens_details": {"reasoning_tokens": 8}}}}),
    ])
}

/// What the bodies above add up to.
fn expected(protocol: Protocol) -> Usage {
    let all = Usage {
        input: 10,
        cache_read: 20,
        cache_write: 5,
        output: 40,
        reasoning: 8,
        estimated: false,
    };
    match protocol {
        Protocol::Anthropic | Protocol::Responses | Protocol::Chat => all,
        // Tokens of tool use are outside of its prompt's; it has no class for cache writes.
        Protocol::Gemini => Usage {
            input: 15,
            cache_write: 0,
            ..all
        },
        Protocol::Ollama => Usage {
            input: 35,
            output: 40,
            ..Usage::default()
        },
    }
}

fn calls(answer: &Answer) -> Vec<(&str, &str, &str)> {
    let calls = answer.parts.iter().filter_map(|part| match part {
        Part::ToolCall(call) => Some(call),
        Part::Text(_) | Part::Opaque(_) => None,
    });
    calls
        .map(|call| (&*call.id, &*call.name, call.arguments.text()))
        .collect()
}

#[test]
fn every_protocol_says_the_same_with_the_same_usage() {
    for protocol in Protocol::ALL {
        let answer = whole(protocol, &body(protocol)).unwrap();
        assert_eq!(answer.text(), "Ich prüfe.", "{protocol}");
        assert_eq!(answer.stop, Stop::ToolCalls, "{protocol}");
        assert_eq!(answer.usage, expected(protocol), "{protocol}");
        let called = answer.calls();
        assert_eq!(called.len(), 2, "{protocol}");
        assert_eq!(called[0].arguments.object().unwrap()["path"], "ä.rs");
        assert!(called[1].arguments.object().unwrap().is_empty());
        let opaque = answer
            .parts
            .iter()
            .filter(|part| matches!(part, Part::Opaque(_)));
        assert_eq!(opaque.count(), 1, "{protocol}");
        // What came in goes back.
        let mut conversation = crate::conversation(Protocol::Chat);
        conversation.messages.truncate(1);
        let turn = patchfleet_model::Message::Assistant(answer.into_turn());
        conversation.messages.push(turn);
        let body = crate::body(&target(protocol), &conversation);
        assert_eq!(crate::validate::accepts(protocol, &body), Ok(()));
    }
}

#[test]
fn a_body_means_the_same_at_every_split() {
    for protocol in Protocol::ALL {
        let body = body(protocol).into_bytes();
        let (events, answer) = decode(protocol, [&body[..]]);
        let (events, answer) = (joined(events), answer.unwrap());
        for at in 1..body.len() {
            let (first, second) = body.split_at(at);
            let (split, end) = decode(protocol, [first, second]);
            assert_eq!(joined(split), events, "{protocol} at {at}");
            assert_eq!(end.as_ref(), Ok(&answer), "{protocol} at {at}");
        }
        let (single, end) = decode(protocol, body.chunks(1));
        assert_eq!(joined(single), events);
        assert_eq!(end, Ok(answer));
    }
}

#[test]
fn a_body_that_was_cut_anywhere_is_broken_and_paid_for() {
    for protocol in Protocol::ALL {
        let body = body(protocol).into_bytes();
        let finishes = |length: usize| decode(protocol, [&body[..length]]).1;
        let first = (0..=body.len())
            .find(|length| finishes(*length).is_ok())
            .unwrap();
        assert!(
            first + 2 >= body.len(),
            "{protocol} ends {first} of {}",
            body.len()
        );
        for length in 0..first {
            let broken = finishes(length).unwrap_err();
            let usage = broken.usage_so_far;
            assert!(usage.estimated && usage.input > 0, "{protocol}: {usage:?}");
            assert!("Ich prüfe.".starts_with(&broken.text_so_far));
            assert!(usage.output >= broken.text_so_far.len() as u64 / 3);
            assert!(broken.started || broken.text_so_far.is_empty());
            let away = matches!(broken.error, ModelError::Away { .. });
            let in_a_line = protocol == Protocol::Ollama;
            assert!(away || in_a_line, "{protocol} at {length}: {broken:?}");
        }
    }
}

#[test]
fn what_follows_the_terminal_event_changes_nothing() {
    for protocol in [
        Protocol::Anthropic,
        Protocol::Responses,
        Protocol::Chat,
        Protocol::Ollama,
    ] {
        let body = body(protocol);
        let answer = whole(protocol, &body).unwrap();
        assert_eq!(
            whole(protocol, &format!("{body}garbage\n\ndata: {{\n\n")),
            Ok(answer)
        );
        let mut decoder = target(protocol).decoder(SENT);
        decoder.push(body.as_bytes());
        decoder.fail(ModelError::Away {
            transport: "reset".into(),
        });
        assert!(decoder.end().is_ok());
    }
}

#[test]
fn calls_may_interleave_skip_indices_repeat_ids_and_have_no_arguments() {
    let call = |index: u64, id: &str, name: &str, arguments: &str| {
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}}]})
    };
    let body = chat(&[
        call(5, "x", "b", "{\"n\""),
        call(1, "x", "a", "{\"n\""),
        call(5, "", "", ":2}"),
        call(1, "", "", ":1}"),
        call(9, "", "c", ""),
        call(12, "y", "d", "{\"broken"),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    ]);
    let answer = whole(Protocol::Chat, &body).unwrap();
    let expected = [
        ("x", "a", "{\"n\":1}"),
        ("x1", "b", "{\"n\":2}"),
        ("local_1", "c", ""),
        ("y", "d", "{\"broken"),
    ];
    assert_eq!(calls(&answer), expected);
    assert_eq!(answer.stop, Stop::ToolCalls);
    let last = answer.calls()[3];
    assert!(
        last.arguments.object().is_err(),
        "it is told, not taken for text"
    );
}

#[test]
fn a_compatible_server_may_say_all_at_once_and_without_index() {
    let body = chat(&[
        json!({"choices": [{"index": 0, "finish_reason": "tool_calls", "delta": {
        "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "function": {"name": "g", "arguments": {"k": 1}}},
        ]}}]}),
    ]);
    let answer = whole(Protocol::Chat, &body).unwrap();
    assert_eq!(calls(&answer), [("a", "f", "{}"), ("b", "g", "{\"k\":1}")]);
    assert!(answer.usage.estimated, "no usage was reported");
    assert_eq!(answer.usage.input, SENT as u64 / 3);
}

#[test]
fn an_answer_that_was_cut_keeps_its_text_and_no_half_call() {
    let anthropic = sse(&[
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 9}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}}),
        json!({"type": "content_block_start", "index": 1, "content_block":
            {"type": "tool_use", "id": "c", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 1, "delta":
            {"type": "input_json_delta", "partial_json": "{\"p"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"},
            "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ]);
    let chat = chat(&[
        json!({"choices": [{"index": 0, "delta": {"content": "a", "tool_calls": [
            {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"p"}}]}}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 7}}),
    ]);
    let responses = sse(&[
        json!({"type": "response.output_text.delta", "output_index": 0, "delta": "a"}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{\"p"}),
        json!({"type": "response.incomplete", "response": {
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]},
                {"type": "function_call", "status": "incomplete", "call_id": "c", "name": "f",
                 "arguments": "{\"p"}],
            "usage": {"input_tokens": 9, "output_tokens": 7}}}),
    ]);
    let bodies = [
        (Protocol::Anthropic, anthropic),
        (Protocol::Chat, chat),
        (Protocol::Responses, responses),
    ];
    for (protocol, body) in bodies {
        let answer = whole(protocol, &body).unwrap();
        assert_eq!(answer.stop, Stop::OutputCut, "{protocol}");
        assert_eq!(answer.parts, [Part::Text("a".into())], "{protocol}");
        assert_eq!(
            (answer.usage.input, answer.usage.output),
            (9, 7),
            "{protocol}"
        );
        assert_eq!(answer.stop.error(), Some(ModelError::OutputCut));
    }
}

#[test]
fn forty_parallel_calls_arrive() {
    let calls: Vec<_> = (0..40)
        .map(|n| {
            json!({"index": n, "id": format!("c{n}"),
        "function": {"name": "f", "arguments": "{}"}})
        })
        .collect();
    let body = chat(&[
        json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ]);
    assert_eq!(whole(Protocol::Chat, &body).unwrap().calls().len(), 40);
}

#[test]
fn usage_that_is_missing_zero_or_absurd_is_estimated_and_says_so() {
    let body = |usage: Value| {
        chat(&[
            json!({"choices": [{"index": 0, "delta": {"content": "twelve bytes"}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": usage}),
        ])
    };
    let huge = 4_000_000_000_000_u64;
    let wrong = [
        json!(null),
        json!({"prompt_tokens": 0, "completion_tokens": 0}),
        json!({"prompt_tokens": huge, "completion_tokens": huge}),
        json!({"prompt_tokens": -5, "completion_tokens": "many"}),
    ];
    for usage in wrong {
        let answer = whole(Protocol::Chat, &body(usage.clone())).unwrap();
        let expected = Usage {
            input: 100,
            output: 4,
            estimated: true,
            ..Usage::default()
        };
        assert_eq!(answer.usage, expected, "{usage}");
    }
    let more_cached = json!({"prompt_tokens": 10, "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 50},
        "completion_tokens_details": {"reasoning_tokens": 9}});
    let usage = whole(Protocol::Chat, &body(more_cached)).unwrap().usage;
    assert_eq!((usage.input, usage.cache_read, usage.reasoning), (0, 50, 3));
    // Said twice is not used twice.
    let twice = format!(
        "data: {}\n\n{}",
        json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}),
        body(json!({"prompt_tokens": 7, "completion_tokens": 2}))
    );
    assert_eq!(whole(Protocol::Chat, &twice).unwrap().usage.total(), 9);
}

#[test]
fn an_error_within_a_stream_has_the_class_of_the_same_error_without() {
    let failed = |code: &str, message: &str| {
        sse(&[json!({"type": "response.failed", "response": {
            "error": {"code": code, "message": message}}})])
    };
    let seconds = |after: f64| Some(std::time::Duration::from_secs_f64(after));
    let errors = [
        (
            Protocol::Anthropic,
            sse(&[json!({"type": "error", "error":
            {"type": "overloaded_error", "message": "Overloaded"}})]),
            ModelError::Overloaded { after: None },
        ),
        (
            Protocol::Responses,
            failed("rate_limit_exceeded", "Please try again in 1.3s."),
            ModelError::RateLimited {
                after: seconds(1.3),
            },
        ),
        (
            Protocol::Responses,
            failed("context_length_exceeded", "too long"),
            ModelError::ContextTooLong { limit: None },
        ),
        (
            Protocol::Responses,
            failed("insufficient_quota", "pay"),
            ModelError::Quota { until: None },
        ),
        (
            Protocol::Responses,
            sse(&[json!({"type": "error", "code": "server_error",
            "message": "oops", "param": null})]),
            ModelError::Overloaded { after: None },
        ),
        (
            Protocol::Chat,
            sse(&[json!({"error": {"message": "busy", "code": 503}})]),
            ModelError::Overloaded { after: None },
        ),
        (
            Protocol::Gemini,
            sse(&[
                json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED",
            "message": "Please retry in 12s.", "details": [{"retryDelay": "34.07s"}]}}),
            ]),
            ModelError::RateLimited {
                after: seconds(34.07),
            },
        ),
        (
            Protocol::Ollama,
            lines(&[json!({"error": "llama runner process has terminated"})]),
            ModelError::Overloaded { after: None },
        ),
    ];
    for (protocol, body, expected) in errors {
        let broken = whole(protocol, &body).unwrap_err();
        assert_eq!(broken.error, expected, "{protocol}: {body}");
        assert!(
            !broken.started && broken.usage_so_far.is_zero(),
            "nothing was generated"
        );
    }
}

#[test]
fn a_refusal_is_a_stop_with_its_reason() {
    let refusals = [
        (
            Protocol::Anthropic,
            sse(&[
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 3}}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "refusal",
                "stop_details": {"type": "refusal", "explanation": "no"}}, "usage": {"output_tokens": 1}}),
                json!({"type": "message_stop"}),
            ]),
        ),
        (
            Protocol::Responses,
            sse(&[
                json!({"type": "response.refusal.delta", "delta": "no"}),
                json!({"type": "response.completed", "response": {"usage": {"output_tokens": 1}}}),
            ]),
        ),
        (
            Protocol::Chat,
            chat(&[
                json!({"choices": [{"index": 0, "delta": {"refusal": "no"}, "finish_reason": "stop"}]}),
            ]),
        ),
        (
            Protocol::Gemini,
            sse(&[json!({"candidates": [{"finishReason": "SAFETY", "finishMessage": "no"}]})]),
        ),
    ];
    for (protocol, body) in refusals {
        let answer = whole(protocol, &body).unwrap();
        assert_eq!(answer.stop, Stop::Refused("no".into()), "{protocol}");
    }
}

#[test]
fn an_answer_without_a_reason_to_stop_is_broken() {
    let bodies = [
        (
            Protocol::Chat,
            chat(&[json!({"choices": [{"index": 0, "delta": {"content": "a"}}]})]),
        ),
        (Protocol::Anthropic, sse(&[json!({"type": "message_stop"})])),
    ];
    for (protocol, body) in bodies {
        let broken = whole(protocol, &body).unwrap_err();
        assert!(
            matches!(broken.error, ModelError::Malformed { .. }),
            "{broken:?}"
        );
    }
}

#[test]
fn a_message_that_is_not_json_breaks_the_stream_with_what_was_said() {
    let body = sse(&[json!({"choices": [{"index": 0, "delta": {"content": "half"}}]})]);
    let broken = whole(Protocol::Chat, &format!("{body}data: {{\"choices\": [\n\n")).unwrap_err();
    assert!(
        matches!(broken.error, ModelError::Malformed { .. }),
        "{broken:?}"
    );
    assert_eq!(broken.text_so_far, "half");
    assert!(broken.started);
}

#[test]
fn a_malformed_call_of_geminis_may_be_tried_again() {
    let body = sse(&[
        json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL",
        "finishMessage": "print(x)"}], "usageMetadata": {"promptTokenCount": 4}}),
    ]);
    let broken = whole(Protocol::Gemini, &body).unwrap_err();
    assert_eq!(broken.advice, Some(true));
    assert_eq!(broken.usage_so_far.input, 4);
}

#[test]
fn a_signature_of_geminis_stays_with_its_text() {
    let body = sse(&[
        json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}]}),
        json!({"candidates": [{"content": {"parts": [{"text": "b", "thoughtSignature": "c2ln"}]}}]}),
        json!({"candidates": [{"content": {"parts": [{"text": "", "thoughtSignature": "c2ln"}]},
            "finishReason": "STOP"}]}),
    ]);
    let answer = whole(Protocol::Gemini, &body).unwrap();
    let mut conversation = crate::conversation(Protocol::Chat);
    conversation.messages.truncate(1);
    conversation
        .messages
        .push(patchfleet_model::Message::Assistant(answer.into_turn()));
    conversation
        .messages
        .push(patchfleet_model::Message::User("and?".into()));
    let body = crate::body(&target(Protocol::Gemini), &conversation);
    let expected = json!([{"text": "a"}, {"text": "b", "thoughtSignature": "c2ln"},
        {"text": "", "thoughtSignature": "c2ln"}]);
    assert_eq!(body["contents"][1]["parts"], expected);
}
