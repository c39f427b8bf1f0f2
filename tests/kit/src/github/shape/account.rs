//! Accounts.

use serde_json::{Value, json};

use super::super::model::{AccountKind, Permission};
use super::super::state::State;
use super::{add_urls, node_id, time};

/// The short form, everywhere an account is named.
pub(crate) fn user(state: &State, login: &str) -> Value {
    let user = state.user(login);
    let kind = match user.kind {
        AccountKind::User => "User",
        AccountKind::Bot => "Bot",
    };
    let login = user.login.replace('[', "%5B").replace(']', "%5D");
    let url = format!("{}/users/{login}", state.base_url);
    // A bot's page is that of its App.
    let page = match user.login.strip_suffix("[bot]") {
        Some(slug) => format!("{}/apps/{slug}", state.base_url),
        None => format!("{}/{login}", state.base_url),
    };
    let mut body = json!({
        "login": user.login,
        "id": user.id,
        "node_id": node_id("User", user.id),
        "avatar_url": format!("{}/avatars/u/{}?v=4", state.base_url, user.id),
        "gravatar_id": "",
        "url": url,
        "html_url": page,
        "type": kind,
        "user_view_type": "public",
        "site_admin": false,
    });
    let ends = [
        ("followers_url", "/followers"),
        ("following_url", "/following{/other_user}"),
        ("gists_url", "/gists{/gist_id}"),
        ("starred_url", "/starred{/owner}{/repo}"),
        ("subscriptions_url", "/subscriptions"),
        ("organizations_url", "/orgs"),
        ("repos_url", "/repos"),
        ("events_url", "/events{/privacy}"),
        ("received_events_url", "/received_events"),
    ];
    add_urls(&mut body, &url, &ends);
    body
}

/// The short form, or null.
pub(crate) fn user_or_null(state: &State, login: Option<&str>) -> Value {
    login.map_or(Value::Null, |login| user(state, login))
}

/// The form that an account sees of itself.
pub(crate) fn myself(state: &State, login: &str) -> Value {
    let created_at = time(state.user(login).created_at);
    let mut body = user(state, login);
    let more = json!({
        "name": login, "company": null, "blog": "", "location": null, "email": null,
        "hireable": null, "bio": null, "twitter_username": null,
        "notification_email": null, "public_repos": 0, "public_gists": 0,
        "followers": 0, "following": 0, "created_at": created_at,
        "updated_at": created_at,
    });
    merge(&mut body, more);
    body
}

/// The answer about a collaborator's permission.
pub(crate) fn permission(state: &State, login: &str, permission: Permission) -> Value {
    let mut collaborator = user(state, login);
    collaborator["permissions"] = flags(permission);
    collaborator["role_name"] = json!(permission.role_name());
    json!({
        "permission": permission.legacy_name(),
        "role_name": permission.role_name(),
        "user": collaborator,
    })
}

/// The five yes-or-no permissions.
pub(crate) fn flags(permission: Permission) -> Value {
    json!({
        "admin": permission >= Permission::Admin,
        "maintain": permission >= Permission::Maintain,
        "push": permission >= Permission::Write,
        "triage": permission >= Permission::Triage,
        "pull": permission >= Permission::Read,
    })
}

/// Adds the fields of one object to another.
pub(crate) fn merge(into: &mut Value, more: Value) {
    if let (Some(map), Value::Object(more)) = (into.as_object_mut(), more) {
        map.extend(more);
    }
}
