//! Bytes of a response body, cut into the messages of its framing. Pure: bytes in, frames out.
//!
//! Invariant: what is kept between two pushes never exceeds [`LONGEST`], whatever a server sends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use sse_stream::SseByteStream;

/// The longest single message. A tool call that writes a large file is one line of the stream.
const LONGEST: usize = 16 * 1024 * 1024;

/// How much is parsed at once, so that a large read can't hide how long one message is.
const SLICE: usize = 64 * 1024;

/// Cuts a body into messages.
pub(crate) enum Frames {
    /// Server-sent events, of which the data matters.
    Events(Events),
    /// JSON values separated by line feeds.
    Lines(Vec<u8>),
}

/// The parser of the crate `sse-stream`, driven by pushes instead of by a task.
pub(crate) struct Events {
    input: Arc<Mutex<VecDeque<Bytes>>>,
    parser: SseByteStream<Feed>,
    /// Bytes since the last event.
    pending: usize,
}

/// The pushed bytes as a stream; empty means that the next push is awaited.
struct Feed(Arc<Mutex<VecDeque<Bytes>>>);

impl Stream for Feed {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut input = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match input.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(bytes))),
            None => Poll::Pending,
        }
    }
}

impl Frames {
    /// Server-sent events.
    pub(crate) fn events() -> Self {
        let input = Arc::new(Mutex::new(VecDeque::new()));
        let parser = SseByteStream::new(Feed(Arc::clone(&input)));
        Self::Events(Events {
            input,
            parser,
            pending: 0,
        })
    }

    /// One JSON value a line.
    pub(crate) const fn lines() -> Self {
        Self::Lines(Vec::new())
    }

    /// Takes bytes; gives the messages that they complete to `each`, until it fails.
    pub(crate) fn push<E>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), Cut<E>> {
        for slice in bytes.chunks(SLICE) {
            match self {
                Self::Events(events) => events.push(slice, &mut each)?,
                Self::Lines(pending) => push_lines(pending, slice, &mut each)?,
            }
        }
        Ok(())
    }

    /// The body came to its end; a last line needs no line feed.
    pub(crate) fn end<E>(
        &mut self,
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), Cut<E>> {
        match self {
            // The end of an event is its empty line; without it a part may be missing.
            Self::Events(_) => Ok(()),
            Self::Lines(pending) => {
                let line = std::mem::take(pending);
                give_line(&line, &mut each)
            }
        }
    }
}

/// Why a body can't be cut any further.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut<E> {
    /// The framing itself is broken.
    Framing(String),
    /// The reader of a message failed.
    Reader(E),
}

impl Events {
    fn push<E>(
        &mut self,
        slice: &[u8],
        each: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), Cut<E>> {
        self.pending += slice.len();
        let bytes = Bytes::copy_from_slice(slice);
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.push_back(bytes);
        drop(input);
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = Pin::new(&mut self.parser).poll_next(&mut context) {
            self.pending = 0;
            match event {
                Some(Ok(event)) => {
                    let data = event.data.unwrap_or_default();
                    if !data.is_empty() {
                        each(&data).map_err(Cut::Reader)?;
                    }
                }
                Some(Err(error)) => return Err(Cut::Framing(error.to_string())),
                None => return Err(Cut::Framing("the event parser has ended".to_owned())),
            }
        }
        bounded(self.pending)
    }
}

fn push_lines<E>(
    pending: &mut Vec<u8>,
    slice: &[u8],
    each: &mut impl FnMut(&str) -> Result<(), E>,
) -> Result<(), Cut<E>> {
    let mut rest = slice;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        pending.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        give_line(pending, each)?;
        pending.clear();
    }
    pending.extend_from_slice(rest);
    bounded(pending.len())
}

fn give_line<E>(line: &[u8], each: &mut impl FnMut(&str) -> Result<(), E>) -> Result<(), Cut<E>> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let line = std::str::from_utf8(line).map_err(|error| Cut::Framing(error.to_string()))?;
    let line = line.trim();
    if line.is_empty() {
        return Ok(());
    }
    each(line).map_err(Cut::Reader)
}

fn bounded<E>(length: usize) -> Result<(), Cut<E>> {
    if length > LONGEST {
        return Err(Cut::Framing(format!(
            "a message is longer than {LONGEST} bytes"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(mut frames: Frames, body: &[u8], at: usize) -> Result<Vec<String>, Cut<()>> {
        let mut messages = Vec::new();
        let mut each = |message: &str| {
            messages.push(message.to_owned());
            Ok(())
        };
        frames.push(&body[..at], &mut each)?;
        frames.push(&body[at..], &mut each)?;
        frames.end(&mut each)?;
        Ok(messages)
    }

    #[test]
    fn events_are_the_same_at_every_split_and_with_every_line_end() {
        let text = "\u{feff}: comment\n\nevent: a\ndata: eins\ndata: zwei ä\n\nid: 7\n\ndata:x\n\n";
        for end in ["\n", "\r\n", "\r"] {
            let body = text.replace('\n', end);
            for at in 0..=body.len() {
                let messages = cut(Frames::events(), body.as_bytes(), at).unwrap();
                assert_eq!(messages, ["eins\nzwei ä", "x"], "split at {at}");
            }
        }
    }

    #[test]
    fn lines_are_the_same_at_every_split_and_the_last_needs_no_end() {
        let body = "{\"a\":\"ä\"}\r\n\n{\"b\":1}".as_bytes();
        for at in 0..=body.len() {
            let messages = cut(Frames::lines(), body, at).unwrap();
            assert_eq!(messages, ["{\"a\":\"ä\"}", "{\"b\":1}"]);
        }
    }

    #[test]
    fn a_message_without_end_is_refused_and_a_large_one_is_not() {
        let large = format!("data: {}\n\n", "x".repeat(1024 * 1024));
        let messages = cut(Frames::events(), large.as_bytes(), 17).unwrap();
        assert_eq!(messages[0].len(), 1024 * 1024);
        let endless = vec![b'x'; LONGEST + 1];
        for frames in [Frames::events(), Frames::lines()] {
            let refused = cut(frames, &endless, 0);
            assert!(matches!(refused, Err(Cut::Framing(_))));
        }
    }

    #[test]
    fn an_event_without_its_empty_line_is_not_given() {
        let messages = cut(Frames::events(), b"data: a\n\ndata: b\n", 3).unwrap();
        assert_eq!(messages, ["a"]);
    }
}
