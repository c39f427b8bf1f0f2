//! Answers that are kept, so that GitHub need not say again what has not changed.
//!
//! GitHub is asked all the same, with the version of what is known (`If-None-Match`): it answers 304
//! when that is what it would say now to these very credentials, and counts no such answer against
//! the hour's limit (GitHub's documentation, "Best practices for using the REST API", conditional
//! requests). So nothing that is kept is ever believed by itself, and nothing has to be taken back.
//!
//! GitHub vouches for the version only, not for the body that lies beside it. Each kept answer
//! therefore carries a seal, made with the credentials: whoever can write to the cache can't make
//! GitHub say what it did not say. What decides about rights is not looked up here at all.

use std::fmt;

use async_trait::async_trait;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderValue, header};
use serde::de::DeserializeOwned;
use sha2::Sha256;

/// An answer as GitHub gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its version, the header `ETag`.
    pub tag: String,
    /// Its JSON.
    pub body: String,
    /// Proves that a holder of the same credentials kept it for the same request.
    pub seal: String,
}

/// What seals are made with.
pub(crate) struct Seal<'a> {
    /// The credentials' secret.
    pub(crate) secret: &'a str,
    /// Path and query of the request.
    pub(crate) target: &'a str,
}

impl Seal<'_> {
    /// HMAC-SHA256 over request, version and body; no part but the last can contain a NUL.
    fn mac(&self, tag: &str, body: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes())
            .expect("HMAC takes keys of any length");
        for part in ["patchfleet response cache", self.target, tag] {
            mac.update(part.as_bytes());
            mac.update(b"\0");
        }
        mac.update(body.as_bytes());
        mac
    }

    fn of(&self, tag: &str, body: &str) -> String {
        hex::encode(self.mac(tag, body).finalize().into_bytes())
    }

    fn is_whole(&self, kept: &KeptAnswer) -> bool {
        let seal = hex::decode(&kept.seal).unwrap_or_default();
        self.mac(&kept.tag, &kept.body).verify_slice(&seal).is_ok()
    }
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
    /// Reads what was kept; nothing when that can't be read or was not kept by us, so that the whole
    /// answer is asked for.
    pub(crate) fn of(kept: &KeptAnswer, seal: &Seal<'_>) -> Option<Self> {
        if !seal.is_whole(kept) {
            return None;
        }
        Some(Self {
            tag: HeaderValue::from_str(&kept.tag).ok()?,
            answer: serde_json::from_str(&kept.body).ok()?,
        })
    }
}

impl KeptAnswer {
    /// An answer that can be kept: it has a version and is text.
    pub(crate) fn of(headers: &HeaderMap, body: &[u8], seal: &Seal<'_>) -> Option<Self> {
        let tag = headers.get(header::ETAG)?.to_str().ok()?;
        let body = std::str::from_utf8(body).ok()?;
        Some(Self {
            tag: tag.to_owned(),
            body: body.to_owned(),
            seal: seal.of(tag, body),
        })
    }
}
