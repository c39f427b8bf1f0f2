//! `publish`: commit, push, pull request.
//!
//! The commit's tree is written from the base and the context in the agent's own object store, and
//! it is the tree that was tested: what lies in the work tree by now does not matter. A base that
//! has moved means a rebase and another test, twice at most: where the base moves more often than
//! the tests take, the change is published on the base that it was last tested on, and the pull
//! request says so. The branch is pushed only over commits of Patchfleet, and only if it stands
//! where it was seen. Running the node again after a crash finds its own commit on the remote and
//! pushes nothing.
//!
//! The token is asked for right before it is used, and goes to git alone.

mod branch;
mod pull_request;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{FailureKind, FollowUp, PullRequestRef};
use patchfleet_flow::{Node, NodeCall, NodeError};
use patchfleet_guard::visible_line;
use patchfleet_repository::Author;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::NodeDeps;
use super::context::{failed, git, optional, permanent, required};
use super::patch::{self, PatchedFile};
use super::review::ModelReview;
use super::summary::{Facts, Summary};
use super::test::{TestCommand, TestResults};
use crate::git::{Change, GitError, ObjectId, Remote};
use crate::patience::Patience;
use crate::sandbox::Isolation;
use crate::setup::SetupReport;
use branch::Standing;

/// How often the change follows a base that moves while it is published. Each time costs a run of
/// the tests.
const REBASES: u32 = 2;
/// How often the branch may move between the look at it and the push.
const PUSHES: u32 = 4;

/// How the result gets to GitHub.
pub struct Publishing {
    /// Where the branch is pushed to.
    pub url: String,
    /// Who commits are by, when the repository does not say.
    pub author: Author,
    /// Pull requests are opened as drafts.
    pub draft: bool,
    /// Tokens and pull requests.
    pub pull_requests: Arc<dyn PullRequests>,
}

/// A pull request as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequestDraft {
    /// Its title.
    pub title: String,
    /// Its text, with the task's mark.
    pub body: String,
    /// The branch with the change.
    pub head: String,
    /// The branch it goes into.
    pub base: String,
    /// Opened as a draft.
    pub draft: bool,
    /// The branch was not there before it was pushed just now.
    pub is_new_branch: bool,
}

/// What GitHub does for a task.
#[async_trait]
pub trait PullRequests: Send + Sync {
    /// A short-lived token to push to the task's repository, and to no other.
    async fn credential(&self) -> Result<SecretString, Failure>;

    /// Opens the pull request, or brings the one there is for the branch up to date.
    async fn ensure(&self, draft: PullRequestDraft) -> Result<PullRequestRef, Failure>;
}

/// The node.
pub(super) struct Publish(pub(super) Arc<NodeDeps>);

/// The change on a base, ready to be pushed.
struct Candidate {
    /// The branch that it goes into.
    base_branch: String,
    base: ObjectId,
    tree: ObjectId,
    commit: ObjectId,
    results: Option<TestResults>,
    /// Where the base branch stood when it was not followed any further.
    newer_base: Option<ObjectId>,
    /// The branch was not there before the push.
    is_new_branch: bool,
}

impl Candidate {
    /// What those who merge have to know when the base moved on.
    fn untested_base(&self) -> Option<String> {
        let newer = self.newer_base.as_ref()?;
        Some(format!(
            "The base branch moved while the change was tested: it was tested on `{}`, not on `{newer}`. \
             Update the branch before merging",
            self.base
        ))
    }
}

