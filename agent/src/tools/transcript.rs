//! What was said so far, within the model's window.
//!
//! The conversation only grows at its end, so that the provider's cache keeps what is before. When
//! much of it is old output of tools, that is masked in one batch: each result by a line that says
//! what it was and how to see it again. Where that is not enough, a summary takes the place of the old
//! turns ([`compact`]). A call stays with its result (they are one [`Turn`]), and the instructions, the
//! request and what people added to it stay as they are. Absent: asking for summaries, which is the
//! loop's.

mod compact;

use std::collections::BTreeSet;

use patchfleet_model::{Conversation, Message, Tool, ToolResult, Turn, Usage};

/// Old output that is worth breaking the cache for, in tokens.
const WORTH: u64 = 30_000;
/// Newest output that stays, in tokens.
const KEPT: u64 = 50_000;
/// Newest results that stay, whatever their length.
const RESULTS: usize = 10;
/// Those that stay when the window is full.
const LEAST_RESULTS: usize = 2;
/// Shorter results are not worth a mask, in bytes.
const SHORT: usize = 400;
/// The share of the window at which old output is masked, in hundredths.
const FULL: u64 = 60;
/// How much a batch has to take away from a conversation that is too long, in hundredths.
const SHRINK: u64 = 10;

/// A conversation with what is known of its results.
#[derive(Debug)]
pub(super) struct Transcript {
    conversation: Conversation,
    results: Vec<Kept>,
    window: u64,
    /// Tokens of the last request and its answer, as its provider counted them.
    counted: u64,
    /// Bytes that came after it.
    added: usize,
    /// The messages that people wrote, by their places.
    said_by_people: BTreeSet<usize>,
}

/// A result that can be masked.
#[derive(Debug, Clone)]
struct Kept {
    /// Where in the conversation.
    message: usize,
    result: usize,
    call: u32,
    tool: String,
    turn: u32,
    bytes: usize,
}

/// A result, and what is known of it.
pub(super) struct Answered {
    pub(super) result: ToolResult,
    pub(super) tool: String,
    pub(super) call: u32,
}

/// What a batch of masks took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Masked {
    /// The calls whose results are gone.
    pub(super) calls: BTreeSet<u32>,
    /// Bytes before and after.
    pub(super) bytes: (usize, usize),
}

impl Transcript {
    pub(super) fn new(
        (system, tools): (String, Vec<Tool>),
        first: String,
        (window, max_output, cache_key): (u64, u32, String),
    ) -> Self {
        let mut conversation = Conversation::question(system, first, max_output);
        conversation.tools = tools;
        conversation.cache_key = Some(cache_key);
        let added = bytes(&conversation);
        Self {
            conversation,
            results: Vec::new(),
            window,
            counted: 0,
            added,
            said_by_people: BTreeSet::new(),
        }
    }

    /// How random the choice of tokens is.
    pub(super) const fn set_temperature(&mut self, temperature: Option<f64>) {
        self.conversation.sampling.temperature = temperature;
    }

    /// What is sent.
    pub(super) const fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Adds a turn of the model with the results of its calls.
    pub(super) fn turn(&mut self, mut turn: Turn, number: u32, answered: Vec<Answered>) {
        let message = self.conversation.messages.len();
        if self.counted == 0 {
            // Else what the provider counted has the answer in it.
            self.added += serde_json::to_string(&turn.parts).map_or(0, |it| it.len());
        }
        for (result, answered) in answered.into_iter().enumerate() {
            let bytes = answered.result.content.len();
            self.added += bytes;
            self.results.push(Kept {
                message,
                result,
                call: answered.call,
                tool: answered.tool,
                turn: number,
                bytes,
            });
            turn.results.push(answered.result);
        }
        self.conversation.messages.push(Message::Assistant(turn));
    }

    /// Adds what is said to the model.
    pub(super) fn say(&mut self, text: String) {
        self.added += text.len();
        self.conversation.messages.push(Message::User(text));
    }

