//! Issues that tasks wait for and that no task is at work on: connected with their task once there is
//! one, and asked for on GitHub until then. So two issues that are triggered together come one after the
//! other in whichever order their deliveries arrive, and an issue that people do by hand counts too.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_github::{GitHub, GitHubError, Issue, OpenState, RequestPriority};
use tokio_util::sync::CancellationToken;

use crate::store::{IssueEnd, Store, StoreResult};

/// How often the store is looked at.
const POLL: Duration = Duration::from_secs(1);
/// How long after an answer GitHub is asked about the same issue again.
const AGAIN: Duration = Duration::from_mins(5);
/// Most issues that GitHub is asked about at once.
const MOST: u32 = 20;

/// Looks after them until told to end.
pub async fn run(store: Arc<dyn Store>, github: GitHub, cancel: CancellationToken) {
    // Nobody waits for an answer: it is asked for as the sweep does.
    let github = github.with_priority(RequestPriority::Sweep);
    loop {
        let looking = look(store.as_ref(), &github);
        match cancel.run_until_cancelled(looking).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "issues that tasks wait for can't be looked at now");
            }
        }
        let pause = tokio::time::sleep(POLL);
        if cancel.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Looks once.
pub async fn look(store: &dyn Store, github: &GitHub) -> StoreResult<()> {
    store.follow_issues().await?;
    for (repository, issue) in store.issues_due(AGAIN, MOST).await? {
        let end = match github.issue(&repository, issue).await {
            Ok(found) => end_of(&found),
            Err(GitHubError::NotFound) => Some(IssueEnd::Gone),
            Err(error) => {
                tracing::info!(%repository, %issue, %error, "GitHub does not say whether it is closed");
                None
            }
        };
        if let Some(end) = end {
            store.issue_ended(&repository, issue, end).await?;
        }
    }
    Ok(())
}

fn end_of(issue: &Issue) -> Option<IssueEnd> {
    match issue.state {
        OpenState::Open => None,
        OpenState::Closed if issue.is_given_up => Some(IssueEnd::GivenUp),
        OpenState::Closed => Some(IssueEnd::Done),
    }
}
