//! The protocols as their users see them: requests from conversations, answers from bytes.

mod pairs;
mod requests;
mod streams;
mod validate;

use patchfleet_model::{
    Arguments, Conversation, Effort, Message, Opaque, Origin, Parameter, Part, Protocol, Sampling,
    Target, Tool, ToolCall, ToolResult, Turn,
};
use serde_json::{Value, json};

/// A model of the protocol that takes everything.
fn target(protocol: Protocol) -> Target {
    let origin = Origin {
        provider: protocol.name().into(),
        model: format!("{}-model", protocol.name()),
    };
    let mut target = Target::new(protocol, origin);
    target.takes.extend([
        Parameter::Temperature,
        Parameter::TopP,
        Parameter::Effort,
        Parameter::CacheKey,
    ]);
    target.window = Some(65_536);
    target
}

fn tool(name: &str) -> Tool {
    Tool {
        name: name.into(),
        description: format!("does {name}"),
        parameters: json!({"type": "object", "properties": {"path": {"type": "string"}}}),
    }
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall(ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: Arguments::from_text(arguments),
    })
}

fn result(id: &str, content: &str) -> ToolResult {
    ToolResult {
        call_id: id.into(),
        content: content.into(),
        is_error: false,
    }
}

/// An opaque part as the protocol's own models make it.
fn opaque(protocol: Protocol) -> Part {
    let payload = match protocol {
        Protocol::Anthropic => json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"}),
        Protocol::Responses => json!({
            "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "Z0FB",
        }),
        Protocol::Chat => json!({"reasoning_content": "hm"}),
        Protocol::Gemini => json!({"thoughtSignature": "c2ln"}),
        Protocol::Ollama => json!({"thinking": "hm"}),
    };
    let origin = target(protocol).origin;
    Part::Opaque(Opaque { origin, payload })
}

/// A conversation in the middle of tool use.
fn conversation(protocol: Protocol) -> Conversation {
    let turn = Turn {
        parts: vec![
            opaque(protocol),
            Part::Text("I'll look.".into()),
            call("call_1", "read_file", r#"{"path": "a.rs"}"#),
            call("call_2", "list_files", ""),
        ],
        results: vec![result("call_2", "a.rs"), result("call_1", "fn main() {}")],
    };
    Conversation {
        system: "You fix bugs.".into(),
        tools: vec![tool("read_file"), tool("list_files")],
        messages: vec![
            Message::User("Fix it.".into()),
            Message::Assistant(turn),
            Message::User("Be quick.".into()),
        ],
        max_output: 16_000,
        sampling: Sampling {
            temperature: Some(0.5),
            top_p: None,
            effort: Some(Effort::Low),
        },
        cache_key: Some("task-7".into()),
    }
}

fn body(target: &Target, conversation: &Conversation) -> Value {
    let request = target.request(conversation);
    let request = request.expect("the conversation is valid");
    serde_json::from_slice(request.body()).expect("the body is JSON")
}
