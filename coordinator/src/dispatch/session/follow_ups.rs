//! Follow-ups, which people add to a task: sent to the agent that works on it as they come, and all of
//! them again whenever the agent may have missed some.

use patchfleet_domain::{FollowUp, Work};
use patchfleet_proto::convert;
use patchfleet_proto::v1::coordinator_message::Body;
use tonic::Status;

use super::super::outgoing::Outgoing;
use super::super::service::Shared;
use super::start::unavailable;

/// Sends an agent all follow-ups of an attempt's task.
pub(super) async fn send_all(
    shared: &Shared,
    outgoing: &Outgoing,
    work: Work,
) -> Result<(), Status> {
    let follow_ups = shared.store.follow_ups(work.task).await;
    // Without them the attempt would miss what was asked for; a stream that ends is opened again.
    let follow_ups = follow_ups.map_err(|error| unavailable(&error))?;
    for follow_up in follow_ups {
        send(outgoing, work, follow_up).await?;
    }
    Ok(())
}

/// Sends an agent one follow-up of an attempt's task.
pub(super) async fn send(
    outgoing: &Outgoing,
    work: Work,
    follow_up: FollowUp,
) -> Result<(), Status> {
    let message = convert::follow_up(work, follow_up);
    outgoing.say(Body::FollowUp(message)).await
}
