//! How an isolated run ended: only what process 1 of its namespace reports counts, which is
//! bubblewrap's or, in a container, this very program.
//!
//! The exit code of bubblewrap or of an engine does not do: they have the same ones for faults of
//! their own and for a test that failed.

use serde::Deserialize;

use super::stage::Fault;
use crate::process::Finished;

/// One line of the report: process 1's, or a stage's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(rename = "exit-code")]
    exit_code: Option<i32>,
    fault: Option<Fault>,
}

/// What the report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The command ended with this exit code; above 128, by the signal that is left.
    Ended(i32),
    /// A stage gave up before the command began.
    Fault(Fault),
    /// Nobody says how the command ended.
    Unknown,
}

/// Signals end a command with this and their number, as shells have it.
const BY_SIGNAL: i32 = 128;
/// The last signal that has a name.
const LAST_SIGNAL: i32 = 31;

impl Verdict {
    pub(super) fn read(report: &str) -> Self {
        // Of an array serde would take the items as fields, in their order.
        let lines = report
            .lines()
            .filter(|line| line.trim_start().starts_with('{'));
        let lines: Vec<Line> = lines
            .map(|line| serde_json::from_str(line).unwrap_or_default())
            .collect();
        if let Some(fault) = lines.iter().find_map(|line| line.fault.clone()) {
            return Self::Fault(fault);
        }
        let code = lines.iter().find_map(|line| line.exit_code);
        code.map_or(Self::Unknown, Self::Ended)
    }
}

/// Puts the command's end in the place of whoever ran it.
pub(super) fn put(code: i32, finished: &mut Finished) {
    let signal = code.saturating_sub(BY_SIGNAL);
    let is_signal = (1..=LAST_SIGNAL).contains(&signal);
    finished.returncode = (!is_signal).then_some(code);
    finished.signal = is_signal.then_some(signal);
}

/// How much of a failed run's last words is told.
const WORDS: usize = 600;

/// What whoever isolates said, when it ended without a verdict.
pub(super) fn last_words(finished: &Finished, who: &str) -> String {
    let text = finished.stderr_text();
    let text = text.trim();
    let start = text.len().saturating_sub(WORDS);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at));
    match (text.is_empty(), finished.signal) {
        (false, _) => text[start.unwrap_or_default()..].to_owned(),
        (true, Some(signal)) => format!("{who} was ended by signal {signal}"),
        (true, None) => format!("{who} ended without a word"),
    }
}

/// Puts SIGKILL in the place of whatever end there is: a limit ended the run.
pub(super) fn put_killed(finished: &mut Finished) {
    finished.returncode = None;
    finished.signal = Some(nix::libc::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bubblewraps_own_line_is_a_verdict() {
        let begun = "{ \"child-pid\": 7 }\n";
        assert_eq!(Verdict::read(begun), Verdict::Unknown);
        assert_eq!(Verdict::read(""), Verdict::Unknown);
        assert_eq!(Verdict::read("bwrap: failed"), Verdict::Unknown);
        assert_eq!(Verdict::read("[3]\n"), Verdict::Unknown);
        let ended = format!("{begun}{{ \"exit-code\": 3 }}\n");
        assert_eq!(Verdict::read(&ended), Verdict::Ended(3));
    }

    #[test]
    fn a_stage_that_gave_up_is_not_the_commands_exit_code() {
        let fault = Fault::new("sandbox-init", "Landlock: no");
        let line = serde_json::json!({ "fault": fault });
        let report = format!("{{ \"child-pid\": 7 }}\n{line}\n{{ \"exit-code\": 125 }}\n");
        assert_eq!(Verdict::read(&report), Verdict::Fault(fault));
    }
}
