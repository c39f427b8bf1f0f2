//! What every server demands of a history: roles in turn, each call with its result, sealed parts
//! as they were given out.

use std::collections::HashMap;

use super::asked::{Asked, Message, Part, Role, Thinking};
use super::seal;

/// Gemini's stand-in for the signature of a call that another model made.
pub(crate) const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";

/// What a model gave out with a call.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) model: String,
    pub(crate) seals: Vec<String>,
}

/// What is demanded beyond the pairing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Two messages of one role in a row are refused.
    pub(crate) alternate: bool,
    /// The first call of each step needs a signature.
    pub(crate) signed: bool,
}

/// What is wrong with a history; `at` is the number of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    Empty,
    FirstNotUser,
    LastNotUser,
    NotAlternating { at: usize },
    EmptyMessage { at: usize },
    EmptyText { at: usize },
    Unanswered { at: usize, ids: Vec<String> },
    Orphan { at: usize, id: String },
    SameId { at: usize, id: String },
    ResultsNotFirst { at: usize },
    BadSeal { at: usize },
    SealMissing { at: usize, id: String },
    ThoughtNotFirst { at: usize },
    Unsigned { at: usize, name: String },
}

/// Looks at a whole history.
pub(crate) fn check(
    asked: &Asked,
    rules: Rules,
    issued: Option<&HashMap<String, Issued>>,
) -> Result<(), Violation> {
    let messages = &asked.messages;
    let Some(first) = messages.first() else {
        return Err(Violation::Empty);
    };
    if first.role != Role::User {
        return Err(Violation::FirstNotUser);
    }
    if messages.last().is_some_and(|last| last.role != Role::User) {
        return Err(Violation::LastNotUser);
    }
    for (at, message) in messages.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &messages[at]);
        pairs(at, before, message)?;
        if rules.alternate && before.is_some_and(|before| before.role == message.role) {
            return Err(Violation::NotAlternating { at });
        }
        content(at, message)?;
    }
    seals(asked, rules, issued)
}

fn content(at: usize, message: &Message) -> Result<(), Violation> {
    if message.parts.is_empty() {
        return Err(Violation::EmptyMessage { at });
    }
    let blank = |part: &Part| matches!(part, Part::Text(text) if text.trim().is_empty());
    if message.parts.iter().any(blank) {
        return Err(Violation::EmptyText { at });
    }
    Ok(())
}

/// Each call has its one result in the message after it, and the results come first there.
fn pairs(at: usize, before: Option<&Message>, message: &Message) -> Result<(), Violation> {
    let mut ids = std::collections::HashSet::new();
    for call in message.calls() {
        if !ids.insert(&call.id) {
            let id = call.id.clone();
            return Err(Violation::SameId { at, id });
        }
    }
    let mut open: Vec<_> = before
        .map(|before| before.calls().map(|call| &call.id).collect())
        .unwrap_or_default();
    for result in message.results() {
        let Some(place) = open.iter().position(|id| **id == result.id) else {
            let id = result.id.clone();
            return Err(Violation::Orphan { at, id });
        };
        open.remove(place);
    }
    if !open.is_empty() {
        let ids = open.into_iter().cloned().collect();
        return Err(Violation::Unanswered { at: at - 1, ids });
    }
    let is_result = |part: &Part| matches!(part, Part::Result(_));
    let count = message.results().count();
    if !message.parts.iter().take(count).all(is_result) {
        return Err(Violation::ResultsNotFirst { at });
    }
    Ok(())
}

/// Sealed parts are genuine everywhere, and complete since the user spoke last.
fn seals(
    asked: &Asked,
    rules: Rules,
    issued: Option<&HashMap<String, Issued>>,
) -> Result<(), Violation> {
    let spoken = |message: &Message| message.role == Role::User && message.results().count() == 0;
    let current = asked.messages.iter().rposition(spoken).unwrap_or_default();
    for (at, message) in asked.messages.iter().enumerate() {
        let genuine = |sealed: &super::asked::Sealed| {
            sealed.seal == FOREIGN_SIGNATURE || seal::holds(&sealed.seal, &sealed.bound)
        };
        if asked.thinking != Thinking::Off && !message.seals().all(genuine) {
            return Err(Violation::BadSeal { at });
        }
        if at < current || message.calls().next().is_none() {
            continue;
        }
        if let Some(first) = message.calls().next()
            && rules.signed
            && !first.signed
        {
            let name = first.name.clone();
            return Err(Violation::Unsigned { at, name });
        }
        if asked.thinking == Thinking::Enabled
            && !matches!(message.parts.first(), Some(Part::Sealed(_)))
        {
            return Err(Violation::ThoughtNotFirst { at });
        }
        for call in message.calls() {
            let given = issued
                .and_then(|issued| issued.get(&call.id))
                .filter(|given| given.model == asked.model);
            let seals = given
                .map(|given| given.seals.as_slice())
                .unwrap_or_default();
            let there = |seal: &String| message.seals().any(|sealed| sealed.seal == *seal);
            if asked.thinking != Thinking::Off && !seals.iter().all(there) {
                let id = call.id.clone();
                return Err(Violation::SealMissing { at, id });
            }
        }
    }
    Ok(())
}
