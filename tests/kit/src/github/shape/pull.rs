//! Pull requests and their reviews.

use serde_json::{Value, json};

use super::super::bare::history::FileChange;
use super::super::model::{Issue, OpenState, Pull, Repository, RepositoryId, Review, ReviewState};
use super::super::state::State;
use super::account::{merge, user, user_or_null};
use super::issue::{association, labels, page};
use super::{api_url, html_url, node_id, repository, time};

/// The form in lists.
pub(crate) fn simple(state: &State, id: RepositoryId, issue: &Issue, pull: &Pull) -> Value {
    let repository = state.repository(id);
    let assignees: Vec<_> = issue
        .assignees
        .iter()
        .map(|login| user(state, login))
        .collect();
    let reviewers = pull.requested_reviewers.iter();
    let reviewers: Vec<_> = reviewers.map(|login| user(state, login)).collect();
    let mut body = json!({
        "id": pull.id,
        "node_id": node_id("PullRequest", pull.id),
        "number": issue.number,
        "state": issue.state.name(),
        "locked": false,
        "active_lock_reason": null,
        "title": issue.title,
        "body": issue.body,
        "user": user(state, &issue.author),
        "labels": labels(state, id, issue),
        "milestone": null,
        "created_at": time(issue.created_at),
        "updated_at": time(issue.updated_at),
        "closed_at": issue.closed_at.map(time),
        "merged_at": pull.merged_at.map(time),
        "merge_commit_sha": pull.merge_commit_sha,
        "assignee": assignees.first().cloned(),
        "assignees": assignees,
        "requested_reviewers": reviewers,
        "requested_teams": [],
        "head": side(state, repository, &pull.head, &pull.head_sha),
        "base": side(state, repository, &pull.base, &pull.base_sha),
        "author_association": association(state, repository, &issue.author),
        "auto_merge": null,
        "draft": pull.draft,
    });
    merge(&mut body, links(state, repository, issue, pull));
    body
}

/// The form of one pull request.
pub(crate) fn full(state: &State, id: RepositoryId, issue: &Issue, pull: &Pull) -> Value {
    let mut body = simple(state, id, issue, pull);
    let open = issue.state == OpenState::Open;
    let mergeable_state = match (open, pull.mergeable, pull.draft) {
        (false, ..) => "unknown",
        (true, false, _) => "dirty",
        (true, true, true) => "draft",
        (true, true, false) => "clean",
    };
    let more = json!({
        "merged": pull.merged_at.is_some(),
        "mergeable": open.then_some(pull.mergeable),
        "rebaseable": open.then_some(pull.mergeable),
        "mergeable_state": mergeable_state,
        "merged_by": user_or_null(state, pull.merged_by.as_deref()),
        "comments": issue.comments.len(),
        "review_comments": 0,
        "maintainer_can_modify": false,
        "commits": pull.size.commits,
        "additions": pull.size.additions,
        "deletions": pull.size.deletions,
        "changed_files": pull.size.changed_files,
    });
    merge(&mut body, more);
    body
}

fn side(state: &State, of: &Repository, branch: &str, sha: &str) -> Value {
    let mut repo = repository::repository(state, of);
    let settings = json!({
        "allow_rebase_merge": true, "allow_squash_merge": true, "allow_merge_commit": true,
        "allow_auto_merge": false, "delete_branch_on_merge": false, "allow_update_branch": false,
    });
    merge(&mut repo, settings);
    json!({
        "label": format!("{}:{branch}", of.owner),
        "ref": branch,
        "sha": sha,
        "user": user(state, &of.owner),
        "repo": repo,
    })
}

fn links(state: &State, repository: &Repository, issue: &Issue, pull: &Pull) -> Value {
    let api = api_url(state, repository);
    let url = format!("{api}/pulls/{}", issue.number);
    let page = page(state, repository, issue);
    let issue_url = format!("{api}/issues/{}", issue.number);
    let comments = format!("{issue_url}/comments");
    let statuses = format!("{api}/statuses/{}", pull.head_sha);
    let one_comment = format!("{api}/pulls/comments{{/number}}");
    json!({
        "url": url,
        "html_url": page,
        "diff_url": format!("{page}.diff"),
        "patch_url": format!("{page}.patch"),
        "issue_url": issue_url,
        "commits_url": format!("{url}/commits"),
        "review_comments_url": format!("{url}/comments"),
        "review_comment_url": one_comment,
        "comments_url": comments,
        "statuses_url": statuses,
        "_links": {
            "self": { "href": url },
            "html": { "href": page },
            "issue": { "href": issue_url },
            "comments": { "href": comments },
            "review_comments": { "href": format!("{url}/comments") },
            "review_comment": { "href": one_comment },
            "commits": { "href": format!("{url}/commits") },
            "statuses": { "href": statuses },
        },
    })
}

/// A file of the difference.
pub(crate) fn file(state: &State, of: &Repository, sha: &str, change: &FileChange) -> Value {
    let (api, html) = (api_url(state, of), html_url(state, of));
    let path = &change.path;
    let mut body = json!({
        "sha": change.blob,
        "filename": path,
        "status": change.status,
        "additions": change.additions,
        "deletions": change.deletions,
        "changes": change.additions + change.deletions,
        "blob_url": format!("{html}/blob/{sha}/{path}"),
        "raw_url": format!("{html}/raw/{sha}/{path}"),
        "contents_url": format!("{api}/contents/{path}?ref={sha}"),
    });
    if let Some(patch) = &change.patch {
        body["patch"] = json!(patch);
    }
    body
}

impl ReviewState {
    /// GitHub's word in REST answers; webhooks have it in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approved => "APPROVED",
            Self::ChangesRequested => "CHANGES_REQUESTED",
            Self::Commented => "COMMENTED",
        }
    }
}

/// A review.
pub(crate) fn review(state: &State, id: RepositoryId, issue: &Issue, review: &Review) -> Value {
    let repository = state.repository(id);
    let pull = format!("{}/pulls/{}", api_url(state, repository), issue.number);
    let page = page(state, repository, issue);
    let page = format!("{page}#pullrequestreview-{}", review.id);
    json!({
        "id": review.id,
        "node_id": node_id("PullRequestReview", review.id),
        "user": user(state, &review.author),
        "body": review.body,
        "state": review.state.name(),
        "html_url": page,
        "pull_request_url": pull,
        "author_association": association(state, repository, &review.author),
        "_links": { "html": { "href": page }, "pull_request": { "href": pull } },
        "submitted_at": time(review.submitted_at),
        "commit_id": review.commit_id,
    })
}