#[async_trait]
impl Node for Publish {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let deps = &self.0;
        let ctx = call.ctx;
        let files: Vec<PatchedFile> = required(ctx, "workspace.files")?;
        let command = TestCommand::chosen(deps, ctx).await?;
        let changes = patch::accepted(deps, ctx).await?;
        let tested = self.tested(&changes, optional(ctx, "tests.results")?);
        let candidate = tested.await?;
        let candidate = self.push(candidate, &command, &call.cancel).await?;
        let before: Option<TestResults> = optional(ctx, "tests.before")?;
        let risks: Option<Vec<String>> = optional(ctx, "review.risks")?;
        let setup: Option<SetupReport> = optional(ctx, "setup")?;
        let drafted: Option<Isolation> = optional(ctx, "draft.isolation")?;
        let review: Option<ModelReview> = optional(ctx, "review.model")?;
        let mut risks = risks.unwrap_or_default();
        risks.extend(candidate.untested_base());
        let read: Option<BTreeSet<u64>> = optional(ctx, "draft.comments")?;
        risks.extend(read.and_then(|read| unread_comments(&deps.follow_ups.except(&read))));
        let summary = Summary::of(&Facts {
            task: &deps.task,
            files: &files,
            command: &command.words(),
            before: before.as_ref(),
            after: candidate.results.as_ref(),
            risks: &risks,
            setup: setup.as_ref(),
            drafted: drafted.as_ref(),
            spent: deps.budgets.spent(),
            review: review.as_ref(),
        });
        let unfinished: Option<String> = optional(ctx, "publish.unfinished")?;
        let mut draft = match unfinished {
            Some(why) => {
                let passes = candidate.results.as_ref().is_some_and(TestResults::passed);
                pull_request::unfinished(&deps.task, &summary, (&why, passes))
            }
            None => pull_request::of(&deps.task, &summary, deps.publishing.draft),
        };
        draft.base.clone_from(&candidate.base_branch);
        draft.is_new_branch = candidate.is_new_branch;
        let pull_request = deps
            .publishing
            .pull_requests
            .ensure(draft)
            .await
            .map_err(failed)?;
        deps.log.line(&format!("pull request {}", pull_request.url));
        Ok(json!({
            "publish": {
                "branch": deps.task.branch,
                "commit": candidate.commit,
                "base_sha": candidate.base,
                "pull_request": pull_request,
                "summary": summary.to_markdown(),
            },
            "tests": { "results": candidate.results },
            "review": { "risks": risks },
        }))
    }
}

/// What those who merge have to know when people added to the request after the draft was made.
fn unread_comments(comments: &[FollowUp]) -> Option<String> {
    let named = comments.iter().map(|comment| {
        let author = visible_line(&comment.author);
        format!("`{author}` (comment {})", comment.comment)
    });
    let named: Vec<_> = named.collect();
    (!named.is_empty()).then(|| {
        format!(
            "The change does not take in what was added to the request after it was drafted, by {}",
            named.join(", ")
        )
    })
}

impl Publish {
    /// The commit of the tree that was tested.
    async fn tested(
        &self,
        changes: &[Change],
        results: Option<TestResults>,
    ) -> Result<Candidate, NodeError> {
        let workspace = &self.0.workspace;
        let base = workspace.base.clone();
        let tree = workspace
            .repository
            .write_tree(&base, changes)
            .await
            .map_err(git)?;
        if let Some(results) = results.as_ref().filter(|results| results.tree != tree) {
            let message = format!(
                "tree {} was tested, but {tree} would be published",
                results.tree
            );
            return Err(permanent(FailureKind::Internal, message));
        }
        self.candidate(base, tree, results).await
    }

    async fn candidate(
        &self,
        base: ObjectId,
        tree: ObjectId,
        results: Option<TestResults>,
    ) -> Result<Candidate, NodeError> {
        let deps = &self.0;
        let author = deps
            .config
            .author
            .as_ref()
            .unwrap_or(&deps.publishing.author);
        let message = pull_request::commit_message(&deps.task);
        let repository = &deps.workspace.repository;
        let commit = repository
            .commit_tree(&tree, &base, &message, author)
            .await
            .map_err(git)?;
        Ok(Candidate {
            base_branch: deps.task.default_branch.clone(),
            base,
            tree,
            commit,
            results,
            newer_base: None,
            is_new_branch: false,
        })
    }

    /// Pushes the change, on the base as it is now or as it was when it was tested last. A remote that
    /// refuses for now is waited for: the change is made and tested.
    async fn push(
        &self,
        mut candidate: Candidate,
        command: &TestCommand,
        cancel: &CancellationToken,
    ) -> Result<Candidate, NodeError> {
        let mut patience = Patience::default();
        loop {
            let error = match self.push_now(&mut candidate, (command, cancel)).await {
                Ok(()) => return Ok(candidate),
                Err(error) if !is_refusal_for_now(&error) => return Err(error),
                Err(error) => error,
            };
            let Some(wait) = patience.after_refusal() else {
                return Err(NodeError {
                    retryable: false,
                    ..error
                });
            };
            let seconds = wait.as_secs();
            let line = format!("{}; tried again in {seconds} s", error.message);
            self.0.log.line(&line);
            let pause = cancel.run_until_cancelled(tokio::time::sleep(wait));
            pause.await.ok_or_else(|| git(GitError::Interrupted))?;
        }
    }

