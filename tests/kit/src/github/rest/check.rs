//! Check runs and commit statuses.

use super::super::account::Actor;
use super::super::act::check::{CheckReport, NewStatus};
use super::super::bare;
use super::super::model::{Permission, RepositoryId};
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Call, Result, created, ok};

pub(super) fn list(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let (of, sha) = (call.repo(id), commit(call, id)?);
    let name = call.query("check_name");
    let runs = of.checks.iter().filter(|run| run.head_sha == sha);
    let runs = runs.filter(|run| name.as_ref().is_none_or(|name| *name == run.name));
    let runs = runs.map(|run| shape::check::check_run(call.state, of, run));
    call.counted_page("check_runs", runs.collect())
}

pub(super) fn create(call: &mut Call<'_>) -> Result {
    let report = report(call)?;
    let mut act = call.act(Permission::Write)?;
    let (id, run) = (act.repository, act.create_check(report)?);
    created(shape::check::check_run(call.state, call.repo(id), &run))
}

pub(super) fn update(call: &mut Call<'_>) -> Result {
    let (report, number) = (report(call)?, call.number("check_run_id")?);
    let mut act = call.act(Permission::Write)?;
    let (id, run) = (act.repository, act.update_check(number, report)?);
    ok(shape::check::check_run(call.state, call.repo(id), &run))
}

/// What the body says; only a GitHub App may say it.
fn report(call: &Call<'_>) -> Result<CheckReport> {
    let Actor::Installation(_, grant) = call.actor else {
        let text = "You must authenticate via a GitHub App.";
        return Err(Problem::Forbidden(text.to_owned()));
    };
    let mut all = call.state.installations.iter();
    let installation = all.find(|one| one.id == grant.installation);
    let at = |field| {
        let text = call.text(field);
        text.map(|text| text.and_then(|text| text.parse().ok()))
    };
    let output = |field: &str| call.body["output"][field].as_str().map(str::to_owned);
    Ok(CheckReport {
        name: call.text("name")?,
        head_sha: call.text("head_sha")?,
        status: call.text("status")?,
        conclusion: call.text("conclusion")?,
        title: output("title"),
        summary: output("summary"),
        started_at: at("started_at")?,
        completed_at: at("completed_at")?,
        app: installation.map(|one| one.app),
    })
}

pub(super) fn report_status(call: &mut Call<'_>) -> Result {
    let new = NewStatus {
        sha: call.param("sha").to_owned(),
        state: call.text("state")?.unwrap_or_default(),
        context: call.text("context")?.unwrap_or("default".to_owned()),
        description: call.text("description")?,
        target_url: call.text("target_url")?,
    };
    let mut act = call.act(Permission::Write)?;
    let (id, status) = (act.repository, act.report_status(new)?);
    created(shape::check::status(call.state, call.repo(id), &status))
}

pub(super) fn statuses(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let (of, sha) = (call.repo(id), commit(call, id)?);
    let newest_first = of.statuses.iter().rev().filter(|one| one.sha == sha);
    let statuses = newest_first.map(|one| shape::check::status(call.state, of, one));
    call.page(statuses.collect())
}

pub(super) fn combined(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let sha = commit(call, id)?;
    ok(shape::check::combined(call.state, call.repo(id), &sha))
}

fn commit(call: &Call<'_>, id: RepositoryId) -> Result<String> {
    let folder = &call.repo(id).folder;
    bare::resolve(folder, call.param("ref")).ok_or(Problem::NotFound)
}
