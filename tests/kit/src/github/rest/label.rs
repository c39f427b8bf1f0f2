//! Labels of a repository and of an issue.

use serde_json::Value;

use super::super::act::label::NewLabel;
use super::super::model::{Permission, RepositoryId};
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Call, Result, created, names_in, ok};

pub(super) fn list_all(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let repository = call.repo(id);
    let labels = repository.labels.iter();
    let labels = labels.map(|label| shape::issue::label(call.state, repository, label));
    call.page(labels.collect())
}

pub(super) fn create(call: &mut Call<'_>) -> Result {
    let missing = Problem::invalid("Label", "name", "missing_field");
    let new = NewLabel {
        name: call.text("name")?.ok_or(missing)?,
        color: call.text("color")?,
        description: call.text("description")?,
    };
    let mut act = call.act(Permission::Write)?;
    let (id, label) = (act.repository, act.create_label(new)?);
    created(shape::issue::label(call.state, call.repo(id), &label))
}

pub(super) fn list(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let labels = on_issue(call, id, call.number("issue_number")?)?;
    call.page(labels.as_array().cloned().unwrap_or_default())
}

pub(super) fn add(call: &mut Call<'_>) -> Result {
    let (names, number) = (names(call)?, call.number("issue_number")?);
    let mut act = call.act(Permission::Triage)?;
    let id = act.repository;
    act.add_labels(number, &names)?;
    ok(on_issue(call, id, number)?)
}

pub(super) fn set(call: &mut Call<'_>) -> Result {
    let (names, number) = (names(call)?, call.number("issue_number")?);
    let mut act = call.act(Permission::Triage)?;
    let id = act.repository;
    act.replace_labels(number, &names)?;
    ok(on_issue(call, id, number)?)
}

pub(super) fn remove(call: &mut Call<'_>) -> Result {
    let (name, number) = (call.param("name").to_owned(), call.number("issue_number")?);
    let mut act = call.act(Permission::Triage)?;
    let id = act.repository;
    act.remove_label(number, &name)?;
    ok(on_issue(call, id, number)?)
}

fn on_issue(call: &Call<'_>, id: RepositoryId, number: u64) -> Result<Value> {
    let issue = call.state.issue(id, number)?;
    Ok(shape::issue::labels(call.state, id, issue))
}

/// The body may be an object with `labels` or the bare list.
fn names(call: &Call<'_>) -> Result<Vec<String>> {
    let list = if call.body.is_array() {
        &call.body
    } else {
        &call.body["labels"]
    };
    let missing = Problem::invalid("Label", "labels", "missing_field");
    names_in("labels", list)?.ok_or(missing)
}
