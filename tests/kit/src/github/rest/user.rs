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

pub(super) fn rate_limit(call: &mut Call<'_>) -> Result {
    let now = call.state.now();
    let key = call.actor.limit_key();
    let core = call.state.windows.budget(&key, now).body();
    let search = json!({ "limit": 30, "used": 0, "remaining": 30, "reset": core["reset"] });
    ok(json!({ "resources": { "core": core, "search": search }, "rate": core }))
}
