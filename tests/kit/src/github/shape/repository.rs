//! Repositories.

use serde_json::{Value, json};

use super::super::model::{OpenState, Permission, Repository};
use super::super::state::State;
use super::account::{flags, merge, user};
use super::{add_urls, api_url, html_url, node_id, time};

/// Ends of the addresses below a repository's REST address.
const URLS: [(&str, &str); 37] = [
    ("url", ""),
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    (
        "notifications_url",
        "/notifications{?since,all,participating}",
    ),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
];

/// The form that most answers embed.
pub(crate) fn repository(state: &State, repository: &Repository) -> Value {
    let html = html_url(state, repository);
    let mut body = json!({
        "id": repository.id.0,
        "node_id": node_id("Repository", repository.id.0),
        "name": repository.name,
        "full_name": repository.full_name(),
        "owner": user(state, &repository.owner),
        "private": repository.private,
        "visibility": if repository.private { "private" } else { "public" },
        "html_url": html,
        "clone_url": format!("{html}.git"),
        "git_url": format!("{html}.git"),
        "ssh_url": format!("{html}.git"),
        "svn_url": html,
        "mirror_url": null,
        "description": null,
        "homepage": null,
        "language": null,
        "license": null,
        "fork": false,
        "default_branch": repository.default_branch,
        "created_at": time(repository.created_at),
        "updated_at": time(repository.pushed_at),
        "pushed_at": time(repository.pushed_at),
    });
    add_urls(&mut body, &api_url(state, repository), &URLS);
    merge(&mut body, features(repository));
    body
}

fn features(repository: &Repository) -> Value {
    let open = repository.issues.values();
    let open = open.filter(|issue| issue.state == OpenState::Open).count();
    json!({
        "size": 1,
        "stargazers_count": 0,
        "watchers_count": 0,
        "watchers": 0,
        "forks_count": 0,
        "forks": 0,
        "open_issues_count": open,
        "open_issues": open,
        "has_issues": true,
        "has_projects": false,
        "has_downloads": false,
        "has_wiki": false,
        "has_pages": false,
        "has_discussions": false,
        "archived": false,
        "disabled": false,
        "is_template": false,
        "allow_forking": true,
        "web_commit_signoff_required": false,
        "topics": [],
    })
}

/// The full form, with what the caller may do.
pub(crate) fn full(state: &State, of: &Repository, permission: Permission) -> Value {
    let mut body = repository(state, of);
    let more = json!({
        "permissions": flags(permission),
        "allow_rebase_merge": true,
        "allow_squash_merge": true,
        "allow_merge_commit": true,
        "allow_auto_merge": false,
        "delete_branch_on_merge": false,
        "subscribers_count": 0,
        "network_count": 0,
    });
    merge(&mut body, more);
    body
}

/// The form in webhook payloads.
pub(crate) fn webhook(state: &State, of: &Repository) -> Value {
    let mut body = repository(state, of);
    body["custom_properties"] = json!({});
    body
}

/// The form in push payloads, where times are numbers.
pub(crate) fn pushed(state: &State, of: &Repository) -> Value {
    let mut body = webhook(state, of);
    body["created_at"] = json!(of.created_at.timestamp());
    body["pushed_at"] = json!(of.pushed_at.timestamp());
    body["master_branch"] = json!(of.default_branch);
    body["stargazers"] = json!(0);
    body
}
