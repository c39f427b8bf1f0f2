//! What callers of several replicas are told of a task at once is linearizable.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use patchfleet_coordinator::store::{
    Cas, Claim, Commanded, QueuedTask, Report, Store, StoreError, WorkEvent,
};
use patchfleet_domain::{AttemptNumber, Outcome, TaskState, Work};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::checker::{History, Sequential};
use crate::fixture::{Fixture, LEASE, agent};

const ACTORS: u32 = 5;
const STEPS: u32 = 8;
const ROUNDS: u64 = 12;

/// What a caller asks for.
#[derive(Debug, Clone)]
enum Op {
    /// The newest attempt so far, as the caller thinks.
    Claim(u32),
    Accept(u32),
    Refuse(u32),
    /// A line of log, with the number of its report.
    Say(u32, u64),
    Answer(u32, u64),
    Lose(u32),
    Cancel,
}

/// A task as its callers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Life {
    phase: Phase,
    attempt: u32,
    last_seq: u64,
    losses: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Phase {
    #[default]
    Queued,
    Assigned,
    Working,
    Over,
}

impl Life {
    fn is_live(&self, attempt: u32) -> bool {
        self.attempt == attempt && matches!(self.phase, Phase::Assigned | Phase::Working)
    }

    /// True when the report may be made now; `Some` when it was made before or never will be.
    fn reported(&mut self, (attempt, seq): (u32, u64), is_answer: bool) -> Result<(), bool> {
        if attempt != self.attempt || attempt == 0 {
            return Err(false);
        }
        if seq <= self.last_seq {
            return Err(true);
        }
        if !self.is_live(attempt) || is_answer != (self.phase == Phase::Assigned) {
            return Err(false);
        }
        self.last_seq = seq;
        Ok(())
    }

    fn report(&mut self, what: (u32, u64), is_answer: bool, next: Phase) -> bool {
        match self.reported(what, is_answer) {
            Ok(()) => {
                self.phase = next;
                true
            }
            Err(said) => said,
        }
    }

    fn lose(&mut self) {
        self.losses += u32::from(self.phase == Phase::Working);
        self.phase = if self.phase == Phase::Working && self.losses >= 3 {
            Phase::Over
        } else {
            Phase::Queued
        };
    }
}

impl Life {
    /// True when it had its effect, or a report had it before.
    fn invoke(&mut self, op: &Op) -> bool {
        match *op {
            Op::Claim(newest) => {
                let may = self.phase == Phase::Queued && self.attempt == newest;
                if may {
                    (self.phase, self.attempt, self.last_seq) = (Phase::Assigned, newest + 1, 0);
                }
                may
            }
            Op::Accept(attempt) => self.report((attempt, 1), true, Phase::Working),
            Op::Refuse(attempt) => self.report((attempt, 1), true, Phase::Queued),
            Op::Say(attempt, seq) => self.report((attempt, seq), false, Phase::Working),
            Op::Answer(attempt, seq) => self.report((attempt, seq), false, Phase::Over),
            Op::Lose(attempt) => {
                let live = self.is_live(attempt);
                if live {
                    self.lose();
                }
                live
            }
            Op::Cancel => {
                let may = self.phase != Phase::Over;
                self.phase = Phase::Over;
                may
            }
        }
    }
}

impl Sequential for Life {
    type Op = Op;
    type Ret = bool;

    fn step(&mut self, op: &Op, ret: &bool) -> bool {
        // A claim does not wait for somebody else who is at the task.
        matches!((op, ret), (Op::Claim(_), false)) || self.invoke(op) == *ret
    }
}

struct Scene {
    stores: [Arc<dyn Store>; 2],
    task: QueuedTask,
    /// The newest attempt that anybody heard of.
    newest: AtomicU32,
    history: Mutex<History<Life>>,
}

pub(crate) async fn what_is_told_of_a_task_has_an_order(fixture: &Fixture) {
    let other = fixture.place.open().await;
    for round in 0..ROUNDS {
        let scene = Scene {
            stores: [Arc::clone(&fixture.store), Arc::clone(&other)],
            task: fixture.queued(round + 1).await,
            newest: AtomicU32::new(0),
            history: Mutex::default(),
        };
        join_all((0..ACTORS).map(|actor| act(&scene, (round, actor)))).await;
        let history = scene.history.into_inner().unwrap();
        let verdict = history.check(Life::default());
        assert!(verdict.is_linearizable, "round {round}: {history:#?}");
    }
}

async fn act(scene: &Scene, (round, actor): (u64, u32)) {
    let mut random = StdRng::seed_from_u64(round * 1000 + u64::from(actor));
    for _ in 0..STEPS {
        let op = any(&mut random, scene.newest.load(Ordering::Relaxed));
        let store = &scene.stores[actor as usize % 2];
        let call = scene.history.lock().unwrap().invoke(op.clone());
        let ret = carry_out(store.as_ref(), scene, &op).await;
        scene.history.lock().unwrap().complete(call, ret);
        if let (Op::Claim(newest), true) = (op, ret) {
            scene.newest.fetch_max(newest + 1, Ordering::Relaxed);
        }
    }
}

/// Mostly about the newest attempt, at times about the one before.
fn any(random: &mut StdRng, newest: u32) -> Op {
    let attempt = newest.saturating_sub(u32::from(random.random_bool(0.2)));
    match random.random_range(0..12) {
        0..=3 => Op::Claim(attempt),
        4..=6 => Op::Accept(attempt),
        7 => Op::Refuse(attempt),
        8 | 9 => Op::Say(attempt, random.random_range(2..5)),
        10 => Op::Lose(attempt),
        _ if random.random_bool(0.5) => Op::Answer(attempt, 5),
        _ if random.random_bool(0.3) => Op::Cancel,
        _ => Op::Say(attempt, 4),
    }
}

async fn carry_out(store: &dyn Store, scene: &Scene, op: &Op) -> bool {
    let task = scene.task.id;
    let work = |attempt| Work {
        task,
        attempt: AttemptNumber(attempt),
    };
    let report = async |attempt, seq, event| {
        let report = Report {
            work: work(attempt),
            seq,
            event,
        };
        store.report(&report).await.unwrap() == Cas::Applied(())
    };
    let line = || WorkEvent::Log {
        lines: vec!["…".to_owned()],
        dropped: 0,
    };
    let answer = || Outcome::Answer {
        summary: String::new(),
    };
    let reason = "full".to_owned();
    match *op {
        Op::Claim(newest) => {
            let claim = Claim {
                attempt: AttemptNumber(newest),
                ..Claim::new(&scene.task, &agent("backend-1"))
            };
            match store.claim_all(&[claim], LEASE).await {
                Ok(won) => won.iter().any(|won| *won != Cas::Stale),
                // Somebody else was faster; the scheduler looks again.
                Err(StoreError::Contended(_)) => false,
                Err(error) => panic!("{error}"),
            }
        }
        Op::Accept(attempt) => report(attempt, 1, WorkEvent::Accepted).await,
        Op::Refuse(attempt) => report(attempt, 1, WorkEvent::Refused { reason }).await,
        Op::Say(attempt, seq) => report(attempt, seq, line()).await,
        Op::Answer(attempt, seq) => report(attempt, seq, WorkEvent::Finished(answer())).await,
        Op::Lose(attempt) => {
            let lost: Cas<TaskState> = store.lose(work(attempt), "gone").await.unwrap();
            lost != Cas::Stale
        }
        Op::Cancel => matches!(
            store.cancel(task, "maintainer").await.unwrap(),
            Commanded::Done(_)
        ),
    }
}
