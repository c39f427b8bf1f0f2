//! A conversation made valid for the provider that it goes to.
//!
//! What every protocol demands is done here, once: the first message is the user's, each call is
//! answered directly after its turn, ids are unique and of the target's alphabet, blank text and
//! the opaque parts of other models are gone. The same conversation always gives the same entries,
//! so that a provider's prompt cache finds its prefix again. Absent: the form on the wire.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{Conversation, Message, ModelError, Origin, Part, ToolCall, Turn};

/// What the user says where a protocol wants the user to speak and nothing was said.
const GO_ON: &str = "Go on.";

/// The result of a call that has none.
const NOT_EXECUTED: &str = "The call was not executed.";

/// The result of a call that failed without a word.
const FAILED: &str = "The call failed.";

/// The longest id and name; each protocol takes as much.
const LONGEST_NAME: usize = 64;

/// An entry of a valid conversation. Entries of users never follow each other, nor do entries of
/// assistants but behind results.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry<'a> {
    /// One or more texts of the user.
    User(Vec<&'a str>),
    /// A turn; not empty.
    Assistant {
        /// Its pieces, in order.
        pieces: Vec<Piece<'a>>,
        /// One result for each call, in the order of the calls.
        results: Vec<Answered<'a>>,
    },
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece<'a> {
    /// Text that is not blank.
    Text(&'a str),
    /// A call.
    Call(Call),
    /// An opaque part of the target's own.
    Opaque(&'a Value),
}

/// A call with an id and a name that the target takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: Map<String, Value>,
    /// The arguments as JSON text; the model's own where it is valid.
    pub(crate) text: String,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered<'a> {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) content: &'a str,
    pub(crate) is_error: bool,
}

/// The entries of a conversation that goes to a model.
pub(crate) fn entries<'a>(
    conversation: &'a Conversation,
    target: &Origin,
) -> Result<Vec<Entry<'a>>, ModelError> {
    let mut ids = Ids::of(conversation);
    let mut entries = Vec::new();
    for (number, message) in conversation.messages.iter().enumerate() {
        match message {
            Message::User(text) if text.trim().is_empty() => {}
            Message::User(text) => say(&mut entries, text),
            Message::Assistant(turn) => {
                check(turn, number)?;
                if let Some(entry) = assistant(turn, target, &mut ids) {
                    if !users_turn_is_over(&entries) {
                        say(&mut entries, GO_ON);
                    }
                    entries.push(entry);
                }
            }
        }
    }
    match entries.last() {
        Some(Entry::User(_)) => Ok(entries),
        Some(Entry::Assistant { results, .. }) if !results.is_empty() => Ok(entries),
        Some(Entry::Assistant { .. }) => Err(history(
            "it ends with what the model said; nothing is left to answer",
        )),
        None => Err(history("it has no message")),
    }
}

/// Adds a text of the user to what the user says already.
fn say<'a>(entries: &mut Vec<Entry<'a>>, text: &'a str) {
    if let Some(Entry::User(texts)) = entries.last_mut() {
        texts.push(text);
    } else {
        entries.push(Entry::User(vec![text]));
    }
}

