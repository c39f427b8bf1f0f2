//! What drafters that edit the work tree share: a work tree at its start, and the change from what
//! it is afterwards.

use patchfleet_guard::has_registered_secret;

use super::{DraftError, DraftSurroundings};
use crate::draft::Drafted;
use crate::git::{Difference, GitError, InstalledFiles, ObjectId, Snapshot};
use crate::nodes::encoding;
use crate::process::OnLine;
use crate::workspace::Workspace;

/// Most changed files of dependencies that are named.
const NAMED: usize = 20;

/// The tree that a round begins with, checked out: the base with what earlier rounds changed.
pub(super) async fn begin(surroundings: &DraftSurroundings<'_>) -> Result<ObjectId, DraftError> {
    let workspace = surroundings.workspace;
    let repository = &workspace.repository;
    let start = repository
        .write_tree(&workspace.base, &surroundings.applied)
        .await?;
    workspace.check_out(&start).await?;
    Ok(start)
}

/// Puts the work tree back to its base, whatever the draft came to.
pub(super) async fn end(
    workspace: &Workspace,
    result: Result<Drafted, DraftError>,
) -> Result<Drafted, DraftError> {
    if let Err(left @ DraftError::Left(_)) = result {
        // Nobody touches what may still change; the workspace goes with the attempt.
        return Err(left);
    }
    let reset = workspace.check_out(&workspace.base).await;
    let drafted = result?;
    reset?;
    Ok(drafted)
}

/// A work tree after a draft.
pub(super) struct Now {
    pub(super) tree: ObjectId,
    /// The unified diff against the base.
    pub(super) diff: String,
}

impl Now {
    /// The diff against the base, when something was changed since the round began.
    pub(super) fn changed_since(&self, start: &ObjectId) -> Option<String> {
        (self.tree != *start && !self.diff.is_empty()).then(|| self.diff.clone())
    }
}

/// What the work tree is now, and how it differs from the base.
pub(super) async fn now(
    workspace: &Workspace,
    installed: InstalledFiles,
    on_line: &OnLine,
) -> Result<Now, DraftError> {
    let repository = &workspace.repository;
    let snapshot = repository.snapshot_beside(installed).await?;
    say_what_is_left_out(&snapshot, on_line);
    let tree = snapshot.tree;
    let diff = difference(workspace, &tree).await?;
    Ok(Now { tree, diff })
}

fn say_what_is_left_out(snapshot: &Snapshot, on_line: &OnLine) {
    for (path, size) in &snapshot.left_out {
        on_line(&format!(
            "left out of the change: `{path}`, a new file of {size} bytes"
        ));
    }
    for path in snapshot.changed_installed.iter().take(NAMED) {
        on_line(&format!(
            "left out of the change: `{path}`, which was changed but is none of the repository's \
             files: the setup phase installed it"
        ));
    }
    if let Some(more @ 1..) = snapshot.changed_installed.len().checked_sub(NAMED) {
        on_line(&format!(
            "left out of the change: {more} more changed files that the setup phase installed"
        ));
    }
}

/// The change as a patch. What is no text is compressed in it, so it is looked through here for what
/// must not leave the agent.
async fn difference(workspace: &Workspace, tree: &ObjectId) -> Result<String, DraftError> {
    let repository = &workspace.repository;
    let base = format!("{}^{{tree}}", workspace.base);
    let base = repository.resolve(&base).await?;
    let base = base.ok_or_else(|| GitError::other("git rev-parse", "the base has no tree"))?;
    let Difference { patch, binaries } = repository.change(&base, tree).await?;
    for (path, id) in binaries {
        let contents = repository.blobs(&[id]).await?;
        if contents.iter().any(|it| has_registered_secret(it)) {
            return Err(DraftError::Secret { path });
        }
    }
    Ok(encoding::to_text(&patch).into_owned())
}
