//! The JSON that GitHub shows of each thing.
//!
//! A file per thing. Shapes follow GitHub's `OpenAPI` description, which a test
//! holds them to; a field that nobody may leave out is there even if the
//! simulator has nothing to put in it.

pub(crate) mod account;
pub(crate) mod app;
pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod content;
pub(crate) mod hook;
pub(crate) mod issue;
pub(crate) mod pull;
pub(crate) mod repository;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use super::model::Repository;
use super::state::State;

/// A time as GitHub writes it.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A node id, opaque to callers.
pub(crate) fn node_id(kind: &str, id: u64) -> String {
    BASE64.encode(format!("{kind}{id}"))
}

/// REST address of a repository.
pub(crate) fn api_url(state: &State, repository: &Repository) -> String {
    format!("{}/repos/{}", state.base_url, repository.full_name())
}

/// Web address of a repository.
pub(crate) fn html_url(state: &State, repository: &Repository) -> String {
    format!("{}/{}", state.base_url, repository.full_name())
}

/// Adds addresses that are one base with different ends.
fn add_urls(object: &mut Value, base: &str, ends: &[(&str, &str)]) {
    if let Some(map) = object.as_object_mut() {
        let urls = ends.iter().map(|(key, end)| {
            let url = Value::String(format!("{base}{end}"));
            ((*key).to_owned(), url)
        });
        map.extend(urls.collect::<Map<_, _>>());
    }
}
