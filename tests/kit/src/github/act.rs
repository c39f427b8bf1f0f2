//! What accounts do: every change of state, with the events that it causes.
//!
//! REST calls, git pushes and the simulator's own methods all end here, so
//! that a webhook tells of each change no matter who made it. Permissions are
//! checked before, in `rest` and `person`.

pub(crate) mod check;
pub(crate) mod comment;
pub(crate) mod issue;
pub(crate) mod label;
pub(crate) mod merge;
pub(crate) mod place;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod review;

use serde_json::{Value, json};

use super::hook::payload::{Event, announce};
use super::model::{Happened, Repository, RepositoryId};
use super::problem::Problem;
use super::shape;
use super::shape::account::merge as merge_fields;
use super::state::State;

/// An account about to do something in a repository.
pub(crate) struct Act<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) repository: RepositoryId,
    /// Login of the account.
    pub(crate) by: String,
}

impl Act<'_> {
    fn repo(&self) -> &Repository {
        self.state.repository(self.repository)
    }

    fn repo_mut(&mut self) -> &mut Repository {
        self.state.repository_mut(self.repository)
    }

    fn announce(&mut self, name: &'static str, body: Value) {
        let event = Event {
            name,
            repository: self.repository,
            sender: &self.by,
        };
        announce(self.state, &event, body);
    }

    /// Announces `issues` or, for a pull request, `pull_request`.
    fn announce_issue(&mut self, number: u64, action: &str, more: Value) -> Result<(), Problem> {
        self.keep(number, action, &more)?;
        let (state, id) = (&*self.state, self.repository);
        let issue = state.issue(id, number)?;
        let mut body = json!({ "action": action });
        let name = if let Some(pull) = &issue.pull {
            body["number"] = json!(number);
            body["pull_request"] = shape::pull::full(state, id, issue, pull);
            "pull_request"
        } else {
            body["issue"] = shape::issue::issue(state, id, issue);
            "issues"
        };
        merge_fields(&mut body, more);
        self.announce(name, body);
        Ok(())
    }

    /// What GitHub lists among an issue's events, too.
    fn keep(&mut self, number: u64, action: &str, more: &Value) -> Result<(), Problem> {
        let about = match action {
            "labeled" | "unlabeled" => &more["label"]["name"],
            "assigned" | "unassigned" => &more["assignee"]["login"],
            "closed" | "reopened" => &Value::Null,
            _ => return Ok(()),
        };
        let happened = Happened {
            id: self.state.next_id(),
            action: action.to_owned(),
            by: self.by.clone(),
            about: about.as_str().map(str::to_owned),
            at: self.state.now(),
        };
        let issue = self.state.issue_mut(self.repository, number)?;
        issue.happened.push(happened);
        Ok(())
    }

    fn touch(&mut self, number: u64) -> Result<(), Problem> {
        let now = self.state.now();
        self.state.issue_mut(self.repository, number)?.updated_at = now;
        Ok(())
    }
}
