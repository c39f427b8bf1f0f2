//! The REST interface: a table of calls, and what they all have in common.
//!
//! Common are the rate limit, conditional requests, pages and the form of
//! errors; the calls themselves are one small function each, by subject.

mod app;
mod call;
mod check;
mod comment;
mod commit;
mod hook;
mod issue;
mod label;
mod place;
mod pull;
mod repository;
mod resource;
mod review;
mod route;
mod user;

use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::account::Actor;
use super::limit::Budget;
use super::problem::Problem;
use super::state::State;
use call::{Answer, Call, Content};

pub(crate) use route::ROUTES;

/// A request, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) accept: String,
    pub(crate) if_none_match: Option<String>,
    pub(crate) body: Bytes,
}

/// Answers a REST call.
pub(crate) fn answer(state: &mut State, asked: &Asked, actor: Result<Actor, Problem>) -> Response {
    let now = state.now();
    let mut response = answer_at(state, asked, actor, now);
    // As GitHub's clock says, which need not be this host's.
    let date = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let date = HeaderValue::try_from(date).expect("a date is plain text");
    response.headers_mut().insert(header::DATE, date);
    response
}

fn answer_at(
    state: &mut State,
    asked: &Asked,
    actor: Result<Actor, Problem>,
    now: DateTime<Utc>,
) -> Response {
    let actor = match actor {
        Ok(actor) => actor,
        Err(problem) => return refused(&problem),
    };
    let key = actor.limit_key();
    // Asking for the limit is free, as on GitHub.
    let free = asked.path == "/rate_limit";
    let budget = *state.windows.budget(&key, now);
    if budget.remaining() == 0 && !free {
        let text = format!("API rate limit exceeded for {key}.");
        return with_limits(refused(&Problem::Forbidden(text)), budget);
    }
    let mut response = match dispatch(state, asked, &actor) {
        Ok(answer) => render(answer),
        Err(problem) => refused(&problem),
    };
    if asked.method == "GET" && response.status().is_success() {
        response = conditional(response, asked);
    }
    let budget = state.windows.budget(&key, now);
    if !free && response.status() != 304 {
        budget.used += 1;
    }
    with_limits(response, *budget)
}

fn dispatch(state: &mut State, asked: &Asked, actor: &Actor) -> Result<Answer, Problem> {
    let asked = &place::find(state, asked, actor)?;
    let (handler, params) = route::find(&asked.method, &asked.path).ok_or(Problem::NotFound)?;
    let body = match asked.body.as_ref() {
        b"" => Value::Null,
        bytes => serde_json::from_slice(bytes).map_err(|_| Problem::MalformedJson)?,
    };
    handler(&mut Call {
        state,
        actor,
        asked,
        params,
        body,
    })
}

fn render(answer: Answer) -> Response {
    let builder = Response::builder().status(answer.status);
    let builder = match &answer.link {
        Some(link) => builder.header(header::LINK, link),
        None => builder,
    };
    let (kind, body) = match answer.content {
        Content::Json(value) => ("application/json; charset=utf-8", value.to_string().into()),
        Content::Raw(kind, bytes) => (kind, bytes),
        Content::Empty => return finish(builder, Vec::new()),
    };
    finish(builder.header(header::CONTENT_TYPE, kind), body)
}

fn finish(builder: axum::http::response::Builder, body: Vec<u8>) -> Response {
    let tag = format!("W/\"{}\"", hex::encode(Sha256::digest(&body)));
    builder
        .header("x-github-media-type", "github.v3; format=json")
        .header(header::ETAG, tag)
        .body(body.into())
        .expect("header values are made of addresses and digits")
}

fn refused(problem: &Problem) -> Response {
    if let Problem::Internal(error) = problem {
        tracing::error!(
            error = format!("{error:#}"),
            "the simulator failed to answer"
        );
    }
    let mut builder = Response::builder()
        .status(problem.status())
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    if let Problem::Moved { location, .. } = problem {
        builder = builder.header(header::LOCATION, location);
    }
    builder
        .body(problem.body().to_string().into())
        .expect("fixed headers and addresses are valid")
}

/// Answers 304 when the caller has it already.
fn conditional(response: Response, asked: &Asked) -> Response {
    let tag = response.headers().get(header::ETAG).cloned();
    let known = asked.if_none_match.as_deref().unwrap_or_default();
    let Some(tag) = tag.filter(|tag| same_tag(tag, known)) else {
        return response;
    };
    Response::builder()
        .status(304)
        .header(header::ETAG, tag)
        .body(axum::body::Body::empty())
        .expect("the tag was a valid header before")
}

fn same_tag(tag: &HeaderValue, known: &str) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let tag = tag.to_str().map(strong).unwrap_or_default();
    known.split(',').any(|one| strong(one) == tag)
}

fn with_limits(mut response: Response, budget: Budget) -> Response {
    let numbers = [
        ("x-ratelimit-limit", budget.limit),
        ("x-ratelimit-used", budget.used),
        ("x-ratelimit-remaining", budget.remaining()),
        ("x-ratelimit-reset", budget.reset.timestamp().unsigned_abs()),
    ];
    let headers = response.headers_mut();
    for (name, number) in numbers {
        headers.insert(name, number.into());
    }
    headers.insert("x-ratelimit-resource", HeaderValue::from_static("core"));
    headers.insert(
        "x-github-api-version-selected",
        HeaderValue::from_static("2022-11-28"),
    );
    response
}
