//! GitHub's rate limits as its answers tell them.
//!
//! The documented order: `Retry-After` first; with nothing remaining, until the reset; a
//! secondary limit without either, one minute.

use std::time::Duration;

use http::{HeaderMap, header};
use octocrab::GitHubError;
use url::Url;

/// What GitHub asks for when it names no time.
const WITHOUT_A_TIME: Duration = Duration::from_mins(1);

/// How long to wait when the refusal is about a limit.
pub(crate) fn told_to_wait(refusal: &GitHubError) -> Option<Duration> {
    if !matches!(refusal.status_code.as_u16(), 403 | 429) {
        return None;
    }
    let exhausted = field(refusal, "x-ratelimit-remaining") == Some("0");
    let secondary = refusal.message.contains("secondary rate limit")
        || refusal.message.contains("abuse detection");
    let limited = refusal.status_code.as_u16() == 429 || exhausted || secondary;
    retry_after(refusal).or_else(|| {
        let until = exhausted.then(|| until_reset(refusal)).flatten();
        limited.then(|| until.unwrap_or(WITHOUT_A_TIME))
    })
}

/// Where the next page of a list begins, as the `Link` header says.
pub(crate) fn cursor_of(headers: &HeaderMap) -> Option<String> {
    let links = headers.get(header::LINK)?.to_str().ok()?;
    let next = links
        .split(',')
        .find(|link| link.contains("rel=\"next\""))?;
    let (_, address) = next.split_once('<')?;
    let address = Url::parse(address.split_once('>')?.0).ok()?;
    let mut query = address.query_pairs();
    query
        .find(|(name, _)| name == "cursor")
        .map(|(_, cursor)| cursor.into_owned())
}

/// The `Retry-After` header; GitHub sends seconds.
pub(crate) fn retry_after(refusal: &GitHubError) -> Option<Duration> {
    let seconds = field(refusal, "retry-after")?.parse().ok()?;
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

fn field<'a>(refusal: &'a GitHubError, name: &str) -> Option<&'a str> {
    refusal.headers.as_ref()?.get(name)?.to_str().ok()
}
