//! What a turn says to a request, before a protocol puts it on the wire.

use sha2::{Digest as _, Sha256};

use super::asked::Asked;
use super::script::{Arguments, Call, CallShape, Shape, Stop, Turn, Usage, UsageReport};
use super::seal;

/// Bytes of a piece of text, at least.
const PIECE: usize = 16;
/// Pieces of a text, about.
const PIECES: usize = 64;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Differs for each request; ids are made of it.
    pub(crate) seed: String,
    pub(crate) model: String,
    pub(crate) thought: Option<Thought>,
    pub(crate) text: Option<String>,
    pub(crate) calls: Vec<CallOut>,
    pub(crate) usage: Usage,
    pub(crate) stop: Stop,
    pub(crate) shape: Shape,
    pub(crate) created: i64,
    /// The client wants reasoning in its sealed form.
    pub(crate) sealed: bool,
    /// The client wants a stream to say what it used.
    pub(crate) stream_usage: bool,
}

/// What the model thought.
#[derive(Debug, Clone)]
pub(crate) struct Thought {
    pub(crate) text: String,
    /// Nobody may read it.
    pub(crate) redacted: bool,
    pub(crate) seed: String,
}

impl Thought {
    /// Its seal, for what the protocol lets the client see of it.
    pub(crate) fn seal(&self, bound: &str) -> String {
        seal::seal(bound, &self.seed)
    }
}

/// A call, as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct CallOut {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: Arguments,
    /// The output limit was reached in the middle of it.
    pub(crate) unfinished: bool,
}

impl CallOut {
    /// The text of its arguments, as far as they came.
    pub(crate) fn text(&self) -> String {
        let mut text = self.arguments.text();
        if self.unfinished {
            let half = text.floor_char_boundary(text.len() / 2);
            text.truncate(half);
        }
        text
    }
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The name of the event, where the protocol has one.
    pub(crate) event: Option<&'static str>,
    /// JSON, or a sentinel.
    pub(crate) data: String,
}

/// Events that belong together: how a block begins, its pieces, how it ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    pub(crate) head: Vec<Frame>,
    pub(crate) pieces: Vec<Frame>,
    pub(crate) tail: Vec<Frame>,
}

impl Answer {
    /// The answer of a turn to a request with that hash.
    pub(crate) fn of(turn: &Turn, asked: &Asked, hash: &str, input: Usage) -> Self {
        let seed = hash[..16].to_owned();
        let stop = turn.stop.unwrap_or(if turn.calls.is_empty() {
            Stop::End
        } else {
            Stop::Calls
        });
        let mut calls: Vec<_> = turn.calls.iter().enumerate().collect();
        if turn.wire.calls == CallShape::Duplicated {
            calls.extend(calls.first().copied());
        }
        let last = calls.len().saturating_sub(1);
        let cut = stop == Stop::MaxTokens;
        let calls = calls.into_iter().enumerate();
        let calls: Vec<_> = calls
            .map(|(place, (number, call))| CallOut {
                id: call_id(call, &seed, number),
                name: call.name.clone(),
                arguments: call.arguments.clone(),
                unfinished: cut && place == last,
            })
            .collect();
        Self {
            usage: turn.usage.unwrap_or_else(|| estimate(turn, asked, input)),
            thought: turn.thinking.as_ref().map(|text| Thought {
                text: text.clone(),
                redacted: turn.redacted,
                seed: seed.clone(),
            }),
            text: turn.text.clone(),
            model: asked.model.clone(),
            shape: turn.wire.clone(),
            created: chrono::Utc::now().timestamp(),
            sealed: asked.sealed,
            stream_usage: asked.stream_usage,
            seed,
            calls,
            stop,
        }
    }

