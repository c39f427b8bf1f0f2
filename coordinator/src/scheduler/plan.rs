//! Who gets which task: a pure function of queue, agents and turns.
//!
//! Urgent tasks choose first; among equals repositories take turns, and within a repository the
//! older task comes first. Nothing starves: a task ages within its repository, and a repository
//! while it waits for its turn. A task goes to the accepting agent with the highest score; the score
//! compares the kind of match before anything else, so that a specialist with room is preferred
//! to a general agent. Absent: clock, store and streams; the caller claims what is planned here.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::agent::Requirement;
use patchfleet_domain::{Agent, AgentId, RepositoryName};

use super::experience::{Experience, Topic};
use super::turns::Turns;
use crate::store::{QueuedTask, Room};

/// What waits moves up by one point of priority each time this passes.
const AGING: Duration = Duration::from_mins(10);

/// An agent as the plan needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentView {
    /// What it said of itself, with `free_slots` as the coordinator counts them.
    pub agent: Agent,
    /// How it did before.
    pub experience: Arc<Experience>,
}

/// What bounds a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a task may find no specialist before its history says that it fell back to a
    /// general agent.
    pub specialist_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            specialist_patience: Duration::from_mins(1),
        }
    }
}

/// One decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant<'a> {
    /// The task.
    pub task: &'a QueuedTask,
    /// Who gets it.
    pub agent: AgentId,
    /// What the task's history should say about the choice.
    pub note: Option<String>,
}

/// Gives as many tasks as possible to agents that accept them, never more than they have slots,
/// nor more than there is room for.
pub fn plan<'a>(
    (queue, room): (&'a [QueuedTask], &mut Room),
    agents: &[AgentView],
    turns: &Turns,
    limits: Limits,
) -> Vec<Grant<'a>> {
    let mut open = Open::of(agents);
    let mut grants = Vec::new();
    for task in in_order(queue, turns) {
        if open.slots == 0 {
            break;
        }
        let lane = (&task.repository, &task.requirement.agent_type);
        if !room.admits(lane) {
            continue;
        }
        if let Some(view) = open.take_best(task) {
            room.count(lane, 1);
            grants.push(Grant {
                task,
                agent: view.agent.id.clone(),
                note: fallback_note(task, &view.agent, limits),
            });
        }
    }
    grants
}

/// The agents with room, and how much of it is left.
struct Open<'a> {
    /// Each with its free slots, by name.
    agents: Vec<(&'a AgentView, u32)>,
    /// Free slots of all of them.
    slots: u32,
    /// How each of them fits tasks that ask for the same: many tasks do.
    fits: BTreeMap<(&'a Requirement, &'a RepositoryName), Vec<Option<Fit>>>,
}

impl<'a> Open<'a> {
    fn of(agents: &'a [AgentView]) -> Self {
        let open = agents.iter().filter(|view| view.agent.has_room());
        let mut agents: Vec<_> = open.map(|view| (view, view.agent.free_slots)).collect();
        agents.sort_by(|(a, _), (b, _)| a.agent.id.cmp(&b.agent.id));
        Self {
            slots: agents.iter().map(|(_, free)| free).sum(),
            agents,
            fits: BTreeMap::new(),
        }
    }

    /// Takes a slot of the best accepting agent; the first by name among equals.
    fn take_best(&mut self, task: &'a QueuedTask) -> Option<&'a AgentView> {
        let alike = (&*task.requirement, &task.repository);
        let fits = self.fits.entry(alike).or_insert_with(|| {
            let topic = topic_of(task);
            let agents = self.agents.iter();
            agents.map(|(view, _)| fit(task, &topic, view)).collect()
        });
        let accepting = self.agents.iter_mut().zip(fits).enumerate();
        let accepting = accepting.filter_map(|(index, (agent, fit))| {
            let fit = fit.filter(|_| agent.1 > 0)?;
            let rest = task.rests.iter().find(|it| it.agent == agent.0.agent.id);
            if rest.is_some_and(|it| !it.left.is_zero()) {
                return None;
            }
            let agent_gave_back = rest.is_some();
            Some((
                fit.score(agent_gave_back, (agent.0, agent.1)),
                Reverse(index),
                agent,
            ))
        });
        let best = accepting.max_by_key(|(score, first, _)| (*score, *first));
        let (_, _, (view, free)) = best?;
        *free -= 1;
        self.slots -= 1;
        Some(view)
    }
}

/// Sorts by urgency, then by turn, then by age.
fn in_order<'a>(queue: &'a [QueuedTask], turns: &Turns) -> Vec<&'a QueuedTask> {
    let mut lines: BTreeMap<&RepositoryName, Vec<&QueuedTask>> = BTreeMap::new();
    for task in queue {
        lines.entry(&task.repository).or_default().push(task);
    }
    let mut keyed = Vec::with_capacity(queue.len());
    for (repository, mut line) in lines {
        line.sort_by_key(|task| (Reverse(aged(task)), Reverse(task.waited), task.id));
        let last = turns.last(repository);
        let urgencies = urgencies(&line, turns.idle(repository));
        for (round, (task, urgency)) in line.into_iter().zip(urgencies).enumerate() {
            let key = (Reverse(urgency), round, last, Reverse(task.waited), task.id);
            keyed.push((key, task));
        }
    }
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, task)| task).collect()
}

