//! One stream, from registration to its end.
//!
//! Reports become durable beside the conversation, in their order; a goodbye and the end of the
//! stream wait for them, nothing else does. When a stream breaks, the agent's leases go on for a
//! grace; only a goodbye gives attempts up at once.

mod assign;
mod ended;
mod follow_ups;
mod presence;
mod reports;
mod reservations;
mod start;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use patchfleet_domain::{AgentId, SessionId};
use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_telemetry::trace;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::Instrument as _;

use super::outgoing::{Item, Outgoing};
use super::registration;
use super::registry::{Handover, Order};
use super::service::{Shared, shutting_down, superseded};
use reports::Reports;

/// A registered stream.
struct Session {
    shared: Arc<Shared>,
    id: SessionId,
    agent: AgentId,
    outgoing: Outgoing,
    orders: mpsc::Receiver<Order>,
    tokens: JoinSet<v1::Credential>,
    reservations: JoinSet<v1::Reservation>,
    reports: Reports,
    /// The agent is on this host.
    is_local: bool,
    heard_at: Instant,
}

/// Frees the agent's place, also when the session panics.
struct Place {
    shared: Arc<Shared>,
    agent: AgentId,
    id: SessionId,
    superseded: CancellationToken,
    ended: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.registry.disconnect(&self.agent, self.id);
        self.ended.cancel();
    }
}

/// How a conversation goes on.
enum Next {
    Continue,
    Leave,
}

/// Holds the conversation on one stream and tells the agent why it ended, if it did not leave.
pub(super) async fn serve(
    shared: Arc<Shared>,
    (mut incoming, peer): (Streaming<v1::AgentMessage>, Option<SocketAddr>),
    tx: mpsc::Sender<Item>,
) {
    let shutdown = shared.shutdown.clone();
    let outgoing = Outgoing::new(tx);
    let registered = shutdown
        .run_until_cancelled(Box::pin(start::register(&shared, &mut incoming, &outgoing)))
        .await;
    let started = match registered.unwrap_or_else(|| Err(shutting_down())) {
        Ok(started) => started,
        Err(status) => {
            tracing::warn!(code = ?status.code(), reason = status.message(), "an agent could not register");
            return outgoing.end(status).await;
        }
    };
    let span = tracing::info_span!("session", agent.id = %started.place.agent, session = %started.place.id);
    let (mut session, place) = Session::new(shared, started, outgoing);
    session.is_local = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    session.hold(incoming, place).instrument(span).await;
}

impl Session {
    fn new(shared: Arc<Shared>, started: start::Started, outgoing: Outgoing) -> (Self, Place) {
        let session = Self {
            id: started.place.id,
            agent: started.place.agent.clone(),
            outgoing,
            orders: started.orders,
            tokens: JoinSet::new(),
            reservations: JoinSet::new(),
            reports: Reports::default(),
            is_local: false,
            heard_at: Instant::now(),
            shared,
        };
        (session, started.place)
    }