/// True when the model may speak next.
fn users_turn_is_over(entries: &[Entry<'_>]) -> bool {
    match entries.last() {
        None => false,
        Some(Entry::User(_)) => true,
        Some(Entry::Assistant { results, .. }) => !results.is_empty(),
    }
}

/// Whether calls and results of a turn belong together.
fn check(turn: &Turn, number: usize) -> Result<(), ModelError> {
    let mut calls = BTreeSet::new();
    for call in turn.calls() {
        if !calls.insert(&call.id) {
            let id = &call.id;
            return Err(history(format!("message {number} has two calls `{id}`")));
        }
    }
    let mut results = BTreeSet::new();
    for result in &turn.results {
        let id = &result.call_id;
        if !calls.contains(id) {
            return Err(history(format!(
                "message {number} has a result for `{id}`, which it does not call"
            )));
        }
        if !results.insert(id) {
            return Err(history(format!(
                "message {number} has two results for `{id}`"
            )));
        }
    }
    Ok(())
}

fn history(pairing: impl Into<String>) -> ModelError {
    ModelError::History {
        pairing: pairing.into(),
    }
}

/// A turn as an entry; nothing when the target would see nothing of it.
fn assistant<'a>(turn: &'a Turn, target: &Origin, ids: &mut Ids) -> Option<Entry<'a>> {
    let mut pieces = Vec::new();
    let mut results = Vec::new();
    for part in &turn.parts {
        match part {
            Part::Text(text) if text.trim().is_empty() => {}
            Part::Text(text) => pieces.push(Piece::Text(text)),
            Part::Opaque(opaque) if opaque.origin == *target => {
                pieces.push(Piece::Opaque(&opaque.payload));
            }
            Part::Opaque(_) => {}
            Part::ToolCall(call) => {
                let id = ids.give(&call.id);
                let name = name(&call.name);
                let result = turn.result(&call.id);
                let is_error = result.is_none_or(|result| result.is_error);
                results.push(Answered {
                    id: id.clone(),
                    name: name.clone(),
                    content: match result {
                        None => NOT_EXECUTED,
                        // An error has to say something.
                        Some(result) if is_error && result.content.trim().is_empty() => FAILED,
                        Some(result) => &result.content,
                    },
                    is_error,
                });
                pieces.push(Piece::Call(self::call(call, id, name)));
            }
        }
    }
    let opaque = |piece: &Piece<'_>| matches!(piece, Piece::Opaque(_));
    if !pieces.iter().any(opaque) {
        // Opaque parts fix the order of what they stand between. Without any, calls come last,
        // where every protocol expects them.
        pieces.sort_by_key(|piece| matches!(piece, Piece::Call(_)));
    }
    (!pieces.iter().all(opaque)).then_some(Entry::Assistant { pieces, results })
}

fn call(call: &ToolCall, id: String, name: String) -> Call {
    let arguments = match call.arguments.object() {
        Ok(arguments) => arguments.clone(),
        // Providers and chat templates parse what stands here: it has to be an object.
        Err(_) => Map::from_iter([("invalid_arguments".to_owned(), json!(call.arguments.text()))]),
    };
    let own = call.arguments.text().trim();
    let text = if call.arguments.object().is_ok() && !own.is_empty() {
        own.to_owned()
    } else {
        Value::Object(arguments.clone()).to_string()
    };
    Call {
        id,
        name,
        arguments,
        text,
    }
}

/// A name of a tool in the alphabet that every protocol takes. Models make up names too.
pub(crate) fn name(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => letter,
        _ => '_',
    });
    let mut name: String = letters.take(LONGEST_NAME).collect();
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        name.insert(0, '_');
        name.truncate(LONGEST_NAME);
    }
    name
}

/// Ids as they are sent: the original where it is valid and used once, a made one elsewhere.
struct Ids {
    /// All valid originals, so that a made id is none of them.
    originals: BTreeSet<String>,
    given: BTreeMap<String, usize>,
    made: usize,
}

impl Ids {
    fn of(conversation: &Conversation) -> Self {
        let turns = conversation
            .messages
            .iter()
            .filter_map(|message| match message {
                Message::Assistant(turn) => Some(turn),
                Message::User(_) => None,
            });
        let ids = turns.flat_map(Turn::calls).map(|call| call.id.clone());
        Self {
            originals: ids.filter(|id| is_valid(id)).collect(),
            given: BTreeMap::new(),
            made: 0,
        }
    }

    fn give(&mut self, original: &str) -> String {
        let times = self.given.entry(original.to_owned()).or_default();
        *times += 1;
        if *times == 1 && is_valid(original) {
            return original.to_owned();
        }
        loop {
            self.made += 1;
            let id = format!("call_{:05}", self.made);
            if !self.originals.contains(&id) {
                return id;
            }
        }
    }
}

