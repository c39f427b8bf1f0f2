//! A response body becomes events, and in the end one answer or one break. Pure.
//!
//! A [`Decoder`] is pushed bytes and asked for its end. What a protocol's messages mean is its
//! grammar's business; this file knows what all of them have in common: the parts in their order,
//! what was received of a stream that broke, and what it cost.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::failure::Report;
use crate::frames::{Cut, Frames};
use crate::protocol::report;
use crate::{
    Answer, Arguments, Broken, Event, ModelError, Opaque, Origin, Part, Stop, ToolCall, Usage,
};

/// Bytes per token, for estimates. English has four, code three; an estimate must not be too low.
const BYTES_PER_TOKEN: u64 = 3;

/// More tokens than any request or answer has; a provider that reports as many is not believed.
const ABSURD: u64 = 20_000_000;

/// The most bytes of one body.
const LONGEST_BODY: u64 = 128 * 1024 * 1024;

/// What the messages of a protocol mean.
pub(crate) trait Grammar: Send {
    /// Reads one message.
    fn read(&mut self, message: &str, progress: &mut Progress) -> Result<(), ModelError>;

    /// Reads an answer that is one document and no stream, for what it used: the parts of a document
    /// are not asked for.
    fn document(&mut self, document: &Value, progress: &mut Progress) -> Result<(), ModelError>;

    /// Why the model stopped, once the protocol's terminal event was read.
    fn stop(&self) -> Option<Stop>;

    /// True when nothing that follows matters.
    fn is_complete(&self) -> bool {
        self.stop().is_some()
    }

    /// The name of the terminal event, for whoever misses it.
    fn terminal(&self) -> &'static str;
}

/// Turns a body into events and an end.
pub struct Decoder {
    frames: Frames,
    grammar: Box<dyn Grammar>,
    progress: Progress,
    failure: Option<ModelError>,
    bytes: u64,
}

/// What was received so far.
pub(crate) struct Progress {
    origin: Origin,
    /// The parts, by their place in the answer.
    parts: BTreeMap<u64, Part>,
    ids: BTreeSet<String>,
    events: Vec<Event>,
    usage: Option<Usage>,
    /// Bytes of text, thinking and arguments.
    received: u64,
    of_it_thinking: u64,
    /// Bytes of the request, for an estimate of what it cost.
    sent: u64,
    /// True when the error that ended the stream came from the provider itself.
    refused: bool,
    advice: Option<bool>,
}

impl Decoder {
    pub(crate) fn new(
        frames: Frames,
        grammar: Box<dyn Grammar>,
        origin: Origin,
        sent: u64,
    ) -> Self {
        Self {
            frames,
            grammar,
            progress: Progress {
                origin,
                parts: BTreeMap::new(),
                ids: BTreeSet::new(),
                events: Vec::new(),
                usage: None,
                received: 0,
                of_it_thinking: 0,
                sent,
                refused: false,
                advice: None,
            },
            failure: None,
            bytes: 0,
        }
    }

