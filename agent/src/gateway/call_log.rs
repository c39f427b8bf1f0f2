//! The calls of one draft as a file: a line of JSON for each, with what was asked, what was answered and
//! what it used.
//!
//! Headers are not in it, and secrets are masked as in a log. Invariant: a line is written when its call
//! is settled, so that a draft that breaks off has what it paid for. Absent: reading it again; a draft is
//! repeated by its result.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use patchfleet_guard::redact;
use patchfleet_model::Read;
use serde_json::{Value, json};

/// Most bytes of an answer that are kept.
const MOST_ANSWER: usize = 16 << 20;

/// Where the calls of a draft are written. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct CallLog(Arc<Mutex<File>>);

/// A call that is under way.
pub(super) struct Entry {
    log: CallLog,
    at: DateTime<Utc>,
    path: String,
    request: Bytes,
    status: Option<u16>,
    answer: Vec<u8>,
    is_cut: bool,
}

impl CallLog {
    /// Begins a file that only this user reads; one that is there is written anew.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        Ok(Self(Arc::new(Mutex::new(options.open(path)?))))
    }

    pub(super) fn begin(&self, path: &str, request: Bytes) -> Entry {
        Entry {
            log: self.clone(),
            at: Utc::now(),
            path: path.to_owned(),
            request,
            status: None,
            answer: Vec::new(),
            is_cut: false,
        }
    }

    fn write(&self, line: &str) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!(%error, "a call of a model is not recorded");
        }
    }
}

impl Entry {
    /// The status of the answer.
    pub(super) const fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// A piece of the answer, as its client gets it.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = MOST_ANSWER - self.answer.len();
        self.is_cut |= piece.len() > room;
        self.answer
            .extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// The call is over.
    pub(super) fn end(self, read: &Read) {
        let error = read.error.as_ref().map(ToString::to_string);
        let line = json!({
            "at": self.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "path": self.path,
            "request": document(&self.request),
            "status": self.status,
            "answer": document(&self.answer),
            "answer_is_cut": self.is_cut,
            "usage": read.usage,
            "error": error.map(|it| redact(&it).into_owned()),
        });
        self.log.write(&line.to_string());
    }
}

/// A body without its secrets: JSON as it is, a stream as its text.
///
/// The body is redacted, and not the line: in that it is encoded once more, and a name that stands behind
/// more than one backslash is not recognized.
fn document(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    let text = redact(&text);
    serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_within_json_within_an_event_of_a_stream_is_masked() {
        let secret = "pA9xZ3kQ7vB2mN8w";
        let file = json!({ "password": secret }).to_string();
        let event = format!("data: {}\n\n", json!({ "delta": file }));
        let line = document(event.as_bytes()).to_string();
        assert!(!line.contains(secret), "{line}");
        assert!(line.contains("delta"), "{line}");
    }
}
