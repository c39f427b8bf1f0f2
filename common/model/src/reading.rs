//! What a call used, read from its answer while that passes on to somebody else. Pure.
//!
//! A gateway has the bytes and not the conversation: a stream or a whole document, of a request that
//! another program wrote. It is read by the decoder of its protocol, so that usage and errors mean
//! the same as in a call of our own.

use http::{HeaderMap, StatusCode};

use crate::body::{Kind, page};
use crate::decode::{Decoder, malformed};
use crate::{Broken, ModelError, Protocol, Target, Usage};

/// The longest answer that is one document.
const LONGEST_DOCUMENT: usize = 32 * 1024 * 1024;

/// Reads an answer that is meant for somebody else.
pub struct Reading {
    decoder: Decoder,
    is_lines: bool,
    kind: Kind,
    /// What came before the kind was known; of a document, all of it.
    start: Vec<u8>,
}

/// What an answer came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// What has to be paid for it, in part an estimate where it says so.
    pub usage: Usage,
    /// Why it is no whole answer.
    pub error: Option<ModelError>,
}

impl Target {
    /// Reads the answer to a request of so many bytes, whose status is one of success.
    pub fn reading(&self, sent: usize) -> Reading {
        Reading {
            decoder: self.decoder(sent),
            is_lines: self.protocol == Protocol::Ollama,
            kind: Kind::Unknown,
            start: Vec::new(),
        }
    }

    /// What an answer means whose status is none of success.
    pub fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ModelError {
        crate::client::refusal(status, headers, body, self)
    }
}

impl Reading {
    /// Takes bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.kind == Kind::Stream {
            return self.stream(bytes);
        }
        if self.start.len().saturating_add(bytes.len()) > LONGEST_DOCUMENT {
            let what = format!("a document is longer than {LONGEST_DOCUMENT} bytes");
            self.decoder.fail(malformed(what));
            return;
        }
        self.start.extend_from_slice(bytes);
        if self.kind == Kind::Unknown {
            self.kind = Kind::of(&self.start, self.is_lines);
        }
        if self.kind == Kind::Stream {
            let start = std::mem::take(&mut self.start);
            self.stream(&start);
        }
    }

    /// Reads a stream line by line: what follows a message that can't be read is counted alike however
    /// the network cut the stream.
    fn stream(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            self.decoder.count_unread(line.len());
            self.decoder.push(line);
        }
    }

    /// True when the answer was received as a whole. Of a document only its end tells.
    pub fn is_complete(&self) -> bool {
        self.decoder.is_whole()
    }

    /// The connection broke, or nobody wants the rest.
    pub fn fail(&mut self, error: ModelError) {
        self.decoder.fail(error);
    }

    /// The end of the body.
    pub fn end(mut self) -> Read {
        match self.kind {
            Kind::Html => {
                return Read {
                    usage: Usage::default(),
                    error: Some(malformed(page(&self.start))),
                };
            }
            Kind::Document => self.decoder.document(&self.start),
            Kind::Stream | Kind::Unknown => {}
        }
        match self.decoder.end() {
            Ok(answer) => Read {
                usage: answer.usage,
                error: None,
            },
            Err(broken) => broken.into(),
        }
    }
}

impl From<Broken> for Read {
    fn from(broken: Broken) -> Self {
        Self {
            usage: broken.usage_so_far,
            error: Some(broken.error),
        }
    }
}

#[cfg(test)]
mod tests;
