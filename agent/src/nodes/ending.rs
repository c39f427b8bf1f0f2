//! How a run of the flow ends, in the domain's terms.

use patchfleet_domain::outcome::{Failure, Outcome};
use patchfleet_domain::{FailureKind, PullRequestRef, TestVerdict};
use patchfleet_flow::{Checkpoint, Context, NodeError, RunError};

use super::context::{optional, required};
use super::finding::Finding;
use super::test::TestResults;
use crate::git::ObjectId;
use crate::setup::SetupReport;

/// The commit that an earlier attempt began with: a later one that uses its checkpoints has to
/// begin with the same.
pub fn pinned_base(checkpoints: &[Checkpoint]) -> Option<ObjectId> {
    let mut ctx = Context::default();
    for checkpoint in checkpoints.iter().filter(|it| it.node == "inspect") {
        ctx.merge(&checkpoint.delta);
    }
    optional(&ctx, "workspace.base_sha").ok().flatten()
}

/// The outcome of a run that came to its end.
///
/// # Errors
/// A failure when the context lacks the pull request, which only a different flow can bring about.
pub fn outcome(ctx: &Context) -> Result<Outcome, Failure> {
    let pull_request: Result<PullRequestRef, _> = required(ctx, "publish.pull_request");
    let pull_request = pull_request.map_err(|error| of_node("publish", &error))?;
    let command: Vec<String> = optional(ctx, "tests.command")
        .ok()
        .flatten()
        .unwrap_or_default();
    let verdict = |path: &str| -> Option<Box<TestVerdict>> {
        let results: Option<TestResults> = optional(ctx, path).ok().flatten();
        results.map(|results| Box::new(results.verdict(&command)))
    };
    let report = ctx.text("summary.report").or(ctx.text("publish.summary"));
    Ok(Outcome::PullRequest {
        pull_request: Box::new(pull_request),
        summary: report
            .unwrap_or("The change is in the pull request.")
            .to_owned(),
        tests_before: verdict("tests.before"),
        tests_after: verdict("tests.results"),
    })
}

/// The failure of a run that did not come to its end; `None` when it was called off.
pub fn failure(error: &RunError) -> Option<Failure> {
    match error {
        RunError::Node { node, error, .. } => Some(of_node(node, error)),
        RunError::RoundsExhausted { rounds, ctx, .. } => Some(after_last_round(ctx, *rounds)),
        RunError::Cancelled => None,
        RunError::UnknownKind { .. } => Some(of_kind(FailureKind::Internal, error.to_string())),
    }
}

fn after_last_round(ctx: &Context, rounds: u32) -> Failure {
    let findings: Vec<Finding> = optional(ctx, "findings").ok().flatten().unwrap_or_default();
    let kind = findings
        .first()
        .map_or(FailureKind::Internal, |finding| finding.code);
    let messages: Vec<_> = findings
        .into_iter()
        .map(|finding| finding.message)
        .collect();
    let mut message = format!("after {rounds} rounds: {}", messages.join("\n"));
    let setup: Option<SetupReport> = optional(ctx, "setup").ok().flatten();
    if let Some(missing) = setup.and_then(|setup| setup.missing()) {
        message = format!("{message}\n{missing}");
    }
    of_kind(kind, message)
}

fn of_node(node: &str, error: &NodeError) -> Failure {
    let kind = error
        .code
        .parse()
        .unwrap_or(match (node, error.code.as_str()) {
            ("draft", _) => FailureKind::DraftFailed,
            ("test", "timeout") => FailureKind::TestsTimedOut,
            ("publish", "timeout") => FailureKind::RemoteUnavailable,
            _ => FailureKind::Internal,
        });
    let mut failure = of_kind(kind, error.message.clone());
    failure.retryable |= error.retryable;
    failure
}

fn of_kind(kind: FailureKind, message: String) -> Failure {
    let retryable = matches!(
        kind,
        FailureKind::BaseMoved
            | FailureKind::RemoteUnavailable
            | FailureKind::AgentLost
            | FailureKind::Interrupted
            | FailureKind::HostFault
            | FailureKind::Internal
    );
    // What led to these must not be used again: a retry begins with a fresh base and draft.
    let discard_checkpoints = matches!(
        kind,
        FailureKind::BaseMoved
            | FailureKind::RepositoryUnusable
            | FailureKind::BadRepositoryConfiguration
            | FailureKind::SetupFailed
            | FailureKind::DraftFailed
            | FailureKind::DiffRejected
            | FailureKind::ResultTooLarge
            | FailureKind::TestCommandInvalid
            | FailureKind::TestsFailed
            | FailureKind::TestsTimedOut
            | FailureKind::TestsOverLimit
            | FailureKind::ReviewRefused
    );
    Failure {
        kind,
        message: patchfleet_guard::redact(&message).into_owned(),
        retryable,
        discard_checkpoints,
    }
}
