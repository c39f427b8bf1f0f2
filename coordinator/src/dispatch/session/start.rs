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
use super::super::registry::{Connection, Occupied, Order, Reservation, queue_of_orders};
use super::super::service::{Shared, occupied, superseded};
use super::ended::end_message;
use super::{Place, assign, follow_ups};
use crate::store::{Cas, NewPresence, StoreError};

/// However short heartbeats are: an agent that is late for less gets work all the same.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

/// A stream whose agent is welcome.
pub(super) struct Started {
    pub(super) place: Place,
    pub(super) orders: mpsc::Receiver<Order>,
}

/// Waits for the registration and welcomes the agent with what it keeps and what it lost.
pub(super) async fn register(
    shared: &Arc<Shared>,
    incoming: &mut Streaming<v1::AgentMessage>,
    outgoing: &Outgoing,
) -> Result<Started, Status> {
    let newcomer = registration::receive(incoming).await?;
    let place = reserve(shared, &newcomer).await?;
    let taken = place.superseded.clone();
    let welcomed = taken.run_until_cancelled(begin(shared, &newcomer, &place, outgoing));
    let attempts = match welcomed.await.unwrap_or_else(|| Err(superseded())) {
        Ok(attempts) => attempts,
        Err(status) => {
            // It may be in the store already, where it would keep others out.
            let left = shared.store.agent_left(&place.agent, place.id, None);
            let _ = left.await.map_err(|error| unavailable(&error));
            return Err(status);
        }
    };
    connect(shared, newcomer, place, attempts)
}

/// Takes the agent's place, unless another process has it and is heard.
async fn reserve(shared: &Arc<Shared>, newcomer: &Newcomer) -> Result<Place, Status> {
    let agent = &newcomer.agent.id;
    let (session, superseded) = (SessionId::new(), CancellationToken::new());
    let reservation = Reservation {
        session,
        instance: newcomer.instance,
        superseded: superseded.clone(),
    };
    let silence = shared.options.silence();
    let reserved = shared.registry.reserve(agent, reservation, silence);
    reserved
        .await
        .map_err(|Occupied| occupied(agent, silence))?;
    Ok(Place {
        shared: shared.clone(),
        agent: agent.clone(),
        id: session,
        superseded,
        ended: CancellationToken::new(),
    })
}

/// What an agent has when it was welcomed.
struct Attempts {
    held: Vec<Work>,
    /// Attempts that it was told to stop.
    revoked: Vec<Work>,
}

/// Stores the registration and welcomes the agent; returns the attempts that it has.
async fn begin(
    shared: &Shared,
    newcomer: &Newcomer,
    place: &Place,
    outgoing: &Outgoing,
) -> Result<Attempts, Status> {
    let presence = NewPresence {
        session: place.id,
        instance: newcomer.instance,
        present: shared.options.lease,
    };
    let registered = shared.store.register_agent(&newcomer.agent, presence);
    if registered.await.map_err(|error| unavailable(&error))? == Cas::Stale {
        return Err(occupied(&place.agent, shared.options.silence()));
    }
    let reconciled = settle(shared, newcomer).await;
    let reconciled = reconciled.map_err(|error| unavailable(&error))?;
    outgoing
        .say(Body::Welcome(welcome(shared, place.id, &reconciled)))
        .await?;
    for work in &reconciled.cancel {
        outgoing.say(end_message(*work, true)).await?;
    }
    let again = assign_again(shared, outgoing, &reconciled.again).await?;
    let held = [again, reconciled.keep].concat();
    for work in &held {
        follow_ups::send_all(shared, outgoing, *work).await?;
    }
    Ok(Attempts {
        held,
        revoked: reconciled.cancel,
    })
}

/// Settles what became of the agent's attempts.
async fn settle(shared: &Shared, newcomer: &Newcomer) -> Result<Reconciled, StoreError> {
    let Newcomer { agent, .. } = newcomer;
    let id = &agent.id;
    let live = shared.store.live_attempts(id).await?;
    let mut reconciled = reconcile(&live, &newcomer.resume);
    let called_off = shared.store.called_off(id, &reconciled.drop).await?;
    reconciled.drop.retain(|work| !called_off.contains(work));
    reconciled.cancel = called_off.into_iter().collect();
    for work in &reconciled.lose {
        let why = "the agent was started anew and does not know the attempt";
        match shared.store.lose(*work, why).await {
            Ok(_) => tracing::warn!(agent.id = %id, %work, "lost with the agent's process"),
            // Its lease runs on; the agent is needed for all the others.
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(%error, agent.id = %id, %work, "an attempt can't be given up");
            }
            Err(error) => return Err(error),
        }
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
    outgoing: &Outgoing,
    works: &[Work],
) -> Result<Vec<Work>, Status> {
    let mut said = Vec::new();
    for work in works {
        let assignment = match shared.store.assignment(*work).await {
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(%error, %work, "an assignment can't be said again");
                continue;
            }
            assignment => assignment.map_err(|error| unavailable(&error))?,
        };
        if let Some(assignment) = assignment {
            let message = assign::message(&assignment);
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

fn connect(
    shared: &Shared,
    newcomer: Newcomer,
    place: Place,
    attempts: Attempts,
) -> Result<Started, Status> {
    let (tx, orders) = mpsc::channel(queue_of_orders(newcomer.agent.slots));
    let connected = shared.registry.connect(Connection {
        session: place.id,
        agent: newcomer.agent,
        instance: newcomer.instance,
        held: attempts.held,
        revoked: attempts.revoked,
        patience: (shared.options.heartbeat * 3).max(SHORTEST_PATIENCE),
        orders: tx,
        superseded: place.superseded.clone(),
        ended: place.ended.clone(),
    });
    if connected {
        Ok(Started { place, orders })
    } else {
        Err(superseded())
    }
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
