//! `patch`: the draft applied in memory, all of it or nothing.
//!
//! Originals are read from the base commit, never from the work tree, and results stay in memory: no
//! path of a draft is ever opened on disk, so no link can lead it astray. A draft that is refused is
//! an error with a finding per file, which the next round is told.
//!
//! The context keeps the accepted diff and the names of the files. [`accepted`] makes the change of
//! them again, for whatever node needs it, also on another host.

mod apply;
mod base;
pub(crate) mod binary;
pub(crate) mod encoding;
mod files;
mod parse;
pub(crate) mod properties;
mod rules;
mod size;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use patchfleet_domain::FailureKind;
use patchfleet_flow::{Context, Node, NodeCall, NodeError};
use patchfleet_guard::{SecretKind, find_secrets, has_registered_secret};
use patchfleet_repository::RepositoryConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use base::Base;
use files::FileVersions;
pub use files::{PatchedFile, Status};
pub(crate) use rules::{hostile, refusal as path_refusal};
pub use size::ChangeConfig;

use super::NodeDeps;
use super::context::{optional, permanent, required};
use super::finding::{Finding, Source};
use crate::git::{Change, EntryKind};
use parse::{FileDiff, Line};

/// Largest file that a draft may touch, in bytes.
const MAX_FILE: usize = 8 << 20;
/// Most bytes that the files which a draft touches may have together: they are read into memory.
const MAX_READ: u64 = 48 << 20;
/// Most bytes that a diff may take in a message, the lines around its changes included. A checkpoint
/// of it has to fit into one message, and those of all rounds into the one that assigns the task.
pub(super) const MAX_DIFF: usize = 12 << 20;
/// Most bytes of the node's output, which has the diff and the names of its files.
const MAX_OUTPUT: usize = 20 << 20;
/// Most files of a refused draft that are named.
const NAMED: usize = 20;

/// The node.
pub(super) struct Patch(pub(super) Arc<NodeDeps>);

/// Why a file of a draft is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Where; empty when it is about the whole draft.
    pub path: String,
    /// Why.
    pub reason: String,
    /// The head of the hunk that does not fit.
    pub hunk: Option<String>,
}

impl Rejection {
    fn whole(reason: impl Into<String>) -> Self {
        Self::file("", reason)
    }

    fn file(path: &str, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.into(),
            hunk: None,
        }
    }

    fn message(&self) -> String {
        let hunk = self.hunk.as_ref().map(|hunk| format!(", at `{hunk}`"));
        match self.path.as_str() {
            "" => format!("the draft is refused: {}", self.reason),
            path => format!(
                "`{path}` is refused: {}{}",
                self.reason,
                hunk.unwrap_or_default()
            ),
        }
    }
}

#[async_trait]
impl Node for Patch {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let deps = &self.0;
        if let Some(reason) = optional::<String>(call.ctx, "diff.refused")? {
            return Err(refused(Vec::new(), vec![Rejection::whole(reason)]));
        }
        let proposed: String = required(call.ctx, "diff.proposed")?;
        let diffs = match read(&proposed, (&deps.config, deps.change)) {
            Ok(diffs) => diffs,
            Err(rejected) => return Err(refused(Vec::new(), rejected)),
        };
        let (files, mut rejected) = apply_to_base(deps, diffs).await?;
        let applied: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
        if files.is_empty() && rejected.is_empty() {
            rejected.push(Rejection::whole("it changes nothing"));
        }
        if !rejected.is_empty() {
            return Err(refused(applied, rejected));
        }
        let facts: Vec<_> = files.iter().map(FileVersions::facts).collect();
        let output = json!({
            "workspace": { "files": facts },
            "diff": {
                "accepted": proposed,
                "applied": { "applied": applied, "rejected": [] },
            },
            "findings": [],
        });
        match too_much(&output) {
            Some(rejection) => Err(refused(Vec::new(), vec![rejection])),
            None => Ok(output),
        }
    }
}

