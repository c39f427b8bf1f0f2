//! Putting events on the wire: the form of the bytes, and what goes wrong with them.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;

use super::answer::Frame;
use super::script::{CutAt, Fault, LineEnd, Shape};
use super::wire::{Framing, Wire};

/// How often a sign of life comes while nothing else does.
const PING: Duration = Duration::from_millis(100);

/// What a body does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Send(Bytes),
    Wait(Duration),
    /// Nothing more, until the client goes.
    Forever,
    /// The same again and again, until the client goes.
    Repeat(Bytes, Duration),
    /// The connection breaks off.
    Break,
}

/// The body of a stream.
pub(crate) fn stream(
    wire: &dyn Wire,
    framing: Framing,
    frames: Vec<Frame>,
    shape: &Shape,
    fault: Option<&Fault>,
) -> Vec<Step> {
    let encoder = Encoder { framing, shape };
    let frames = prepared(wire, frames, shape, fault);
    let last = frames.len().saturating_sub(1);
    let mut pieces: Vec<Bytes> = frames
        .iter()
        .enumerate()
        .map(|(nth, frame)| encoder.frame(frame, nth, last))
        .collect();
    if shape.bom
        && let Some(first) = pieces.first_mut()
    {
        *first = [b"\xEF\xBB\xBF", &first[..]].concat().into();
    }
    let ping = match wire.ping() {
        Some(ping) => encoder.plain(&ping),
        None => encoder.nothing(),
    };
    finish(damaged(pieces, fault, ping), shape)
}

/// The body of an answer in one piece.
pub(crate) fn whole(body: String, shape: &Shape, fault: Option<&Fault>) -> Vec<Step> {
    let mut body = body;
    if shape.padding > 0 {
        body.insert_str(1, &" ".repeat(shape.padding));
    }
    if matches!(fault, Some(Fault::BrokenJson { .. })) {
        body.truncate(body.floor_char_boundary(body.len() / 2));
    }
    finish(
        damaged(vec![body.into()], fault, Bytes::from_static(b"\n")),
        shape,
    )
}

/// The events, with those that nobody knows and the one that is broken.
fn prepared(
    wire: &dyn Wire,
    mut frames: Vec<Frame>,
    shape: &Shape,
    fault: Option<&Fault>,
) -> Vec<Frame> {
    if shape.unknown_event {
        frames.insert(1.min(frames.len()), wire.unknown_frame());
    }
    if let Some(Fault::BrokenJson { event }) = fault {
        let last = frames.len().saturating_sub(1);
        if let Some(frame) = frames.get_mut((*event).min(last)) {
            let half = frame.data.floor_char_boundary(frame.data.len() / 2);
            frame.data.truncate(half);
        }
    }
    if shape.padding > 0 {
        let longest = frames.iter_mut().max_by_key(|frame| frame.data.len());
        if let Some(frame) = longest.filter(|frame| frame.data.starts_with('{')) {
            frame.data.insert_str(1, &" ".repeat(shape.padding));
        }
    }
    frames
}

struct Encoder<'a> {
    framing: Framing,
    shape: &'a Shape,
}

impl Encoder<'_> {
    fn frame(&self, frame: &Frame, nth: usize, last: usize) -> Bytes {
        let plain = self.plain(frame);
        let nothing = if self.shape.comments {
            self.nothing()
        } else {
            Bytes::new()
        };
        if self.framing != Framing::Array {
            return [nothing, plain].concat().into();
        }
        let (before, after) = (
            if nth == 0 { "[" } else { ",\r\n" },
            if nth == last { "]" } else { "" },
        );
        [before.as_bytes(), &plain, after.as_bytes()]
            .concat()
            .into()
    }

    fn plain(&self, frame: &Frame) -> Bytes {
        let end = self.end();
        let data = &frame.data;
        match self.framing {
            Framing::Array => data.clone(),
            Framing::Ndjson => format!("{data}{end}"),
            Framing::Sse => {
                let name = frame.event.map(|name| format!("event: {name}{end}"));
                let lines = match data.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
                    Some(inside) if self.shape.multi_line => {
                        format!("data: {{{end}data: {inside}{end}data: }}")
                    }
                    _ => format!("data: {data}"),
                };
                format!("{}{lines}{end}{end}", name.unwrap_or_default())
            }
        }
        .into()
    }

    /// What means nothing.
    fn nothing(&self) -> Bytes {
        let end = self.end();
        match self.framing {
            Framing::Sse => format!(": keep-alive{end}{end}"),
            Framing::Ndjson | Framing::Array => end.to_owned(),
        }
        .into()
    }

    fn end(&self) -> &'static str {
        match (self.framing, self.shape.line_end) {
            (Framing::Ndjson, LineEnd::Cr) => "\n",
            (_, end) => end.text(),
        }
    }
}

