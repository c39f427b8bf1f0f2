//! The log of webhook deliveries, and asking for one again.

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::account::Actor;
use super::super::hook::{Attempt, Delivery, HookId};
use super::super::model::Permission;
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Answer, Call, Content, Result, ok, with_status};

pub(super) fn list(call: &mut Call<'_>) -> Result {
    let hook = repository_hook(call)?;
    Ok(log(call, Some(hook)))
}

pub(super) fn get(call: &mut Call<'_>) -> Result {
    let hook = repository_hook(call)?;
    one(call, Some(hook))
}

pub(super) fn redeliver(call: &mut Call<'_>) -> Result {
    let hook = repository_hook(call)?;
    again(call, Some(hook))
}

pub(super) fn app_list(call: &mut Call<'_>) -> Result {
    only_app(call)?;
    Ok(log(call, None))
}

pub(super) fn app_get(call: &mut Call<'_>) -> Result {
    only_app(call)?;
    one(call, None)
}

pub(super) fn app_redeliver(call: &mut Call<'_>) -> Result {
    only_app(call)?;
    again(call, None)
}

fn only_app(call: &Call<'_>) -> Result<()> {
    match call.actor {
        Actor::App(_) => Ok(()),
        _ => Err(Problem::BadJsonWebToken(
            "A JSON web token could not be decoded".to_owned(),
        )),
    }
}

/// Webhooks are for those who administer the repository.
fn repository_hook(call: &Call<'_>) -> Result<HookId> {
    // To others it looks as if there were none.
    let id = call.repository(Permission::Read)?;
    if !call.may(id, Permission::Admin) {
        return Err(Problem::NotFound);
    }
    let hook = HookId(call.number("hook_id")?);
    let found = call.state.hooks.find(hook);
    found.map(|hook| hook.id).ok_or(Problem::NotFound)
}

/// Attempts of a webhook, newest first.
fn attempts<'a>(call: &'a Call<'_>, hook: Option<HookId>) -> Vec<(&'a Delivery, &'a Attempt)> {
    let deliveries = call.state.hooks.deliveries.iter();
    let deliveries = deliveries.filter(|one| hook.is_none_or(|hook| one.hook == hook));
    let mut list: Vec<_> = deliveries
        .flat_map(|delivery| delivery.attempts.iter().map(move |one| (delivery, one)))
        .collect();
    list.sort_by_key(|(_, attempt)| std::cmp::Reverse(attempt.id));
    list
}

/// A page that begins after the attempt that the cursor names.
fn log(call: &Call<'_>, hook: Option<HookId>) -> Answer {
    let cursor: Option<u64> = call.query("cursor").and_then(|text| text.parse().ok());
    let status = call.query("status");
    let wanted = |attempt: &Attempt| match status.as_deref() {
        Some("success") => is_success(attempt),
        Some("failure") => !is_success(attempt),
        _ => true,
    };
    let mut rest = attempts(call, hook);
    rest.retain(|(_, one)| cursor.is_none_or(|last| one.id < last) && wanted(one));
    let more = rest.len() > call.per_page();
    rest.truncate(call.per_page());
    let last = rest.last().map(|(_, attempt)| attempt.id);
    let link = last.filter(|_| more);
    let link = link.map(|last| call.neighbour("next", "cursor", last));
    let items = rest.iter();
    let items = items.map(|(delivery, one)| shape::hook::item(call.state, delivery, one));
    Answer {
        status: 200,
        content: Content::Json(Value::Array(items.collect())),
        link,
    }
}

fn is_success(attempt: &Attempt) -> bool {
    attempt
        .status
        .is_some_and(|code| (200..300).contains(&code))
}

fn one(call: &Call<'_>, hook: Option<HookId>) -> Result {
    let (delivery, attempt) = find(call, hook)?;
    ok(shape::hook::full(call.state, delivery, attempt))
}

fn again(call: &mut Call<'_>, hook: Option<HookId>) -> Result {
    let guid: Uuid = find(call, hook)?.0.id;
    call.state.hooks.redeliver(guid);
    with_status(202, json!({}))
}

fn find<'a>(call: &'a Call<'_>, hook: Option<HookId>) -> Result<(&'a Delivery, &'a Attempt)> {
    let number = call.number("delivery_id")?;
    let mut list = attempts(call, hook).into_iter();
    list.find(|(_, one)| one.id == number)
        .ok_or(Problem::NotFound)
}
