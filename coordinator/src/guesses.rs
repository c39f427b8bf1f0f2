//! Keys of the coordinator, whose guesses are counted for all replicas together.

use std::time::Duration;

use patchfleet_config::ApiKey;
use patchfleet_listen::{GUESSES_AT_ONCE, GUESSES_PER_MINUTE, GuardedKey, Source};

use crate::cache::{Buckets, Cache, Rate};

const GUESSES: Rate = Rate {
    per_minute: GUESSES_PER_MINUTE,
    burst: GUESSES_AT_ONCE,
};

/// A key, and who has guessed it how often. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub(crate) struct SharedKey {
    key: GuardedKey,
    guesses: Buckets,
}

impl SharedKey {
    /// Nobody has guessed it yet; `kind` names the key among the buckets that replicas share.
    pub(crate) fn new(key: ApiKey, cache: &Cache, kind: &'static str) -> Self {
        Self {
            key: GuardedKey::new(key),
            guesses: Buckets::new(cache.clone(), kind, GUESSES),
        }
    }

    /// Whether a request with this `Authorization` header shows the key.
    ///
    /// # Errors
    /// How long to wait until a key from there is looked at again.
    pub(crate) async fn admits(
        &self,
        authorization: Option<&[u8]>,
        source: Source,
    ) -> Result<bool, Duration> {
        let name = source.to_string();
        let guess = self.guesses.take(&name);
        self.key.admits(authorization, source, guess).await
    }
}
