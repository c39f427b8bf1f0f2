//! How often somebody may ask: one bucket for all replicas in Redis, or one in each without it.
//!
//! The generic cell rate algorithm: a bucket is the moment at which it would be empty again, so
//! that keeping and comparing it is one step (ITU-T I.371; the crate `governor` keeps the local
//! ones by the same rule).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use redis::Script;

use super::Cache;

/// Microseconds to wait, 0 when it was taken. `ARGV`: microseconds for one, how many at once.
const TAKE: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local each, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local wait = full - (burst - 1) * each - now
if wait > 0 then return wait end
full = full + each
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
return 0
";
/// Local buckets, above which those that are full again are forgotten.
const MANY: usize = 10_000;

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In a minute, over time.
    pub per_minute: NonZeroU32,
    /// At once, when nothing was asked for a while.
    pub burst: NonZeroU32,
}

/// Buckets of one kind. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Buckets {
    cache: Cache,
    kind: &'static str,
    rate: Rate,
    local: Arc<DefaultKeyedRateLimiter<String>>,
    script: Arc<Script>,
}

impl Buckets {
    /// Full buckets.
    pub fn new(cache: Cache, kind: &'static str, rate: Rate) -> Self {
        let quota = Quota::per_minute(rate.per_minute).allow_burst(rate.burst);
        Self {
            cache,
            kind,
            rate,
            local: Arc::new(DefaultKeyedRateLimiter::keyed(quota)),
            script: Arc::new(Script::new(TAKE)),
        }
    }

    /// Takes one out of the bucket of that name.
    ///
    /// # Errors
    /// How long to wait for the next one, when there is none.
    pub async fn take(&self, name: &str) -> Result<(), Duration> {
        let key = self.cache.key(self.kind, name);
        let each = 60_000_000 / u64::from(self.rate.per_minute.get());
        let asked = self.cache.ask("bucket", |mut redis| {
            let mut invocation = self.script.key(&key);
            invocation.arg(each).arg(self.rate.burst.get());
            async move { invocation.invoke_async::<u64>(&mut redis).await }
        });
        match asked.await {
            Some(0) => Ok(()),
            Some(wait) => Err(Duration::from_micros(wait)),
            None => self.take_locally(name),
        }
    }

    fn take_locally(&self, name: &str) -> Result<(), Duration> {
        if self.local.len() > MANY {
            self.local.retain_recent();
        }
        let taken = self.local.check_key(&name.to_owned());
        taken.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}