    /// Takes bytes of the body and gives the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.bytes += bytes.len() as u64;
        if self.bytes > LONGEST_BODY {
            self.fail(ModelError::Malformed {
                what: format!("it is longer than {LONGEST_BODY} bytes"),
            });
        }
        if !self.is_complete() {
            let (grammar, progress) = (&mut self.grammar, &mut self.progress);
            let pushed = self
                .frames
                .push(bytes, |message| read(grammar, message, progress));
            self.note(pushed);
        }
        std::mem::take(&mut self.progress.events)
    }

    /// Takes the whole of an answer that is one document and no stream.
    pub(crate) fn document(&mut self, body: &[u8]) {
        let Ok(document) = serde_json::from_slice::<Value>(body) else {
            // What was received of it was generated.
            self.progress.unseen(&String::from_utf8_lossy(body), false);
            let transport = "the answer ended in the middle of its JSON".to_owned();
            return self.fail(ModelError::Away { transport });
        };
        // Gemini's streams are a list of documents, if nothing else is asked for.
        let alone = std::slice::from_ref(&document);
        for part in document.as_array().map_or(alone, Vec::as_slice) {
            let read = if part["error"].is_null() {
                self.grammar.document(part, &mut self.progress)
            } else {
                self.progress.refused();
                Err(self.progress.error(report(part)))
            };
            if let Err(error) = read {
                self.fail(error);
            }
        }
    }

    /// True when the terminal event was read, and nothing was wrong before it.
    pub(crate) fn is_whole(&self) -> bool {
        self.failure.is_none() && self.grammar.is_complete()
    }

    /// Counts bytes of an answer that can't be understood any more and goes on to somebody else: they are
    /// generated and paid for. What the provider itself refused is not.
    pub(crate) fn count_unread(&mut self, bytes: usize) {
        if self.failure.is_some() && !self.progress.refused {
            self.progress.received += bytes as u64;
        }
    }

    /// True when the rest of the body does not matter.
    pub fn is_complete(&self) -> bool {
        self.failure.is_some() || self.grammar.is_complete()
    }

    /// The connection broke, or the caller gave up.
    pub fn fail(&mut self, error: ModelError) {
        if self.grammar.stop().is_none() {
            self.failure.get_or_insert(error);
        }
    }

    /// The end of the body: the whole answer, or why there is none.
    pub fn end(mut self) -> Result<Answer, Broken> {
        if !self.is_complete() {
            let (grammar, progress) = (&mut self.grammar, &mut self.progress);
            let ended = self.frames.end(|message| read(grammar, message, progress));
            self.note(ended);
        }
        if let Some(error) = self.failure {
            return Err(self.progress.broken(error));
        }
        match self.grammar.stop() {
            Some(stop) => Ok(self.progress.answer(stop)),
            None => {
                let terminal = self.grammar.terminal();
                Err(self.progress.broken(ModelError::Away {
                    transport: format!("the stream ended without {terminal}"),
                }))
            }
        }
    }

    fn note(&mut self, result: Result<(), Cut<ModelError>>) {
        let error = match result {
            Ok(()) => return,
            Err(Cut::Framing(what)) => ModelError::Malformed { what },
            Err(Cut::Reader(error)) => error,
        };
        self.fail(error);
    }
}

fn read(
    grammar: &mut Box<dyn Grammar>,
    message: &str,
    progress: &mut Progress,
) -> Result<(), ModelError> {
    if grammar.is_complete() {
        return Ok(());
    }
    grammar.read(message, progress)
}

/// A message as a JSON object.
pub(crate) fn object(message: &str) -> Result<Value, ModelError> {
    match serde_json::from_str(message) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => Ok(value),
        Ok(_) => Err(malformed("a message of the stream is no JSON object")),
        Err(error) => Err(malformed(format!(
            "a message of the stream is not JSON: {error}"
        ))),
    }
}

/// An error for an answer that can't be understood.
pub(crate) fn malformed(what: impl Into<String>) -> ModelError {
    ModelError::Malformed { what: what.into() }
}

