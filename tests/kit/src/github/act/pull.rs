//! Opening and editing pull requests, and keeping them in step with git.
//!
//! Absent: pull requests from forks; the head is a branch of the same repository.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::bare::{self, history, merge};
use super::super::model::{OpenState, Pull, PullSize};
use super::super::problem::Problem;
use super::Act;
use super::issue::NewIssue;

/// A pull request to open.
#[derive(Debug, Clone)]
pub(crate) struct NewPull {
    pub(crate) title: String,
    pub(crate) body: Option<String>,
    /// `branch` or `owner:branch`.
    pub(crate) head: String,
    pub(crate) base: String,
    pub(crate) draft: bool,
}

/// Two commits and what git says about merging them.
struct Comparison {
    size: PullSize,
    mergeable: bool,
}

impl Act<'_> {
    /// Opens a pull request; refuses doubles and empty ones as GitHub does.
    pub(crate) fn open_pull(&mut self, new: NewPull) -> Result<u64, Problem> {
        if new.title.trim().is_empty() {
            return Err(Problem::invalid("PullRequest", "title", "missing_field"));
        }
        let head = self.branch_of(&new.head)?;
        let sha = |branch: &str| self.repo().branch_sha(branch).map(str::to_owned);
        let base_sha = sha(&new.base).ok_or(Problem::invalid("PullRequest", "base", "invalid"))?;
        let head_sha = sha(&head).ok_or(Problem::invalid("PullRequest", "head", "invalid"))?;
        self.refuse_double(&head, &new.base)?;
        let comparison = self.compare(&base_sha, &head_sha)?;
        if comparison.size.commits == 0 {
            let message = format!("No commits between {} and {head}", new.base);
            return Err(Problem::custom("PullRequest", message));
        }
        let pull = Pull {
            id: self.state.next_id(),
            head,
            head_sha,
            base: new.base.clone(),
            base_sha,
            draft: new.draft,
            mergeable: comparison.mergeable,
            size: comparison.size,
            merged_at: None,
            merged_by: None,
            merge_commit_sha: None,
            requested_reviewers: Vec::new(),
            reviews: Vec::new(),
        };
        self.insert_pull(new, pull)
    }

    fn insert_pull(&mut self, new: NewPull, pull: Pull) -> Result<u64, Problem> {
        let number = self.repo().next_number();
        let issue = NewIssue {
            title: new.title,
            body: new.body,
            ..NewIssue::default()
        };
        let mut issue = self.blank_issue(number, issue);
        let head_sha = pull.head_sha.clone();
        issue.pull = Some(pull);
        bare::set_ref(
            &self.folder(),
            &format!("refs/pull/{number}/head"),
            &head_sha,
        )?;
        self.repo_mut().issues.insert(number, issue);
        self.announce_issue(number, "opened", Value::Null)?;
        Ok(number)
    }

    /// The branch in `branch` or `owner:branch`.
    fn branch_of(&self, head: &str) -> Result<String, Problem> {
        match head.split_once(':') {
            None => Ok(head.to_owned()),
            Some((owner, branch)) if owner.eq_ignore_ascii_case(&self.repo().owner) => {
                Ok(branch.to_owned())
            }
            Some(_) => Err(Problem::invalid("PullRequest", "head", "invalid")),
        }
    }

    fn refuse_double(&self, head: &str, base: &str) -> Result<(), Problem> {
        let double = self.repo().issues.values().any(|issue| {
            let same = |pull: &Pull| pull.head == head && pull.base == base;
            issue.state == OpenState::Open && issue.pull.as_ref().is_some_and(same)
        });
        if !double {
            return Ok(());
        }
        let owner = &self.repo().owner;
        let message = format!("A pull request already exists for {owner}:{head}.");
        Err(Problem::custom("PullRequest", message))
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.repo().folder.clone()
    }

    fn compare(&self, base: &str, head: &str) -> Result<Comparison, Problem> {
        let folder = self.folder();
        Ok(Comparison {
            size: history::size(&folder, base, head)?,
            // Histories without a common ancestor do not merge either.
            mergeable: merge::is_clean(&folder, base, head).unwrap_or(false),
        })
    }

    /// Changes the base or readiness of a pull request.
    pub(crate) fn edit_pull(&mut self, number: u64, base: Option<&str>) -> Result<(), Problem> {
        let Some(base) = base else {
            return Ok(());
        };
        let (_, pull) = self.state.pull(self.repository, number)?;
        let (from, from_sha) = (pull.base.clone(), pull.base_sha.clone());
        if from == base {
            return Ok(());
        }
        let sha = self.repo().branch_sha(base).map(str::to_owned);
        sha.ok_or(Problem::invalid("PullRequest", "base", "invalid"))?;
        base.clone_into(&mut self.state.pull_mut(self.repository, number)?.base);
        self.recompute(number)?;
        let changes = json!({ "base": { "ref": { "from": from }, "sha": { "from": from_sha } } });
        self.announce_issue(number, "edited", json!({ "changes": changes }))
    }

    /// Asks git again how large the pull request is and whether it merges.
    pub(super) fn recompute(&mut self, number: u64) -> Result<(), Problem> {
        let (_, pull) = self.state.pull(self.repository, number)?;
        let tip = |branch: &str| self.repo().branch_sha(branch).map(str::to_owned);
        let (Some(base), Some(head)) = (tip(&pull.base), tip(&pull.head)) else {
            return Ok(());
        };
        let comparison = self.compare(&base, &head)?;
        bare::set_ref(&self.folder(), &format!("refs/pull/{number}/head"), &head)?;
        let pull = self.state.pull_mut(self.repository, number)?;
        pull.base_sha = base;
        pull.head_sha = head;
        pull.size = comparison.size;
        pull.mergeable = comparison.mergeable;
        self.touch(number)
    }

    /// A merged pull request, or one whose branch is gone, cannot be reopened.
    pub(super) fn may_reopen_pull(&mut self, number: u64) -> Result<(), Problem> {
        let (_, pull) = self.state.pull(self.repository, number)?;
        let refused = |message: &str| Err(Problem::custom("PullRequest", message.to_owned()));
        if pull.merged_at.is_some() {
            return refused("state cannot be changed. The pull request has been merged.");
        }
        let (head, base) = (pull.head.clone(), pull.base.clone());
        if self.repo().branch_sha(&head).is_none() {
            return refused("state cannot be changed. The head branch was deleted.");
        }
        self.refuse_double(&head, &base)?;
        self.recompute(number)
    }
}
