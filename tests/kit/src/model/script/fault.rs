//! What may go wrong with an answer.

use serde::{Deserialize, Serialize};

/// A fault of one answer. Those with `stream` come after a 200 when they have it set and the
/// request asked for a stream.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Any status, in the provider's form.
    Status {
        /// The status.
        code: u16,
        /// The words.
        message: Option<String>,
        /// What `x-should-retry` says, if it is there.
        should_retry: Option<bool>,
    },
    /// Too many requests.
    RateLimit {
        /// How the client is told to wait.
        #[serde(default)]
        wait: Wait,
        /// The time to wait.
        #[serde(default = "one")]
        seconds: f64,
        /// After a 200.
        #[serde(default)]
        stream: bool,
    },
    /// The account has nothing left; waiting does not help.
    Quota {
        /// After a 200.
        #[serde(default)]
        stream: bool,
    },
    /// The provider is overloaded: 529 at Anthropic, 503 elsewhere.
    Overloaded {
        /// How the client is told to wait.
        #[serde(default)]
        wait: Wait,
        /// The time to wait.
        #[serde(default = "one")]
        seconds: f64,
        /// After a 200.
        #[serde(default)]
        stream: bool,
    },
    /// The provider failed: 500.
    ServerError {
        /// After a 200.
        #[serde(default)]
        stream: bool,
    },
    /// The key is not accepted.
    Unauthorized,
    /// The prompt is longer than the window.
    ContextTooLong {
        /// After a 200.
        #[serde(default)]
        stream: bool,
    },
    /// 502 with a page of HTML, as proxies send it.
    Html,
    /// The connection is reset before anything is answered.
    Reset,
    /// The same, and no connection is accepted for that time.
    RefuseConnections {
        /// For how long.
        seconds: f64,
    },
    /// The answer ends too early.
    Cut {
        /// Where.
        at: CutAt,
        /// The answer ends as a whole one does; otherwise the connection breaks off.
        #[serde(default)]
        clean: bool,
    },
    /// Nothing more comes.
    Stall {
        /// After so many events.
        #[serde(default)]
        after: usize,
        /// But for signs of life: pings, comments, empty lines.
        #[serde(default)]
        pings: bool,
        /// Then it goes on; without it, it never does.
        seconds: Option<f64>,
    },
    /// The JSON of an event breaks off; the events after it are whole.
    BrokenJson {
        /// Which event, from 0.
        #[serde(default = "second")]
        event: usize,
    },
}

fn one() -> f64 {
    1.0
}

fn second() -> usize {
    1
}

impl Fault {
    /// Whether it replaces the answer, so that the turn needs no content.
    pub(crate) fn is_whole(&self) -> bool {
        !matches!(
            self,
            Self::Cut { .. } | Self::Stall { .. } | Self::BrokenJson { .. }
        )
    }

    /// Whether it comes after a 200 and content, if the request asked for a stream.
    pub(crate) fn is_in_stream(&self) -> bool {
        matches!(
            self,
            Self::RateLimit { stream: true, .. }
                | Self::Quota { stream: true }
                | Self::Overloaded { stream: true, .. }
                | Self::ServerError { stream: true }
                | Self::ContextTooLong { stream: true }
        )
    }
}

/// Where an answer is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CutAt {
    /// After so many bytes of the body.
    Bytes(usize),
    /// After so many events.
    Events(usize),
    /// In the middle of the first character that has several bytes.
    InsideCharacter,
}

/// How a client is told to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Not at all.
    #[default]
    None,
    /// `retry-after` in seconds.
    RetryAfter,
    /// `retry-after` as a date.
    RetryAfterDate,
    /// `retry-after-ms`.
    RetryAfterMs,
    /// The provider's own header of when the limit is reset; Gemini and Ollama have none.
    Reset,
    /// `RetryInfo` among the details of the error, as Gemini has it.
    RetryInfo,
    /// In words.
    Message,
}
