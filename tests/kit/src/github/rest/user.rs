//! The caller itself: account and rate limit.

use serde_json::json;

use super::super::account::Actor;
use super::super::shape;
use super::call::{Call, Result, ok};

pub(super) fn me(call: &mut Call<'_>) -> Result {
    match call.actor {
        Actor::Account(login) => ok(shape::account::myself(call.state, login)),
        other => Err(other.refusal()),
    }
}

/// What the account owns or was given a permission in.
pub(super) fn repositories(call: &mut Call<'_>) -> Result {
    let Actor::Account(login) = call.actor else {
        return Err(call.actor.refusal());
    };
    let key = login.to_lowercase();
    let all = call.state.repositories.values();
    let mine = all.filter(|one| one.permissions.contains_key(&key));
    let mine = mine.map(|one| {
        let permission = call.state.permission(one.id, login);
        shape::repository::full(call.state, one, permission)
    });
    call.page(mine.collect())
}

pub(super) fn rate_limit(call: &mut Call<'_>) -> Result {
    let now = call.state.now();
    let key = call.actor.limit_key();
    let core = call.state.windows.budget(&key, now).body();
    let search = json!({ "limit": 30, "used": 0, "remaining": 30, "reset": core["reset"] });
    ok(json!({ "resources": { "core": core, "search": search }, "rate": core }))
}
