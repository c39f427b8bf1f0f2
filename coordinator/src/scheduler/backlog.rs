//! What the scheduler knows of the queue: news of what this process queued, and bounded looks.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use patchfleet_domain::{AgentType, TaskId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;

use super::plan::topic_of;
use crate::store::{Look, QueuedTask, Room, Store, StoreResult};

/// Tasks that are fetched at once; more only when there are more lanes.
const WINDOW: usize = 1024;
/// Fewest of each lane, and most in all.
const FEWEST: usize = 4;
const MOST: u32 = 4096;
/// Lanes there may be, before anybody has looked.
const LANES: usize = 64;
/// Between two looks at the queue while there is something left of the last one.
const FRESH: Duration = Duration::from_millis(20);

/// What is known of the queue and not given away yet. A task may have gone meanwhile, which its
/// claim finds out.
#[derive(Debug)]
pub(super) struct Backlog {
    tasks: BTreeMap<TaskId, Waiting>,
    /// Tasks that were given away since the last look, and when: one that goes on has them still.
    given: BTreeMap<TaskId, Instant>,
    /// What this process queues comes by itself.
    news: broadcast::Receiver<QueuedTask>,
    /// Some of it was missed.
    missed: bool,
    fetched: Instant,
    took: Duration,
    lanes: usize,
    /// What may be given away.
    pub(super) room: Room,
}

/// A task, and since when it is known to have waited so long.
#[derive(Debug)]
struct Waiting {
    task: QueuedTask,
    since: Instant,
}

/// A look at the queue.
#[derive(Debug)]
pub(super) struct Fetched {
    look: Look,
    tasks: Vec<QueuedTask>,
    room: Room,
    began: Instant,
    took: Duration,
}

pub(super) async fn fetch(store: &dyn Store, look: Look) -> StoreResult<Fetched> {
    let began = Instant::now();
    let (tasks, room) = futures::try_join!(store.queued(&look), store.room())?;
    Ok(Fetched {
        look,
        tasks,
        room,
        began,
        took: began.elapsed(),
    })
}

impl Backlog {
    pub(super) fn new(news: broadcast::Receiver<QueuedTask>) -> Self {
        Self {
            tasks: BTreeMap::new(),
            given: BTreeMap::new(),
            news,
            missed: true,
            fetched: Instant::now(),
            took: Duration::ZERO,
            lanes: LANES,
            room: Room::default(),
        }
    }

    /// How much of the queue to look at next, when agents of those types are there: what waits for
    /// others costs little.
    pub(super) fn next_look(&self, types: &BTreeSet<AgentType>) -> Look {
        let each = (WINDOW / self.lanes.max(1)).max(FEWEST);
        Look {
            types: (!types.iter().any(AgentType::is_general))
                .then(|| types.iter().cloned().collect()),
            each: u32::try_from(each).unwrap_or(u32::MAX),
            most: MOST,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Forgets a task that is going to be given away.
    pub(super) fn remove(&mut self, task: TaskId) {
        self.tasks.remove(&task);
        self.given.insert(task, Instant::now());
    }

    /// When the queue is to be looked at again: not so often that looking takes more than a fifth
    /// of the time.
    pub(super) fn stale_at(&self) -> Instant {
        let pause = self.took * 4;
        self.fetched
            + match (self.missed, self.tasks.is_empty()) {
                (true, _) => Duration::ZERO,
                (false, true) => pause,
                (false, false) => pause.max(FRESH),
            }
    }

    /// Takes in what was queued here.
    pub(super) fn listen(&mut self) {
        loop {
            match self.news.try_recv() {
                Ok(task) => self.add(task, Instant::now()),
                // The queue itself has what was missed.
                Err(TryRecvError::Lagged(_)) => self.missed = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn add(&mut self, task: QueuedTask, since: Instant) {
        if self.tasks.len() < MOST as usize {
            self.tasks.insert(task.id, Waiting { task, since });
        }
    }

    /// Takes in a look at the queue. What was queued since it began is not in it, and what was
    /// given away since is.
    pub(super) fn replace(&mut self, fetched: Fetched) {
        let Fetched {
            look,
            tasks,
            room,
            began,
            took,
        } = fetched;
        self.lanes = lanes(&look, &tasks);
        self.tasks.retain(|_, waiting| waiting.since >= began);
        let given = mem::take(&mut self.given);
        let gone = |task: &QueuedTask| given.get(&task.id).is_some_and(|at| *at >= began);
        for task in tasks.into_iter().filter(|task| !gone(task)) {
            self.add(task, began);
        }
        (self.fetched, self.took, self.missed) = (began, took, false);
        self.room = room;
    }

    /// The tasks with what they have waited by now.
    pub(super) fn queue(&self) -> Vec<QueuedTask> {
        let waiting = self.tasks.values();
        let by_now = waiting.map(|it| {
            let since = it.since.elapsed();
            let mut task = it.task.clone();
            task.waited += since;
            for rest in &mut task.rests {
                rest.left = rest.left.saturating_sub(since);
            }
            task
        });
        by_now.collect()
    }
}

/// How many lanes there are for the types that were looked for. Of the others there is one task
/// each, which takes no room from them.
fn lanes(look: &Look, tasks: &[QueuedTask]) -> usize {
    let types = look.types.as_ref();
    let ours = tasks
        .iter()
        .filter(|task| types.is_none_or(|it| it.contains(&task.requirement.agent_type)));
    ours.map(topic_of).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::plan::tests::task;

    #[test]
    fn what_was_given_away_during_a_look_is_not_in_the_queue() {
        let (_sender, news) = broadcast::channel(1);
        let mut backlog = Backlog::new(news);
        let tasks = [task("backend", "acme/a", 0), task("backend", "acme/b", 0)];
        let look = |began| Fetched {
            look: Look::all(20, 4096),
            tasks: tasks.to_vec(),
            room: Room::default(),
            began,
            took: Duration::ZERO,
        };
        let began = Instant::now();
        backlog.remove(tasks[0].id);
        backlog.replace(look(began));
        assert_eq!(backlog.queue().len(), 1);
        assert_eq!(backlog.queue()[0].id, tasks[1].id);
        // It came back, or was not given away in the end.
        backlog.replace(look(Instant::now()));
        assert_eq!(backlog.queue().len(), 2);
    }

    #[test]
    fn lanes_that_nobody_here_works_on_leave_the_others_their_room() {
        let tasks = [
            task("backend", "acme/a", 0),
            task("backend", "acme/b", 0),
            task("backend", "acme/b", 0),
            task("mobile", "acme/a", 0),
            task("mobile", "acme/c", 0),
        ];
        let mut look = Look::all(20, 4096);
        assert_eq!(lanes(&look, &tasks), 4);
        look.types = Some(vec!["backend".parse().unwrap()]);
        assert_eq!(lanes(&look, &tasks), 2);
    }
}
