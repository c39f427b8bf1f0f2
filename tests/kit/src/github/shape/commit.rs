//! Commits, branches and refs.

use serde_json::{Value, json};

use super::super::bare::history::{Commit, Person};
use super::super::model::Repository;
use super::super::state::State;
use super::{account, api_url, html_url, node_id};

/// A commit in the REST form.
pub(crate) fn commit(state: &State, repository: &Repository, commit: &Commit) -> Value {
    let api = api_url(state, repository);
    let html = html_url(state, repository);
    let sha = &commit.sha;
    let url = format!("{api}/commits/{sha}");
    let parents: Vec<_> = commit
        .parents
        .iter()
        .map(|parent| {
            json!({
                "sha": parent,
                "url": format!("{api}/commits/{parent}"),
                "html_url": format!("{html}/commit/{parent}"),
            })
        })
        .collect();
    json!({
        "sha": sha,
        "node_id": node_id("Commit", repository.id.0) + sha,
        "url": url,
        "html_url": format!("{html}/commit/{sha}"),
        "comments_url": format!("{url}/comments"),
        "commit": {
            "author": person(&commit.author),
            "committer": person(&commit.committer),
            "message": commit.message,
            "tree": {
                "sha": commit.tree,
                "url": format!("{api}/git/trees/{}", commit.tree),
            },
            "url": format!("{api}/git/commits/{sha}"),
            "comment_count": 0,
            "verification": {
                "verified": false, "reason": "unsigned", "signature": null,
                "payload": null, "verified_at": null,
            },
        },
        "author": account_of(state, &commit.author),
        "committer": account_of(state, &commit.committer),
        "parents": parents,
    })
}

fn person(person: &Person) -> Value {
    json!({ "name": person.name, "email": person.email, "date": person.date })
}

/// The account whose private address the commit bears.
fn account_of(state: &State, person: &Person) -> Value {
    let local = person.email.strip_suffix("@users.noreply.github.com");
    let login = local.map(|local| local.rsplit('+').next().unwrap_or(local));
    let known = login.filter(|login| state.find_user(login).is_some());
    account::user_or_null(state, known)
}

/// A branch with its newest commit.
pub(crate) fn branch(state: &State, of: &Repository, name: &str, newest: &Commit) -> Value {
    let url = format!("{}/branches/{name}", api_url(state, of));
    json!({
        "name": name,
        "commit": commit(state, of, newest),
        "_links": { "self": url, "html": format!("{}/tree/{name}", html_url(state, of)) },
        "protected": false,
        "protection": {
            "enabled": false,
            "required_status_checks": {
                "enforcement_level": "off", "contexts": [], "checks": [],
            },
        },
        "protection_url": format!("{url}/protection"),
    })
}

/// A git ref.
pub(crate) fn git_ref(state: &State, of: &Repository, name: &str, sha: &str) -> Value {
    let api = api_url(state, of);
    json!({
        "ref": name,
        "node_id": node_id("Ref", of.id.0) + name,
        "url": format!("{api}/git/{name}"),
        "object": {
            "sha": sha,
            "type": "commit",
            "url": format!("{api}/git/commits/{sha}"),
        },
    })
}
