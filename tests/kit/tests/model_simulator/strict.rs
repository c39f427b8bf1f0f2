//! What the simulator refuses, as the providers do.

use std::fmt::Write as _;
use std::path::Path;

use patchfleet_testkit::model::Protocol;
use serde_json::{Value, json};

use crate::client::{ALL, Client, ask, messages, receive};

const SCRIPT: &str = "
models: [{name: simulated}, {name: plain, sampling: false, tools: false, context: 60, max_output: 50}, {name: gemini-3-pro}, {name: other}]
conversations:
  - when: {text: '^work'}
    turns:
      - {thinking: Let me see., text: I look., calls: [{name: look, arguments: {at: a}}, {name: look, arguments: {at: b}}]}
      - {text: Done., forever: true}
turns: [{text: Yes., forever: true}]
";

/// A request, changed.
fn changed(protocol: Protocol, change: impl FnOnce(&mut Value)) -> Value {
    let mut body = ask(protocol, "Hi");
    change(&mut body);
    body
}

async fn refused(client: &Client, protocol: Protocol, body: &Value, expected: (u16, &str)) {
    let answer = client.send(protocol, body, true).await.unwrap();
    let said = String::from_utf8_lossy(&answer.bytes);
    assert_eq!(answer.status, expected.0, "{protocol:?} {body}: {said}");
    assert!(said.contains(expected.1), "{protocol:?} {body}: {said}");
}

/// A list of one tool.
fn tools(protocol: Protocol) -> Value {
    match protocol {
        Protocol::Anthropic => json!([{ "name": "look", "input_schema": {} }]),
        Protocol::Responses => {
            json!([{ "type": "function", "name": "look", "parameters": {} }])
        }
        Protocol::Chat | Protocol::Ollama => {
            json!([{ "type": "function", "function": { "name": "look" } }])
        }
        Protocol::Gemini => json!([{ "functionDeclarations": [{ "name": "look" }] }]),
    }
}

/// What the model `plain` refuses: too long an answer, and a parameter that it has not.
fn beyond(protocol: Protocol) -> (Value, Value) {
    match protocol {
        Protocol::Anthropic => (
            json!({ "max_tokens": 51 }),
            json!({ "temperature": 0.2, "max_tokens": 5 }),
        ),
        Protocol::Responses => (json!({ "max_output_tokens": 51 }), json!({ "top_p": 0.2 })),
        Protocol::Chat => (
            json!({ "max_completion_tokens": 51 }),
            json!({ "max_tokens": 20 }),
        ),
        Protocol::Gemini => (
            json!({ "generationConfig": { "maxOutputTokens": 51 } }),
            json!({ "generationConfig": { "topK": 3 } }),
        ),
        Protocol::Ollama => (
            json!({ "options": { "num_predict": 51 } }),
            json!({ "options": { "top_k": 3 } }),
        ),
    }
}

#[tokio::test]
async fn parameters_models_and_keys_have_to_be_right() {
    for protocol in ALL {
        let client = Client::start(SCRIPT).await;
        let (limit, sampling) = beyond(protocol);
        let plain = |more: Value| {
            changed(protocol, |body| {
                body["model"] = "plain".into();
                if protocol == Protocol::Anthropic {
                    body["max_tokens"] = 50.into();
                }
                body.as_object_mut()
                    .unwrap()
                    .extend(more.as_object().unwrap().clone());
            })
        };
        let long = "word ".repeat(60);
        let mut too_long = ask(protocol, &long);
        too_long["model"] = "plain".into();
        if protocol == Protocol::Anthropic {
            too_long["max_tokens"] = 5.into();
        }
        let cases = [
            (
                changed(protocol, |body| body["hologram"] = 1.into()),
                400,
                "hologram",
            ),
            (
                changed(protocol, |body| body["model"] = "nobody".into()),
                404,
                "nobody",
            ),
            (
                changed(protocol, |body| {
                    messages(protocol, body)[0]["hologram"] = 1.into();
                }),
                400,
                "hologram",
            ),
            (
                plain(json!({ "tools": tools(protocol) })),
                400,
                "does not support tools",
            ),
            (plain(limit), 400, "51"),
            (plain(sampling), 400, "Unsupported parameter"),
            (too_long, 400, "prompt is too long"),
            (
                changed(protocol, |body| messages(protocol, body).clear()),
                400,
                "",
            ),
        ];
        let count = cases.len();
        for (body, status, words) in cases {
            refused(&client, protocol, &body, (status, words)).await;
        }
        if protocol == Protocol::Anthropic {
            let body = changed(protocol, |body| {
                body.as_object_mut().unwrap().remove("max_tokens");
            });
            refused(
                &client,
                protocol,
                &body,
                (400, "max_tokens: Field required"),
            )
            .await;
            let mark =
                json!({ "type": "text", "text": "a", "cache_control": { "type": "ephemeral" } });
            let body = changed(protocol, |body| body["system"] = vec![mark; 5].into());
            refused(&client, protocol, &body, (400, "A maximum of 4 blocks")).await;
        }
        let state = client.simulator.state();
        assert!(state.refused >= count && state.answered == 0, "{state:?}");
        assert_eq!(state.failures, [] as [&str; 0]);
    }
}

