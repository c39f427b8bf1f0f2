//! GitHub Apps, installations and their tokens.

use serde_json::{Value, json};

use super::super::account::{App, Installation, find_app};
use super::super::state::State;
use super::{account, node_id, repository, time};

/// An App.
pub(crate) fn app(state: &State, app: &App) -> Value {
    json!({
        "id": app.id,
        "slug": app.slug,
        "node_id": node_id("App", app.id),
        "client_id": format!("Iv1.{}", app.id),
        "owner": account::user(state, &app.owner),
        "name": app.slug,
        "description": null,
        "external_url": state.base_url,
        "html_url": format!("{}/apps/{}", state.base_url, app.slug),
        "created_at": time(app.created_at),
        "updated_at": time(app.created_at),
        "permissions": permissions(),
        "events": events(),
    })
}

/// What every App of the simulator may do.
pub(crate) fn permissions() -> Value {
    json!({
        "checks": "write", "contents": "write", "issues": "write", "metadata": "read",
        "pull_requests": "write", "statuses": "write",
    })
}

fn events() -> Value {
    json!([
        "issues",
        "issue_comment",
        "pull_request",
        "pull_request_review",
        "push"
    ])
}

/// An installation of an App.
pub(crate) fn installation(state: &State, installation: &Installation) -> Value {
    let id = installation.id;
    let url = format!("{}/app/installations/{id}", state.base_url);
    let slug = find_app(state, installation.app).map(|app| app.slug.clone());
    let target = state.user(&installation.account);
    json!({
        "id": id,
        "account": account::user(state, &installation.account),
        "repository_selection": "selected",
        "access_tokens_url": format!("{url}/access_tokens"),
        "repositories_url": format!("{}/installation/repositories", state.base_url),
        "html_url": format!("{}/settings/installations/{id}", state.base_url),
        "app_id": installation.app,
        "app_slug": slug,
        "target_id": target.id,
        "target_type": "User",
        "permissions": permissions(),
        "events": events(),
        "created_at": time(installation.created_at),
        "updated_at": time(installation.created_at),
        "single_file_name": null,
        "suspended_by": null,
        "suspended_at": null,
    })
}

/// A list of repositories with the field names of installations.
pub(crate) fn repositories(state: &State, of: &[super::super::model::RepositoryId]) -> Value {
    of.iter()
        .map(|id| repository::repository(state, state.repository(*id)))
        .collect()
}
