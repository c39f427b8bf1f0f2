//! Merging pull requests, and closing the issues that they fix.

use std::sync::LazyLock;

use regex::Regex;

use super::super::bare::merge::{Merge, MergeMethod, merge};
use super::super::bare::{self};
use super::super::git::Signature;
use super::super::model::OpenState;
use super::super::problem::Problem;
use super::Act;

/// GitHub's closing keywords before an issue number.
static FIXES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+#(\d+)")
        .expect("a fixed pattern")
});

/// How the caller wants it merged.
#[derive(Debug, Clone)]
pub(crate) struct MergeOrder {
    pub(crate) method: MergeMethod,
    pub(crate) title: Option<String>,
    pub(crate) message: Option<String>,
    /// The head that the caller saw.
    pub(crate) sha: Option<String>,
}

impl Default for MergeOrder {
    fn default() -> Self {
        Self {
            method: MergeMethod::Merge,
            title: None,
            message: None,
            sha: None,
        }
    }
}

impl Act<'_> {
    /// Merges in the bare repository and returns the new commit.
    pub(crate) fn merge_pull(&mut self, number: u64, order: MergeOrder) -> Result<String, Problem> {
        self.may_merge(number, &order)?;
        let (issue, pull) = self.state.pull(self.repository, number)?;
        let message = commit_message(&order, number, &issue.title, &pull.head);
        let (base, head) = (pull.base.clone(), pull.head_sha.clone());
        let author = Signature::of(&self.by, self.state.now());
        let tip = self.repo().branch_sha(&base).ok_or(Problem::NotFound)?;
        let what = Merge {
            base: tip,
            head: &head,
            message: &message,
            author: &author,
        };
        let sha = merge(&self.folder(), order.method, &what)?;
        self.set_merged(number, &sha)?;
        bare::set_ref(&self.folder(), &format!("refs/heads/{base}"), &sha)?;
        self.close_issue(number, None)?;
        self.note_push()?;
        self.close_fixed(number, &base)?;
        Ok(sha)
    }

    fn may_merge(&self, number: u64, order: &MergeOrder) -> Result<(), Problem> {
        let (issue, pull) = self.state.pull(self.repository, number)?;
        let refused = |message: &str| Err(Problem::NotMergeable(message.to_owned()));
        if issue.state == OpenState::Closed || !pull.mergeable {
            return refused("Pull Request is not mergeable");
        }
        if pull.draft {
            return refused("Pull Request is still a draft");
        }
        if order.sha.as_ref().is_some_and(|sha| *sha != pull.head_sha) {
            let message = "Head branch was modified. Review and try the merge again.";
            return Err(Problem::Conflict(message.to_owned()));
        }
        Ok(())
    }

    pub(super) fn set_merged(&mut self, number: u64, sha: &str) -> Result<(), Problem> {
        let (now, by) = (self.state.now(), self.by.clone());
        let pull = self.state.pull_mut(self.repository, number)?;
        pull.merged_at = Some(now);
        pull.merged_by = Some(by);
        pull.merge_commit_sha = Some(sha.to_owned());
        Ok(())
    }

    /// Closes what the body says it fixes, if it went to the default branch.
    pub(super) fn close_fixed(&mut self, number: u64, base: &str) -> Result<(), Problem> {
        if base != self.repo().default_branch {
            return Ok(());
        }
        let body = self.state.issue(self.repository, number)?.body.clone();
        let body = body.unwrap_or_default();
        let fixed: Vec<u64> = FIXES
            .captures_iter(&body)
            .filter_map(|found| found[1].parse().ok())
            .collect();
        for issue in fixed {
            // A number that no issue has is plain text.
            if self.state.issue(self.repository, issue).is_ok() {
                self.close_issue(issue, None)?;
            }
        }
        Ok(())
    }

    /// Takes a draft out of draft.
    pub(crate) fn ready_for_review(&mut self, number: u64) -> Result<(), Problem> {
        self.state.pull_mut(self.repository, number)?.draft = false;
        self.touch(number)?;
        self.announce_issue(number, "ready_for_review", serde_json::Value::Null)
    }
}

fn commit_message(order: &MergeOrder, number: u64, title: &str, head: &str) -> String {
    let default = match order.method {
        MergeMethod::Squash => format!("{title} (#{number})"),
        MergeMethod::Merge | MergeMethod::Rebase => {
            format!("Merge pull request #{number} from {head}")
        }
    };
    let headline = order.title.clone().unwrap_or(default);
    let text = order.message.clone().unwrap_or_else(|| title.to_owned());
    format!("{headline}\n\n{text}\n")
}
