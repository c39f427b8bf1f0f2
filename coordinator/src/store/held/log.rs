//! The log of an attempt and its bound: output comes from code that nobody has read.
//!
//! Agents keep the head and the tail of what an attempt prints and leave out the middle. The store
//! does the same with twice as much, whatever the agent does: what comes after the head is numbered in
//! parts, and only the newest of them are kept ([`crate::store::sql`] removes the others). Which part
//! a line is in follows from the volume of the log so far, so nothing has to be read for it.

use patchfleet_domain::AttemptNumber;

use super::{Attempt, Held};

/// Volume of a log's head, in bytes.
const HEAD: u64 = 4 * 1024 * 1024;
/// Volume of a part of what follows the head, in bytes.
const PART: u64 = 128 * 1024;
/// How many of the newest parts are kept: with the line that crosses into the oldest of them they
/// take as much as the head.
const PARTS: u64 = HEAD / PART - 1;
/// What a row takes beside its text: itself and its place in the index.
pub(super) const ROW: u64 = 400;
/// Length of a row's text at the most, in bytes: one may not take the room of many.
const LONGEST: usize = 64 * 1024;

/// A line to be added to a log.
#[derive(Debug)]
pub(in crate::store) struct LogLine {
    pub(in crate::store) attempt: AttemptNumber,
    /// The part of the log that it is in; none in the head.
    pub(in crate::store) part: Option<u64>,
    pub(in crate::store) text: String,
}

/// The parts of a log that are to be removed, with a row in their place that says how many lines
/// were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct LogCut {
    pub(in crate::store) attempt: AttemptNumber,
    /// The newest of them.
    pub(in crate::store) upto: u64,
}

impl Held {
    /// Adds lines to the log of the live attempt.
    pub(super) fn log(&mut self, lines: &[String], dropped: u64) {
        let number = self.task.attempt;
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let before = attempt.log_part();
        let gap = (dropped > 0).then(|| format!("[{dropped} lines were dropped]"));
        for line in gap.into_iter().chain(lines.iter().map(|line| cut(line))) {
            let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
            attempt.log_volume = attempt.log_volume.saturating_add(length + ROW);
            self.changes.logs.push(LogLine {
                attempt: number,
                part: attempt.log_part(),
                text: line,
            });
        }
        let after = attempt.log_part();
        let upto = after.and_then(|part| part.checked_sub(PARTS));
        if let Some(upto) = upto.filter(|upto| *upto > 0 && after > before) {
            self.changes.log_cut = Some(LogCut {
                attempt: number,
                upto,
            });
        }
    }
}

impl Attempt {
    /// The part that the newest line of its log is in; none in the head.
    fn log_part(&self) -> Option<u64> {
        let beyond = self.log_volume.checked_sub(HEAD).filter(|it| *it > 0)?;
        Some(beyond.div_ceil(PART))
    }
}

/// A text as it is kept: what is too long of it is left out, and said to be.
pub(super) fn cut(line: &str) -> String {
    if line.len() <= LONGEST {
        return line.to_owned();
    }
    let kept = &line[..line.floor_char_boundary(LONGEST)];
    format!("{kept} [{} bytes were left out]", line.len() - kept.len())
}
