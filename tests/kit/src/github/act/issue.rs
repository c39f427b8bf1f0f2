//! Opening, editing, closing and assigning issues; also pull requests' issue part.

use serde_json::{Value, json};

use super::super::model::{Issue, OpenState};
use super::super::problem::Problem;
use super::super::shape;
use super::Act;

/// An issue to open.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewIssue {
    /// Number to take; the next free one when none is given.
    pub(crate) number: Option<u64>,
    pub(crate) title: String,
    pub(crate) body: Option<String>,
    pub(crate) labels: Vec<String>,
    pub(crate) assignees: Vec<String>,
}

/// Fields to change; what is none stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct IssueEdit {
    pub(crate) title: Option<String>,
    /// An empty text takes the body away.
    pub(crate) body: Option<String>,
    pub(crate) state: Option<OpenState>,
    pub(crate) state_reason: Option<String>,
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) assignees: Option<Vec<String>>,
}

impl Act<'_> {
    /// Opens an issue: `opened`, then `labeled` and `assigned` for each.
    pub(crate) fn open_issue(&mut self, new: NewIssue) -> Result<u64, Problem> {
        if new.title.trim().is_empty() {
            return Err(Problem::invalid("Issue", "title", "missing_field"));
        }
        let number = self.free_number(new.number)?;
        let labels = self.label_names(&new.labels);
        let mut issue = self.blank_issue(number, new);
        issue.labels.clone_from(&labels);
        let assignees = issue.assignees.clone();
        self.repo_mut().issues.insert(number, issue);
        self.announce_issue(number, "opened", Value::Null)?;
        for label in &labels {
            self.announce_label(number, "labeled", label)?;
        }
        for assignee in &assignees {
            self.announce_assignee(number, "assigned", assignee)?;
        }
        Ok(number)
    }

    fn free_number(&self, wanted: Option<u64>) -> Result<u64, Problem> {
        let number = wanted.unwrap_or_else(|| self.repo().next_number());
        if self.repo().issues.contains_key(&number) {
            return Err(Problem::invalid("Issue", "number", "already_exists"));
        }
        Ok(number)
    }

    /// An open issue that nobody knows of yet.
    pub(super) fn blank_issue(&mut self, number: u64, new: NewIssue) -> Issue {
        let now = self.state.now();
        Issue {
            id: self.state.next_id(),
            number,
            title: new.title,
            body: new.body,
            author: self.by.clone(),
            labels: Vec::new(),
            assignees: new.assignees,
            state: OpenState::Open,
            state_reason: None,
            closed_by: None,
            closed_at: None,
            created_at: now,
            updated_at: now,
            comments: Vec::new(),
            happened: Vec::new(),
            pull: None,
        }
    }

    /// Changes an issue; one event per kind of change.
    pub(crate) fn edit_issue(&mut self, number: u64, edit: IssueEdit) -> Result<(), Problem> {
        self.edit_text(number, &edit)?;
        if let Some(labels) = edit.labels {
            self.replace_labels(number, &labels)?;
        }
        if let Some(assignees) = edit.assignees {
            self.assign(number, &assignees)?;
        }
        match edit.state {
            Some(OpenState::Closed) => self.close_issue(number, edit.state_reason),
            Some(OpenState::Open) => self.reopen_issue(number),
            None => Ok(()),
        }
    }

    fn edit_text(&mut self, number: u64, edit: &IssueEdit) -> Result<(), Problem> {
        let issue = self.state.issue_mut(self.repository, number)?;
        let mut changes = json!({});
        if let Some(title) = edit.title.clone().filter(|title| *title != issue.title) {
            changes["title"] = json!({ "from": issue.title });
            issue.title = title;
        }
        let body = edit
            .body
            .clone()
            .map(|body| Some(body).filter(|body| !body.is_empty()));
        if let Some(body) = body.filter(|body| *body != issue.body) {
            changes["body"] = json!({ "from": issue.body.clone().unwrap_or_default() });
            issue.body = body;
        }
        if changes == json!({}) {
            return Ok(());
        }
        self.touch(number)?;
        self.announce_issue(number, "edited", json!({ "changes": changes }))
    }

    /// Closes; nothing happens when it is closed already.
    pub(crate) fn close_issue(
        &mut self,
        number: u64,
        reason: Option<String>,
    ) -> Result<(), Problem> {
        let (now, by) = (self.state.now(), self.by.clone());
        let issue = self.state.issue_mut(self.repository, number)?;
        if issue.state == OpenState::Closed {
            return Ok(());
        }
        issue.state = OpenState::Closed;
        issue.closed_at = Some(now);
        issue.closed_by = Some(by);
        if issue.pull.is_none() {
            issue.state_reason = Some(reason.unwrap_or_else(|| "completed".to_owned()));
        }
        self.touch(number)?;
        self.announce_issue(number, "closed", Value::Null)
    }

    /// Opens again; a merged pull request stays merged.
    pub(crate) fn reopen_issue(&mut self, number: u64) -> Result<(), Problem> {
        let issue = self.state.issue_mut(self.repository, number)?;
        if issue.state == OpenState::Open {
            return Ok(());
        }
        let is_pull = issue.pull.is_some();
        if is_pull {
            self.may_reopen_pull(number)?;
        }
        let issue = self.state.issue_mut(self.repository, number)?;
        issue.state = OpenState::Open;
        issue.closed_at = None;
        issue.closed_by = None;
        issue.state_reason = (!is_pull).then(|| "reopened".to_owned());
        self.touch(number)?;
        self.announce_issue(number, "reopened", Value::Null)
    }

    fn assign(&mut self, number: u64, assignees: &[String]) -> Result<(), Problem> {
        let issue = self.state.issue_mut(self.repository, number)?;
        let before = std::mem::replace(&mut issue.assignees, assignees.to_vec());
        self.touch(number)?;
        for login in before.iter().filter(|one| !assignees.contains(one)) {
            self.announce_assignee(number, "unassigned", login)?;
        }
        for login in assignees.iter().filter(|one| !before.contains(one)) {
            self.announce_assignee(number, "assigned", login)?;
        }
        Ok(())
    }

    fn announce_assignee(&mut self, number: u64, action: &str, who: &str) -> Result<(), Problem> {
        let assignee = shape::account::user(self.state, who);
        self.announce_issue(number, action, json!({ "assignee": assignee }))
    }
}