    async fn hold(mut self, mut incoming: Streaming<v1::AgentMessage>, place: Place) {
        tracing::info!("connected");
        let shutdown = self.shared.shutdown.clone();
        let (result, grace) = tokio::select! {
            biased;
            () = place.superseded.cancelled() => {
                (Err(superseded()), None)
            }
            () = shutdown.cancelled() => (Err(shutting_down()), None),
            result = self.converse(&mut incoming) => (result, Some(self.shared.options.grace)),
        };
        match &result {
            Ok(()) => tracing::info!("disconnected"),
            Err(status) => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "disconnected");
            }
        }
        // Before the agent knows, so that it does not register elsewhere first.
        if self.shared.registry.disconnect(&self.agent, self.id) {
            self.leave(grace).await;
        }
        drop(place);
        if let Err(status) = result {
            self.outgoing.end(status).await;
        }
    }

    async fn converse(&mut self, incoming: &mut Streaming<v1::AgentMessage>) -> Result<(), Status> {
        loop {
            let silent_until = self.heard_at + self.shared.options.silence();
            let listening = self.reports.have_room();
            let kept_since = self.reports.kept_since();
            let kept_until = kept_since.unwrap_or(self.heard_at) + self.shared.options.lease;
            let next = tokio::select! {
                message = incoming.message(), if listening => self.hear(message?).await?,
                landed = self.reports.land() => {
                    // An agent that was not listened to was not silent.
                    self.heard_at = Instant::now();
                    self.settle(landed?).await?;
                    Next::Continue
                }
                () = self.outgoing.gone(), if !listening => {
                    return Err(Status::cancelled("the agent is gone"));
                }
                Some(order) = self.orders.recv() => {
                    self.carry_out(order).await?;
                    Next::Continue
                }
                Some(token) = self.tokens.join_next() => {
                    self.answer(token).await?;
                    Next::Continue
                }
                Some(reserved) = self.reservations.join_next() => {
                    self.reserved(reserved).await?;
                    Next::Continue
                }
                () = tokio::time::sleep_until(kept_until), if kept_since.is_some() => {
                    return Err(Status::unavailable(
                        "a task that was reported on can't be read; the coordinator's log names it",
                    ));
                }
                () = tokio::time::sleep_until(silent_until), if listening => {
                    return Err(Status::deadline_exceeded("nothing was heard for a whole lease"));
                }
            };
            if let Next::Leave = next {
                return Ok(());
            }
        }
    }

    /// Does what a message asks for; nothing, when the stream ended.
    async fn hear(&mut self, message: Option<v1::AgentMessage>) -> Result<Next, Status> {
        self.heard_at = Instant::now();
        let Some(message) = message else {
            self.finish_reports().await?;
            return Ok(Next::Leave);
        };
        match message.body {
            Some(Said::Heartbeat(heartbeat)) => self.heartbeat(heartbeat).await?,
            Some(Said::Report(report)) => self.report(report)?,
            Some(Said::CredentialRequest(request)) => self.request_token(request).await?,
            Some(Said::ReservationRequest(request)) => self.reserve(request).await?,
            Some(Said::Goodbye(v1::Goodbye {})) => {
                self.finish_reports().await?;
                self.give_up_attempts().await;
                return Ok(Next::Leave);
            }
            Some(Said::Register(_)) => {
                return Err(Status::invalid_argument("`register` comes once, and first"));
            }
            // From a newer agent, or an older one: the rest of what it says is understood.
            None => tracing::debug!("a message of an unknown kind was left out"),
        }
        Ok(Next::Continue)
    }

    /// Waits until all that was reported is durable: the agent ends, and its last reports count.
    async fn finish_reports(&mut self) -> Result<(), Status> {
        while !self.reports.are_durable() {
            let landed = self.reports.land().await?;
            // An agent that is gone hears of none, and they count all the same.
            let _ = self.settle(landed).await;
        }
        Ok(())
    }

    async fn carry_out(&mut self, order: Order) -> Result<(), Status> {
        match order {
            Order::Assign(handover) => self.assign(*handover).await,
            Order::FollowUp { work, follow_up } => {
                follow_ups::send(&self.outgoing, work, follow_up).await
            }
            Order::Stop { work, called_off } => self.stop(work, called_off).await,
            Order::Renewed(works) => {
                let works = works.into_iter().map(Into::into).collect();
                let renewed = v1::Renewed { works };
                self.outgoing.say(Body::Renewed(renewed)).await
            }
        }
    }

    async fn assign(&mut self, handover: Handover) -> Result<(), Status> {
        let message = assign::message(&handover.assignment);
        self.outgoing.say(Body::Assign(message)).await?;
        let latency = handover.waited + handover.planned.elapsed();
        let metrics = self.shared.registry.metrics();
        metrics.dispatch_latency.observe(latency.as_secs_f64());
        let (task, work) = (&handover.assignment.task, handover.assignment.work);
        let now = SystemTime::from(chrono::Utc::now());
        let queued = (now.checked_sub(latency).unwrap_or(now), now);
        let attributes = [
            ("task.id", work.task.to_string()),
            ("attempt", work.attempt.to_string()),
            ("agent.id", self.agent.to_string()),
        ];
        trace::record("queue", task.traceparent.as_deref(), queued, &attributes);
        follow_ups::send_all(&self.shared, &self.outgoing, work).await
    }

    /// The agent leaves for good: nobody has to wait for its leases.
    async fn give_up_attempts(&self) {
        let store = &self.shared.store;
        let live = store.live_attempts(&self.agent).await;
        for attempt in live.unwrap_or_else(|error| {
            tracing::warn!(%error, "attempts of a leaving agent stay until their leases run out");
            Vec::new()
        }) {
            match store.lose(attempt.work, "the agent left").await {
                Ok(_) => tracing::info!(work = %attempt.work, "given up by a leaving agent"),
                Err(error) => tracing::warn!(%error, work = %attempt.work, "not given up"),
            }
        }
    }

    /// The stream is gone. Without a grace its leases go on as they are: the agent is about to
    /// come back.
    async fn leave(&self, grace: Option<Duration>) {
        let left = self.shared.store.agent_left(&self.agent, self.id, grace);
        if let Err(error) = left.await {
            tracing::warn!(%error, "the store does not know yet that the agent left");
        }
    }
}
