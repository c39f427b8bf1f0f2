//! A conversation moves from any provider to any other and stays valid.

use patchfleet_model::{Conversation, Message, Part, Protocol, Turn};
use proptest::prelude::*;
use serde_json::json;

use crate::validate::accepts;
use crate::{body, call, conversation, opaque, result, target};

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(Protocol::ALL.to_vec())
}

fn part() -> impl Strategy<Value = Part> {
    let id = prop_oneof![
        "toolu_[a-z]{3}",
        "call_0000[1-3]",
        "x{70}",
        "fc|[a-z ]{2}",
        "local_[1-3]"
    ];
    let name = prop_oneof!["read_file", "run", "[a-z 9é]{0,5}", "9{70}"];
    let arguments = prop_oneof![
        Just(String::new()),
        Just("{\"path\": ".to_owned()),
        Just("[1]".to_owned()),
        "[a-z]{1,4}".prop_map(|path| json!({"path": path}).to_string()),
    ];
    prop_oneof![
        prop_oneof!["[a-z]{1,5}", Just(" \n".to_owned()), Just(String::new())].prop_map(Part::Text),
        (id, name, arguments).prop_map(|(id, name, arguments)| call(&id, &name, &arguments)),
        protocol().prop_map(opaque),
    ]
}

/// A turn as a model may leave it: some calls without a result.
fn turn() -> impl Strategy<Value = Turn> {
    let parts = prop::collection::vec(part(), 0..6);
    (parts, any::<u64>()).prop_map(|(mut parts, answered)| {
        let mut ids = std::collections::BTreeSet::new();
        parts.retain(|part| match part {
            Part::ToolCall(call) => ids.insert(call.id.clone()),
            Part::Text(_) | Part::Opaque(_) => true,
        });
        let results = ids
            .iter()
            .enumerate()
            .filter(|(bit, _)| answered >> bit & 1 == 1);
        let results = results.map(|(bit, id)| {
            let mut result = result(id, if bit % 2 == 0 { "done" } else { "" });
            result.is_error = answered >> (bit + 20) & 1 == 1;
            result
        });
        Turn {
            results: results.collect(),
            parts,
        }
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        prop_oneof!["[a-z]{1,5}", Just(String::new())].prop_map(Message::User),
        turn().prop_map(Message::Assistant),
    ]
}

fn history() -> impl Strategy<Value = Conversation> {
    prop::collection::vec(message(), 0..8).prop_map(|mut messages| {
        messages.push(Message::User("Go.".into()));
        Conversation {
            messages,
            ..conversation(Protocol::Chat)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_is_valid_for_any_provider(conversation in history()) {
        for protocol in Protocol::ALL {
            let body = body(&target(protocol), &conversation);
            let accepted = accepts(protocol, &body);
            prop_assert!(accepted.is_ok(), "{protocol}: {accepted:?}\n{body:#}");
        }
    }
}

#[test]
fn a_conversation_moves_from_each_provider_to_each_in_the_middle_of_tool_use() {
    for from in Protocol::ALL {
        let mut conversation = conversation(from);
        conversation.messages.pop();
        for to in Protocol::ALL {
            let body = body(&target(to), &conversation);
            assert_eq!(accepts(to, &body), Ok(()), "{from} to {to}");
            let text = body.to_string();
            let kept = text.contains("\"hm\"") || text.contains("c2ln") || text.contains("Z0FB");
            assert_eq!(kept, from == to, "{from} to {to}: {text}");
        }
    }
}
