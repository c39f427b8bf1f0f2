//! How an answer looks on the wire without meaning anything else.

use serde::Deserialize;

/// The form of an answer; the default is what the provider sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the script"
)]
pub struct Shape {
    /// How lines end; NDJSON, where a lone CR ends no line, has LF instead.
    pub line_end: LineEnd,
    /// A byte order mark comes first.
    pub bom: bool,
    /// Comments, or empty lines of NDJSON, come between the events.
    pub comments: bool,
    /// The data of an event is on several lines; not of NDJSON.
    pub multi_line: bool,
    /// So many spaces stand inside one event.
    pub padding: usize,
    /// An event of a type that nobody knows comes after the first.
    pub unknown_event: bool,
    /// A block, item, part or field that nobody knows comes with the content.
    pub unknown_block: bool,
    /// The content type, instead of the right one.
    pub content_type: Option<String>,
    /// The body is compressed, whether that was asked for or not.
    pub gzip: bool,
    /// The body comes in small pieces.
    pub drip: Option<Drip>,
    /// How several calls are mixed.
    pub calls: CallShape,
    /// Calls have no ids, as those of older Geminis and Ollamas have none.
    pub without_ids: bool,
    /// What is said of the tokens.
    pub usage: UsageReport,
}

/// The end of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineEnd {
    /// `\n`.
    #[default]
    Lf,
    /// `\r\n`.
    Crlf,
    /// `\r`.
    Cr,
}

impl LineEnd {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::Crlf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

/// Pieces and the time between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    /// The bytes of a piece.
    #[serde(default = "one")]
    pub bytes: usize,
    /// The time before each of them.
    pub milliseconds: u64,
}

fn one() -> usize {
    1
}

/// How several calls come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallShape {
    /// One after the other.
    #[default]
    InOrder,
    /// A piece of each in turn.
    Interleaved,
    /// With numbers that leave some out.
    Gaps,
    /// The first one twice, with one id.
    Duplicated,
    /// Each whole in one piece, and where the protocol allows it together with the end.
    AtOnce,
}

/// What an answer says of its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageReport {
    /// The truth.
    #[default]
    Right,
    /// Nothing.
    Missing,
    /// That there were none.
    Zero,
    /// The truth, twice: a client that adds up counts too much.
    Doubled,
    /// More than anybody can have used.
    Absurd,
}
