//! What a test run said, bound to the tree that was tested.

use std::fmt::Write as _;
use std::path::Path;

use patchfleet_domain::TestVerdict;
use serde::{Deserialize, Serialize};

use super::count::Count;
use super::none;
use crate::git::ObjectId;
use crate::sandbox::{Exceeded, Isolation, Ran};

/// `ctx.tests.results`, and `ctx.tests.before`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResults {
    /// The end of standard output, redacted.
    pub stdout: String,
    /// The end of standard error, redacted.
    pub stderr: String,
    /// The exit code; `null` when a signal or the timeout ended it.
    pub returncode: Option<i32>,
    /// How long the run took by the clock on the wall, in milliseconds.
    pub duration_ms: u64,
    /// The timeout ended it.
    pub timed_out: bool,
    /// The git tree that was tested.
    pub tree: ObjectId,
    /// The outputs were longer than what is kept: their beginning is not here.
    #[serde(default)]
    pub is_cut: bool,
    /// The limit that explains how they ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceeded: Option<Exceeded>,
    /// How the run was kept apart; unknown where an earlier release wrote it.
    #[serde(default)]
    pub isolation: Option<Isolation>,
    /// What each command said, where there are several; the rest is about all of them then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<TestPart>,
}

/// What one of several commands said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestPart {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What the command is to the whole.
    pub kind: PartKind,
    /// The exit code; `null` when a signal, a limit or the timeout ended it.
    pub returncode: Option<i32>,
    /// How long the run took by the clock on the wall, in milliseconds.
    pub duration_ms: u64,
    /// The timeout ended it.
    pub timed_out: bool,
    /// The runner says that it found no test.
    pub ran_none: bool,
    /// How many tests were run, when the runner says so.
    pub tests: Option<usize>,
}

/// What one of several commands is to the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// It runs the tests of a language or a folder.
    Tests,
    /// It may as well build what the next one tests.
    Step,
}

impl TestPart {
    pub(super) fn of(results: &TestResults) -> Self {
        Self {
            command: Vec::new(),
            kind: PartKind::Tests,
            returncode: results.returncode,
            duration_ms: results.duration_ms,
            timed_out: results.timed_out,
            ran_none: results.ran_none(),
            tests: Count::read(results).map(|count| count.tests),
        }
    }

    /// Neither green nor without tests.
    pub const fn failed(&self) -> bool {
        !self.ran_none && !matches!(self.returncode, Some(0))
    }

    /// A step that says nothing of tests.
    fn may_be_no_test(&self) -> bool {
        self.kind == PartKind::Step && self.tests.is_none()
    }
}

impl TestResults {
    pub(crate) fn new(ran: Ran, tree: ObjectId) -> Self {
        let isolation = Some(Isolation::from(&ran));
        let Ran {
            finished, exceeded, ..
        } = ran;
        // An exit code of tests that lost a process in the middle says nothing.
        let is_void = finished.timed_out || exceeded.as_ref().is_some_and(Exceeded::voids_result);
        Self {
            stdout: patchfleet_guard::redact(&finished.stdout_text()).into_owned(),
            stderr: patchfleet_guard::redact(&finished.stderr_text()).into_owned(),
            returncode: finished.returncode.filter(|_| !is_void),
            duration_ms: u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
            timed_out: finished.timed_out,
            tree,
            is_cut: finished.stdout_dropped + finished.stderr_dropped > 0,
            exceeded,
            isolation,
            parts: Vec::new(),
        }
    }

    /// The results of several commands as one, of whose outputs the ends are kept, as far as each has
    /// room. It failed as the first of them that did.
    pub(super) fn together(
        runs: Vec<(Vec<String>, Self)>,
        parts: Vec<TestPart>,
        room: usize,
    ) -> Option<Self> {
        let failed = runs.iter().map(|(_, it)| it).find(|it| it.failed());
        let mut whole = failed.or(runs.last().map(|(_, it)| it))?.clone();
        whole.stdout.clear();
        whole.stderr.clear();
        whole.duration_ms = 0;
        for (words, results) in runs {
            for (all, own) in [
                (&mut whole.stdout, &results.stdout),
                (&mut whole.stderr, &results.stderr),
            ] {
                let end = end_of(own, room / 2);
                whole.is_cut |= end.len() < own.len();
                if !end.is_empty() {
                    let _ = writeln!(all, "$ {}\n{end}", words.join(" "));
                }
            }
            whole.duration_ms = whole.duration_ms.saturating_add(results.duration_ms);
            whole.is_cut |= results.is_cut;
        }
        whole.parts = parts;
        Some(whole)
    }

