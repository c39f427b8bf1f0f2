//! GitHub's rate limits as its answers tell them.
//!
//! The documented order: `Retry-After` first; with nothing remaining, until the reset; a
//! secondary limit without either, one minute.

use std::time::Duration;

use http::HeaderMap;
use octocrab::GitHubError;

/// What GitHub asks for when it names no time.
const WITHOUT_A_TIME: Duration = Duration::from_mins(1);

/// How long to wait when the refusal is about a limit.
pub(crate) fn told_to_wait(refusal: &GitHubError) -> Option<Duration> {
    if !matches!(refusal.status_code.as_u16(), 403 | 429) {
        return None;
    }
    let exhausted = header(refusal, "x-ratelimit-remaining") == Some("0");
    let secondary = refusal.message.contains("secondary rate limit")
        || refusal.message.contains("abuse detection");
    let limited = refusal.status_code.as_u16() == 429 || exhausted || secondary;
    retry_after(refusal).or_else(|| {
        let until = exhausted.then(|| until_reset(refusal)).flatten();
        limited.then(|| until.unwrap_or(WITHOUT_A_TIME))
    })
}

/// How many more requests GitHub takes until it resets the limit, as an answer says.
pub(crate) fn remaining_of(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get("x-ratelimit-remaining")?;
    said.to_str().ok()?.parse().ok()
}

/// The `Retry-After` header; GitHub sends seconds.
pub(crate) fn retry_after(refusal: &GitHubError) -> Option<Duration> {
    let seconds = header(refusal, "retry-after")?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn until_reset(refusal: &GitHubError) -> Option<Duration> {
    let left = refusal.rate_limit_reset_at()? - chrono::Utc::now();
    // Whole seconds on their side, another clock on ours: never less than one.
    Some(
        left.to_std()
            .unwrap_or_default()
            .max(Duration::from_secs(1)),
    )
}

fn header<'a>(refusal: &'a GitHubError, name: &str) -> Option<&'a str> {
    refusal.headers.as_ref()?.get(name)?.to_str().ok()
}