/// A task's place in the line of its repository: priority, aged, so that none in it starves.
fn aged(task: &QueuedTask) -> u64 {
    u64::from(task.priority.get()) * AGING.as_secs() + task.waited.as_secs()
}

/// How urgent each turn of a repository is: as urgent as the most urgent task that is still in
/// line, whoever goes first. A repository ages while it waits for its turn, not while its tasks
/// wait for each other: a thousand old tasks would keep all other repositories out.
fn urgencies(line: &[&QueuedTask], idle: Option<Duration>) -> Vec<u64> {
    let mut urgencies = vec![0; line.len()];
    let mut most = 0;
    for (task, urgency) in line.iter().zip(&mut urgencies).rev() {
        most = most.max(u64::from(task.priority.get()));
        *urgency = most;
    }
    if let (Some(first), Some(urgency)) = (line.first(), urgencies.first_mut()) {
        let waited = idle.map_or(first.waited, |idle| idle.min(first.waited));
        *urgency += waited.as_secs() / AGING.as_secs();
    }
    urgencies
}

/// How an agent matches a task, worst first. Outweighs everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    General,
    Capability,
    Type,
}

fn match_of(agent: &Agent, wanted: &Requirement) -> Match {
    if agent.agent_type == wanted.agent_type {
        Match::Type
    } else if !agent.capabilities.is_disjoint(&wanted.capabilities) {
        Match::Capability
    } else {
        Match::General
    }
}

/// What experience with the task is filed under.
pub fn topic_of(task: &QueuedTask) -> Topic {
    Topic {
        agent_type: task.requirement.agent_type.clone(),
        repository: task.repository.clone(),
    }
}

/// Not having given the task back, then the kind of match, then points.
type Score = (bool, Match, u32);

/// How an agent fits tasks of one repository that ask for the same, however many slots it has left.
#[derive(Debug, Clone, Copy)]
struct Fit {
    kind: Match,
    points: u32,
}

fn fit(task: &QueuedTask, topic: &Topic, view: &AgentView) -> Option<Fit> {
    let (wanted, agent) = (&task.requirement, &view.agent);
    if !agent.accepts(wanted) {
        return None;
    }
    let warm = agent.warm_repositories.contains(&task.repository);
    let shared = agent
        .capabilities
        .intersection(&wanted.capabilities)
        .count();
    let points = u32::from(warm) * 100
        + view.experience.percent(topic)
        + idle_percent(agent.load)
        + u32::try_from(shared.min(5)).unwrap_or(5) * 10;
    Some(Fit {
        kind: match_of(agent, wanted),
        points,
    })
}

impl Fit {
    fn score(self, gave_back: bool, (view, free): (&AgentView, u32)) -> Score {
        (
            !gave_back,
            self.kind,
            self.points + free * 100 / view.agent.slots.max(1),
        )
    }
}

/// 100 for no load, 0 for full load and for what is no number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=100 before"
)]
fn idle_percent(load: f32) -> u32 {
    let load = if load.is_nan() {
        1.0
    } else {
        load.clamp(0.0, 1.0)
    };
    ((1.0 - load) * 100.0) as u32
}

fn fallback_note(task: &QueuedTask, agent: &Agent, limits: Limits) -> Option<String> {
    let wanted = &task.requirement;
    let fell_back = match_of(agent, wanted) == Match::General;
    (fell_back && task.waited >= limits.specialist_patience).then(|| {
        format!(
            "no {} agent had room for {} s: fell back to the general agent {}",
            wanted.agent_type,
            task.waited.as_secs(),
            agent.id
        )
    })
}

#[cfg(test)]
pub(super) mod tests;