    /// Red: neither green nor without tests.
    pub(super) fn failed(&self) -> bool {
        !self.passed() && !self.ran_none()
    }

    /// Green: the exit code is 0, and nothing says that no test was run.
    pub fn passed(&self) -> bool {
        if self.parts.iter().any(TestPart::failed) {
            return false;
        }
        // A limit that voids the result has taken the exit code.
        let green = matches!(self.returncode, Some(0)) || !self.parts.is_empty();
        green && !self.timed_out && !self.ran_none()
    }

    /// The runner says that it found no test, which is neither green nor red whatever its exit code.
    pub fn ran_none(&self) -> bool {
        if self.parts.is_empty() {
            return self.returncode.is_some() && none::reports_no_tests(self);
        }
        // A build says nothing of tests, and does not stand for those that were not found.
        let mut parts = self.parts.iter();
        parts.any(|part| part.ran_none)
            && self
                .parts
                .iter()
                .all(|part| part.ran_none || (!part.failed() && part.may_be_no_test()))
    }

    /// The parts in which no test was run any more, though there were some before.
    pub fn lost_since(&self, before: &Self) -> Vec<&TestPart> {
        let had_some = |part: &&TestPart| {
            let same = before.parts.iter().find(|it| it.command == part.command);
            part.ran_none && same.is_some_and(|it| !it.ran_none)
        };
        self.parts.iter().filter(had_some).collect()
    }

    /// The limit that left them without a result.
    pub fn void(&self) -> Option<&Exceeded> {
        self.exceeded.as_ref().filter(|it| it.voids_result())
    }

    /// The verdict, for the task's outcome.
    pub fn verdict(&self, command: &[String]) -> TestVerdict {
        TestVerdict {
            command: command.to_vec(),
            returncode: self.returncode,
            duration_ms: self.duration_ms,
            timed_out: self.timed_out,
            tree: self.tree.to_string(),
            ran_none: self.ran_none(),
        }
    }

    /// The end of both outputs, at most so many bytes.
    pub fn tail(&self, bytes: usize) -> String {
        let output = format!("{}{}", self.stdout, self.stderr);
        end_of(&output, bytes).trim_end().to_owned()
    }

    /// Keeps the output beside the work tree, for a look afterwards.
    pub(super) async fn keep(&self, folder: &Path, label: &str) {
        let path = folder.join(format!("{label}.log"));
        let text = format!("{}{}", self.stdout, self.stderr);
        if let Err(error) = tokio::fs::write(&path, text).await {
            tracing::warn!(file = %path.display(), %error, "the tests' output can't be kept");
        }
    }
}