    /// Adds a comment of a person, which no summary takes the place of.
    pub(super) fn add_comment(&mut self, text: String) {
        self.said_by_people.insert(self.conversation.messages.len());
        self.say(text);
    }

    /// Takes note of what the provider counted.
    pub(super) fn count(&mut self, usage: Usage) {
        if usage.prompt() > 0 {
            self.counted = usage.total();
            self.added = 0;
        }
    }

    /// Tokens of the next request; three bytes make one, where nobody has counted.
    pub(super) fn tokens(&self) -> u64 {
        self.counted + self.added as u64 / 3
    }

    /// True when the next request and its answer do not fit by what is known.
    pub(super) fn is_full(&self) -> bool {
        self.tokens() + u64::from(self.conversation.max_output) > self.window
    }

    /// Masks old output where there is enough of it to be worth a new cache.
    pub(super) fn mask(&mut self) -> Option<Masked> {
        let old = self.old(KEPT.min(self.window / 4), RESULTS);
        let sum: u64 = old.iter().map(|kept| tokens(kept.bytes)).sum();
        let is_tight = self.tokens() * 100 >= self.window * FULL;
        let is_worth = sum >= WORTH || (is_tight && sum * 100 >= self.window * 5);
        (is_worth && !old.is_empty()).then(|| self.hide(&old))
    }

    /// Masks all that can go; nothing when the conversation does not get shorter by a tenth.
    pub(super) fn shrink(&mut self) -> Option<Masked> {
        let old = self.old(0, LEAST_RESULTS);
        let before = bytes(&self.conversation);
        let gone: usize = old
            .iter()
            .map(|kept| kept.bytes.saturating_sub(SHORT))
            .sum();
        let is_enough = gone as u64 * 100 >= before as u64 * SHRINK;
        is_enough.then(|| self.hide(&old))
    }

    /// The results that may go, the newest first.
    fn old(&self, kept: u64, results: usize) -> Vec<Kept> {
        let mut newest = 0;
        let counted = self.results.iter().rev().enumerate();
        let old = counted.filter_map(|(number, it)| {
            newest += tokens(it.bytes);
            let may_go = number >= results && newest > kept && it.bytes > SHORT;
            may_go.then(|| it.clone())
        });
        old.collect()
    }

    fn hide(&mut self, old: &[Kept]) -> Masked {
        let before = bytes(&self.conversation);
        let calls: BTreeSet<u32> = old.iter().map(|kept| kept.call).collect();
        for kept in old {
            if let Some(Message::Assistant(turn)) = self.conversation.messages.get_mut(kept.message)
                && let Some(result) = turn.results.get_mut(kept.result)
            {
                result.content = format!(
                    "[the result of `{}` in turn {} ({} bytes) was taken out to make room; call it \
                     again to see what it says now]",
                    kept.tool, kept.turn, kept.bytes
                );
            }
        }
        self.results.retain(|it| !calls.contains(&it.call));
        let after = bytes(&self.conversation);
        let gone = tokens(before - after);
        self.counted = self.counted.saturating_sub(gone);
        Masked {
            calls,
            bytes: (before, after),
        }
    }
}

/// Tokens that bytes take: an estimate that is rather too low.
const fn tokens(bytes: usize) -> u64 {
    bytes as u64 / 4
}

/// The length of all that is sent.
fn bytes(conversation: &Conversation) -> usize {
    let tools = conversation.tools.iter();
    let tools = tools.map(|it| it.description.len() + it.parameters.to_string().len());
    let messages = conversation.messages.iter().map(bytes_of);
    conversation.system.len() + tools.sum::<usize>() + messages.sum::<usize>()
}

fn bytes_of(message: &Message) -> usize {
    match message {
        Message::User(text) => text.len(),
        Message::Assistant(turn) => {
            let results: usize = turn.results.iter().map(|it| it.content.len()).sum();
            results + serde_json::to_string(&turn.parts).map_or(0, |it| it.len())
        }
    }
}

#[cfg(test)]
mod tests;
