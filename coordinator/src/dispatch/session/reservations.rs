//! Calls of models on request: allowed to the live attempt against its task's budgets, beside the
//! conversation.

use std::sync::Arc;

use patchfleet_domain::{AgentId, Reservation, Work};
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::reservation::Answer;
use tokio::task::JoinError;
use tonic::Status;

use super::Session;
use super::registration::invalid;
use crate::dispatch::service::Shared;
use crate::store::Cas;

/// Requests of one agent that are under way at once.
const MOST: usize = 64;

impl Session {
    pub(super) async fn reserve(&mut self, request: v1::ReservationRequest) -> Result<(), Status> {
        let (work, call) = request.try_into().map_err(|error| invalid(&error))?;
        if self.reservations.len() >= MOST {
            let refused = Answer::Refused(format!("{MOST} requests are under way; ask again"));
            return self.say_reservation(answer(&call, refused)).await;
        }
        let (shared, agent) = (self.shared.clone(), self.agent.clone());
        self.reservations.spawn(async move {
            let decided = decide(&shared, &agent, (work, &call)).await;
            answer(&call, decided.unwrap_or_else(Answer::Refused))
        });
        Ok(())
    }

    pub(super) async fn reserved(
        &mut self,
        reserved: Result<v1::Reservation, JoinError>,
    ) -> Result<(), Status> {
        match reserved {
            Ok(reservation) => self.say_reservation(reservation).await,
            Err(error) => {
                tracing::error!(%error, "reserving a call of a model broke off");
                Ok(())
            }
        }
    }

    async fn say_reservation(&mut self, reservation: v1::Reservation) -> Result<(), Status> {
        self.outgoing.say(Body::Reservation(reservation)).await
    }
}

fn answer(call: &Reservation, answer: Answer) -> v1::Reservation {
    v1::Reservation {
        call: call.call.clone(),
        answer: Some(answer),
    }
}

/// The decision, or why there is none.
async fn decide(
    shared: &Arc<Shared>,
    agent: &AgentId,
    (work, call): (Work, &Reservation),
) -> Result<Answer, String> {
    let away = |_| "the coordinator's database is unavailable; ask again".to_owned();
    let holder = shared.store.holder(work).await.map_err(away)?;
    let decided = match holder {
        Some(holder) if holder == *agent => shared.store.reserve(work, call).await.map_err(away)?,
        _ => Cas::Stale,
    };
    match decided {
        Cas::Applied(reserved) => Ok(reserved.into()),
        Cas::Stale => Err("the attempt is not this agent's, or not live any more".to_owned()),
    }
}