/// True for an id that every protocol takes.
fn is_valid(id: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !id.is_empty() && id.len() <= LONGEST_NAME && id.bytes().all(valid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arguments, Opaque, ToolResult};

    fn target() -> Origin {
        Origin {
            provider: "p".into(),
            model: "m".into(),
        }
    }

    fn tool_call(id: &str) -> Part {
        Part::ToolCall(ToolCall {
            id: id.into(),
            name: "read file!".into(),
            arguments: Arguments::from_text("{\"a\": "),
        })
    }

    fn conversation(messages: Vec<Message>) -> Conversation {
        let mut conversation = Conversation::question("", "", 10);
        conversation.messages = messages;
        conversation
    }

    #[test]
    fn an_unanswered_call_gets_an_error_and_the_user_speaks_first() {
        let turn = Turn {
            parts: vec![
                Part::Text(" ".into()),
                tool_call("a b"),
                tool_call("call_00001"),
            ],
            results: vec![ToolResult {
                call_id: "call_00001".into(),
                content: "done".into(),
                is_error: false,
            }],
        };
        let conversation = conversation(vec![Message::Assistant(turn)]);
        let entries = entries(&conversation, &target()).unwrap();
        assert_eq!(entries[0], Entry::User(vec![GO_ON]));
        let Entry::Assistant { pieces, results } = &entries[1] else {
            panic!("{entries:?}");
        };
        let Piece::Call(call) = &pieces[0] else {
            panic!("{pieces:?}");
        };
        assert_eq!(
            (call.id.as_str(), call.name.as_str()),
            ("call_00002", "read_file_")
        );
        assert_eq!(call.text, r#"{"invalid_arguments":"{\"a\": "}"#);
        assert_eq!(
            (results[0].content, results[0].is_error),
            (NOT_EXECUTED, true)
        );
        assert_eq!(
            (results[1].id.as_str(), results[1].content),
            ("call_00001", "done")
        );
    }

    #[test]
    fn opaque_parts_go_back_to_their_own_model_alone() {
        let opaque = |model: &str| {
            let origin = Origin {
                model: model.into(),
                ..target()
            };
            let payload = json!({"from": model});
            Part::Opaque(Opaque { origin, payload })
        };
        let turn = Turn {
            parts: vec![opaque("m"), opaque("other"), Part::Text("x".into())],
            results: Vec::new(),
        };
        let only_foreign = Turn {
            parts: vec![opaque("other")],
            results: Vec::new(),
        };
        let user = || Message::User("q".into());
        let messages = vec![
            user(),
            Message::Assistant(turn),
            user(),
            Message::Assistant(only_foreign),
            user(),
        ];
        let conversation = conversation(messages);
        let entries = entries(&conversation, &target()).unwrap();
        let own = json!({"from": "m"});
        let pieces = vec![Piece::Opaque(&own), Piece::Text("x")];
        let results = Vec::new();
        assert_eq!(entries[1], Entry::Assistant { pieces, results });
        assert_eq!(entries[2], Entry::User(vec!["q", "q"]));
    }

    #[test]
    fn what_does_not_belong_together_is_not_sent() {
        let result = |id: &str| ToolResult {
            call_id: id.into(),
            content: String::new(),
            is_error: false,
        };
        let turn = |parts: Vec<Part>, results: Vec<ToolResult>| Turn { parts, results };
        let wrong = [
            turn(vec![tool_call("a"), tool_call("a")], vec![]),
            turn(vec![tool_call("a")], vec![result("b")]),
            turn(vec![tool_call("a")], vec![result("a"), result("a")]),
            turn(vec![Part::Text("the last word".into())], vec![]),
        ];
        for turn in wrong {
            let conversation = conversation(vec![Message::Assistant(turn)]);
            let refused = entries(&conversation, &target());
            assert!(
                matches!(refused, Err(ModelError::History { .. })),
                "{refused:?}"
            );
        }
        assert!(entries(&conversation(vec![]), &target()).is_err());
    }
}