/// What is sent when a fault has done its work.
fn damaged(pieces: Vec<Bytes>, fault: Option<&Fault>, ping: Bytes) -> Vec<Step> {
    match fault {
        Some(Fault::Cut { at, clean }) => {
            let mut steps: Vec<_> = cut(pieces, *at).into_iter().map(Step::Send).collect();
            if !clean {
                steps.push(Step::Break);
            }
            steps
        }
        Some(Fault::Stall {
            after,
            pings,
            seconds,
        }) => {
            let mut pieces = pieces.into_iter();
            let mut steps: Vec<_> = pieces.by_ref().take(*after).map(Step::Send).collect();
            let span = seconds.map(|it| Duration::try_from_secs_f64(it).unwrap_or_default());
            match (span, pings) {
                (None, false) => steps.push(Step::Forever),
                (None, true) => steps.push(Step::Repeat(ping, PING)),
                (Some(span), false) => steps.push(Step::Wait(span)),
                (Some(span), true) => {
                    let count = span.as_millis() / PING.as_millis();
                    for _ in 0..count {
                        steps.extend([Step::Wait(PING), Step::Send(ping.clone())]);
                    }
                }
            }
            steps.extend(pieces.map(Step::Send));
            steps
        }
        _ => pieces.into_iter().map(Step::Send).collect(),
    }
}

fn cut(pieces: Vec<Bytes>, at: CutAt) -> Vec<Bytes> {
    let limit = match at {
        CutAt::Events(count) => return pieces.into_iter().take(count).collect(),
        CutAt::Bytes(count) => count,
        CutAt::InsideCharacter => {
            let all = pieces.concat();
            // The byte order mark is no character of the text.
            let start = if all.starts_with(b"\xEF\xBB\xBF") {
                3
            } else {
                0
            };
            let found = all[start..].iter().position(|byte| !byte.is_ascii());
            found.map_or(all.len(), |found| start + found + 1)
        }
    };
    let mut left = limit;
    let mut kept = Vec::new();
    for piece in pieces {
        let part = piece.slice(..left.min(piece.len()));
        left -= part.len();
        kept.push(part);
        if left == 0 {
            break;
        }
    }
    kept
}

/// Compresses and divides what is sent.
fn finish(steps: Vec<Step>, shape: &Shape) -> Vec<Step> {
    let steps = if shape.gzip { compressed(steps) } else { steps };
    let Some(drip) = shape.drip else {
        return steps;
    };
    let wait = Step::Wait(Duration::from_millis(drip.milliseconds));
    let mut dripped = Vec::new();
    for step in steps {
        let Step::Send(bytes) = &step else {
            dripped.push(step);
            continue;
        };
        for piece in bytes.chunks(drip.bytes.max(1)) {
            if drip.milliseconds > 0 {
                dripped.push(wait.clone());
            }
            dripped.push(Step::Send(Bytes::copy_from_slice(piece)));
        }
    }
    dripped
}

/// One stream of gzip, flushed where a piece ends, so that a client can read it as it comes.
fn compressed(steps: Vec<Step>) -> Vec<Step> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut out = Vec::new();
    let broken = steps.contains(&Step::Break);
    for step in steps {
        let Step::Send(bytes) = step else {
            out.push(step);
            continue;
        };
        // Writing into memory can't fail.
        let _ = encoder.write_all(&bytes).and_then(|()| encoder.flush());
        out.push(Step::Send(std::mem::take(encoder.get_mut()).into()));
    }
    if !broken && let Ok(rest) = encoder.finish() {
        out.push(Step::Send(rest.into()));
    }
    out
}
