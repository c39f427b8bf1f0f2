//! Answers that are kept, so that GitHub need not say again what has not changed.
//!
//! GitHub is asked all the same, with the version of what is known (`If-None-Match`): it answers 304
//! when that is what it would say now to these very credentials, and counts no such answer against
//! the hour's limit (GitHub's documentation, "Best practices for using the REST API", conditional
//! requests). So nothing that is kept is ever believed by itself, and nothing has to be taken back.

use std::fmt;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, header};
use serde::de::DeserializeOwned;

/// An answer as GitHub gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its version, the header `ETag`.
    pub tag: String,
    /// Its JSON.
    pub body: String,
}

/// Where answers are kept. What was kept may be gone at any moment, and what is found may be anything:
/// it counts when it can be read and GitHub says that it is still so.
#[async_trait]
pub trait Keeper: fmt::Debug + Send + Sync {
    /// The last answer to a GET of that path and query, if it is there.
    async fn look(&self, target: &str) -> Option<KeptAnswer>;

    /// Keeps an answer in the place of the last one.
    async fn keep(&self, target: &str, answer: KeptAnswer);
}

/// What is known already, and the header that asks whether it is still so.
pub(crate) struct Known<T> {
    pub(crate) tag: HeaderValue,
    pub(crate) answer: T,
}

impl<T: DeserializeOwned> Known<T> {
    /// Reads what was kept; nothing when that can't be read, so that the whole answer is asked for.
    pub(crate) fn of(kept: &KeptAnswer) -> Option<Self> {
        Some(Self {
            tag: HeaderValue::from_str(&kept.tag).ok()?,
            answer: serde_json::from_str(&kept.body).ok()?,
        })
    }
}

impl KeptAnswer {
    /// An answer that can be kept: it has a version and is text.
    pub(crate) fn of(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let tag = headers.get(header::ETAG)?.to_str().ok()?;
        Some(Self {
            tag: tag.to_owned(),
            body: std::str::from_utf8(body).ok()?.to_owned(),
        })
    }
}
