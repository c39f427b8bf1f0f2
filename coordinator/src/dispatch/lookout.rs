//! What all sessions of this process have to tell the store and hear from it, once for all of
//! them: signs of life go down together, and attempts that ended without their agents are looked
//! up together, as is what people add to the others.
//!
//! Ten thousand agents give two thousand heartbeats a second. None of them is a write of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_domain::{Agent, Timestamp};
use tokio::time::{Instant, MissedTickBehavior};

use super::registry::{Ended, Sign};
use super::service::Shared;
use crate::store::{Cas, Renewal, StoreResult};
use crate::wake::next_change;

/// Between two looks for ended attempts, when the store has news.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two looks when it has none: another replica may have ended something.
const POLL: Duration = Duration::from_secs(1);

/// Between two renewals at least, however short leases and heartbeats are.
const SHORTEST: Duration = Duration::from_millis(1);

/// The cursors of the looks: until when ended attempts and new follow-ups were looked for.
#[derive(Debug, Default)]
struct Since {
    ended: Option<Timestamp>,
    added: Option<Timestamp>,
}

/// Runs until the service ends.
pub(super) async fn run(shared: &Shared) {
    let mut stored = Some(shared.store.changed());
    let every = shared.options.heartbeat.min(renewals(shared));
    let mut signs = tokio::time::interval(every.max(SHORTEST));
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since = Since::default();
    let mut looked_at = Instant::now();
    let mut look_at = None;
    loop {
        let done = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            _ = signs.tick() => renew(shared).await,
            () = next_change(&mut stored), if look_at.is_none() => {
                look_at = Some(looked_at + LOOK_EVERY);
                continue;
            }
            () = tokio::time::sleep_until(look_at.unwrap_or(looked_at + POLL)) => {
                (looked_at, look_at) = (Instant::now(), None);
                look(shared, &mut since).await
            }
        };
        if let Err(error) = done {
            // Leases live longer than three tries; a look reaches back to the last good one.
            tracing::warn!(%error, "can't tell the store of agents, nor hear of them");
        }
    }
}

/// Leases are renewed three times within their life.
fn renewals(shared: &Shared) -> Duration {
    shared.options.lease / 3
}

/// Tells the store of the agents that gave a sign of life, and acts on what it knows of them.
async fn renew(shared: &Shared) -> StoreResult<()> {
    let signs = shared.registry.signs(renewals(shared));
    if signs.is_empty() {
        return Ok(());
    }
    let terms = shared.options.terms();
    let agents: Vec<_> = signs
        .iter()
        .map(|sign| (sign.agent.clone(), sign.state))
        .collect();
    let live = shared.store.renew(&agents, terms).await;
    let mut live = live.inspect_err(|_| shared.registry.untold(&signs))?;
    shared
        .cache
        .present(|| said(shared, &signs), terms.lease)
        .await;
    live.sort();
    for sign in signs {
        let begin = live.partition_point(|live| live.agent < sign.agent);
        let end = live.partition_point(|live| live.agent <= sign.agent);
        compare(shared, &sign, &live[begin..end]).await?;
    }
    Ok(())
}

/// What the agents that gave a sign of life said of themselves.
fn said(shared: &Shared, signs: &[Sign]) -> Vec<Agent> {
    let gave: BTreeSet<_> = signs.iter().map(|sign| &sign.agent).collect();
    let mut agents = shared.registry.connected();
    agents.retain(|agent| gave.contains(&agent.id));
    agents
}

/// Compares what an agent had before the store was asked with what is live.
async fn compare(shared: &Shared, sign: &Sign, live: &[Renewal]) -> StoreResult<()> {
    let is_live: BTreeSet<_> = live.iter().map(|live| live.work).collect();
    let held = sign.held.iter().copied();
    let over: Vec<_> = held.filter(|work| !is_live.contains(work)).collect();
    // An agent whose attempts can't be looked up says again what it has; the leases of others, which
    // are renewed by now, do not wait for that.
    match shared.store.called_off(&sign.agent, &over).await {
        Ok(called_off) => {
            for work in over {
                let called_off = called_off.contains(&work);
                shared.registry.stop(&sign.agent, work, called_off);
            }
        }
        Err(error) => {
            tracing::warn!(agent.id = %sign.agent, %error, "why attempts ended can't be read");
        }
    }
    let patience = shared.options.lease;
    for work in shared.registry.renewed(&sign.agent, live, patience) {
        let why = "the agent does not work on it any more";
        let (Cas::Applied(_) | Cas::Stale) = shared.store.lose(work, why).await?;
        tracing::warn!(agent.id = %sign.agent, %work, "lost: not named for a whole lease");
        shared.registry.release(&sign.agent, work, Ended::Stopped);
    }
    Ok(())
}

/// Has agents stop what was called off or given up, and sends the new follow-ups of the rest.
async fn look(shared: &Shared, since: &mut Since) -> StoreResult<()> {
    let registry = &shared.registry;
    let (now, taken) = shared.store.taken_away(since.ended).await?;
    since.ended = Some(now);
    for taken in taken {
        registry.stop(&taken.agent, taken.work, taken.called_off);
    }
    let (now, added) = shared.store.live_follow_ups(since.added).await?;
    since.added = Some(now);
    for added in added {
        registry.send_follow_up(&added.agent, added.work, added.follow_up);
    }
    Ok(())
}