/// The change of the draft that was accepted last, made again of the base and its diff; empty when
/// there is none yet.
pub(super) async fn accepted(deps: &NodeDeps, ctx: &Context) -> Result<Vec<Change>, NodeError> {
    let diff: Option<String> = optional(ctx, "diff.accepted")?;
    // Checkpoints of earlier releases have the diff in another place.
    let diff = match diff {
        None if ctx.get("workspace.files").is_some() => optional(ctx, "diff.proposed")?,
        diff => diff,
    };
    match diff {
        Some(diff) => changes(deps, &diff).await,
        None => Ok(Vec::new()),
    }
}

/// The changes that a diff against the base is.
pub(super) async fn changes(deps: &NodeDeps, diff: &str) -> Result<Vec<Change>, NodeError> {
    let rejected = |rejections| Err(refused(Vec::new(), rejections));
    let diffs = match parse::parse(diff) {
        Ok(diffs) => diffs,
        Err(error) => return rejected(vec![Rejection::whole(error.to_string())]),
    };
    let (files, rejections) = apply_to_base(deps, diffs).await?;
    if !rejections.is_empty() {
        return rejected(rejections);
    }
    Ok(files.into_iter().map(FileVersions::into_change).collect())
}

/// The files that diffs lead to from the base, and why some are refused.
async fn apply_to_base(
    deps: &NodeDeps,
    diffs: Vec<FileDiff>,
) -> Result<(Vec<FileVersions>, Vec<Rejection>), NodeError> {
    let base = Base::read(deps, &diffs).await?;
    let patched = tokio::task::spawn_blocking(move || base.apply_all(&diffs)).await;
    patched.map_err(|error| {
        let message = format!("applying the draft failed: {error}");
        permanent(FailureKind::Internal, message)
    })
}

/// Reads a draft, and refuses what needs no look at the base.
fn read(
    proposed: &str,
    (config, limits): (&RepositoryConfig, ChangeConfig),
) -> Result<Vec<FileDiff>, Vec<Rejection>> {
    let diffs =
        parse::parse(proposed).map_err(|error| vec![Rejection::whole(error.to_string())])?;
    if let Some(reason) = limits.refusal(&diffs) {
        return Err(vec![Rejection::whole(reason)]);
    }
    let rejected: Vec<_> = diffs
        .iter()
        .filter_map(|diff| refusal(diff, config))
        .collect();
    let double = double(&diffs);
    if rejected.is_empty() && double.is_none() {
        Ok(diffs)
    } else {
        Err(rejected.into_iter().chain(double).collect())
    }
}

