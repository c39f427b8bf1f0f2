//! GitHub Apps: themselves, their installations, short-lived tokens.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::account::{Actor, Installation, InstallationGrant, issue_installation_token};
use super::super::model::{Permission, RepositoryId};
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Call, Result, created, names_in, ok};

/// The App that calls; only its JSON web token opens these.
fn caller(call: &Call<'_>) -> Result<u64> {
    match call.actor {
        Actor::App(id) => Ok(*id),
        _ => Err(Problem::BadJsonWebToken(
            "A JSON web token could not be decoded".to_owned(),
        )),
    }
}

fn own_installation(call: &Call<'_>) -> Result<Installation> {
    let (app, id) = (caller(call)?, call.number("installation_id")?);
    let mut all = call.state.installations.iter();
    let found = all.find(|one| one.id == id && one.app == app);
    found.cloned().ok_or(Problem::NotFound)
}

pub(super) fn get(call: &mut Call<'_>) -> Result {
    let id = caller(call)?;
    let app = super::super::account::find_app(call.state, id).ok_or(Problem::NotFound)?;
    ok(shape::app::app(call.state, app))
}

pub(super) fn installations(call: &mut Call<'_>) -> Result {
    let app = caller(call)?;
    let all = call.state.installations.iter().filter(|one| one.app == app);
    let all = all.map(|one| shape::app::installation(call.state, one));
    call.page(all.collect())
}

pub(super) fn installation(call: &mut Call<'_>) -> Result {
    let found = own_installation(call)?;
    ok(shape::app::installation(call.state, &found))
}

pub(super) fn of_repository(call: &mut Call<'_>) -> Result {
    let app = caller(call)?;
    let name = format!("{}/{}", call.param("owner"), call.param("repo"));
    let id = call.state.find_repository(&name).ok_or(Problem::NotFound)?;
    let mut all = call.state.installations.iter();
    let found = all.find(|one| one.app == app && one.repositories.contains(&id));
    let found = found.ok_or(Problem::NotFound)?;
    ok(shape::app::installation(call.state, found))
}

pub(super) fn access_token(call: &mut Call<'_>) -> Result {
    let found = own_installation(call)?;
    let wanted = wanted_repositories(call, &found)?;
    let permissions = wanted_permissions(call)?;
    let grant = InstallationGrant {
        installation: found.id,
        repositories: wanted.clone(),
        permissions: permissions.clone(),
    };
    let (token, expires_at) = issue_installation_token(call.state, grant)?;
    created(json!({
        "token": token,
        "expires_at": shape::time(expires_at),
        "permissions": permissions,
        "repository_selection": "selected",
        "repositories": shape::app::repositories(call.state, &wanted),
    }))
}

/// All permissions of the App, or those asked for, which may not be more.
fn wanted_permissions(call: &Call<'_>) -> Result<BTreeMap<String, String>> {
    let own: BTreeMap<String, String> = serde_json::from_value(shape::app::permissions())
        .map_err(|error| Problem::Internal(error.into()))?;
    let Value::Object(wanted) = &call.body["permissions"] else {
        return Ok(own);
    };
    let granted = wanted.iter().map(|(resource, level)| {
        let most = own.get(resource)?;
        let level = level.as_str()?;
        let fits = level == most || (level == "read" && most == "write");
        fits.then(|| (resource.clone(), level.to_owned()))
    });
    let granted: Option<BTreeMap<_, _>> = granted.collect();
    let mut granted = granted.ok_or_else(|| Problem::Validation {
        message: "The permissions requested are not granted to this installation.".to_owned(),
        errors: Vec::new(),
    })?;
    granted.insert("metadata".to_owned(), "read".to_owned());
    Ok(granted)
}

/// All repositories of the installation, or those asked for by name or id.
fn wanted_repositories(call: &Call<'_>, of: &Installation) -> Result<Vec<RepositoryId>> {
    let wanted = names_in("repositories", &call.body["repositories"])?;
    let ids = call.body["repository_ids"].as_array().cloned();
    if wanted.is_none() && ids.is_none() {
        return Ok(of.repositories.clone());
    }
    let named = wanted.unwrap_or_default().into_iter().map(|name| {
        let mut all = of.repositories.iter();
        all.find(|id| call.repo(**id).name.eq_ignore_ascii_case(&name))
            .copied()
    });
    let numbered = ids.unwrap_or_default().into_iter().map(|id| {
        let mut all = of.repositories.iter();
        all.find(|one| id.as_u64() == Some(one.0)).copied()
    });
    let found: Option<Vec<_>> = named.chain(numbered).collect();
    found.ok_or_else(|| Problem::Validation {
        message: "There is at least one repository that does not exist or is not accessible to the parent installation.".to_owned(),
        errors: Vec::new(),
    })
}

pub(super) fn repositories(call: &mut Call<'_>) -> Result {
    let Actor::Installation(_, grant) = call.actor else {
        return Err(call.actor.refusal());
    };
    let all = grant
        .repositories
        .iter()
        .map(|id| shape::repository::full(call.state, call.repo(*id), Permission::Write));
    let mut answer = call.counted_page("repositories", all.collect())?;
    if let super::call::Content::Json(body) = &mut answer.content {
        body["repository_selection"] = json!("selected");
    }
    Ok(answer)
}
