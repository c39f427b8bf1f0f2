//! The log of an attempt and its bound: output comes from code that nobody has read.
//!
//! Agents keep the head and the tail of what an attempt prints and leave out the middle. The store
//! takes twice as much and drops the rest, whatever the agent does.

use super::{Attempt, Held};

/// Volume of one attempt's log at the most, in bytes.
const MAX_VOLUME: u64 = 8 * 1024 * 1024;
/// What a line takes beside its text: its row and its place in the index.
const LINE: u64 = 400;
/// The last line of a log that was longer.
const FULL: &str = "[the log is full: later lines were left out]";

impl Held {
    /// Adds lines to the log of the live attempt, as far as it has room for them.
    pub(super) fn log(&mut self, lines: &[String], dropped: u64) {
        let number = self.task.attempt;
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let gap = (dropped > 0).then(|| format!("[{dropped} lines were dropped]"));
        for line in gap.into_iter().chain(lines.iter().cloned()) {
            if attempt.log_volume > MAX_VOLUME {
                return;
            }
            let line = if attempt.has_room_for(&line) {
                line
            } else {
                FULL.to_owned()
            };
            self.changes.logs.push((number, line));
        }
    }
}

impl Attempt {
    /// Counts the line in; false when it does not fit, after which nothing does.
    fn has_room_for(&mut self, line: &str) -> bool {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.log_volume = self.log_volume.saturating_add(length.saturating_add(LINE));
        if self.log_volume <= MAX_VOLUME {
            return true;
        }
        self.log_volume = MAX_VOLUME + 1;
        false
    }
}
