//! An App's failed deliveries, which GitHub makes again when it is asked to.

use std::time::Duration;

use chrono::Utc;
use patchfleet_domain::Timestamp;
use patchfleet_github::{FailedDelivery, GitHubError};

use super::{Sweeper, is_low};
use crate::intake::IntakeError;

/// Under which name it is remembered until when deliveries were looked through.
const PART: &str = "deliveries";
/// How long GitHub keeps deliveries.
const KEPT: Duration = Duration::from_hours(72);
/// Pages of a hundred attempts that one sweep reads.
const PAGES: usize = 100;
/// Deliveries that one sweep asks for; they come to this very coordinator.
const MOST: usize = 500;

impl Sweeper {
    /// Has GitHub deliver again what failed since the last sweep; how many that were. What GitHub
    /// refuses to deliver again is passed over.
    pub(super) async fn redeliver(&self) -> Result<usize, IntakeError> {
        let began = Utc::now();
        let store = &self.intake.store;
        let oldest = began - KEPT;
        let last = store.swept_until(PART).await?;
        let since = last.map_or(oldest, |last| (last - self.look_back).max(oldest));
        let found = match self.github().failed_deliveries(since, PAGES).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "failed deliveries can't be listed");
                return Ok(0);
            }
        };
        if !found.is_complete {
            tracing::warn!(
                pages = PAGES,
                "there are more deliveries than one sweep looks through"
            );
        }
        let (asked, all) = self.ask_for(&found.failed).await;
        if all && found.is_complete {
            self.remember(began).await?;
        }
        Ok(asked)
    }

    async fn remember(&self, began: Timestamp) -> Result<(), IntakeError> {
        Ok(self.intake.store.set_swept_until(PART, began).await?)
    }

    /// How many were asked for, and whether none was left for the next time.
    async fn ask_for(&self, failed: &[FailedDelivery]) -> (usize, bool) {
        let mut asked = 0;
        for failed in failed {
            if self.is_recent(failed.tried_at) {
                continue;
            }
            if asked == MOST || is_low(self.github().own_budget().as_ref()) {
                return (asked, false);
            }
            match self.github().redeliver(failed).await {
                Ok(()) => asked += 1,
                Err(error @ GitHubError::RateLimited { .. }) => {
                    tracing::warn!(%error, "the rest is delivered again later");
                    return (asked, false);
                }
                Err(error) => {
                    let (delivery, event) = (&failed.guid, &failed.event);
                    tracing::warn!(delivery, event, %error, "GitHub does not deliver it again");
                }
            }
        }
        (asked, true)
    }
}
