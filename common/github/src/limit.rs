//! GitHub's rate limits as its answers tell them.
//!
//! The documented order: `Retry-After` first; with nothing remaining, until the reset; a
//! secondary limit without either, one minute. Proxies and older servers leave headers out, so that the
//! words count as well.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, header};
use octocrab::GitHubError;
use url::Url;

use crate::skew::time_of;

/// What GitHub asks for when it names no time.
const WITHOUT_A_TIME: Duration = Duration::from_mins(1);
/// The shortest wait: a moment that is over, or whole seconds on their side and another clock on ours,
/// are no leave to ask again at once.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long to wait when the refusal is about a limit.
pub(crate) fn told_to_wait(refusal: &GitHubError) -> Option<Duration> {
    let is_exhausted = field(refusal, "x-ratelimit-remaining") == Some("0");
    let told = retry_after(refusal);
    let is_limit = match refusal.status_code.as_u16() {
        429 => true,
        403 => is_exhausted || told.is_some() || names_a_limit(refusal),
        422 => is_too_soon(refusal),
        _ => false,
    };
    let until = || is_exhausted.then(|| until_reset(refusal)).flatten();
    is_limit.then(|| told.or_else(until).unwrap_or(WITHOUT_A_TIME))
}

/// GitHub's words for a limit, its own and those of older servers.
fn names_a_limit(refusal: &GitHubError) -> bool {
    let said = refusal.message.to_lowercase();
    said.contains("rate limit") || said.contains("abuse detection")
}

/// GitHub's words of a comment that follows another one too soon, which is a limit in the place of a
/// finding.
fn is_too_soon(refusal: &GitHubError) -> bool {
    let findings = refusal.errors.iter().flatten().map(ToString::to_string);
    let mut said = findings.chain([refusal.message.clone()]);
    said.any(|text| text.to_lowercase().contains("submitted too quickly"))
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

/// The `Retry-After` header: seconds, as GitHub sends them, or a moment.
pub(crate) fn retry_after(refusal: &GitHubError) -> Option<Duration> {
    let said = field(refusal, "retry-after")?.trim();
    let Ok(seconds) = said.parse() else {
        let until = DateTime::parse_from_rfc2822(said).ok()?;
        return Some(left_until(refusal, until.to_utc()));
    };
    Some(Duration::from_secs(seconds).max(SHORTEST))
}

fn until_reset(refusal: &GitHubError) -> Option<Duration> {
    let until = refusal.rate_limit_reset_at()?;
    Some(left_until(refusal, until))
}

/// How long it is until then by the clock that the answer was sent by, if it says its time.
fn left_until(refusal: &GitHubError, until: DateTime<Utc>) -> Duration {
    let theirs = refusal.headers.as_ref().and_then(time_of);
    let left = until - theirs.unwrap_or_else(Utc::now);
    left.to_std().unwrap_or_default().max(SHORTEST)
}

fn field<'a>(refusal: &'a GitHubError, name: &str) -> Option<&'a str> {
    refusal.headers.as_ref()?.get(name)?.to_str().ok()
}
