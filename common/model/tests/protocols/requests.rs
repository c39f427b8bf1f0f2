//! Requests, whole.

use std::fmt::Write as _;

use patchfleet_model::{ModelError, Parameter, Protocol};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use crate::{body, conversation, target};

fn shown(protocol: Protocol) -> String {
    let mut target = target(protocol);
    target.key = Some(SecretString::from("sk-very-secret"));
    let request = target.request(&conversation(protocol));
    let request = request.expect("the conversation is valid");
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let _ = writeln!(text, "{name}: {value:?}");
    }
    let body = body(&target, &conversation(protocol));
    text + &format!("{body:#}")
}

#[test]
fn an_anthropic_request_has_breakpoints_on_its_stable_prefix() {
    insta::assert_snapshot!(shown(Protocol::Anthropic));
}

#[test]
fn a_responses_request_stores_nothing_and_carries_its_reasoning() {
    insta::assert_snapshot!(shown(Protocol::Responses));
}

#[test]
fn a_chat_request_asks_for_usage() {
    insta::assert_snapshot!(shown(Protocol::Chat));
}

#[test]
fn a_gemini_request_keeps_its_signature_beside_the_part() {
    insta::assert_snapshot!(shown(Protocol::Gemini));
}

#[test]
fn an_ollama_request_names_its_window() {
    insta::assert_snapshot!(shown(Protocol::Ollama));
}

#[test]
fn parameters_that_a_model_does_not_take_are_not_sent() {
    for protocol in Protocol::ALL {
        let mut target = target(protocol);
        target.takes.clear();
        let text = body(&target, &conversation(protocol)).to_string();
        for word in [
            "temperature",
            "topP",
            "top_p",
            "effort",
            "thinkingConfig",
            "\"think\"",
            "include",
            "cache_control",
            "prompt_cache_key",
            "stream_options",
            "max_completion_tokens",
        ] {
            assert!(!text.contains(word), "{protocol} sends {word}: {text}");
        }
    }
}

#[test]
fn a_compatible_server_gets_the_older_name_of_the_limit() {
    let url = Url::parse("http://localhost:8080").unwrap();
    let target = target(Protocol::Chat).at(url);
    assert!(!target.takes.contains(&Parameter::CompletionLimit));
    let request = target.request(&conversation(Protocol::Chat)).unwrap();
    assert_eq!(request.uri(), "http://localhost:8080/v1/chat/completions");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body["max_tokens"], 16_000);
}

#[test]
fn a_base_address_with_a_version_keeps_it() {
    let uri = |protocol, base: &str| {
        let target = target(protocol).at(Url::parse(base).unwrap());
        target
            .request(&conversation(protocol))
            .unwrap()
            .uri()
            .to_string()
    };
    let google = "https://generativelanguage.googleapis.com/v1beta/openai/";
    assert_eq!(
        uri(Protocol::Chat, google),
        format!("{google}chat/completions")
    );
    let router = "https://router.example/api/v1";
    assert_eq!(
        uri(Protocol::Responses, router),
        format!("{router}/responses")
    );
    assert_eq!(
        uri(Protocol::Anthropic, router),
        format!("{router}/messages")
    );
    assert_eq!(
        uri(Protocol::Anthropic, "http://h:1/x/"),
        "http://h:1/x/v1/messages"
    );
    assert_eq!(uri(Protocol::Ollama, "http://h:1"), "http://h:1/api/chat");
}

#[test]
fn a_key_with_a_line_end_is_refused_and_not_shown() {
    let mut target = target(Protocol::Anthropic);
    target.key = Some(SecretString::from("sk-secret\n"));
    let error = target
        .request(&conversation(Protocol::Anthropic))
        .unwrap_err();
    assert!(matches!(error, ModelError::Authentication { .. }));
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(!format!("{target:?}").contains("sk-secret"));
}

#[test]
fn the_same_conversation_makes_the_same_bytes_and_a_longer_one_the_same_prefix() {
    for protocol in Protocol::ALL {
        let mut target = target(protocol);
        // Breakpoints move on by design; the text that is cached does not contain them.
        target.takes.remove(&Parameter::CacheControl);
        let conversation = conversation(protocol);
        let mut shorter = conversation.clone();
        shorter.messages.truncate(1);
        let list = |body: &Value| {
            let fields = ["messages", "input", "contents"];
            let list = fields
                .iter()
                .find_map(|field| body[*field].as_array().cloned());
            list.unwrap()
        };
        let first = list(&body(&target, &shorter));
        let whole = body(&target, &conversation);
        assert_eq!(whole, body(&target, &conversation));
        assert_eq!(list(&whole)[..first.len()], first[..], "{protocol}");
    }
}
