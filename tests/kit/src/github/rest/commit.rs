//! Commits, branches and refs.

use super::super::bare::{self, history};
use super::super::model::Permission;
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Call, Result, no_content, ok};

pub(super) fn get(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let of = call.repo(id);
    let name = call.param("ref");
    let sha = bare::resolve(&of.folder, name).ok_or_else(|| Problem::Validation {
        message: format!("No commit found for SHA: {name}"),
        errors: Vec::new(),
    })?;
    let commit = history::commit(&of.folder, &sha)?;
    ok(shape::commit::commit(call.state, of, &commit))
}

pub(super) fn branch(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let of = call.repo(id);
    let name = call.param("branch");
    let sha = of.branch_sha(name).ok_or(Problem::NotFound)?;
    let commit = history::commit(&of.folder, sha)?;
    ok(shape::commit::branch(call.state, of, name, &commit))
}

pub(super) fn get_ref(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let of = call.repo(id);
    let name = format!("refs/{}", call.param("ref"));
    let sha = of.refs.get(&name).ok_or(Problem::NotFound)?;
    ok(shape::commit::git_ref(call.state, of, &name, sha))
}

pub(super) fn delete_ref(call: &mut Call<'_>) -> Result {
    let name = format!("refs/{}", call.param("ref"));
    let mut act = call.act(Permission::Write)?;
    let of = act.state.repository(act.repository);
    if !of.refs.contains_key(&name) {
        return Err(Problem::Validation {
            message: "Reference does not exist".to_owned(),
            errors: Vec::new(),
        });
    }
    bare::delete_ref(&of.folder, &name)?;
    act.note_push()?;
    no_content()
}
