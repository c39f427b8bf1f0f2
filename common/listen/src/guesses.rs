//! How often a key may be guessed.
//!
//! Whoever shows a key from an address that has not shown the right one before takes from a bucket
//! of guesses first, and when that is empty the key is not even looked at: an answer would tell
//! whoever goes on guessing when it was right. An address that has shown the right key is spared
//! that for a day, and loopback always: behind a proxy or NAT strangers have the address of whoever
//! has the key, and must not be able to lock them out. There the length of the key is what protects
//! it (`ApiKey` has a minimum), and what the proxy limits.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use lru::LruCache;
use patchfleet_config::ApiKey;
use tokio::time::Instant;

use crate::Source;

/// How often a source may guess in a minute, over time.
pub const GUESSES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("more than none");
/// How often it may at once, when it has not guessed for a while.
pub const GUESSES_AT_ONCE: NonZeroU32 = NonZeroU32::new(20).expect("more than none");
/// How long a source that has shown the key is spared.
const TRUSTED: Duration = Duration::from_hours(24);
/// How many such sources are remembered. Only who has the key adds to them.
const MANY: NonZeroUsize = NonZeroUsize::new(10_000).expect("more than none");

/// A key that is looked at only as often as it may be guessed. Cheap to clone; clones share what
/// they know of sources.
#[derive(Debug, Clone)]
pub struct GuardedKey {
    key: ApiKey,
    /// When each source has shown the key last.
    trusted: Arc<Mutex<LruCache<Source, Instant>>>,
}

impl GuardedKey {
    /// The key, which nobody has shown yet.
    pub fn new(key: ApiKey) -> Self {
        let trusted = LruCache::new(MANY);
        Self {
            key,
            trusted: Arc::new(Mutex::new(trusted)),
        }
    }

    /// Whether a request with this `Authorization` header shows the key. `guess` takes one guess
    /// out of the source's bucket; it is only polled when the source is not spared that.
    ///
    /// # Errors
    /// What `guess` says: how long to wait until a key from there is looked at again.
    pub async fn admits(
        &self,
        authorization: Option<&[u8]>,
        source: Source,
        guess: impl Future<Output = Result<(), Duration>>,
    ) -> Result<bool, Duration> {
        if authorization.is_some() && !self.is_spared(source) {
            guess.await?;
        }
        let admitted = self.key.admits(authorization);
        if admitted {
            self.trusted().put(source, Instant::now());
        }
        Ok(admitted)
    }

    fn is_spared(&self, source: Source) -> bool {
        source.is_loopback() || {
            let shown = self.trusted().get(&source).copied();
            shown.is_some_and(|at| at.elapsed() < TRUSTED)
        }
    }

    fn trusted(&self) -> MutexGuard<'_, LruCache<Source, Instant>> {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buckets of guesses of one process. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Guesses {
    buckets: Arc<DefaultKeyedRateLimiter<Source>>,
}

impl Default for Guesses {
    fn default() -> Self {
        let quota = Quota::per_minute(GUESSES_PER_MINUTE).allow_burst(GUESSES_AT_ONCE);
        Self {
            buckets: Arc::new(DefaultKeyedRateLimiter::keyed(quota)),
        }
    }
}

impl Guesses {
    /// Takes one guess out of the source's bucket.
    ///
    /// # Errors
    /// How long to wait for the next one, when there is none.
    pub fn take(&self, source: Source) -> Result<(), Duration> {
        // Those that are full again need not be remembered.
        if self.buckets.len() > MANY.get() {
            self.buckets.retain_recent();
        }
        let taken = self.buckets.check_key(&source);
        taken.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: Option<&[u8]> = Some(b"Bearer the-right-key");
    const WRONG: Option<&[u8]> = Some(b"Bearer a-guess-of-it");

    struct Scene {
        key: GuardedKey,
        guesses: Guesses,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                key: GuardedKey::new("the-right-key".parse().unwrap()),
                guesses: Guesses::default(),
            }
        }

        async fn show(&self, shown: Option<&[u8]>, ip: &str) -> Result<bool, Duration> {
            let source = source(ip);
            let guess = async { self.guesses.take(source) };
            self.key.admits(shown, source, guess).await
        }

        /// Guesses a hundred times and tells how many of the guesses were looked at.
        async fn guess(&self, ip: &str) -> usize {
            let mut looked_at = 0;
            for _ in 0..100 {
                let shown = self.show(WRONG, ip).await;
                looked_at += usize::from(shown == Ok(false));
            }
            looked_at
        }
    }

    fn source(ip: &str) -> Source {
        std::net::SocketAddr::new(ip.parse().unwrap(), 40_000).into()
    }

    #[tokio::test]
    async fn whoever_guesses_too_often_does_not_learn_when_a_guess_is_right() {
        let scene = Scene::new();
        assert!(scene.guess("192.0.2.1").await < 50);
        let wait = scene.show(RIGHT, "192.0.2.1").await.unwrap_err();
        assert!(wait <= Duration::from_secs(2), "{wait:?}");
        assert_eq!(scene.show(None, "192.0.2.1").await, Ok(false));
        assert_eq!(scene.show(RIGHT, "192.0.2.2").await, Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_showed_the_key_is_not_locked_out_by_guesses_for_a_day() {
        let scene = Scene::new();
        assert_eq!(scene.show(RIGHT, "192.0.2.1").await, Ok(true));
        assert_eq!(scene.guess("192.0.2.1").await, 100);
        tokio::time::advance(TRUSTED / 2).await;
        assert_eq!(scene.show(RIGHT, "192.0.2.1").await, Ok(true));
        tokio::time::advance(TRUSTED / 2).await;
        assert_eq!(scene.guess("192.0.2.1").await, 100);
        tokio::time::advance(TRUSTED).await;
        assert!(scene.guess("192.0.2.1").await < 50);
    }

    #[tokio::test]
    async fn whoever_connects_from_the_same_host_is_never_locked_out() {
        let scene = Scene::new();
        assert_eq!(scene.guess("127.0.0.1").await, 100);
        assert_eq!(scene.guess("::1").await, 100);
        assert_eq!(scene.show(RIGHT, "::1").await, Ok(true));
    }
}
