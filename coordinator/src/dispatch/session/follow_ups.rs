//! What people add to a task while an agent works on it: told to the agent as it comes, and all of it
//! again whenever the agent may have missed some.

use patchfleet_domain::{FollowUp, Work};
use patchfleet_proto::convert;
use patchfleet_proto::v1::coordinator_message::Body;
use tonic::Status;

use super::super::outgoing::Outgoing;
use super::super::service::Shared;
use super::start::unavailable;

/// Tells an agent all that was added to the task of an attempt.
pub(super) async fn tell_all(
    shared: &Shared,
    outgoing: &Outgoing,
    work: Work,
) -> Result<(), Status> {
    let follow_ups = shared.store.follow_ups(work.task).await;
    // Without them the attempt would miss what was asked for; a stream that ends is opened again.
    let follow_ups = follow_ups.map_err(|error| unavailable(&error))?;
    for follow_up in follow_ups {
        tell(outgoing, work, follow_up).await?;
    }
    Ok(())
}

/// Tells an agent what a person added to the task of an attempt.
pub(super) async fn tell(
    outgoing: &Outgoing,
    work: Work,
    follow_up: FollowUp,
) -> Result<(), Status> {
    let message = convert::follow_up(work, follow_up);
    outgoing.say(Body::FollowUp(message)).await
}
