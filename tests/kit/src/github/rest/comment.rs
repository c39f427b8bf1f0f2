//! Comments.

use chrono::{DateTime, Utc};

use super::super::model::{Comment, Issue, Permission};
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Call, Result, created, no_content, ok};

pub(super) fn list(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let issue = call.state.issue(id, call.number("issue_number")?)?;
    let since: Option<DateTime<Utc>> = call.query("since").and_then(|at| at.parse().ok());
    let wanted = |comment: &&Comment| since.is_none_or(|since| comment.updated_at >= since);
    let comments = issue.comments.iter().filter(wanted);
    let comments = comments.map(|one| shape::issue::comment(call.state, id, issue, one));
    call.page(comments.collect())
}

pub(super) fn create(call: &mut Call<'_>) -> Result {
    let (number, body) = (call.number("issue_number")?, text(call)?);
    let mut act = call.act(Permission::Read)?;
    let comment = act.comment(number, &body)?;
    let shown = act.show_comment(comment)?;
    created(shown)
}

pub(super) fn get(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let number = call.number("comment_id")?;
    let (issue, comment) = find(call, number)?;
    ok(shape::issue::comment(call.state, id, issue, comment))
}

pub(super) fn update(call: &mut Call<'_>) -> Result {
    let (number, body) = (call.number("comment_id")?, text(call)?);
    let author = find(call, number)?.1.author.clone();
    let mut act = call.act_on(&author, Permission::Write)?;
    act.edit_comment(number, &body)?;
    ok(act.show_comment(number)?)
}

pub(super) fn delete(call: &mut Call<'_>) -> Result {
    let number = call.number("comment_id")?;
    let author = find(call, number)?.1.author.clone();
    call.act_on(&author, Permission::Write)?
        .delete_comment(number)?;
    no_content()
}

fn text(call: &Call<'_>) -> Result<String> {
    let missing = Problem::invalid("IssueComment", "body", "missing_field");
    call.text("body")?.ok_or(missing)
}

fn find<'a>(call: &'a Call<'_>, number: u64) -> Result<(&'a Issue, &'a Comment)> {
    let id = call.repository(Permission::Read)?;
    call.state.comment(id, number)
}
