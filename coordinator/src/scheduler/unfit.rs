//! Tasks that no agent takes: set aside where people see why, and offered again in time.
//!
//! A task whose every possible agent says that its host is at fault would be queued in silence for
//! ever; it waits instead, with their reasons. What waits for an agent is offered again when its
//! time has come, or as soon as an agent that did not give it back could take it.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::{Agent, AgentId, AgentState, Task};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::store::{Cas, Look, QueuedTask, Store, StoreResult};

/// How long a task is queued before it is set aside: after a restart agents come back one by one.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Most waiting tasks that are looked at together.
const MOST: u32 = 500;

/// Looks every `interval` until the shutdown.
pub async fn run(store: Arc<dyn Store>, interval: Duration, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = look(store.as_ref(), PATIENCE).await {
            tracing::warn!(%error, "tasks that no agent takes could not be looked at; trying again");
        }
    }
}

/// Sets aside what only unfit agents could take, and offers what may be taken again.
///
/// # Errors
/// When the store can't be asked.
pub async fn look(store: &dyn Store, patience: Duration) -> StoreResult<()> {
    let mut agents = store.agents().await?;
    agents.retain(|agent| agent.state != AgentState::Offline);
    offer_again(store, &agents).await?;
    if agents.iter().any(|agent| agent.state == AgentState::Error) {
        set_aside(store, &agents, patience).await?;
    }
    Ok(())
}

async fn offer_again(store: &dyn Store, agents: &[Agent]) -> StoreResult<()> {
    let (mut due, mut sooner) = (Vec::new(), Vec::new());
    for (task, is_due) in store.waiting_for_agents(MOST).await? {
        if is_due {
            due.push(task.id);
        } else if agents.iter().any(|agent| may_take(agent, &task)) {
            sooner.push(task.id);
        }
    }
    for (tasks, why) in [
        (due, "its time has come: it is offered again"),
        (sooner, "an agent is fit to take it"),
        (
            store.due_for_budget(MOST).await?,
            "a new day has begun, with a new budget",
        ),
    ] {
        if !tasks.is_empty() {
            let offered = store.offer_again(&tasks, why).await?;
            tracing::info!(tasks = offered, why, "offered to agents again");
        }
    }
    Ok(())
}

/// True when the agent could take a task that waits, and has not given it back. Agents that were
/// only said to be unfit may be fit again.
fn may_take(agent: &Agent, task: &Task) -> bool {
    let wanted = task.analysis.as_ref().map(|it| &it.requirement);
    let gave_back = task.returns.count > 0 && task.returns.are_by(&agent.id);
    agent.state.takes_tasks() && !gave_back && wanted.is_some_and(|it| agent.matches(it))
}

async fn set_aside(store: &dyn Store, agents: &[Agent], patience: Duration) -> StoreResult<()> {
    let queued = store.queued(&Look::all(MOST, MOST)).await?;
    for task in queued.iter().filter(|task| task.waited >= patience) {
        let Some(unfit) = only_unfit(agents, task) else {
            continue;
        };
        if store.set_aside(task.id, task.attempt, &unfit).await? == Cas::Applied(()) {
            tracing::warn!(task.id = %task.id, ?unfit, "all agents that could take it are unfit");
        }
    }
    Ok(())
}

/// The agents that could take the task, with their reasons, if there are some and all are unfit.
fn only_unfit(agents: &[Agent], task: &QueuedTask) -> Option<Vec<(AgentId, String)>> {
    let able = agents.iter().filter(|it| it.matches(&task.requirement));
    let reason = |agent: &Agent| {
        let unfit = agent.state == AgentState::Error;
        let reason = agent.reason.clone();
        unfit.then(|| {
            (
                agent.id.clone(),
                reason.unwrap_or_else(|| "it gives no reason".to_owned()),
            )
        })
    };
    let unfit: Option<Vec<_>> = able.map(reason).collect();
    unfit.filter(|it| !it.is_empty())
}