/// The parameters that a client of a provider has in its types.
fn parameters(file: &str, interface: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("npm/node_modules")
        .join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; `make setup` installs it", path.display()));
    let start = text.find(&format!("interface {interface} {{")).unwrap();
    let lines = text[start..]
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('}'));
    let names = lines.filter_map(|line| {
        let line = line.strip_prefix("    ")?;
        let (name, _) = line.split_once(':')?;
        let name = name.trim_end_matches('?');
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_name.then(|| name.to_owned())
    });
    names.collect()
}

#[tokio::test]
async fn every_parameter_of_the_providers_own_clients_is_known() {
    let chat = "openai/resources/chat/completions/completions.d.ts";
    let anthropic = "@anthropic-ai/sdk/resources/messages/messages.d.ts";
    for (protocol, file, interface, least) in [
        (
            Protocol::Anthropic,
            anthropic,
            "MessageCreateParamsBase",
            15,
        ),
        (
            Protocol::Responses,
            "openai/resources/responses/responses.d.ts",
            "ResponseCreateParamsBase",
            25,
        ),
        (Protocol::Chat, chat, "ChatCompletionCreateParamsBase", 30),
        (
            Protocol::Ollama,
            "ollama/dist/browser.d.ts",
            "ChatRequest",
            8,
        ),
    ] {
        let names = parameters(file, interface);
        assert!(names.len() > least, "{names:?}");
        let client = Client::start(SCRIPT).await;
        for name in names {
            // These were given up before there were tools.
            if matches!(name.as_str(), "functions" | "function_call") {
                continue;
            }
            let body = changed(protocol, |body| body[&name] = json!({ "hologram": 1 }));
            let answer = client.send(protocol, &body, false).await.unwrap();
            let said = String::from_utf8_lossy(&answer.bytes);
            // The value may be wrong, the name is not.
            let unknown = [format!("'{name}'"), format!("{name}: Extra inputs")];
            let unknown = unknown.iter().any(|words| said.contains(words.as_str()))
                && (said.contains("Extra inputs") || said.contains("Unknown parameter"));
            assert!(!unknown, "{protocol:?} {name}: {said}");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_missing_or_wrong_is_refused() {
    for protocol in ALL {
        let client = Client::start(SCRIPT).await;
        let name = match protocol {
            Protocol::Anthropic => "x-api-key",
            Protocol::Gemini => "x-goog-api-key",
            Protocol::Responses | Protocol::Chat | Protocol::Ollama => "authorization",
        };
        for value in [None, Some("Bearer wrong")] {
            let request = client.request(protocol, &ask(protocol, "Hi"), true);
            let (http, request) = request.build_split();
            let mut request = request.unwrap();
            request.headers_mut().remove(name);
            if let Some(value) = value {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let answer = receive(reqwest::RequestBuilder::from_parts(http, request))
                .await
                .unwrap();
            let expected = match (protocol, value) {
                // It needs no key, but takes no wrong one.
                (Protocol::Ollama, None) => 200,
                (Protocol::Gemini, None) => 403,
                (Protocol::Gemini, Some(_)) => 400,
                _ => 401,
            };
            assert_eq!(answer.status, expected, "{protocol:?} {value:?}");
        }
    }
}

/// Messages in a protocol's form, from a short one: `u` a text of the user, `a` one of the model, `c1` a
/// call, `r1` its result, `e` an empty text.
fn history(protocol: Protocol, short: &str) -> Vec<Value> {
    let mut list: Vec<Value> = Vec::new();
    for word in short.split(' ') {
        let id = &word[1..];
        let assistant = matches!(&word[..1], "a" | "c");
        let role = match (assistant, protocol) {
            (false, _) => "user",
            (true, Protocol::Gemini) => "model",
            (true, _) => "assistant",
        };
        let text = if word == "e" { "" } else { word };
        let one = |part: Value| json!({ "role": role, "content": [part] });
        let message = match (protocol, &word[..1]) {
            (Protocol::Anthropic, "c") => {
                one(json!({ "type": "tool_use", "id": id, "name": "look", "input": {} }))
            }
            (Protocol::Anthropic, "r") => {
                one(json!({ "type": "tool_result", "tool_use_id": id, "content": "seen" }))
            }
            (Protocol::Responses, "c") => {
                json!({ "type": "function_call", "call_id": id, "name": "look", "arguments": "{}" })
            }
            (Protocol::Responses, "r") => {
                json!({ "type": "function_call_output", "call_id": id, "output": "seen" })
            }
            (Protocol::Chat, "c") => {
                json!({ "role": role, "tool_calls": [{ "id": id, "type": "function", "function": { "name": "look", "arguments": "{}" } }] })
            }
            (Protocol::Ollama, "c") => {
                json!({ "role": role, "content": "", "tool_calls": [{ "id": id, "function": { "name": "look", "arguments": {} } }] })
            }
            (Protocol::Chat | Protocol::Ollama, "r") => {
                json!({ "role": "tool", "tool_call_id": id, "content": "seen" })
            }
            (Protocol::Gemini, "c") => {
                json!({ "role": role, "parts": [{ "functionCall": { "id": id, "name": "look", "args": {} } }] })
            }
            (Protocol::Gemini, "r") => {
                json!({ "role": role, "parts": [{ "functionResponse": { "id": id, "name": "look", "response": {} } }] })
            }
            (Protocol::Gemini, _) => json!({ "role": role, "parts": [{ "text": text }] }),
            _ => json!({ "role": role, "content": text }),
        };
        list.push(message);
    }
    list
}

#[tokio::test]
async fn roles_take_turns_and_each_call_has_its_result_directly_after_it() {
    let wrong = [
        ("a u", "first"),
        ("u a", "last"),
        ("u c1 u", "unanswered"),
        ("u c1 r1 c2 u", "unanswered"),
        ("u r1", "orphan"),
        ("u c1 r2", "orphan"),
        ("u c1 r1 a r1", "orphan"),
        ("u u", "alternating"),
        ("u a a u", "alternating"),
        ("e", "empty"),
        ("u a e", "empty"),
    ];
    let mut seen = String::new();
    for protocol in ALL {
        let client = Client::start(SCRIPT).await;
        for (short, why) in wrong {
            if protocol == Protocol::Responses && why == "alternating" {
                continue;
            }
            let body = changed(protocol, |body| {
                *messages(protocol, body) = history(protocol, short);
            });
            let answer = client.send(protocol, &body, true).await.unwrap();
            assert_eq!(answer.status, 400, "{protocol:?} {short}");
            let error = answer.json();
            let words = error["error"]["message"]
                .as_str()
                .or(error["error"].as_str())
                .unwrap();
            let _ = writeln!(seen, "{protocol:?} {short}: {words}");
        }
        for short in ["u", "u a u", "u c1 r1", "u c1 r1 a u"] {
            let body = changed(protocol, |body| {
                *messages(protocol, body) = history(protocol, short);
            });
            let answer = client.send(protocol, &body, true).await.unwrap();
            assert_eq!(answer.status, 200, "{protocol:?} {short}");
        }
        client.nothing_failed();
    }
    insta::assert_snapshot!("histories", seen);
}

#[tokio::test]
async fn a_system_message_in_the_middle_belongs_to_no_side() {
    let client = Client::start(SCRIPT).await;
    let protocol = Protocol::Anthropic;
    let body = changed(protocol, |body| {
        let list = messages(protocol, body);
        *list = history(protocol, "u c1 r1 a u");
        list.insert(2, json!({ "role": "system", "content": "Be brief." }));
        list.push(json!({ "role": "system", "content": "Be briefer." }));
    });
    assert_eq!(
        client.send(protocol, &body, true).await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn two_messages_of_one_role_are_taken_where_the_script_says_so() {
    let client = Client::start("{merge_roles: true, turns: [{text: Yes., forever: true}]}").await;
    let protocol = Protocol::Anthropic;
    let body = changed(protocol, |body| {
        *messages(protocol, body) = history(protocol, "u u");
    });
    assert_eq!(
        client.send(protocol, &body, true).await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn thinking_comes_back_as_it_was_given_until_the_user_speaks_again() {
    let protocol = Protocol::Anthropic;
    let client = Client::start(SCRIPT).await;
    let thinking = json!({ "type": "enabled", "budget_tokens": 1024 });
    let first = {
        let mut body = ask(protocol, "work");
        body["thinking"] = thinking.clone();
        body["max_tokens"] = 2000.into();
        body
    };
    let said = client.send(protocol, &first, false).await.unwrap().json();
    let content = said["content"].as_array().unwrap().clone();
    let next = |content: Vec<Value>, more: Option<&str>, model: &str| {
        let mut body = first.clone();
        let calls: Vec<_> = content
            .iter()
            .filter(|block| block["type"] == "tool_use")
            .collect();
        let results: Vec<_> = calls
            .iter()
            .map(|call| json!({ "type": "tool_result", "tool_use_id": call["id"], "content": "seen" }))
            .collect();
        body["model"] = model.into();
        let list = messages(protocol, &mut body);
        list.push(json!({ "role": "assistant", "content": content }));
        list.push(json!({ "role": "user", "content": results }));
        if let Some(text) = more {
            list.push(json!({ "role": "assistant", "content": "Done." }));
            list.push(json!({ "role": "user", "content": text }));
        }
        body
    };
    let without: Vec<_> = content[1..].to_vec();
    let mut altered = content.clone();
    altered[0]["thinking"] = "Let me not see.".into();
    let mut forged = content.clone();
    forged[0]["signature"] = "AAAA".into();
    let missing = next(without.clone(), None, "simulated");
    refused(&client, protocol, &missing, (400, "Expected `thinking`")).await;
    let mut adaptive = missing.clone();
    adaptive["thinking"] = json!({ "type": "adaptive" });
    refused(&client, protocol, &adaptive, (400, "cannot be modified")).await;
    for content in [altered, forged] {
        let body = next(content, None, "simulated");
        refused(&client, protocol, &body, (400, "Invalid `signature`")).await;
    }
    let mut off = missing.clone();
    off["thinking"] = json!({ "type": "disabled" });
    let mut foreign = next(without.clone(), None, "other");
    foreign["thinking"] = json!({ "type": "adaptive" });
    for body in [
        next(content, None, "simulated"),
        next(without, Some("and now?"), "simulated"),
        off,
        foreign,
    ] {
        let answer = client.send(protocol, &body, true).await.unwrap();
        assert_eq!(
            answer.status,
            200,
            "{body}: {}",
            String::from_utf8_lossy(&answer.bytes)
        );
    }
}

#[tokio::test]
async fn reasoning_comes_back_sealed_beside_its_calls() {
    let protocol = Protocol::Responses;
    let client = Client::start(SCRIPT).await;
    let first = ask(protocol, "work");
    let said = client.send(protocol, &first, false).await.unwrap().json();
    let output = said["output"].as_array().unwrap().clone();
    assert_eq!(output[0]["type"], "reasoning");
    let next = |items: &[Value], model: &str| {
        let mut body = first.clone();
        body["model"] = model.into();
        let list = messages(protocol, &mut body);
        list.extend(items.iter().cloned());
        for call in items.iter().filter(|item| item["type"] == "function_call") {
            list.push(json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "seen" }));
        }
        body
    };
    refused(
        &client,
        protocol,
        &next(&output[1..], "simulated"),
        (400, "without its required 'reasoning' item"),
    )
    .await;
    let mut other = output.clone();
    other[0]["encrypted_content"] = "AAAA".into();
    refused(
        &client,
        protocol,
        &next(&other, "simulated"),
        (400, "could not be verified"),
    )
    .await;
    other[0]["encrypted_content"] = Value::Null;
    refused(
        &client,
        protocol,
        &next(&other, "simulated"),
        (400, "not persisted"),
    )
    .await;
    // Clients of which nothing is stored send it without its id.
    let mut unnamed = output.clone();
    unnamed[0].as_object_mut().unwrap().remove("id");
    let answers = [
        next(&output, "simulated"),
        next(&unnamed, "simulated"),
        next(&output[1..], "other"),
    ];
    for body in answers {
        let answer = client.send(protocol, &body, true).await.unwrap();
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.bytes)
        );
    }
    let kept = changed(protocol, |body| {
        body["previous_response_id"] = "resp_1".into();
    });
    refused(&client, protocol, &kept, (400, "previous_response_id")).await;
}

#[tokio::test]
async fn geminis_calls_come_back_signed_or_with_the_stand_in() {
    let protocol = Protocol::Gemini;
    let client = Client::start(SCRIPT).await;
    let model = "gemini-3-pro";
    let first = {
        let mut body = ask(protocol, "work");
        body["model"] = model.into();
        body
    };
    let said = client.send(protocol, &first, false).await.unwrap().json();
    let parts = said["candidates"][0]["content"]["parts"]
        .as_array()
        .unwrap()
        .clone();
    let signed = parts
        .iter()
        .position(|part| part.get("thoughtSignature").is_some())
        .unwrap();
    let next = |parts: &[Value]| {
        let mut body = first.clone();
        let list = messages(protocol, &mut body);
        list.push(json!({ "role": "model", "parts": parts }));
        let calls = parts.iter().filter_map(|part| part.get("functionCall"));
        let results: Vec<_> = calls
            .map(|call| json!({ "functionResponse": { "id": call["id"], "name": call["name"], "response": { "output": 1 } } }))
            .collect();
        list.push(json!({ "role": "user", "parts": results }));
        body
    };
    let with = |signature: Option<Value>| {
        let mut parts = parts.clone();
        match signature {
            Some(signature) => parts[signed]["thoughtSignature"] = signature,
            None => drop(
                parts[signed]
                    .as_object_mut()
                    .unwrap()
                    .remove("thoughtSignature"),
            ),
        }
        next(&parts)
    };
    refused(
        &client,
        protocol,
        &with(None),
        (400, "missing a thought_signature"),
    )
    .await;
    refused(
        &client,
        protocol,
        &with(Some("AAAA".into())),
        (400, "not valid"),
    )
    .await;
    let mut fewer = with(Some(parts[signed]["thoughtSignature"].clone()));
    messages(protocol, &mut fewer)[2]["parts"]
        .as_array_mut()
        .unwrap()
        .pop();
    refused(
        &client,
        protocol,
        &fewer,
        (400, "number of function response parts"),
    )
    .await;
    let answer = client.send(protocol, &next(&parts), true).await.unwrap();
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.bytes)
    );
    let mut foreign = ask(protocol, "anything");
    foreign["model"] = model.into();
    let list = messages(protocol, &mut foreign);
    let call = json!({ "functionCall": { "name": "look", "args": {} }, "thoughtSignature": "skip_thought_signature_validator" });
    list.push(json!({ "role": "model", "parts": [call] }));
    list.push(json!({ "role": "user", "parts": [{ "functionResponse": { "name": "look", "response": {} } }] }));
    let answer = client.send(protocol, &foreign, true).await.unwrap();
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.bytes)
    );
}

#[tokio::test]
async fn a_prompt_that_ollama_would_cut_silently_is_a_failure() {
    let client = Client::start(SCRIPT).await;
    let long = "word ".repeat(4000);
    let answer = client.ask(Protocol::Ollama, &long, false).await;
    assert_eq!(answer.status, 200, "Ollama says nothing");
    let failures = client.simulator.state().failures;
    assert!(failures[0].contains("window of 4096"), "{failures:?}");
}
