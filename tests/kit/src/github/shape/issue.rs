//! Issues, labels and comments.

use serde_json::{Value, json};

use super::super::model::{Comment, Happened, Issue, Label, Permission, Repository, RepositoryId};
use super::super::state::State;
use super::account::{user, user_or_null};
use super::{api_url, html_url, node_id, time};

/// Labels that every repository of GitHub starts with.
const DEFAULT_LABELS: [&str; 4] = ["bug", "documentation", "duplicate", "enhancement"];

/// How an author relates to a repository.
pub(crate) fn association(state: &State, repository: &Repository, login: &str) -> &'static str {
    if repository.owner.eq_ignore_ascii_case(login) {
        return "OWNER";
    }
    match state.permission(repository.id, login) {
        Permission::None | Permission::Read => "NONE",
        _ => "COLLABORATOR",
    }
}

/// An issue; pull requests are shown in this form among issues.
pub(crate) fn issue(state: &State, id: RepositoryId, issue: &Issue) -> Value {
    let repository = state.repository(id);
    let url = format!("{}/issues/{}", api_url(state, repository), issue.number);
    let assignees: Vec<_> = issue
        .assignees
        .iter()
        .map(|login| user(state, login))
        .collect();
    let mut body = json!({
        "url": url,
        "repository_url": api_url(state, repository),
        "labels_url": format!("{url}/labels{{/name}}"),
        "comments_url": format!("{url}/comments"),
        "events_url": format!("{url}/events"),
        "timeline_url": format!("{url}/timeline"),
        "html_url": page(state, repository, issue),
        "id": issue.id,
        "node_id": node_id("Issue", issue.id),
        "number": issue.number,
        "title": issue.title,
        "body": issue.body,
        "user": user(state, &issue.author),
        "labels": labels(state, id, issue),
        "state": issue.state.name(),
        "state_reason": issue.state_reason,
        "locked": false,
        "active_lock_reason": null,
        "assignee": assignees.first().cloned(),
        "assignees": assignees,
        "milestone": null,
        "comments": issue.comments.len(),
        "created_at": time(issue.created_at),
        "updated_at": time(issue.updated_at),
        "closed_at": issue.closed_at.map(time),
        "author_association": association(state, repository, &issue.author),
        "reactions": reactions(&format!("{url}/reactions")),
        "performed_via_github_app": null,
    });
    if let Some(pull) = &issue.pull {
        body["draft"] = json!(pull.draft);
        body["pull_request"] = pull_links(state, repository, issue);
    }
    body
}

/// An issue as `GET issues/{n}` shows it, with who closed it.
pub(crate) fn full(state: &State, id: RepositoryId, of: &Issue) -> Value {
    let mut body = issue(state, id, of);
    body["closed_by"] = user_or_null(state, of.closed_by.as_deref());
    body
}

fn pull_links(state: &State, repository: &Repository, issue: &Issue) -> Value {
    let page = page(state, repository, issue);
    let merged_at = issue.pull.as_ref().and_then(|pull| pull.merged_at);
    json!({
        "url": format!("{}/pulls/{}", api_url(state, repository), issue.number),
        "html_url": page,
        "diff_url": format!("{page}.diff"),
        "patch_url": format!("{page}.patch"),
        "merged_at": merged_at.map(time),
    })
}

/// Web address of an issue or pull request.
pub(crate) fn page(state: &State, repository: &Repository, issue: &Issue) -> String {
    let kind = if issue.pull.is_some() {
        "pull"
    } else {
        "issues"
    };
    format!("{}/{kind}/{}", html_url(state, repository), issue.number)
}

/// The labels on an issue.
pub(crate) fn labels(state: &State, id: RepositoryId, issue: &Issue) -> Value {
    let repository = state.repository(id);
    let found = issue.labels.iter().filter_map(|name| {
        let same = |label: &&Label| label.name.eq_ignore_ascii_case(name);
        repository.labels.iter().find(same)
    });
    found.map(|one| label(state, repository, one)).collect()
}

/// One label.
pub(crate) fn label(state: &State, repository: &Repository, label: &Label) -> Value {
    let name = label.name.replace(' ', "%20");
    json!({
        "id": label.id,
        "node_id": node_id("Label", label.id),
        "url": format!("{}/labels/{name}", api_url(state, repository)),
        "name": label.name,
        "description": label.description,
        "color": label.color,
        "default": DEFAULT_LABELS.contains(&label.name.as_str()),
    })
}

/// Something that was done to an issue.
pub(crate) fn event(state: &State, id: RepositoryId, happened: &Happened) -> Value {
    let repository = state.repository(id);
    let mut body = json!({
        "id": happened.id,
        "node_id": node_id("IssueEvent", happened.id),
        "url": format!("{}/issues/events/{}", api_url(state, repository), happened.id),
        "actor": user(state, &happened.by),
        "event": happened.action,
        "commit_id": null,
        "commit_url": null,
        "created_at": time(happened.at),
        "performed_via_github_app": null,
    });
    let Some(about) = &happened.about else {
        return body;
    };
    if happened.action.ends_with("labeled") {
        let mut labels = repository.labels.iter();
        let label = labels.find(|label| label.name == *about);
        let color = label.map_or("ededed", |label| label.color.as_str());
        body["label"] = json!({ "name": about, "color": color });
    } else {
        body["assignee"] = user(state, about);
        body["assigner"] = user(state, &happened.by);
    }
    body
}

/// A comment.
pub(crate) fn comment(state: &State, id: RepositoryId, of: &Issue, comment: &Comment) -> Value {
    let repository = state.repository(id);
    let api = api_url(state, repository);
    let url = format!("{api}/issues/comments/{}", comment.id);
    json!({
        "url": url,
        "html_url": format!("{}#issuecomment-{}", page(state, repository, of), comment.id),
        "issue_url": format!("{api}/issues/{}", of.number),
        "id": comment.id,
        "node_id": node_id("IssueComment", comment.id),
        "user": user(state, &comment.author),
        "created_at": time(comment.created_at),
        "updated_at": time(comment.updated_at),
        "author_association": association(state, repository, &comment.author),
        "body": comment.body,
        "reactions": reactions(&format!("{url}/reactions")),
        "performed_via_github_app": null,
    })
}

fn reactions(url: &str) -> Value {
    json!({
        "url": url, "total_count": 0, "+1": 0, "-1": 0, "laugh": 0, "hooray": 0,
        "confused": 0, "heart": 0, "rocket": 0, "eyes": 0,
    })
}
