//! Acting as a person, without HTTP: what a maintainer does in the browser.
//!
//! Permissions hold here too, and every act is announced as if it had come in
//! through the REST interface.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::act::Act;
use super::act::check::CheckReport;
use super::act::issue::{IssueEdit, NewIssue};
use super::act::merge::MergeOrder;
use super::model::{AccountKind, Permission, ReviewState};
use super::problem::Problem;
use super::setup::find;
use super::{MergeMethod, Simulator};

impl Simulator {
    /// Opens an issue and returns its number.
    pub fn open_issue(
        &self,
        repository: &str,
        author: &str,
        title: &str,
        body: &str,
        labels: &[&str],
    ) -> Result<u64> {
        let needed = if labels.is_empty() {
            Permission::Read
        } else {
            Permission::Triage
        };
        let new = NewIssue {
            title: title.to_owned(),
            body: Some(body.to_owned()),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            ..NewIssue::default()
        };
        self.act(repository, author, needed, |act| act.open_issue(new))
    }

    /// Opens an issue as a real `issues` webhook payload of GitHub describes it:
    /// number, title, body, author and labels. The author may label it.
    pub fn inject_issue(&self, repository: &str, payload: &Value) -> Result<u64> {
        let issue = &payload["issue"];
        ensure!(issue.is_object(), "the payload has no `issue` object");
        let title = issue["title"]
            .as_str()
            .context("the payload has no issue.title")?;
        let author = issue["user"]["login"].as_str();
        let author = author.context("the payload has no issue.user.login")?;
        let labels = issue["labels"].as_array().cloned().unwrap_or_default();
        let names = labels.iter().filter_map(|label| label["name"].as_str());
        let new = NewIssue {
            number: issue["number"].as_u64(),
            title: title.to_owned(),
            body: issue["body"].as_str().map(str::to_owned),
            labels: names.map(str::to_owned).collect(),
            assignees: Vec::new(),
        };
        self.act(repository, author, Permission::Read, |act| {
            act.open_issue(new)
        })
    }

    /// Puts a label on.
    pub fn add_label(&self, repository: &str, actor: &str, issue: u64, label: &str) -> Result<()> {
        let labels = [label.to_owned()];
        self.act(repository, actor, Permission::Triage, |act| {
            act.add_labels(issue, &labels)
        })
    }

    /// Takes a label off.
    pub fn remove_label(
        &self,
        repository: &str,
        actor: &str,
        issue: u64,
        label: &str,
    ) -> Result<()> {
        self.act(repository, actor, Permission::Triage, |act| {
            act.remove_label(issue, label)
        })
    }

    /// Comments and returns the comment's number.
    pub fn comment(&self, repository: &str, actor: &str, issue: u64, body: &str) -> Result<u64> {
        self.act(repository, actor, Permission::Read, |act| {
            act.comment(issue, body)
        })
    }

    /// Assigns accounts, and nobody else.
    pub fn assign(&self, repository: &str, actor: &str, issue: u64, who: &[&str]) -> Result<()> {
        let edit = IssueEdit {
            assignees: Some(who.iter().map(|&login| login.to_owned()).collect()),
            ..IssueEdit::default()
        };
        self.act(repository, actor, Permission::Triage, |act| {
            act.edit_issue(issue, edit)
        })
    }

    /// Closes an issue.
    pub fn close_issue(&self, repository: &str, actor: &str, issue: u64) -> Result<()> {
        self.act(repository, actor, Permission::Triage, |act| {
            act.close_issue(issue, None)
        })
    }

    /// Opens a closed issue or pull request again.
    pub fn reopen_issue(&self, repository: &str, actor: &str, issue: u64) -> Result<()> {
        self.act(repository, actor, Permission::Triage, |act| {
            act.reopen_issue(issue)
        })
    }

    /// Closes an issue as not planned.
    pub fn give_up_issue(&self, repository: &str, actor: &str, issue: u64) -> Result<()> {
        let reason = Some("not_planned".to_owned());
        self.act(repository, actor, Permission::Triage, |act| {
            act.close_issue(issue, reason)
        })
    }

    /// Deletes an issue.
    pub fn delete_issue(&self, repository: &str, actor: &str, issue: u64) -> Result<()> {
        self.act(repository, actor, Permission::Admin, |act| {
            act.delete_issue(issue)
        })
    }