/// A count of tokens; nothing when it is missing or no count at all.
pub(crate) fn count(value: &Value) -> Option<u64> {
    // Some servers write whole numbers as 12.0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = |number: f64| (0.0..1e15).contains(&number).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

impl Progress {
    /// More text at a place in the answer.
    pub(crate) fn text(&mut self, place: u64, text: &str) {
        if text.is_empty() {
            return;
        }
        self.received += text.len() as u64;
        let empty = || Part::Text(String::new());
        match self.parts.entry(place).or_insert_with(empty) {
            Part::Text(so_far) => so_far.push_str(text),
            other => *other = Part::Text(text.to_owned()),
        }
        self.events.push(Event::Text(text.to_owned()));
    }

    /// The whole text at a place, which may have come in pieces before.
    pub(crate) fn whole_text(&mut self, place: u64, text: &str) {
        let so_far = match self.parts.get(&place) {
            Some(Part::Text(so_far)) => so_far.len(),
            _ => 0,
        };
        if let Some(rest) = text.get(so_far..) {
            self.text(place, rest);
        }
    }

    /// Something that is paid for and not shown: thinking, or the pieces of arguments.
    pub(crate) fn unseen(&mut self, text: &str, is_thinking: bool) {
        self.received += text.len() as u64;
        if is_thinking {
            self.of_it_thinking += text.len() as u64;
        }
    }

    /// A call, complete. An id that is missing or not unique is replaced.
    pub(crate) fn call(&mut self, place: u64, id: &str, name: &str, arguments: Arguments) {
        if matches!(self.parts.get(&place), Some(Part::ToolCall(_))) {
            return;
        }
        let mut unique = id.to_owned();
        for number in 1_u32.. {
            if !unique.is_empty() && self.ids.insert(unique.clone()) {
                break;
            }
            unique = format!("{}{number}", if id.is_empty() { LOCAL } else { id });
        }
        let call = ToolCall {
            id: unique,
            name: name.to_owned(),
            arguments,
        };
        self.parts.insert(place, Part::ToolCall(call.clone()));
        self.events.push(Event::ToolCall(call));
    }

    /// An opaque part, complete.
    pub(crate) fn opaque(&mut self, place: u64, payload: Value) {
        let origin = self.origin.clone();
        let opaque = Opaque { origin, payload };
        self.parts.insert(place, Part::Opaque(opaque.clone()));
        self.events.push(Event::Opaque(opaque));
    }

    /// What the provider says was used until now; a part of what it says later.
    pub(crate) fn usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
        self.events.push(Event::Usage(usage));
    }

    /// Marks the error that is about to be returned as the provider's own.
    pub(crate) fn refused(&mut self) {
        self.refused = true;
    }

    /// Marks the error that is about to be returned as one of chance: the same request may do.
    pub(crate) fn unlucky(&mut self) {
        self.advice = Some(true);
    }

    /// True when a piece of the answer was received.
    pub(crate) fn started(&self) -> bool {
        self.received > 0 || !self.parts.is_empty()
    }

    /// The error that a provider reports inside of a stream.
    pub(crate) fn error(&self, report: Report) -> ModelError {
        report.error(&self.origin.model, &BTreeSet::new())
    }

    /// True when a place is taken.
    pub(crate) fn has(&self, place: u64) -> bool {
        self.parts.contains_key(&place)
    }

    /// The place of more text: the last part if it is text, else the next.
    pub(crate) fn text_place(&self) -> u64 {
        match self.parts.last_key_value() {
            Some((place, Part::Text(_))) => *place,
            _ => self.next_place(),
        }
    }

    /// The first place behind all parts.
    pub(crate) fn next_place(&self) -> u64 {
        self.parts
            .last_key_value()
            .map_or(0, |(place, _)| place + 1)
    }

    fn answer(mut self, stop: Stop) -> Answer {
        let usage = self.settled();
        let cut = matches!(stop, Stop::OutputCut | Stop::ContextFull);
        self.parts.retain(|_, part| match part {
            Part::Text(text) => !text.is_empty(),
            // Arguments that were cut are no mistake of the model's.
            Part::ToolCall(call) => !cut || call.arguments.object().is_ok(),
            Part::Opaque(_) => true,
        });
        let parts: Vec<_> = self.parts.into_values().collect();
        let calls = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
        let stop = match stop {
            Stop::End | Stop::ToolCalls if calls => Stop::ToolCalls,
            Stop::ToolCalls => Stop::End,
            other => other,
        };
        Answer { parts, stop, usage }
    }

    fn broken(self, error: ModelError) -> Broken {
        let mut broken = Broken::new(error);
        broken.started = self.started();
        broken.advice = self.advice;
        let never_began = !broken.started && self.usage.is_none() && self.refused;
        if !never_began {
            let mut usage = self.settled();
            usage.output = usage.output.max(estimate(self.received));
            usage.estimated = true;
            broken.usage_so_far = usage;
        }
        let texts = self.parts.into_values().filter_map(|part| match part {
            Part::Text(text) => Some(text),
            Part::ToolCall(_) | Part::Opaque(_) => None,
        });
        broken.text_so_far = texts.collect();
        broken
    }

    /// What the provider reported, or an estimate where it reported nothing that can be.
    fn settled(&self) -> Usage {
        let mut usage = self.usage.unwrap_or_default();
        let absurd = |tokens: u64| tokens > ABSURD;
        if usage.is_zero() || absurd(usage.prompt()) {
            usage.input = estimate(self.sent);
            (usage.cache_read, usage.cache_write) = (0, 0);
            usage.estimated = true;
        }
        if absurd(usage.output) || (usage.output == 0 && self.received > 0) {
            usage.output = estimate(self.received);
            usage.reasoning = estimate(self.of_it_thinking);
            usage.estimated = true;
        }
        usage.reasoning = usage.reasoning.min(usage.output);
        usage
    }
}

/// An estimate of how many tokens some text is.
const fn estimate(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// What the id of a call begins with when the provider gave it none.
pub(crate) const LOCAL: &str = "local_";

/// The arguments of a call that came as an object.
pub(crate) fn arguments(value: &Value) -> Arguments {
    match value {
        Value::Null => Map::new().into(),
        Value::Object(object) => object.clone().into(),
        Value::String(text) => Arguments::from_text(text.as_str()),
        other => Arguments::from_text(other.to_string()),
    }
}
