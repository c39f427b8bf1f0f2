//! Reading the context with types, and node errors with failure words.

use patchfleet_domain::FailureKind;
use patchfleet_domain::outcome::Failure;
use patchfleet_flow::{Context, NodeError};
use serde::de::DeserializeOwned;

use crate::git::GitError;

/// An error that trying again won't mend.
pub(super) fn permanent(kind: FailureKind, message: impl Into<String>) -> NodeError {
    NodeError::permanent(kind.as_str(), message)
}

/// An error of this failure.
pub(super) fn failed(failure: Failure) -> NodeError {
    let transient = failure.retryable
        && matches!(
            failure.kind,
            FailureKind::RemoteUnavailable
                | FailureKind::PullRequestRefused
                | FailureKind::PushRefused
                | FailureKind::CloneFailed
        );
    NodeError {
        // Only what may pass without anybody's doing is tried again within the node.
        retryable: transient,
        ..permanent(failure.kind, failure.message)
    }
}

/// An error of git.
pub(super) fn git(error: GitError) -> NodeError {
    failed(error.into_failure())
}

/// What stands at a path, as a type; `None` when there is nothing or `null`.
pub(super) fn optional<T: DeserializeOwned>(
    ctx: &Context,
    path: &str,
) -> Result<Option<T>, NodeError> {
    match ctx.get(path) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(value) => T::deserialize(value).map(Some).map_err(|error| {
            let message = format!("`ctx.{path}` is not what it should be: {error}");
            permanent(FailureKind::Internal, message)
        }),
    }
}

/// What stands at a path, as a type.
pub(super) fn required<T: DeserializeOwned>(ctx: &Context, path: &str) -> Result<T, NodeError> {
    optional(ctx, path)?.ok_or_else(|| {
        let message = format!("`ctx.{path}` is missing; an earlier node has to provide it");
        permanent(FailureKind::Internal, message)
    })
}
