//! How attempts end.

use patchfleet_domain::outcome::{Failure, FailureKind, Outcome, PullRequestRef, TestVerdict};

use super::InvalidMessage;
use crate::v1;

impl From<Outcome> for v1::finished::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::PullRequest {
                pull_request,
                summary,
                tests_before,
                tests_after,
            } => Self::PullRequest(v1::PullRequestOpened {
                number: pull_request.number,
                url: pull_request.url,
                head: pull_request.head,
                head_sha: pull_request.head_sha,
                base: pull_request.base,
                draft: pull_request.draft,
                summary,
                tests_before: tests_before.map(|verdict| (*verdict).into()),
                tests_after: tests_after.map(|verdict| (*verdict).into()),
            }),
            Outcome::Answer { summary } => Self::Answer(v1::Answer { summary }),
            Outcome::Failed(failure) => Self::Failed(v1::Failed {
                host_fault: matches!(
                    failure.kind,
                    FailureKind::HostFault | FailureKind::ModelUnusable
                ),
                kind: kind_on_the_wire(failure.kind).to_string(),
                message: failure.message,
                retryable: failure.retryable,
                discard_checkpoints: failure.discard_checkpoints,
            }),
            Outcome::Cancelled { by_operator } => Self::Cancelled(v1::Cancelled { by_operator }),
        }
    }
}

impl TryFrom<v1::finished::Outcome> for Outcome {
    type Error = InvalidMessage;

    fn try_from(outcome: v1::finished::Outcome) -> Result<Self, InvalidMessage> {
        use v1::finished::Outcome as Wire;
        Ok(match outcome {
            Wire::PullRequest(opened) => pull_request_outcome(opened),
            Wire::Answer(answer) => Self::Answer {
                summary: answer.summary,
            },
            Wire::Failed(failed) => Self::Failed(Failure {
                kind: match FailureKind::read(&failed.kind) {
                    FailureKind::ModelUnusable => FailureKind::ModelUnusable,
                    _ if failed.host_fault => FailureKind::HostFault,
                    kind => kind,
                },
                message: failed.message,
                retryable: failed.retryable,
                discard_checkpoints: failed.discard_checkpoints,
            }),
            Wire::Cancelled(v1::Cancelled { by_operator }) => Self::Cancelled { by_operator },
        })
    }
}

/// The kind that a coordinator which does not know about faults of hosts understands: such a one
/// gives up an attempt whose end it can't read. One that knows them takes every kind that comes with
/// the mark of such a fault, and is not known to it, for one of them.
const fn kind_on_the_wire(kind: FailureKind) -> FailureKind {
    match kind {
        FailureKind::HostFault => FailureKind::Internal,
        other => other,
    }
}

fn pull_request_outcome(opened: v1::PullRequestOpened) -> Outcome {
    Outcome::PullRequest {
        pull_request: Box::new(PullRequestRef {
            number: opened.number,
            url: opened.url,
            head: opened.head,
            head_sha: opened.head_sha,
            base: opened.base,
            draft: opened.draft,
            merged: false,
        }),
        summary: opened.summary,
        tests_before: opened.tests_before.map(|verdict| Box::new(verdict.into())),
        tests_after: opened.tests_after.map(|verdict| Box::new(verdict.into())),
    }
}

impl From<TestVerdict> for v1::TestVerdict {
    fn from(verdict: TestVerdict) -> Self {
        Self {
            command: verdict.command,
            returncode: verdict.returncode,
            duration_ms: verdict.duration_ms,
            timed_out: verdict.timed_out,
            tree: verdict.tree,
            ran_none: verdict.ran_none,
        }
    }
}

impl From<v1::TestVerdict> for TestVerdict {
    fn from(verdict: v1::TestVerdict) -> Self {
        Self {
            command: verdict.command,
            returncode: verdict.returncode,
            duration_ms: verdict.duration_ms,
            timed_out: verdict.timed_out,
            tree: verdict.tree,
            ran_none: verdict.ran_none,
        }
    }
}
