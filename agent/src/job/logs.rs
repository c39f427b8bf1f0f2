//! An attempt's output on its way to the coordinator: in batches, and bounded as a whole.
//!
//! The output is that of a repository's own code and may be endless. The first lines go as they
//! come, the last ones at the end, and what is between them is counted.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::nodes::TaskLog;
use crate::session::reporter::Reporter;

/// Lines that go in one message.
const BATCH: usize = 128;
/// How long to collect lines before they go.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the last lines may take after the work; only a writer that outlives it needs that.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How many lines of an attempt go as they come, and as many at the end.
const LINES: usize = 5_000;
/// How many bytes of an attempt go as they come, and as many at the end.
const BYTES: usize = 2 << 20;

/// Hands lines on until the log's last writer is gone, or soon after the work is.
pub(super) async fn pump(
    mut received: mpsc::Receiver<String>,
    (log, reporter): (TaskLog, Reporter),
    worked: CancellationToken,
) {
    // Our own writer would keep the channel open; only its count of dropped lines is wanted.
    let count = log.into_count();
    let mut bounded = Bounded::new(LINES, BYTES);
    let end = async {
        worked.cancelled().await;
        tokio::time::sleep(LAST_LINES).await;
    };
    tokio::pin!(end);
    let mut lines = Vec::new();
    loop {
        tokio::select! {
            received = received.recv_many(&mut lines, BATCH) => if received == 0 { break },
            () = &mut end => break,
        }
        tokio::time::sleep(PAUSE).await;
        while lines.len() < BATCH {
            let Ok(line) = received.try_recv() else { break };
            lines.push(line);
        }
        let batch: Vec<_> = lines
            .drain(..)
            .filter_map(|line| bounded.admit(line))
            .collect();
        let dropped = count.take();
        if !batch.is_empty() || dropped > 0 {
            reporter.log(&batch, dropped);
        }
    }
    let rest: Vec<_> = bounded.rest().collect();
    for batch in rest.chunks(BATCH) {
        reporter.log(batch, count.take());
    }
}

/// The beginning and the end of a log.
struct Bounded {
    /// What may still go at once.
    head: Room,
    /// What the end may be.
    tail: Room,
    last: VecDeque<String>,
    omitted: u64,
}

/// How much there is room for.
struct Room {
    lines: usize,
    bytes: usize,
}

impl Room {
    /// Takes room for a line; false when there is none.
    fn take(&mut self, line: &str) -> bool {
        let (Some(lines), Some(bytes)) = (
            self.lines.checked_sub(1),
            self.bytes.checked_sub(line.len()),
        ) else {
            return false;
        };
        (self.lines, self.bytes) = (lines, bytes);
        true
    }

    fn give_back(&mut self, line: &str) {
        self.lines += 1;
        self.bytes += line.len();
    }
}

impl Bounded {
    fn new(lines: usize, bytes: usize) -> Self {
        Self {
            head: Room { lines, bytes },
            // The line that tells how much is left out needs room as well.
            tail: Room {
                lines: lines.saturating_sub(1),
                bytes,
            },
            last: VecDeque::new(),
            omitted: 0,
        }
    }

    /// Takes a line; gives it back when it may go at once.
    fn admit(&mut self, line: String) -> Option<String> {
        if self.last.is_empty() && self.omitted == 0 && self.head.take(&line) {
            return Some(line);
        }
        while !self.tail.take(&line) {
            self.omitted += 1;
            let Some(oldest) = self.last.pop_front() else {
                // Longer than the whole end.
                return None;
            };
            self.tail.give_back(&oldest);
        }
        self.last.push_back(line);
        None
    }

    /// What goes at the end.
    fn rest(self) -> impl Iterator<Item = String> {
        let omitted = (self.omitted > 0).then(|| {
            format!(
                "[{} lines were left out here: the log of an attempt is bounded]",
                self.omitted
            )
        });
        omitted.into_iter().chain(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through(bounded: Bounded, lines: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut bounded = bounded;
        let mut passed: Vec<_> = lines
            .into_iter()
            .filter_map(|line| bounded.admit(line))
            .collect();
        passed.extend(bounded.rest());
        passed
    }

    #[test]
    fn an_endless_output_leaves_its_beginning_its_end_and_the_count_of_the_rest() {
        let lines = (0..1_000_000).map(|number| format!("line {number}"));
        let passed = through(Bounded::new(LINES, BYTES), lines);
        assert!(passed.len() <= 2 * LINES);
        assert_eq!(passed[LINES - 1], "line 4999");
        assert_eq!(
            passed[LINES],
            "[990001 lines were left out here: the log of an attempt is bounded]"
        );
        assert_eq!(passed.last().unwrap(), "line 999999");
    }

    #[test]
    fn long_lines_are_bounded_by_bytes() {
        let lines = (0..10_000).map(|_| "x".repeat(4096));
        let passed = through(Bounded::new(LINES, BYTES), lines);
        let bytes: usize = passed.iter().map(String::len).sum();
        assert!(bytes <= 2 * BYTES + 100, "{bytes}");
    }

    proptest! {
        #[test]
        fn no_line_is_lost_without_being_counted(
            lines in prop::collection::vec("[a-z]{0,6}", 0..60), most in 1_usize..12, bytes in 1_usize..60,
        ) {
            let count = lines.len();
            let mut bounded = Bounded::new(most, bytes);
            let head: Vec<_> = lines.iter().cloned().filter_map(|line| bounded.admit(line)).collect();
            let omitted = usize::try_from(bounded.omitted).unwrap();
            let tail: Vec<_> = bounded.last.iter().cloned().collect();
            prop_assert_eq!(head.len() + omitted + tail.len(), count);
            prop_assert_eq!(&lines[..head.len()], &head[..]);
            prop_assert_eq!(&lines[count - tail.len()..], &tail[..]);
        }
    }
}