/// The end of a text, at most so many bytes.
fn end_of(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::Finished;
    use crate::sandbox::{Backend, Usage};

    fn ran(exceeded: Option<Exceeded>) -> Ran {
        Ran {
            finished: Finished {
                returncode: Some(0),
                signal: None,
                stdout: Vec::new(),
                stderr: Vec::new(),
                stdout_dropped: 0,
                stderr_dropped: 0,
                duration: Duration::from_secs(1),
                timed_out: false,
            },
            backend: Backend::Namespace,
            usage: Usage::default(),
            exceeded,
            limits_not_enforced: Vec::new(),
        }
    }

    #[test]
    fn exit_code_zero_is_not_passed_when_a_process_was_killed_for_memory() {
        let tree: ObjectId = "1".repeat(40).parse().unwrap();
        assert!(TestResults::new(ran(None), tree.clone()).passed());
        let killed = Exceeded::OutOfMemory {
            kills: 1,
            limit_mib: 64,
        };
        let results = TestResults::new(ran(Some(killed.clone())), tree.clone());
        assert!(!results.passed() && !results.verdict(&[]).passed());
        assert_eq!(results.void(), Some(&killed));
        let text = serde_json::to_string(&results).unwrap();
        assert!(text.contains("out_of_memory"), "{text}");
        assert_eq!(serde_json::from_str::<TestResults>(&text).unwrap(), results);
        // A program that did with fewer processes than it tried to make has a result.
        let refused = Exceeded::TooManyProcesses {
            refused: 1,
            limit: 32,
        };
        assert!(TestResults::new(ran(Some(refused)), tree).passed());
    }

    fn said(stdout: &str, returncode: Option<i32>) -> TestResults {
        TestResults {
            stdout: stdout.to_owned(),
            returncode,
            ..TestResults::new(ran(None), "1".repeat(40).parse().unwrap())
        }
    }

    fn together(kind: PartKind, runs: &[(&str, TestResults)]) -> TestResults {
        let words = |name: &str| vec![name.to_owned()];
        let part = |(name, results): &(&str, TestResults)| TestPart {
            command: words(name),
            kind,
            ..TestPart::of(results)
        };
        let parts = runs.iter().map(part).collect();
        let runs = runs.iter().map(|(name, it)| (words(name), it.clone()));
        TestResults::together(runs.collect(), parts, 1000).unwrap()
    }

    #[test]
    fn several_languages_are_green_together_or_not_at_all() {
        let green = || said("3 passed in 0.1s\n", Some(0));
        let red = || said("1 failed in 0.1s\n", Some(1));
        let none = |code| said("=== no tests ran in 0.01s ===\n", Some(code));
        let cases = [
            (vec![green(), green()], (true, false)),
            (vec![green(), red()], (false, false)),
            (vec![red(), green()], (false, false)),
            (vec![green(), said("", None)], (false, false)),
            (vec![none(5), none(0)], (false, true)),
            (vec![none(5), green()], (true, false)),
            (vec![green(), none(5)], (true, false)),
            (vec![none(5), red()], (false, false)),
        ];
        for (runs, expected) in cases {
            let names = ["a", "b"];
            let runs: Vec<_> = names.into_iter().zip(runs).collect();
            let whole = together(PartKind::Tests, &runs);
            assert_eq!((whole.passed(), whole.ran_none()), expected, "{runs:?}");
            let text = serde_json::to_string(&whole).unwrap();
            assert_eq!(serde_json::from_str::<TestResults>(&text).unwrap(), whole);
        }
        let whole = together(PartKind::Tests, &[("a", green()), ("b", red())]);
        assert_eq!(whole.returncode, Some(1));
        assert!(whole.stdout.contains("$ a\n3 passed") && whole.stdout.contains("$ b\n1 failed"));
    }

    #[test]
    fn a_build_does_not_stand_for_tests_that_were_not_found() {
        let built = said("built\n", Some(0));
        let none = said("=== no tests ran in 0.01s ===\n", Some(5));
        let runs = [("build", built.clone()), ("test", none)];
        assert!(together(PartKind::Step, &runs).ran_none());
        assert!(!together(PartKind::Tests, &runs).ran_none());
        let tested = [("build", built.clone()), ("test", said("ok\n", Some(0)))];
        assert!(together(PartKind::Step, &tested).passed());
        let broken = [("build", said("", Some(2)))];
        assert!(!together(PartKind::Step, &broken).passed());
    }

    #[test]
    fn tests_of_one_language_that_are_not_found_any_more_are_told() {
        let green = said("3 passed in 0.1s\n", Some(0));
        let none = said("=== no tests ran in 0.01s ===\n", Some(5));
        let before = [("a", green.clone()), ("b", green.clone())];
        let before = together(PartKind::Tests, &before);
        let after = together(PartKind::Tests, &[("a", green), ("b", none)]);
        let lost = after.lost_since(&before);
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].command, ["b"]);
        assert!(before.lost_since(&after).is_empty());
    }

    #[test]
    fn long_outputs_of_many_commands_are_cut_to_their_ends() {
        let long = said(&"é".repeat(2000), Some(0));
        let whole = together(PartKind::Tests, &[("a", long.clone()), ("b", long)]);
        assert!(
            whole.is_cut && whole.stdout.len() < 1100,
            "{}",
            whole.stdout.len()
        );
    }
}
