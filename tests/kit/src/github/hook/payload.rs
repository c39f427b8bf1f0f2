//! The parts that all payloads share: repository, sender, installation.

use serde_json::{Value, json};

use super::super::model::RepositoryId;
use super::super::shape;
use super::super::state::State;
use super::HookId;

/// What happened, where, and who did it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) name: &'static str,
    pub(crate) repository: RepositoryId,
    pub(crate) sender: &'a str,
}

/// Announces an event with its own fields and those that every event has.
pub(crate) fn announce(state: &mut State, event: &Event<'_>, mut body: Value) {
    let repository = state.repository(event.repository);
    body["repository"] = if event.name == "push" {
        shape::repository::pushed(state, repository)
    } else {
        shape::repository::webhook(state, repository)
    };
    body["sender"] = shape::account::user(state, event.sender);
    let installed = state
        .installations
        .iter()
        .find(|one| one.repositories.contains(&event.repository));
    if let Some(installation) = installed {
        body["installation"] = json!({
            "id": installation.id,
            "node_id": shape::node_id("Installation", installation.id),
        });
    }
    state
        .hooks
        .announce(event.name, Some(event.repository), &body);
}

/// Announces to a new webhook that it exists.
pub(crate) fn ping(state: &mut State, id: HookId) {
    let Some(hook) = state.hooks.find(id) else {
        return;
    };
    let at = shape::time(hook.created_at);
    let body = json!({
        "zen": "Design for failure.",
        "hook_id": id.0,
        "hook": {
            "type": "Repository",
            "id": id.0,
            "name": "web",
            "active": true,
            "events": ["*"],
            "config": {
                "content_type": "json",
                "insecure_ssl": "0",
                "secret": "********",
                "url": hook.url,
            },
            "created_at": at,
            "updated_at": at,
        },
        "sender": shape::account::user(state, &state.bot_login),
    });
    state.hooks.announce_to(id, "ping", None, &body);
}
