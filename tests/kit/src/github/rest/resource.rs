//! What a call is about, in the words of an App's permissions.

use super::super::model::RepositoryId;
use super::super::state::State;

/// The permission that decides about a call on a repository, such as `contents`.
pub(super) fn of(state: &State, id: RepositoryId, path: &str) -> &'static str {
    // `/repos/OWNER/NAME/…`
    let mut parts = path.trim_matches('/').split('/').skip(3);
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    match (first, path.rsplit('/').next().unwrap_or_default()) {
        (_, "check-runs") | ("check-runs", _) => "checks",
        (_, "status" | "statuses") | ("statuses", _) => "statuses",
        ("contents" | "git" | "branches" | "commits", _) | ("pulls", "merge") => "contents",
        ("pulls", _) => "pull_requests",
        ("issues", _) => second.map_or("issues", |part| of_issue(state, id, part, path)),
        ("labels", _) => "issues",
        ("hooks", _) => "repository_hooks",
        _ => "metadata",
    }
}

/// Pull requests are issues as well, but not for permissions.
fn of_issue(state: &State, id: RepositoryId, part: &str, path: &str) -> &'static str {
    let issue = if part == "comments" {
        let comment = path
            .rsplit('/')
            .next()
            .and_then(|number| number.parse().ok());
        comment.and_then(|number| state.comment(id, number).ok().map(|(issue, _)| issue))
    } else {
        let number = part.parse().ok();
        number.and_then(|number| state.issue(id, number).ok())
    };
    match issue {
        Some(issue) if issue.pull.is_some() => "pull_requests",
        _ => "issues",
    }
}
