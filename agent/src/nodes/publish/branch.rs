//! Where base and branch stand on the remote.

use patchfleet_domain::FailureKind;
use patchfleet_flow::NodeError;

use super::Candidate;
use super::pull_request::TASK_TRAILER;
use crate::git::{ObjectId, Remote};
use crate::nodes::NodeDeps;
use crate::nodes::context::{git, permanent};

/// What the remote has; all of it fetched.
pub(super) struct Standing {
    /// The branch that the change goes into.
    pub(super) base_branch: String,
    pub(super) base: ObjectId,
    pub(super) head: Option<ObjectId>,
}

impl Standing {
    pub(super) async fn look(deps: &NodeDeps, remote: &Remote) -> Result<Self, NodeError> {
        let repository = &deps.workspace.repository;
        let mut base_branch = deps.task.default_branch.clone();
        let head_ref = format!("refs/heads/{}", deps.task.branch);
        let full = |branch: &str| format!("refs/heads/{branch}");
        let mut refs = repository
            .remote_refs(remote, &[&full(&base_branch), &head_ref])
            .await
            .map_err(git)?;
        if !refs.contains_key(&full(&base_branch)) {
            // The default branch may have another name since the task was made.
            let present = repository.default_branch(remote).await.map_err(git)?;
            if let Some(present) = present.filter(|present| *present != base_branch) {
                deps.log.line(&format!(
                    "the branch `{base_branch}` is gone; the default branch is `{present}`"
                ));
                base_branch = present;
                refs = repository
                    .remote_refs(remote, &[&full(&base_branch), &head_ref])
                    .await
                    .map_err(git)?;
            }
        }
        let base_ref = full(&base_branch);
        let Some(base) = refs.get(&base_ref).cloned() else {
            let message = format!("the branch `{base_branch}` is gone");
            return Err(permanent(FailureKind::BaseMoved, message));
        };
        let head = refs.get(&head_ref).cloned();
        let mut missing = Vec::new();
        if !repository.has_commit(&base).await.map_err(git)? {
            missing.push(format!("+{base_ref}:refs/patchfleet/base"));
        }
        if head.is_some() {
            missing.push(format!("+{head_ref}:refs/patchfleet/head"));
        }
        if !missing.is_empty() {
            let refspecs: Vec<_> = missing.iter().map(String::as_str).collect();
            repository
                .fetch(remote, &refspecs, false)
                .await
                .map_err(git)?;
        }
        let own = &deps.workspace.base;
        let completed = repository.complete_for_merge(remote, (&base, own)).await;
        completed.map_err(git)?;
        Ok(Self {
            base_branch,
            base,
            head,
        })
    }

    /// The commit on the branch, when it is the candidate's tree on the candidate's base. An
    /// error when the branch has commits that are not Patchfleet's: they are somebody's work.
    pub(super) async fn published(
        &self,
        deps: &NodeDeps,
        candidate: &Candidate,
    ) -> Result<Option<ObjectId>, NodeError> {
        let Some(head) = &self.head else {
            return Ok(None);
        };
        let repository = &deps.workspace.repository;
        let commits = repository
            .trailers_since(&self.base, head, TASK_TRAILER)
            .await;
        let commits = commits.map_err(git)?;
        for (commit, _) in commits.iter().filter(|(_, trailer)| trailer.is_empty()) {
            let only_merges = repository.only_merges(&self.base, commit).await;
            if only_merges.map_err(git)? {
                // GitHub's "Update branch", which is nobody's work.
                continue;
            }
            let message = format!(
                "the branch `{}` has commits of others, such as {commit}, and is left alone; merge or \
                 delete the branch, then comment `/patchfleet run`",
                deps.task.branch
            );
            return Err(permanent(FailureKind::PushRefused, message));
        }
        let tree = repository
            .resolve(&format!("{head}^{{tree}}"))
            .await
            .map_err(git)?;
        let parent = repository.resolve(&format!("{head}^")).await.map_err(git)?;
        let same =
            tree.as_ref() == Some(&candidate.tree) && parent.as_ref() == Some(&candidate.base);
        Ok(same.then(|| head.clone()))
    }
}