    /// The tokens that the answer says it used.
    pub(crate) fn reported(&self) -> Option<Usage> {
        match self.shape.usage {
            UsageReport::Right | UsageReport::Doubled => Some(self.usage),
            UsageReport::Missing => None,
            UsageReport::Zero => Some(Usage::default()),
            UsageReport::Absurd => Some(Usage {
                input: 1_000_000_000_000_000_000,
                cache_read: 1_000_000_000_000_000_000,
                cache_write: 1_000_000_000_000_000_000,
                output: u64::MAX,
                reasoning: u64::MAX,
            }),
        }
    }

    /// Whether it says so twice.
    pub(crate) fn reports_twice(&self) -> bool {
        self.shape.usage == UsageReport::Doubled
    }

    /// The number that the nth block, item or call has.
    pub(crate) fn number(&self, nth: usize) -> usize {
        match self.shape.calls {
            CallShape::Gaps => nth * 3,
            CallShape::InOrder
            | CallShape::Interleaved
            | CallShape::Duplicated
            | CallShape::AtOnce => nth,
        }
    }

    /// The arguments of a call, in pieces or whole.
    pub(crate) fn argument_pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        match self.shape.calls {
            CallShape::AtOnce => vec![text],
            CallShape::InOrder
            | CallShape::Interleaved
            | CallShape::Gaps
            | CallShape::Duplicated => pieces(text),
        }
    }

    /// The events of several calls, mixed as the shape says.
    pub(crate) fn mix(&self, calls: Vec<Block>) -> Vec<Frame> {
        if self.shape.calls != CallShape::Interleaved {
            let frames = calls.into_iter();
            return frames
                .flat_map(|block| [block.head, block.pieces, block.tail].concat())
                .collect();
        }
        let longest = calls.iter().map(|block| block.pieces.len()).max();
        let mut frames: Vec<_> = calls.iter().flat_map(|block| block.head.clone()).collect();
        for piece in 0..longest.unwrap_or_default() {
            let next = calls.iter().filter_map(|block| block.pieces.get(piece));
            frames.extend(next.cloned());
        }
        frames.extend(calls.into_iter().flat_map(|block| block.tail));
        frames
    }

    /// An id of this answer.
    pub(crate) fn id(&self, prefix: &str, nth: usize) -> String {
        format!("{prefix}{}{nth:02}", self.seed)
    }
}

fn call_id(call: &Call, seed: &str, number: usize) -> String {
    let made = || format!("call_{seed}{number:02}");
    call.id.clone().unwrap_or_else(made)
}

/// Tokens by the simulator's own measure.
fn estimate(turn: &Turn, asked: &Asked, input: Usage) -> Usage {
    let quarter = |text: &str| (text.len() as u64).div_ceil(4);
    let reasoning = turn.thinking.as_deref().map_or(0, quarter);
    let calls = turn.calls.iter();
    let calls: u64 = calls
        .map(|call| quarter(&call.name) + quarter(&call.arguments.text()))
        .sum();
    let output = reasoning + turn.text.as_deref().map_or(0, quarter) + calls;
    let output = output.max(1).min(asked.max_output.unwrap_or(u64::MAX));
    Usage {
        output,
        reasoning: reasoning.min(output),
        ..input
    }
}

/// A text in the pieces that a stream says it in.
pub(crate) fn pieces(text: &str) -> Vec<&str> {
    let size = PIECE.max(text.len() / PIECES);
    let mut rest = text;
    let mut found = Vec::new();
    while !rest.is_empty() {
        // A character is never longer than a piece.
        let (piece, after) = rest.split_at(rest.floor_char_boundary(size));
        found.push(piece);
        rest = after;
    }
    found
}

/// What a request is known by: its path and its JSON, whatever the order of its fields.
pub(crate) fn hash(path: &str, body: &serde_json::Value) -> String {
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    hash.update([0]);
    hash.update(body.to_string().as_bytes());
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_text_and_never_split_a_character() {
        for text in [
            "",
            "a",
            "äöü€😀".repeat(40).as_str(),
            "x".repeat(5000).as_str(),
        ] {
            assert_eq!(pieces(text).concat(), text);
        }
    }
}
