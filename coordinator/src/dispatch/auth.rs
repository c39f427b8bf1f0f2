//! Who may connect: those who show the fleet's key. Everyone else learns nothing but that.

use std::time::Duration;

use patchfleet_config::ApiKey;
use patchfleet_listen::Source;
use patchfleet_proto::PUSHBACK;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use crate::cache::Cache;
use crate::guesses::SharedKey;

/// Refuses streams that do not show the fleet's key, and addresses that guess it.
#[derive(Debug, Clone)]
pub(super) struct KeyCheck {
    key: SharedKey,
}

impl KeyCheck {
    pub(super) fn new(key: ApiKey, cache: &Cache) -> Self {
        Self {
            key: SharedKey::new(key, cache, "fleet-guess"),
        }
    }

    /// Lets a stream pass that shows the key.
    ///
    /// # Errors
    /// The answer to one that does not.
    pub(super) async fn check<T>(
        &self,
        request: &Request<T>,
        source: Source,
    ) -> Result<(), Status> {
        let shown = request.metadata().get("authorization");
        match self
            .key
            .admits(shown.map(MetadataValue::as_bytes), source)
            .await
        {
            Ok(true) => Ok(()),
            Ok(false) => {
                tracing::warn!(%source, "an agent showed no or a wrong key");
                Err(Status::unauthenticated("authentication failed"))
            }
            // It has been warned of as often as guesses were looked at.
            Err(wait) => {
                tracing::debug!(%source, ?wait, "a key is not looked at after too many wrong ones");
                Err(too_many(wait))
            }
        }
    }
}

/// The answer to an address from which too many wrong keys came.
fn too_many(wait: Duration) -> Status {
    let mut status = Status::resource_exhausted(
        "too many wrong keys were shown from this address; try again later",
    );
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let pushback = MetadataValue::from(millis.max(1));
    status.metadata_mut().insert(PUSHBACK, pushback);
    status
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tonic::Code;

    use super::*;

    const KEY: &str = "fleet-key";

    fn check() -> KeyCheck {
        KeyCheck::new(KEY.parse().unwrap(), &Cache::default())
    }

    fn source(ip: &str) -> Source {
        SocketAddr::new(ip.parse().unwrap(), 40_000).into()
    }

    async fn show(check: &KeyCheck, header: Option<&str>, from: &str) -> Result<(), Status> {
        let mut request = Request::new(());
        if let Some(header) = header {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", header.parse().unwrap());
        }
        check.check(&request, source(from)).await
    }

    /// Guesses until no guess is looked at any more.
    async fn guess(check: &KeyCheck, from: &str) -> Status {
        for _ in 0..100 {
            let refused = show(check, Some("Bearer a-guess-of-it"), from).await;
            let refused = refused.unwrap_err();
            if refused.code() == Code::ResourceExhausted {
                return refused;
            }
            assert_eq!(refused.code(), Code::Unauthenticated);
        }
        panic!("a hundred guesses were looked at");
    }

    #[tokio::test]
    async fn only_a_stream_with_the_key_is_let_in() {
        let check = check();
        assert!(show(&check, Some("Bearer fleet-key"), "::1").await.is_ok());
        for wrong in [None, Some("Bearer "), Some(""), Some("Bearer fleet-keys")] {
            let refused = show(&check, wrong, "::1").await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn whoever_guesses_too_often_does_not_learn_when_a_guess_is_right() {
        let check = check();
        let refused = guess(&check, "192.0.2.1").await;
        let wait = refused.metadata().get(PUSHBACK).unwrap().to_str().unwrap();
        assert!(wait.parse::<u64>().unwrap() <= 2000, "{wait}");
        let right = Some("Bearer fleet-key");
        let refused = show(&check, right, "192.0.2.1").await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(show(&check, right, "192.0.2.2").await.is_ok());
    }
}
