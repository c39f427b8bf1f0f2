//! The semantic key: what makes N events of one act one task.
//!
//! A comment is one act, whatever is sent about it. Putting a label on is one act too, but
//! GitHub gives it no id, and opening an issue with labels sends `opened` and one `labeled` for
//! each. What all events of one act have in common is the issue and the moment at which it
//! changed, so the key is both. Events within a few seconds of the issue's birth belong to its
//! opening. Labelling again later is another moment and so another key: a new task, if the
//! earlier one has ended by then (the store holds an issue to one active task).

use chrono::TimeDelta;
use patchfleet_domain::{Timestamp, is_same_label};
use patchfleet_github::Identity;

use crate::store::SemanticKey;
use crate::webhook::event::{Comment, Issue, IssueAction, IssueEvent};

/// How long the events of an opening may lag behind it.
pub(super) const BIRTH: TimeDelta = TimeDelta::seconds(5);

/// The key of a comment's command.
pub(super) fn of_comment(comment: &Comment) -> SemanticKey {
    SemanticKey {
        trigger: "comment".to_owned(),
        object: comment.id.to_string(),
    }
}

/// The key of a label or an assignment; `None` when the event triggers nothing.
pub(super) fn of_issue_event(
    label: &str,
    identity: &Identity,
    event: &IssueEvent,
) -> Option<SemanticKey> {
    let issue = &event.issue;
    let labeled = issue.labels.iter().any(|one| is_same_label(one, label));
    let assigned = issue.assignees.iter().any(|login| identity.is(login));
    let triggers = match &event.action {
        IssueAction::Labeled(one) => is_same_label(one, label),
        IssueAction::Assigned(login) => identity.is(login),
        IssueAction::Opened | IssueAction::Reopened => labeled || assigned,
        IssueAction::Closed => false,
    };
    triggers.then(|| {
        // By the issue, not the event: opened with label and assignee is one act as well.
        let trigger = if labeled { "label" } else { "assignment" };
        SemanticKey::of_act(trigger, issue.id, moment(issue))
    })
}

fn moment(issue: &Issue) -> Timestamp {
    let at_birth = issue.updated_at - issue.created_at <= BIRTH;
    if at_birth {
        issue.created_at
    } else {
        issue.updated_at
    }
}
