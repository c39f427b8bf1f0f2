//! How an attempt ended, in types that a person and a program can both read.

use serde::{Deserialize, Serialize};

use crate::state::words;

words! {
    /// What went wrong. The word is stable: it stands in comments, rows and metrics.
    FailureKind: "failure kind", unknown Unknown {
        /// The repository can't be cloned or fetched.
        CloneFailed = "clone_failed",
        /// The repository has what can't be checked out or worked on, such as a name that is too long.
        RepositoryUnusable = "repository_unusable",
        /// `.patchfleet.yaml` can't be used.
        BadRepositoryConfiguration = "bad_repository_configuration",
        /// The dependencies can't be installed.
        SetupFailed = "setup_failed",
        /// No draft could be had.
        DraftFailed = "draft_failed",
        /// The draft does not apply, or touches what it must not.
        DiffRejected = "diff_rejected",
        /// The test command does not exist or is not allowed.
        TestCommandInvalid = "test_command_invalid",
        /// The tests are red after all rounds.
        TestsFailed = "tests_failed",
        /// The tests ran out of time after all rounds.
        TestsTimedOut = "tests_timed_out",
        /// The tests used up the memory or the disk of their sandbox after all rounds.
        TestsOverLimit = "tests_over_limit",
        /// The review by a model refuses the change after all rounds.
        ReviewRefused = "review_refused",
        /// What a step of the work produced is more than one message to the coordinator may have.
        ResultTooLarge = "result_too_large",
        /// GitHub refused the push.
        PushRefused = "push_refused",
        /// GitHub refused the pull request.
        PullRequestRefused = "pull_request_refused",
        /// The base branch moved and the change no longer fits.
        BaseMoved = "base_moved",
        /// A remote did not answer.
        RemoteUnavailable = "remote_unavailable",
        /// The agent was lost and attempts are spent.
        AgentLost = "agent_lost",
        /// The pull request was closed without a merge.
        PullRequestClosed = "pull_request_closed",
        /// The task waits for itself, by way of others.
        DependencyCycle = "dependency_cycle",
        /// A task that has to be done first failed or was called off.
        DependencyFailed = "dependency_failed",
        /// The task's budget is spent; the work so far is kept until a person allows more.
        BudgetSpent = "budget_spent",
        /// A budget that is one for each day is spent; the work so far is kept until the next day.
        DailyBudgetSpent = "daily_budget_spent",
        /// The agent is draining or was told to stop.
        Interrupted = "interrupted",
        /// The agent's host can't do any work: a tool, git or the disk is missing or broken. Says
        /// nothing about the task, which goes on elsewhere and uncounted.
        HostFault = "host_fault",
        /// The agent's model can't be used as it is configured: its provider refuses the key, the name
        /// or the account, or the model can't do what is asked of it. Says nothing about the task,
        /// which goes on elsewhere and uncounted, or waits until the operator has mended it.
        ModelUnusable = "model_unusable",
        /// Anything else; the log has the details.
        Internal = "internal",
        /// A kind of a newer version.
        Unknown = "unknown",
    }
}

impl FailureKind {
    /// True when the failure says nothing about the task: the attempt does not count, and the task
    /// is given to an agent again.
    pub const fn is_return(self) -> bool {
        matches!(
            self,
            Self::Interrupted | Self::HostFault | Self::ModelUnusable
        )
    }

    /// True when the task goes on where it stopped as soon as a budget allows it.
    pub const fn is_budget(self) -> bool {
        matches!(self, Self::BudgetSpent | Self::DailyBudgetSpent)
    }
}

/// A failure, told to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// What exactly, where; free of secrets.
    pub message: String,
    /// True when another attempt may succeed without a person.
    pub retryable: bool,
    /// True when what was checkpointed must not be used again, because it led here.
    pub discard_checkpoints: bool,
}

