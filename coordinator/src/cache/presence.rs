//! What agents said of themselves last, for the replicas that they are not connected to.

use std::time::Duration;

use patchfleet_domain::{Agent, AgentId};

use super::Cache;

/// Agents in one message.
const CHUNK: usize = 500;

impl Cache {
    /// Keeps what the agents said, until they should have said more.
    pub async fn present(&self, said: impl FnOnce() -> Vec<Agent>, ttl: Duration) {
        if self.redis.is_none() {
            return;
        }
        let agents = said();
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        for chunk in agents.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for agent in chunk {
                let Ok(text) = serde_json::to_string(agent) else {
                    continue;
                };
                pipe.pset_ex(self.key("agent", agent.id.as_str()), text, ttl)
                    .ignore();
            }
            let kept = self.ask("presence_keep", |mut redis| {
                let pipe = pipe.clone();
                async move { pipe.query_async::<()>(&mut redis).await }
            });
            if kept.await.is_none() {
                return;
            }
        }
    }

    /// What is known of those agents, in their order.
    pub async fn presence(&self, agents: &[AgentId]) -> Vec<Option<Agent>> {
        let mut known = Vec::with_capacity(agents.len());
        for chunk in agents.chunks(CHUNK) {
            let keys: Vec<_> = chunk
                .iter()
                .map(|id| self.key("agent", id.as_str()))
                .collect();
            let texts = self.ask("presence_look", |mut redis| {
                let mget = redis::cmd("MGET").arg(&keys).clone();
                async move { mget.query_async::<Vec<Option<String>>>(&mut redis).await }
            });
            let texts = texts.await.unwrap_or_else(|| vec![None; chunk.len()]);
            let read = |text: Option<String>| serde_json::from_str(&text?).ok();
            known.extend(texts.into_iter().map(read));
        }
        known
    }
}