/// A path that the draft has in two places, or both as a file and as a folder.
fn double(diffs: &[FileDiff]) -> Option<Rejection> {
    // What goes may be followed by something else in its place.
    let (mut sources, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for diff in diffs {
        let source = diff.old.as_ref().filter(|_| !diff.is_copy);
        let is_double = source.is_some_and(|path| !sources.insert(path))
            || diff.new.as_ref().is_some_and(|path| !targets.insert(path));
        if is_double {
            let reason = "the draft has the file twice";
            return Some(Rejection::file(diff.path(), reason));
        }
    }
    let added: BTreeSet<_> = diffs
        .iter()
        .filter_map(|diff| diff.new.as_deref())
        .collect();
    let below = |path: &&str| {
        path.match_indices('/')
            .any(|(end, _)| added.contains(&path[..end]))
    };
    let path = added.iter().copied().find(below)?;
    Some(Rejection::file(
        path,
        "the draft has one of its folders as a file",
    ))
}

fn refusal(diff: &FileDiff, config: &RepositoryConfig) -> Option<Rejection> {
    let reject = |reason: String| Some(Rejection::file(diff.path(), reason));
    for path in diff.old.iter().chain(&diff.new) {
        if let Some(reason) = rules::refusal(path, config) {
            return Some(Rejection::file(path, reason));
        }
    }
    if diff.is_binary && diff.new.is_some() && (diff.binary.is_none() || diff.ids.is_none()) {
        let reason = "it is no text, and the diff does not have its content as \
                      `git diff --binary --full-index` writes it";
        return reject(reason.to_owned());
    }
    match diff.kind() {
        Ok(Some(EntryKind::Symlink)) => {
            return reject("symbolic links can't be drafted".to_owned());
        }
        Ok(Some(EntryKind::Submodule)) => return reject("submodules can't be drafted".to_owned()),
        Err(reason) => return reject(reason),
        Ok(_) => {}
    }
    let added = diff.hunks.iter().flat_map(|hunk| &hunk.lines);
    let added: String = added
        .filter_map(|line| match line {
            Line::Added(text) => Some(text.as_str()),
            Line::Context(_) | Line::Removed(_) => None,
        })
        .collect();
    secret_in(&added).map(|reason| Rejection::file(diff.path(), reason))
}

fn secret_in(added: &str) -> Option<String> {
    let secret = find_secrets(added).into_iter().next()?;
    let kind = secret.kind.as_str();
    Some(format!("it adds what looks like a secret ({kind})"))
}

/// The file of a diff in which a secret of this process stands, wherever in it.
pub(super) fn holds_registered_secret(diff: &str) -> Option<&str> {
    if !has_registered_secret(diff.as_bytes()) {
        return None;
    }
    let found = find_secrets(diff);
    let found = found.iter().find(|it| it.kind == SecretKind::Registered)?;
    let before = diff[..found.span.start].lines();
    let path = before.rev().find_map(|line| line.strip_prefix("+++ b/"));
    Some(path.unwrap_or("a file"))
}

/// A file that has a registered secret, before or after: what is kept of the change would be
/// masked, and then be another change.
fn with_registered_secret(file: &FileVersions) -> Option<Rejection> {
    let mut texts = file.before.iter().chain(&file.after);
    let found = texts.any(|text| has_registered_secret(text.as_bytes()));
    found.then(|| Rejection::file(&file.path, "it holds a secret of this agent"))
}

fn too_large(file: &FileVersions) -> Option<Rejection> {
    let content = file.after.as_deref();
    let bytes = content.map_or(0, |text| encoding::to_bytes(text).len());
    (bytes > MAX_FILE).then(|| {
        let reason = format!("it would have {bytes} bytes; at most {MAX_FILE} are allowed");
        Rejection::file(&file.path, reason)
    })
}

/// How many bytes a value takes in a message.
fn bytes_in_message(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

/// Why a diff is too long to be kept; nothing when it is not.
pub(super) fn too_long(diff: &str, limits: ChangeConfig) -> Option<String> {
    let bytes = bytes_in_message(&diff);
    (bytes > MAX_DIFF).then(|| {
        let largest = limits.refusal(&parse::parse(diff).unwrap_or_default());
        format!(
            "its diff has {} MiB, the lines around the changes included; at most {} MiB are \
             allowed. Split the issue, or leave generated files out{}",
            bytes.div_ceil(1 << 20),
            MAX_DIFF >> 20,
            largest.map_or_else(String::new, |it| format!("; {it}"))
        )
    })
}

/// A draft whose diff and names of files are too much to be kept.
fn too_much(output: &Value) -> Option<Rejection> {
    let bytes = bytes_in_message(output);
    (bytes > MAX_OUTPUT).then(|| {
        let reason = format!(
            "its diff and the names of its files have {bytes} bytes; at most {MAX_OUTPUT} are \
             allowed. Split the issue"
        );
        Rejection::whole(reason)
    })
}

/// The error of a refused draft. Only the first files are named: a draft may have thousands, and the
/// next round mends them all alike.
fn refused(applied: Vec<String>, mut rejected: Vec<Rejection>) -> NodeError {
    if let Some(more @ 1..) = rejected.len().checked_sub(NAMED) {
        rejected.truncate(NAMED);
        let reason = format!("{more} more of its files are refused");
        rejected.push(Rejection::whole(reason));
    }
    let finding = |rejection: &Rejection| Finding {
        source: Source::Patch,
        code: FailureKind::DiffRejected,
        message: rejection.message(),
    };
    let findings: Vec<_> = rejected.iter().map(finding).collect();
    let messages: Vec<_> = findings
        .iter()
        .map(|finding| finding.message.as_str())
        .collect();
    let error = permanent(FailureKind::DiffRejected, messages.join("\n"));
    error.with_delta(json!({
        "diff": { "applied": { "applied": applied, "rejected": rejected } },
        "findings": findings,
    }))
}

#[cfg(test)]
mod tests;
