//! What a test run said, bound to the tree that was tested.

use std::path::Path;

use patchfleet_domain::TestVerdict;
use serde::{Deserialize, Serialize};

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
    /// Wall time.
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
        }
    }

    /// Green: the exit code is 0, and nothing says that no test was run.
    pub fn passed(&self) -> bool {
        // A limit that voids the result has taken the exit code.
        matches!(self.returncode, Some(0)) && !self.timed_out && !self.ran_none()
    }

    /// The runner says that it found no test, which is neither green nor red whatever its exit code.
    pub fn ran_none(&self) -> bool {
        self.returncode.is_some() && none::reports_no_tests(self)
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
        let mut start = output.len().saturating_sub(bytes);
        while !output.is_char_boundary(start) {
            start += 1;
        }
        output[start..].trim_end().to_owned()
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
}