    async fn push_now(
        &self,
        candidate: &mut Candidate,
        (command, cancel): (&TestCommand, &CancellationToken),
    ) -> Result<(), NodeError> {
        let deps = &self.0;
        let repository = &deps.workspace.repository;
        let (mut rebases, mut pushes) = (0, 0);
        while pushes < PUSHES {
            let remote = self.remote().await?;
            let standing = Standing::look(deps, &remote).await?;
            candidate.newer_base = None;
            if standing.base != candidate.base {
                if rebases < REBASES {
                    rebases += 1;
                    *candidate = self
                        .rebase(candidate, &standing.base, (command, cancel))
                        .await?;
                    // Tests take time; look again.
                    continue;
                }
                deps.log.line(&format!(
                    "the base moved on to {}; the change is published on {}, where it was tested",
                    standing.base, candidate.base
                ));
                candidate.newer_base = Some(standing.base.clone());
            }
            candidate.base_branch.clone_from(&standing.base_branch);
            pushes += 1;
            if let Some(commit) = standing.published(deps, candidate).await? {
                candidate.commit = commit;
                candidate.is_new_branch = false;
                return Ok(());
            }
            let head = standing.head.as_ref();
            candidate.is_new_branch = head.is_none();
            match repository
                .push(&remote, &candidate.commit, &deps.task.branch, head)
                .await
            {
                Ok(()) => {
                    deps.log.line(&format!(
                        "pushed {} to {}",
                        candidate.commit, deps.task.branch
                    ));
                    return Ok(());
                }
                Err(GitError::LeaseLost) => {}
                Err(error) => return Err(git(error)),
            }
        }
        // Somebody else pushes the same branch; what was drafted is as good as before.
        Err(git(GitError::LeaseLost))
    }

    /// The change on a newer base, tested there.
    async fn rebase(
        &self,
        candidate: &Candidate,
        base: &ObjectId,
        (command, cancel): (&TestCommand, &CancellationToken),
    ) -> Result<Candidate, NodeError> {
        let deps = &self.0;
        let repository = &deps.workspace.repository;
        deps.log
            .line(&format!("the base moved from {} to {base}", candidate.base));
        let merged =
            repository
                .merge(base, &candidate.commit)
                .await
                .map_err(|error| match error {
                    GitError::Conflict { .. } => {
                        let message = format!("the change no longer fits the base: {error}");
                        permanent(FailureKind::BaseMoved, message)
                    }
                    other => git(other),
                })?;
        let unchanged = repository
            .resolve(&format!("{base}^{{tree}}"))
            .await
            .map_err(git)?;
        if unchanged.as_ref() == Some(&merged) {
            let message = "the base already has the change";
            return Err(permanent(FailureKind::BaseMoved, message));
        }
        let results = command.run(deps, &merged, "rebased", cancel).await?;
        if let Some(red) = results.as_ref().filter(|it| !it.passed() && !it.ran_none()) {
            let message = format!("the tests fail on the new base:\n{}", red.tail(2000));
            return Err(permanent(FailureKind::BaseMoved, message));
        }
        self.candidate(base.clone(), merged, results).await
    }

    async fn remote(&self) -> Result<Remote, NodeError> {
        let publishing = &self.0.publishing;
        let token = if Remote::takes_token(&publishing.url) {
            Some(
                publishing
                    .pull_requests
                    .credential()
                    .await
                    .map_err(failed)?,
            )
        } else {
            None
        };
        Remote::new(&publishing.url, token).map_err(git)
    }
}

/// True of a remote's refusal that may be taken back.
fn is_refusal_for_now(error: &NodeError) -> bool {
    let refusals = [FailureKind::PushRefused, FailureKind::CloneFailed];
    error.retryable && refusals.iter().any(|kind| error.code == kind.as_str())
}

#[cfg(test)]
mod tests;
