//! What a simulator remembers: where each conversation is in its turns, which requests were
//! answered, what was given out and what it would cost.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::asked::Asked;
use super::cache::Cache;
use super::history::Issued;
use super::problem::{Kind, Problem};
use super::script::{Fault, Script, Turn, Usage, When};
use super::wire::Protocol;

/// A request that asked a model for something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestRecord {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its path.
    pub path: String,
    /// Its model; empty if it could not be read.
    pub model: String,
    /// Whether the answer was to be a stream.
    pub stream: bool,
    /// What it is known by; two of the same are one request sent twice.
    pub hash: String,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were sent so far.
    pub bytes_out: u64,
    /// The status that was answered; none if the connection was reset.
    pub status: Option<u16>,
    /// The number of the turn that answered it.
    pub turn: Option<usize>,
    /// What went wrong because the script said so.
    pub fault: Option<Fault>,
    /// Why it was refused, if the script did not say so.
    pub refused: Option<String>,
    /// What a provider would charge.
    pub billed: Usage,
    /// Whether the answer was sent to its end.
    pub ended: bool,
}

/// What a simulator has counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct State {
    /// Requests that asked a model for something.
    pub calls: usize,
    /// Those that a turn answered, faults among them.
    pub answered: usize,
    /// Those whose answer was a fault.
    pub faults: usize,
    /// Those that were refused for what they held.
    pub refused: usize,
    /// What must not happen at all: repeated requests, requests that no turn is there for, prompts
    /// that a window cuts silently.
    pub failures: Vec<String>,
    /// Bytes of all bodies that came.
    pub bytes_in: u64,
    /// Bytes of all bodies that went.
    pub bytes_out: u64,
    /// What a provider would charge, by model.
    pub billed: BTreeMap<String, Usage>,
    /// The same of all models.
    pub total: Usage,
    /// Every request, in order.
    pub requests: Vec<RequestRecord>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) state: State,
    /// Uses of each turn, by kind of conversation and the text that it began with.
    cursors: HashMap<(usize, String), Vec<u32>>,
    /// Requests that were answered, and whether a fault was the answer.
    answered: HashMap<String, bool>,
    issued: HashMap<Protocol, HashMap<String, Issued>>,
    pub(crate) cache: Cache,
}

/// A turn that is to answer.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) number: usize,
    pub(crate) turn: Turn,
}

impl Book {
    pub(crate) fn arrived(&mut self, record: RequestRecord) -> usize {
        self.state.calls += 1;
        self.state.bytes_in += record.bytes_in;
        self.state.requests.push(record);
        self.state.requests.len() - 1
    }

    /// What a protocol's models gave out with each call.
    pub(crate) fn issued(&self, protocol: Protocol) -> Option<&HashMap<String, Issued>> {
        self.issued.get(&protocol)
    }

    pub(crate) fn issue(&mut self, protocol: Protocol, id: &str, issued: Issued) {
        let of_protocol = self.issued.entry(protocol).or_default();
        of_protocol.insert(id.to_owned(), issued);
    }

    /// Takes the turn that answers a request, unless it was answered before.
    pub(crate) fn take(
        &mut self,
        script: &Script,
        asked: &Asked,
        hash: &str,
    ) -> Result<Taken, Problem> {
        if self.answered.get(hash) == Some(&false) && !script.allow_repeats {
            let words =
                format!("this request was answered before and would be paid twice ({hash})");
            self.state
                .failures
                .push(format!("repeated request: {words}"));
            return Err(Problem::new(Kind::Conflict, words));
        }
        let Some(taken) = self.next(script, asked) else {
            let text: String = asked.last_text().chars().take(80).collect();
            let words = format!(
                "the script has no turn left for this request, whose last text is {text:?}"
            );
            self.state.failures.push(format!("script ran out: {words}"));
            return Err(Problem::invalid("", words));
        };
        let is_fault = taken.turn.fault.is_some();
        self.answered.insert(hash.to_owned(), is_fault);
        self.state.answered += 1;
        self.state.faults += usize::from(is_fault);
        Ok(taken)
    }

    fn next(&mut self, script: &Script, asked: &Asked) -> Option<Taken> {
        let first = asked.first_text();
        let mut kinds = script.conversations.iter();
        let kind = kinds.position(|kind| matches(&kind.when, asked, &first));
        let (kind, turns) = match kind {
            Some(kind) => (kind, &script.conversations[kind].turns),
            None => (script.conversations.len(), &script.turns),
        };
        let cursor = self.cursors.entry((kind, first)).or_default();
        cursor.resize(turns.len(), 0);
        let text = asked.last_text();
        let mut turns = turns.iter().enumerate();
        let (number, turn) = turns.find(|(number, turn)| {
            let left = turn.forever || cursor[*number] < turn.times;
            left && matches(&turn.when, asked, &text)
        })?;
        cursor[number] += 1;
        let turn = turn.clone();
        Some(Taken { number, turn })
    }

    /// Notes what a provider charges for an answer.
    pub(crate) fn bill(&mut self, place: usize, usage: &Usage) {
        let record = &mut self.state.requests[place];
        record.billed = *usage;
        let of_model = self.state.billed.entry(record.model.clone()).or_default();
        of_model.add(usage);
        self.state.total.add(usage);
    }
}

fn matches(when: &When, asked: &Asked, text: &str) -> bool {
    let found = |pattern: &Option<super::script::Pattern>, text: &str| {
        pattern.as_ref().is_none_or(|pattern| pattern.is_in(text))
    };
    let results = || {
        when.tool_result
            .as_ref()
            .is_none_or(|pattern| asked.last_results().any(|result| pattern.is_in(result)))
    };
    found(&when.text, text)
        && found(&when.model, &asked.model)
        && found(&when.system, &asked.system)
        && results()
}
