//! What a test run said, bound to the tree that was tested.

use std::path::Path;

use patchfleet_domain::TestVerdict;
use serde::{Deserialize, Serialize};

use crate::git::ObjectId;
use crate::process::Finished;

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
}

impl TestResults {
    pub(super) fn new(finished: &Finished, tree: ObjectId) -> Self {
        Self {
            stdout: patchfleet_guard::redact(&finished.stdout_text()).into_owned(),
            stderr: patchfleet_guard::redact(&finished.stderr_text()).into_owned(),
            returncode: finished.returncode.filter(|_| !finished.timed_out),
            duration_ms: u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
            timed_out: finished.timed_out,
            tree,
            is_cut: finished.stdout_dropped + finished.stderr_dropped > 0,
        }
    }

    /// Green: the exit code is 0.
    pub const fn passed(&self) -> bool {
        matches!(self.returncode, Some(0)) && !self.timed_out
    }

    /// The verdict, for the task's outcome.
    pub fn verdict(&self, command: &[String]) -> TestVerdict {
        TestVerdict {
            command: command.to_vec(),
            returncode: self.returncode,
            duration_ms: self.duration_ms,
            timed_out: self.timed_out,
            tree: self.tree.to_string(),
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