    /// Moves an issue to another repository and returns its number there.
    pub fn transfer_issue(
        &self,
        repository: &str,
        actor: &str,
        issue: u64,
        to: &str,
    ) -> Result<u64> {
        let to = find(&self.shared.state(), to)?;
        self.act(repository, actor, Permission::Write, |act| {
            act.transfer_issue(issue, to)
        })
    }

    /// Gives a repository another full name; with another owner it is a transfer.
    pub fn rename_repository(&self, repository: &str, actor: &str, full_name: &str) -> Result<()> {
        self.act(repository, actor, Permission::Admin, |act| {
            act.rename_repository(full_name)
        })
    }

    /// Deletes a repository.
    pub fn delete_repository(&self, repository: &str, actor: &str) -> Result<()> {
        self.act(repository, actor, Permission::Admin, |act| {
            act.delete_repository();
            Ok(())
        })
    }

    /// Renames the default branch.
    pub fn rename_default_branch(&self, repository: &str, actor: &str, to: &str) -> Result<()> {
        self.act(repository, actor, Permission::Admin, |act| {
            act.rename_default_branch(to)
        })
    }

    /// Merges a pull request, out of draft if need be, and returns the commit.
    pub fn merge_pull(&self, repository: &str, actor: &str, number: u64) -> Result<String> {
        self.merge_pull_by(repository, actor, number, MergeMethod::Merge)
    }

    /// Merges a pull request in one of GitHub's ways.
    pub fn merge_pull_by(
        &self,
        repository: &str,
        actor: &str,
        number: u64,
        method: MergeMethod,
    ) -> Result<String> {
        let order = MergeOrder {
            method,
            ..MergeOrder::default()
        };
        self.act(repository, actor, Permission::Write, |act| {
            if act.state.pull(act.repository, number)?.1.draft {
                act.ready_for_review(number)?;
            }
            act.merge_pull(number, order)
        })
    }

    /// Closes a pull request without merging it.
    pub fn close_pull(&self, repository: &str, actor: &str, number: u64) -> Result<()> {
        self.act(repository, actor, Permission::Triage, |act| {
            act.state.pull(act.repository, number)?;
            act.close_issue(number, None)
        })
    }

    /// Reviews a pull request.
    pub fn review(
        &self,
        repository: &str,
        actor: &str,
        number: u64,
        verdict: ReviewState,
        body: &str,
    ) -> Result<u64> {
        self.act(repository, actor, Permission::Read, |act| {
            act.review(number, verdict, body)
        })
    }

    /// Reports a finished check on a commit, as a continuous integration would.
    pub fn report_check(
        &self,
        repository: &str,
        sha: &str,
        name: &str,
        conclusion: &str,
    ) -> Result<u64> {
        let report = CheckReport {
            name: Some(name.to_owned()),
            head_sha: Some(sha.to_owned()),
            conclusion: Some(conclusion.to_owned()),
            ..CheckReport::default()
        };
        let owner = repository.split('/').next().unwrap_or_default();
        self.act(repository, owner, Permission::Write, |act| {
            act.create_check(report).map(|run| run.id)
        })
    }

    fn act<T>(
        &self,
        repository: &str,
        actor: &str,
        needed: Permission,
        what: impl FnOnce(&mut Act<'_>) -> Result<T, Problem>,
    ) -> Result<T> {
        let mut state = self.shared.state();
        let id = find(&state, repository)?;
        state.add_user(actor, AccountKind::User);
        let have = state.permission(id, actor);
        if have < needed {
            bail!(
                "{actor} has the permission `{}` in {repository} and needs `{}`; call set_permission first",
                have.role_name(),
                needed.role_name()
            );
        }
        let by = state.user(actor).login;
        let done = what(&mut Act {
            state: &mut state,
            repository: id,
            by,
        });
        drop(state);
        self.shared.changed.notify_waiters();
        done.map_err(|problem| anyhow::anyhow!(explain(&problem)))
            .with_context(|| format!("{actor} could not act in {repository}"))
    }
}

fn explain(problem: &Problem) -> String {
    match problem {
        Problem::Internal(error) => format!("{error:#}"),
        Problem::Validation { message, errors } => format!("{message}: {errors:?}"),
        other => other.to_string(),
    }
}