impl FailureKind {
    /// What a maintainer can do about it, in one sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::CloneFailed => {
                "Check that the repository exists and that Patchfleet may read it, then comment `/patchfleet retry`."
            }
            Self::RepositoryUnusable => {
                "Mend what is named on the default branch, then comment `/patchfleet retry`."
            }
            Self::BadRepositoryConfiguration => {
                "Mend `.patchfleet.yaml` on the default branch, then comment `/patchfleet retry`."
            }
            Self::SetupFailed => {
                "Mend `setup` and `network` in `.patchfleet.yaml` (`setup: []` installs nothing), or have the operator allow the hosts that were refused, then comment `/patchfleet retry`."
            }
            Self::DraftFailed => {
                "Say more in the issue, or check the agent's draft command, then comment `/patchfleet retry`."
            }
            Self::DiffRejected => {
                "Narrow the request, or widen `allowed_paths` in `.patchfleet.yaml`, then comment `/patchfleet retry`."
            }
            Self::TestCommandInvalid => {
                "Set `test` in `.patchfleet.yaml` to a program that exists on the agent, then comment `/patchfleet retry`."
            }
            Self::TestsFailed => {
                "Look at the failing tests below; add what the agent could not know, then comment `/patchfleet retry`."
            }
            Self::TestsTimedOut => {
                "Make the tests faster or raise `test_timeout` in `.patchfleet.yaml`, then comment `/patchfleet retry`."
            }
            Self::TestsOverLimit => {
                "Have the tests use less memory or disk (fewer at a time, smaller data), or ask the operator to raise the agent's limit that is named, then comment `/patchfleet retry`."
            }
            Self::ReviewRefused => {
                "Read what the review found below, say in the issue what is wanted, then comment `/patchfleet retry`."
            }
            Self::ResultTooLarge => {
                "Split the request into smaller ones, or take generated and very large files out of it, then comment `/patchfleet retry`."
            }
            Self::PushRefused => {
                "Allow Patchfleet to push branches `patchfleet/*` (branch protection, token scope), then comment `/patchfleet retry`."
            }
            Self::PullRequestRefused => {
                "Allow Patchfleet to open pull requests, then comment `/patchfleet retry`."
            }
            Self::BaseMoved => "Comment `/patchfleet retry` to start from the new base.",
            Self::RemoteUnavailable => "Comment `/patchfleet retry` when the service is back.",
            Self::AgentLost | Self::Internal | Self::Unknown => {
                "The operator's log has the details; comment `/patchfleet retry` to try again."
            }
            Self::PullRequestClosed => {
                "Open the pull request again to go on with it, or comment `/patchfleet retry` for another try."
            }
            Self::DependencyCycle => {
                "Remove one of the `depends on` lines and comment `/patchfleet run`, or comment `/patchfleet retry` to go ahead without waiting."
            }
            Self::DependencyFailed => {
                "Comment `/patchfleet run` once the other issue is done, or without its `depends on` line."
            }
            Self::BudgetSpent => {
                "Comment `/patchfleet approve --budget 5` to let the task spend that many dollars more; it continues where it stopped."
            }
            Self::DailyBudgetSpent => {
                "It continues by itself when the next day (UTC) begins, or with `/patchfleet retry` once the operator has raised `[coordinator.budgets]`."
            }
            Self::Interrupted => "It continues by itself.",
            Self::HostFault => {
                "The operator has to mend the agent's host; the task continues by itself."
            }
            Self::ModelUnusable => {
                "The operator has to mend the agent's model as is said below; the task continues by itself."
            }
        }
    }
}

/// The pull request that a task led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestRef {
    /// Its number.
    pub number: u64,
    /// Where people see it.
    pub url: String,
    /// The branch with the change.
    pub head: String,
    /// The commit at its head.
    pub head_sha: String,
    /// The branch it goes into.
    pub base: String,
    /// Opened as a draft.
    pub draft: bool,
    /// Merged.
    pub merged: bool,
}

/// What the tests said, bound to the tree that was tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestVerdict {
    /// The command, as words.
    pub command: Vec<String>,
    /// Its exit code; `None` when a signal or the timeout ended it.
    pub returncode: Option<i32>,
    /// Wall time.
    pub duration_ms: u64,
    /// The timeout ended it.
    pub timed_out: bool,
    /// Hash of the git tree that was tested.
    pub tree: String,
    /// The runner says that it found no test, which is neither green nor red.
    #[serde(default)]
    pub ran_none: bool,
}

impl TestVerdict {
    /// Green: the exit code is 0, and nothing says that no test was run.
    pub const fn passed(&self) -> bool {
        matches!(self.returncode, Some(0)) && !self.timed_out && !self.ran_none
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// A pull request is open.
    PullRequest {
        /// Which.
        pull_request: Box<PullRequestRef>,
        /// What was done, Markdown.
        summary: String,
        /// The tests before the change; `None` when the repository has none.
        tests_before: Option<Box<TestVerdict>>,
        /// The tests after it.
        tests_after: Option<Box<TestVerdict>>,
    },
    /// Work without pull request is done.
    Answer {
        /// The result, Markdown.
        summary: String,
    },
    /// It did not work.
    Failed(Failure),
    /// It was called off, as asked.
    Cancelled {
        /// An operator asked for it at the agent; otherwise the coordinator did.
        #[serde(default)]
        by_operator: bool,
    },
}

impl Outcome {
    /// The word for histories and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::PullRequest { .. } => "pull_request",
            Self::Answer { .. } => "answer",
            Self::Failed(_) => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// The texts that people read in it: the reason of a failure, or the summary and the words of
    /// the tests' command.
    pub fn texts_mut(&mut self) -> Vec<&mut String> {
        match self {
            Self::PullRequest {
                summary,
                tests_before,
                tests_after,
                ..
            } => {
                let tests = [tests_before, tests_after].into_iter().flatten();
                let words = tests.flat_map(|tests| &mut tests.command);
                std::iter::once(summary).chain(words).collect()
            }
            Self::Answer { summary } => vec![summary],
            Self::Failed(failure) => vec![&mut failure.message],
            Self::Cancelled { .. } => Vec::new(),
        }
    }
}
