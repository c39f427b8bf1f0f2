//! Check runs and commit statuses.

use serde_json::{Value, json};

use super::super::account::find_app;
use super::super::model::{CheckRun, CommitStatus, Repository};
use super::super::state::State;
use super::{account, api_url, app, html_url, node_id, repository, time};

/// A check run.
pub(crate) fn check_run(state: &State, of: &Repository, run: &CheckRun) -> Value {
    let url = format!("{}/check-runs/{}", api_url(state, of), run.id);
    let page = format!("{}/runs/{}", html_url(state, of), run.id);
    let by = run.app.and_then(|id| find_app(state, id));
    json!({
        "id": run.id,
        "head_sha": run.head_sha,
        "node_id": node_id("CheckRun", run.id),
        "external_id": "",
        "url": url,
        "html_url": page,
        "details_url": page,
        "status": run.status,
        "conclusion": run.conclusion,
        "started_at": time(run.started_at),
        "completed_at": run.completed_at.map(time),
        "output": {
            "title": run.title,
            "summary": run.summary,
            "text": null,
            "annotations_count": 0,
            "annotations_url": format!("{url}/annotations"),
        },
        "name": run.name,
        "check_suite": suite(state, of, run),
        "app": by.map(|by| app::app(state, by)),
        "pull_requests": [],
    })
}

/// The suite that the run belongs to; here each has its own.
fn suite(state: &State, of: &Repository, run: &CheckRun) -> Value {
    let branch = of.refs.iter().find(|(_, sha)| **sha == run.head_sha);
    let branch = branch.and_then(|(name, _)| name.strip_prefix("refs/heads/"));
    let by = run.app.and_then(|id| find_app(state, id));
    let mut body = json!({
        "id": run.id,
        "node_id": node_id("CheckSuite", run.id),
        "url": format!("{}/check-suites/{}", api_url(state, of), run.id),
        "head_branch": branch,
        "head_sha": run.head_sha,
        "status": run.status,
        "conclusion": run.conclusion,
        "before": null,
        "after": null,
        "pull_requests": [],
        "created_at": time(run.started_at),
        "updated_at": time(run.completed_at.unwrap_or(run.started_at)),
    });
    if let Some(by) = by {
        body["app"] = app::app(state, by);
    }
    body
}

/// A commit status.
pub(crate) fn status(state: &State, of: &Repository, status: &CommitStatus) -> Value {
    json!({
        "url": format!("{}/statuses/{}", api_url(state, of), status.sha),
        "avatar_url": account::user(state, &status.creator)["avatar_url"],
        "id": status.id,
        "node_id": node_id("StatusContext", status.id),
        "state": status.state,
        "description": status.description,
        "target_url": status.target_url,
        "context": status.context,
        "created_at": time(status.created_at),
        "updated_at": time(status.created_at),
        "creator": account::user(state, &status.creator),
    })
}

/// The newest status of each context, and the verdict over all.
pub(crate) fn combined(state: &State, of: &Repository, sha: &str) -> Value {
    let mut newest: Vec<&CommitStatus> = Vec::new();
    for status in of.statuses.iter().rev().filter(|one| one.sha == sha) {
        if !newest.iter().any(|other| other.context == status.context) {
            newest.push(status);
        }
    }
    let any = |word: &str| newest.iter().any(|status| status.state == word);
    let verdict = if any("failure") || any("error") {
        "failure"
    } else if any("pending") || newest.is_empty() {
        "pending"
    } else {
        "success"
    };
    let statuses: Vec<_> = newest
        .iter()
        .map(|one| self::status(state, of, one))
        .collect();
    let api = api_url(state, of);
    json!({
        "state": verdict,
        "total_count": statuses.len(),
        "statuses": statuses,
        "sha": sha,
        "repository": repository::repository(state, of),
        "commit_url": format!("{api}/commits/{sha}"),
        "url": format!("{api}/commits/{sha}/status"),
    })
}
