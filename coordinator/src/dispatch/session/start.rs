//! A stream's beginning: registration, reconciliation, welcome.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::{SessionId, Work};
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::super::outgoing::Outgoing;
use super::super::reconcile::{Reconciled, reconcile};
use super::super::registration::{self, Newcomer};
use super::super::registry::{Connection, Order};
use super::super::service::Shared;
use super::{Place, assign_message};
use crate::store::StoreError;

/// A stream whose agent is welcome.
pub(super) struct Started {
    pub(super) place: Place,
    pub(super) orders: mpsc::Receiver<Order>,
}

/// Waits for the registration and welcomes the agent with what it keeps and what it lost.
pub(super) async fn register(
    shared: &Arc<Shared>,
    incoming: &mut Streaming<v1::AgentMessage>,
    outgoing: &mut Outgoing,
) -> Result<Started, Status> {
    let newcomer = registration::receive(incoming).await?;
    shared.registry.supersede(&newcomer.agent.id).await;
    let id = SessionId::new();
    let reconciled = settle(shared, &newcomer, id)
        .await
        .map_err(|error| unavailable(&error))?;
    outgoing
        .say(Body::Welcome(welcome(shared, id, &reconciled)))
        .await?;
    let again = assign_again(shared, outgoing, &reconciled.again).await?;
    let held = [again, reconciled.keep, reconciled.awaited].concat();
    Ok(connect(shared, newcomer, id, held))
}

/// Stores what the agent says of itself and what became of its attempts.
async fn settle(
    shared: &Shared,
    newcomer: &Newcomer,
    session: SessionId,
) -> Result<Reconciled, StoreError> {
    let Newcomer { agent, .. } = newcomer;
    let (id, lease) = (&agent.id, shared.options.lease);
    shared.store.register_agent(agent, session, lease).await?;
    let live = shared.store.live_attempts(id).await?;
    let same_process = shared.registry.is_same_process(id, newcomer.instance);
    let reconciled = reconcile(&live, &newcomer.resume, same_process);
    for work in &reconciled.lose {
        let why = "the agent was started anew and does not know the attempt";
        let _ = shared.store.lose(*work, why).await?;
        tracing::warn!(agent.id = %id, %work, "lost with the agent's process");
    }
    if live.len() > reconciled.lose.len() {
        let sign = [(id.clone(), agent.state)];
        shared.store.renew(&sign, shared.options.terms()).await?;
    }
    Ok(reconciled)
}

/// Says assignments again that did not arrive; returns those that are still live.
async fn assign_again(
    shared: &Shared,
    outgoing: &mut Outgoing,
    works: &[Work],
) -> Result<Vec<Work>, Status> {
    let mut said = Vec::new();
    for work in works {
        let assignment = shared.store.assignment(*work).await;
        if let Some(assignment) = assignment.map_err(|error| unavailable(&error))? {
            let message = assign_message(&assignment);
            outgoing.say(Body::Assign(message)).await?;
            said.push(*work);
        }
    }
    Ok(said)
}

fn welcome(shared: &Shared, id: SessionId, reconciled: &Reconciled) -> v1::Welcome {
    let works = |list: &[Work]| list.iter().copied().map(Into::into).collect();
    v1::Welcome {
        session: id.to_string(),
        lease_ttl_ms: millis(shared.options.lease),
        heartbeat_interval_ms: millis(shared.options.heartbeat),
        keep: works(&reconciled.keep),
        drop: works(&reconciled.drop),
    }
}

fn connect(shared: &Arc<Shared>, newcomer: Newcomer, id: SessionId, held: Vec<Work>) -> Started {
    // Each slot's attempt may be given, stopped and given again before the first was sent.
    let room = newcomer.agent.slots as usize * 3 + 1;
    let (tx, orders) = mpsc::channel(room);
    let place = Place {
        shared: shared.clone(),
        agent: newcomer.agent.id.clone(),
        id,
        superseded: CancellationToken::new(),
        ended: CancellationToken::new(),
    };
    shared.registry.connect(Connection {
        session: id,
        agent: newcomer.agent,
        instance: newcomer.instance,
        held,
        patience: shared.options.heartbeat * 3,
        orders: tx,
        superseded: place.superseded.clone(),
        ended: place.ended.clone(),
    });
    Started { place, orders }
}

/// What the agent is told when the store can't be asked.
pub(super) fn unavailable(error: &StoreError) -> Status {
    tracing::error!(%error, "the store refused");
    match error {
        StoreError::Unavailable(_) | StoreError::Contended(_) => {
            Status::unavailable("the database is unavailable")
        }
        StoreError::Corrupt(_) => Status::internal("the coordinator's log has the details"),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
