//! Repositories: description, collaborators, files.

use serde_json::Value;

use super::super::account::Actor;
use super::super::bare::{self, tree};
use super::super::model::Permission;
use super::super::problem::Problem;
use super::super::setup::create_empty;
use super::super::shape;
use super::call::{Call, Result, created, ok, raw};

pub(super) fn get(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let permission = call.permission(id);
    ok(shape::repository::full(
        call.state,
        call.repo(id),
        permission,
    ))
}

/// A new one of the caller's, without a commit.
pub(super) fn create(call: &mut Call<'_>) -> Result {
    let Actor::Account(login) = call.actor else {
        return Err(call.actor.refusal());
    };
    let missing = Problem::invalid("Repository", "name", "missing_field");
    let name = call.text("name")?.ok_or(missing)?;
    let private = call.flag("private")?;
    let full_name = format!("{login}/{name}");
    if call.state.find_repository(&full_name).is_some() {
        let message = "name already exists on this account".to_owned();
        return Err(Problem::custom("Repository", message));
    }
    let id = create_empty(call.state, &full_name, private)
        .map_err(|error| Problem::custom("Repository", format!("{error:#}")))?;
    let permission = call.permission(id);
    created(shape::repository::full(
        call.state,
        call.repo(id),
        permission,
    ))
}

pub(super) fn permission(call: &mut Call<'_>) -> Result {
    // Who may read may ask, but not without a name.
    let id = call.act(Permission::Read)?.repository;
    let user = call.state.find_user(call.param("username"));
    let login = user.ok_or(Problem::NotFound)?.login.clone();
    let permission = call.state.permission(id, &login);
    ok(shape::account::permission(call.state, &login, permission))
}

pub(super) fn contents(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let repository = call.repo(id);
    let reference = call
        .query("ref")
        .unwrap_or(repository.default_branch.clone());
    let commit = bare::resolve(&repository.folder, &reference).ok_or(Problem::NotFound)?;
    let path = call.param("path");
    match tree::find(&repository.folder, &commit, path)?.ok_or(Problem::NotFound)? {
        tree::Found::File { content, .. } if call.asked.accept.contains("raw") => {
            raw("application/vnd.github.raw+json; charset=utf-8", content)
        }
        tree::Found::File { sha, content } => {
            let at = shape::content::At {
                reference: &reference,
                path,
                blob: &sha,
            };
            ok(shape::content::file(call.state, repository, &at, &content))
        }
        tree::Found::Folder(entries) => {
            let entry = |entry| shape::content::listed(call.state, repository, &reference, entry);
            ok(Value::Array(entries.iter().map(entry).collect()))
        }
        tree::Found::Submodule(entry) => ok(shape::content::entry(
            call.state, repository, &reference, &entry,
        )),
    }
}
