//! Issues.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::super::act::issue::{IssueEdit, NewIssue};
use super::super::model::{Issue, OpenState, Permission};
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Call, Result, created, ok};

pub(super) fn list(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let state = call.query("state").unwrap_or("open".to_owned());
    let labels = call.query("labels").unwrap_or_default();
    let labels: Vec<_> = labels.split(',').filter(|name| !name.is_empty()).collect();
    let since: Option<DateTime<Utc>> = call.query("since").and_then(|at| at.parse().ok());
    let assignee = call.query("assignee");
    let wanted = |issue: &&Issue| {
        let mut theirs = issue.assignees.iter();
        let is_theirs = assignee
            .as_ref()
            .is_none_or(|login| theirs.any(|one| one.eq_ignore_ascii_case(login)));
        let has = |name: &&str| {
            issue
                .labels
                .iter()
                .any(|one| one.eq_ignore_ascii_case(name))
        };
        is_theirs
            && (state == "all" || issue.state.name() == state)
            && labels.iter().all(has)
            && since.is_none_or(|since| issue.updated_at >= since)
    };
    let newest_first = call.repo(id).issues.values().rev().filter(wanted);
    let items = newest_first.map(|issue| shape::issue::issue(call.state, id, issue));
    call.page(items.collect())
}

pub(super) fn create(call: &mut Call<'_>) -> Result {
    let mut new = NewIssue {
        number: None,
        title: call.text("title")?.unwrap_or_default(),
        body: call.text("body")?,
        labels: call.names("labels")?.unwrap_or_default(),
        assignees: call.names("assignees")?.unwrap_or_default(),
    };
    let id = call.act(Permission::Read)?.repository;
    if !call.may(id, Permission::Triage) {
        // GitHub drops these without a word.
        new.labels.clear();
        new.assignees.clear();
    }
    let number = call.act(Permission::Read)?.open_issue(new)?;
    created(shape::issue::full(
        call.state,
        id,
        call.state.issue(id, number)?,
    ))
}

pub(super) fn get(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let issue = call.state.issue(id, call.number("issue_number")?)?;
    ok(shape::issue::full(call.state, id, issue))
}

/// What was done to an issue, oldest first.
pub(super) fn events(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let issue = call.state.issue(id, call.number("issue_number")?)?;
    let events = issue.happened.iter();
    let events = events.map(|one| shape::issue::event(call.state, id, one));
    call.page(events.collect())
}

pub(super) fn update(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let number = call.number("issue_number")?;
    let author = call.state.issue(id, number)?.author.clone();
    let mut edit = IssueEdit {
        title: call.text("title")?,
        body: call.text("body")?,
        state: open_state(call)?,
        state_reason: call.text("state_reason")?,
        labels: call.names("labels")?,
        assignees: call.names("assignees")?,
    };
    if call.body.get("body") == Some(&Value::Null) {
        // Null takes the body away, absence leaves it.
        edit.body = Some(String::new());
    }
    if edit.labels.is_some() || edit.assignees.is_some() {
        call.act(Permission::Triage)?;
    }
    call.act_on(&author, Permission::Triage)?
        .edit_issue(number, edit)?;
    ok(shape::issue::full(
        call.state,
        id,
        call.state.issue(id, number)?,
    ))
}

/// The `state` field, if it is there and makes sense.
pub(super) fn open_state(call: &Call<'_>) -> Result<Option<OpenState>> {
    match call.text("state")?.as_deref() {
        None => Ok(None),
        Some("open") => Ok(Some(OpenState::Open)),
        Some("closed") => Ok(Some(OpenState::Closed)),
        Some(_) => Err(Problem::invalid("Issue", "state", "invalid")),
    }
}
