//! Heartbeats: what the agent says of itself. They stay in memory; [`lookout`](super::super::lookout)
//! tells the store of all agents together.

use patchfleet_domain::AgentState;
use patchfleet_proto::convert;
use patchfleet_proto::v1;
use tonic::Status;

use super::Session;
use super::registration::invalid;
use crate::dispatch::registry::Presence;
use crate::store::NewPresence;

impl Session {
    pub(super) async fn heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<(), Status> {
        let presence = parse(heartbeat)?;
        let strange = self.shared.registry.heartbeat(&self.agent, presence);
        if let Some((agent, instance)) = self.shared.registry.changed_reason(&self.agent) {
            tracing::info!(state = %agent.state, reason = agent.reason, "says how it is");
            let presence = NewPresence {
                session: self.id,
                instance,
                present: self.shared.options.lease,
            };
            let stored = self.shared.store.register_agent(&agent, presence);
            if let Err(error) = stored.await {
                tracing::warn!(%error, "what the agent says of itself could not be stored");
            }
        }
        if strange.is_empty() {
            return Ok(());
        }
        self.judge(strange).await
    }
}

fn parse(heartbeat: v1::Heartbeat) -> Result<Presence, Status> {
    let state: AgentState = heartbeat
        .state
        .parse()
        .map_err(|error| Status::invalid_argument(format!("field `heartbeat.state`: {error}")))?;
    let works = convert::works(heartbeat.current).map_err(|error| invalid(&error))?;
    Ok(Presence {
        state,
        reason: convert::reason(&heartbeat.reason),
        load: heartbeat.load,
        free_slots: heartbeat.free_slots,
        warm_repositories: convert::repositories(&heartbeat.warm_repositories),
        current: works.into_iter().collect(),
    })
}
