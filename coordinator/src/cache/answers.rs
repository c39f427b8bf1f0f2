//! What GitHub answered, for all replicas or, without Redis, in this process: it is asked whether that
//! is still so, which costs nothing of its limit, instead of asked again.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lru::LruCache;
use patchfleet_github::{Keeper, KeptAnswer};

use super::Cache;

/// How long an answer is kept. Sweeps ask the same every few minutes.
const KEPT: Duration = Duration::from_hours(24);
/// Longest answer that is kept, in bytes: a page of a hundred long issues.
const LONGEST: usize = 1024 * 1024;

/// Most answers that are kept in this process, and the longest: 32 MiB at most.
const IN_PROCESS: NonZeroUsize = NonZeroUsize::new(512).expect("a constant above zero");
const LONGEST_IN_PROCESS: usize = 64 * 1024;

/// Answers that are kept in this process, the last ones that were asked for.
#[derive(Debug)]
pub(super) struct Answers(Mutex<LruCache<String, KeptAnswer>>);

impl Default for Answers {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(IN_PROCESS)))
    }
}

impl Answers {
    fn kept(&self) -> MutexGuard<'_, LruCache<String, KeptAnswer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Keeper for Cache {
    async fn look(&self, target: &str) -> Option<KeptAnswer> {
        if self.redis.is_none() {
            return self.answers.kept().get(target).cloned();
        }
        let key = self.key("github", target);
        let found = self.ask("github_look", |mut redis| {
            let fields = redis::cmd("HMGET")
                .arg(&key)
                .arg(&["tag", "body", "seal"])
                .clone();
            async move {
                let found: (Option<String>, Option<String>, Option<String>) =
                    fields.query_async(&mut redis).await?;
                Ok(found)
            }
        });
        let (tag, body, seal) = found.await?;
        Some(KeptAnswer {
            tag: tag?,
            body: body?,
            seal: seal?,
        })
    }

    async fn keep(&self, target: &str, answer: KeptAnswer) {
        if self.redis.is_none() {
            if answer.body.len() <= LONGEST_IN_PROCESS {
                self.answers.kept().put(target.to_owned(), answer);
            }
            return;
        }
        if answer.body.len() > LONGEST {
            return;
        }
        let key = self.key("github", target);
        let KeptAnswer { tag, body, seal } = answer;
        let fields = [("tag", tag), ("body", body), ("seal", seal)];
        let seconds = i64::try_from(KEPT.as_secs()).unwrap_or(i64::MAX);
        let mut pipe = redis::pipe();
        pipe.atomic();
        pipe.hset_multiple(&key, &fields).ignore();
        pipe.expire(&key, seconds).ignore();
        self.ask("github_keep", |mut redis| {
            let pipe = pipe.clone();
            async move { pipe.query_async::<()>(&mut redis).await }
        })
        .await;
    }
}
