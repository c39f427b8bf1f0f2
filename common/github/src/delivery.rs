//! An App's webhook deliveries: what failed, and asking for it again. GitHub does not deliver again by
//! itself ("Handling failed webhook deliveries", docs.github.com).

use std::collections::BTreeMap;

use patchfleet_domain::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::GitHubResult;
use crate::ask::Ask;
use crate::client::GitHub;

/// Attempts on a page; GitHub's largest.
const PER_PAGE: &str = "100";
/// Attempts of one delivery after which it is given up.
const TRIES: usize = 5;

/// A delivery that has not arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedDelivery {
    /// The number of its newest attempt.
    pub attempt: u64,
    /// `X-GitHub-Delivery`, the same for all attempts.
    pub guid: String,
    /// The event's name.
    pub event: String,
    /// When it was tried last.
    pub tried_at: Timestamp,
}

/// What has not arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedDeliveries {
    /// The deliveries, oldest first.
    pub failed: Vec<FailedDelivery>,
    /// There was nothing beyond the last page that was read.
    pub is_complete: bool,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    id: u64,
    guid: String,
    delivered_at: Timestamp,
    status_code: u16,
    event: String,
}

impl GitHub {
    /// The App's deliveries that have not arrived and are not given up, oldest first, among all
    /// attempts since then: read page by page, at most so many.
    ///
    /// # Errors
    /// What GitHub answers; only an App may ask.
    pub async fn failed_deliveries(
        &self,
        since: Timestamp,
        pages: usize,
    ) -> GitHubResult<FailedDeliveries> {
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..pages {
            let paging = [("per_page", PER_PAGE)];
            let from = cursor.as_deref().map(|cursor| ("cursor", cursor));
            let query: Vec<_> = paging.into_iter().chain(from).collect();
            let ask = Ask::get(&["app", "hook", "deliveries"]).query(&query);
            let (page, next): (Vec<Attempt>, _) = self.page_as_self(&ask.authoritative()).await?;
            let is_older = page.last().is_none_or(|last| last.delivered_at < since);
            attempts.extend(page);
            cursor = next;
            if is_older || cursor.is_none() {
                cursor = None;
                break;
            }
        }
        attempts.retain(|attempt| attempt.delivered_at >= since);
        Ok(FailedDeliveries {
            failed: failed(attempts),
            is_complete: cursor.is_none(),
        })
    }

    /// Has a delivery made again.
    ///
    /// # Errors
    /// What GitHub answers; only an App may ask.
    pub async fn redeliver(&self, failed: &FailedDelivery) -> GitHubResult<()> {
        let attempt = failed.attempt.to_string();
        let path = ["app", "hook", "deliveries", &attempt, "attempts"];
        // Arriving twice does no harm: the delivery keeps its id.
        let ask = Ask::post(&path, json!({}));
        self.ask_as_self::<IgnoredAny>(&ask).await.map(drop)
    }
}

/// Of attempts, newest first, the deliveries that none of them brought.
fn failed(attempts: Vec<Attempt>) -> Vec<FailedDelivery> {
    let mut tries: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    for attempt in attempts {
        let of_one = tries.entry(attempt.guid.clone()).or_default();
        of_one.push(attempt);
    }
    let arrived = |tries: &[Attempt]| tries.iter().any(|it| it.status_code / 100 == 2);
    tries.retain(|_, tries| !arrived(tries) && tries.len() < TRIES);
    let newest = tries.into_iter().filter_map(|(guid, tries)| {
        let newest = tries.into_iter().max_by_key(|attempt| attempt.id)?;
        Some(FailedDelivery {
            attempt: newest.id,
            guid,
            event: newest.event,
            tried_at: newest.delivered_at,
        })
    });
    let mut failed: Vec<_> = newest.collect();
    failed.sort_by_key(|it| it.attempt);
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(id: u64, guid: &str, status_code: u16) -> Attempt {
        Attempt {
            id,
            guid: guid.to_owned(),
            delivered_at: Timestamp::UNIX_EPOCH,
            status_code,
            event: "issues".to_owned(),
        }
    }

    #[test]
    fn what_arrived_at_last_or_failed_too_often_is_left_alone() {
        let mut attempts = vec![
            attempt(9, "arrived", 202),
            attempt(8, "lost", 0),
            attempt(7, "arrived", 503),
            attempt(6, "lost", 502),
        ];
        attempts.extend((1..=5).map(|id| attempt(id, "hopeless", 500)));
        let failed: Vec<_> = failed(attempts)
            .into_iter()
            .map(|it| (it.guid, it.attempt))
            .collect();
        assert_eq!(failed, [("lost".to_owned(), 8)]);
    }
}
