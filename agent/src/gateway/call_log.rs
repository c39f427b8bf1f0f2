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
        let line = json!({
            "at": self.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "path": self.path,
            "request": document(&self.request),
            "status": self.status,
            "answer": document(&self.answer),
            "answer_is_cut": self.is_cut,
            "usage": read.usage,
            "error": read.error.as_ref().map(ToString::to_string),
        });
        self.log.write(&patchfleet_guard::redact(&line.to_string()));
    }
}

/// A body: JSON as it is, a stream as its text.
fn document(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}
