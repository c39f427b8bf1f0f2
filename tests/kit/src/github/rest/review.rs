//! Reviews of pull requests, and asking for them.

use super::super::model::{Permission, ReviewState};
use super::super::problem::Problem;
use super::super::shape;
use super::call::{Call, Result, created, ok};

pub(super) fn list(call: &mut Call<'_>) -> Result {
    let id = call.repository(Permission::Read)?;
    let (issue, pull) = call.state.pull(id, call.number("pull_number")?)?;
    let reviews = pull.reviews.iter();
    let reviews = reviews.map(|review| shape::pull::review(call.state, id, issue, review));
    call.page(reviews.collect())
}

pub(super) fn create(call: &mut Call<'_>) -> Result {
    let number = call.number("pull_number")?;
    let verdict = match call.text("event")?.as_deref() {
        Some("APPROVE") => ReviewState::Approved,
        Some("REQUEST_CHANGES") => ReviewState::ChangesRequested,
        Some("COMMENT") => ReviewState::Commented,
        _ => return Err(Problem::invalid("PullRequestReview", "event", "invalid")),
    };
    let body = call.text("body")?.unwrap_or_default();
    let mut act = call.act(Permission::Read)?;
    let (id, review) = (act.repository, act.review(number, verdict, &body)?);
    let (issue, pull) = call.state.pull(id, number)?;
    let mut reviews = pull.reviews.iter();
    let review = reviews
        .find(|one| one.id == review)
        .ok_or(Problem::NotFound)?;
    ok(shape::pull::review(call.state, id, issue, review))
}

pub(super) fn request(call: &mut Call<'_>) -> Result {
    let number = call.number("pull_number")?;
    let reviewers = call.names("reviewers")?.unwrap_or_default();
    let mut act = call.act(Permission::Write)?;
    let id = act.repository;
    act.request_review(number, &reviewers)?;
    let (issue, pull) = call.state.pull(id, number)?;
    created(shape::pull::simple(call.state, id, issue, pull))
}
