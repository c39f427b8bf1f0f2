//! Pull requests.

use serde_json::json;

use super::super::act::issue::IssueEdit;
use super::super::act::merge::MergeOrder;
use super::super::act::pull::NewPull;
use super::super::bare::history;
use super::super::bare::merge::MergeMethod;
use super::super::model::{Issue, Permission, Pull};
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Call, Result, created, ok, raw};
use super::issue::open_state;

pub(super) fn list(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let state = call.query("state").unwrap_or("open".to_owned());
    let (head, base) = (call.query("head"), call.query("base"));
    let owner = &call.repo(id).owner;
    let wanted = |issue: &Issue, pull: &Pull| {
        let full = format!("{owner}:{}", pull.head);
        // GitHub ignores a head that names no owner.
        let head = head.as_ref().filter(|head| head.contains(':'));
        (state == "all" || issue.state.name() == state)
            && head.is_none_or(|head| head.eq_ignore_ascii_case(&full))
            && base.as_ref().is_none_or(|base| *base == pull.base)
    };
    let newest_first = call.repo(id).issues.values().rev();
    let pulls = newest_first.filter_map(|issue| Some((issue, issue.pull.as_ref()?)));
    let pulls = pulls.filter(|(issue, pull)| wanted(issue, pull));
    let items = pulls.map(|(issue, pull)| shape::pull::simple(call.state, id, issue, pull));
    call.page(items.collect())
}

pub(super) fn create(call: &mut Call<'_>) -> Result {
    let missing = |field| Problem::invalid("PullRequest", field, "missing_field");
    let new = NewPull {
        title: call.text("title")?.unwrap_or_default(),
        body: call.text("body")?,
        head: call.text("head")?.ok_or(missing("head"))?,
        base: call.text("base")?.ok_or(missing("base"))?,
        draft: call.flag("draft")?,
    };
    let mut act = call.act(Permission::Write)?;
    let (id, number) = (act.repository, act.open_pull(new)?);
    let (issue, pull) = call.state.pull(id, number)?;
    created(shape::pull::full(call.state, id, issue, pull))
}

pub(super) fn get(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let (issue, pull) = call.state.pull(id, call.number("pull_number")?)?;
    if call.asked.accept.contains("diff") {
        let diff = history::diff(&call.repo(id).folder, &pull.base_sha, &pull.head_sha)?;
        return raw(
            "application/vnd.github.diff; charset=utf-8",
            diff.into_bytes(),
        );
    }
    ok(shape::pull::full(call.state, id, issue, pull))
}

pub(super) fn update(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let number = call.number("pull_number")?;
    let author = call.state.pull(id, number)?.0.author.clone();
    let base = call.text("base")?;
    let edit = IssueEdit {
        title: call.text("title")?,
        body: call.text("body")?,
        state: open_state(call)?,
        ..IssueEdit::default()
    };
    let mut act = call.act_on(&author, Permission::Write)?;
    act.edit_pull(number, base.as_deref())?;
    act.edit_issue(number, edit)?;
    let (issue, pull) = call.state.pull(id, number)?;
    ok(shape::pull::full(call.state, id, issue, pull))
}

pub(super) fn merge(call: &mut Call<'_>) -> Result {
    let number = call.number("pull_number")?;
    let method = match call.text("merge_method")?.as_deref() {
        None | Some("merge") => MergeMethod::Merge,
        Some("squash") => MergeMethod::Squash,
        Some("rebase") => MergeMethod::Rebase,
        Some(_) => return Err(Problem::invalid("PullRequest", "merge_method", "invalid")),
    };
    let order = MergeOrder {
        method,
        title: call.text("commit_title")?,
        message: call.text("commit_message")?,
        sha: call.text("sha")?,
    };
    let sha = call.act(Permission::Write)?.merge_pull(number, order)?;
    let message = "Pull Request successfully merged";
    ok(json!({ "sha": sha, "merged": true, "message": message }))
}

pub(super) fn files(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let (_, pull) = call.state.pull(id, call.number("pull_number")?)?;
    let of = call.repo(id);
    let range = format!("{}...{}", pull.base_sha, pull.head_sha);
    let changes = history::changes(&of.folder, &range)?;
    let files = changes.iter();
    let files = files.map(|one| shape::pull::file(call.state, of, &pull.head_sha, one));
    call.page(files.collect())
}

pub(super) fn commits(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let (_, pull) = call.state.pull(id, call.number("pull_number")?)?;
    let of = call.repo(id);
    let commits = history::commits_between(&of.folder, &pull.base_sha, &pull.head_sha)?;
    let commits = commits.iter();
    let commits = commits.map(|one| shape::commit::commit(call.state, of, one));
    call.page(commits.collect())
}
