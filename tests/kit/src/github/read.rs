//! Looking at the state without leaving a trace in the journal, and waiting
//! for it to become something.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Simulator;
use super::bare::{self, history, tree};
use super::hook::Delivery;
use super::journal::RequestRecord;
use super::model::{CheckRun, Comment, Issue, Permission, Repository};
use super::setup::find;

impl Simulator {
    /// A repository's account data.
    pub fn repository(&self, repository: &str) -> Result<Repository> {
        let state = self.shared.state();
        Ok(state.repository(find(&state, repository)?).clone())
    }

    /// An issue or pull request.
    pub fn issue(&self, repository: &str, number: u64) -> Result<Issue> {
        let state = self.shared.state();
        let issues = &state.repository(find(&state, repository)?).issues;
        let found = issues.get(&number).cloned();
        found.with_context(|| format!("{repository} has no issue {number}"))
    }

    /// All issues and pull requests, by number.
    pub fn issues(&self, repository: &str) -> Result<Vec<Issue>> {
        Ok(self.repository(repository)?.issues.into_values().collect())
    }

    /// The comments on an issue, oldest first.
    pub fn comments(&self, repository: &str, number: u64) -> Result<Vec<Comment>> {
        Ok(self.issue(repository, number)?.comments)
    }

    /// The labels on an issue.
    pub fn labels(&self, repository: &str, number: u64) -> Result<Vec<String>> {
        Ok(self.issue(repository, number)?.labels)
    }

    /// All pull requests, open and closed, by number; `pull` is set in each.
    pub fn pulls(&self, repository: &str) -> Result<Vec<Issue>> {
        let all = self.issues(repository)?;
        Ok(all
            .into_iter()
            .filter(|issue| issue.pull.is_some())
            .collect())
    }

    /// The unified difference of a pull request, as it was before its merge.
    pub fn pull_diff(&self, repository: &str, number: u64) -> Result<String> {
        let issue = self.issue(repository, number)?;
        let pull = issue
            .pull
            .with_context(|| format!("{number} is no pull request"))?;
        let folder = self.repository(repository)?.folder;
        history::diff(&folder, &pull.base_sha, &pull.head_sha)
    }

    /// The newest commit of a branch; none when there is no such branch.
    pub fn branch_sha(&self, repository: &str, branch: &str) -> Result<Option<String>> {
        let repository = self.repository(repository)?;
        Ok(repository.branch_sha(branch).map(str::to_owned))
    }

    /// A file's content at a branch, tag or commit; none when it is not there.
    pub fn file(&self, repository: &str, reference: &str, path: &str) -> Result<Option<Vec<u8>>> {
        let folder = self.repository(repository)?.folder;
        let Some(commit) = bare::resolve(&folder, reference) else {
            return Ok(None);
        };
        Ok(match tree::find(&folder, &commit, path)? {
            Some(tree::Found::File { content, .. }) => Some(content),
            Some(tree::Found::Folder(_) | tree::Found::Submodule(_)) | None => None,
        })
    }

    /// Check runs on a commit.
    pub fn checks(&self, repository: &str, sha: &str) -> Result<Vec<CheckRun>> {
        let mut checks = self.repository(repository)?.checks;
        checks.retain(|run| run.head_sha == sha);
        Ok(checks)
    }

    /// What an account may do.
    pub fn permission(&self, repository: &str, login: &str) -> Result<Permission> {
        let state = self.shared.state();
        Ok(state.permission(find(&state, repository)?, login))
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.journal.all()
    }

    /// How many requests had this method (`*` for any) and this in their path.
    pub fn request_count(&self, method: &str, part: &str) -> usize {
        let wanted = |one: &&RequestRecord| {
            (method == "*" || one.method.eq_ignore_ascii_case(method)) && one.path.contains(part)
        };
        self.requests().iter().filter(wanted).count()
    }

    /// Every webhook delivery so far, in the order of events.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.state().hooks.deliveries.clone()
    }

    /// Waits until no delivery is on its way (held ones do not count).
    pub async fn deliveries_settled(&self, timeout: Duration) -> Result<()> {
        let settled = |_: &Self| self.shared.state().hooks.is_settled().then_some(());
        self.until("all webhooks are delivered", timeout, settled)
            .await
    }

    /// Waits until `check` finds what it looks for; asked again after every
    /// request, delivery and act. Fails with `what` after the timeout.
    pub async fn until<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut check: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let search = async {
            loop {
                // Made before the look, so that no change in between is missed.
                let changed = self.shared.changed.notified();
                if let Some(found) = check(self) {
                    return found;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(timeout, search).await;
        found.with_context(|| format!("waited {timeout:?} in vain until {what}"))
    }
}
