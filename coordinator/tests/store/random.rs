//! Many actors at random on a few tasks; then the invariants are read off the store.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use patchfleet_coordinator::store::{Cas, Checkpoint, Look, TaskFilter, WorkEvent};
use patchfleet_domain::{Phase, TaskState, Work};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::fixture::{Fixture, LEASE, agent, failure, pull_request};

const ACTORS: u64 = 6;
const STEPS: u32 = 40;

/// Invariants 2 and 7 under interleavings that nobody chose: one live attempt at most, no change
/// by an old fence, final states never left, histories without gaps.
pub(crate) async fn actors_at_random_break_no_invariant(fixture: &Fixture) {
    let seed = std::env::var("PATCHFLEET_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(7);
    let mut tasks = Vec::new();
    for issue in 1..=4 {
        tasks.push(fixture.queued(issue).await.id);
    }
    let won: Vec<_> = join_all((0..ACTORS).map(|actor| act(fixture, seed * 1000 + actor))).await;
    let mut winners: BTreeMap<Work, usize> = BTreeMap::new();
    for work in won.into_iter().flatten() {
        *winners.entry(work).or_default() += 1;
    }
    assert!(
        winners.values().all(|count| *count == 1),
        "seed {seed}: {winners:?}"
    );
    for id in &tasks {
        check(fixture, *id, seed).await;
    }
    check_tallies(fixture).await;
}

/// What the history adds up to is what there is.
async fn check_tallies(fixture: &Fixture) {
    let mut there: BTreeMap<TaskState, i64> = BTreeMap::new();
    for task in fixture.store.tasks(&TaskFilter::default()).await.unwrap() {
        *there.entry(task.state).or_default() += 1;
    }
    // Nothing is counted that is not old enough, and everything once.
    let other = fixture.place.open().await;
    assert!(!fixture.store.tally(LEASE).await.unwrap());
    for _ in 0..2 {
        let (one, two) = tokio::join!(
            fixture.store.tally(Duration::ZERO),
            other.tally(Duration::ZERO)
        );
        one.unwrap();
        two.unwrap();
    }
    while fixture.store.tally(Duration::ZERO).await.unwrap() {}
    let mut tallies = fixture.store.tallies().await.unwrap();
    tallies.retain(|_, tasks| *tasks != 0);
    assert_eq!(tallies, there);
}

async fn check(fixture: &Fixture, id: patchfleet_domain::TaskId, seed: u64) {
    let task = fixture.task(id).await;
    let attempts = fixture.store.attempts(id).await.unwrap();
    let live = attempts
        .iter()
        .filter(|attempt| attempt.ended_at.is_none())
        .count();
    assert_eq!(
        live,
        usize::from(task.state.has_live_attempt()),
        "seed {seed}, task {task:?}"
    );
    let mut state = TaskState::Pending;
    let history = fixture.store.history(id, 0).await.unwrap();
    for event in history.iter().filter(|event| event.kind == "state") {
        assert_eq!(event.from, Some(state), "seed {seed}: a gap in the history");
        state = state
            .transition(event.to.unwrap())
            .expect("a change that the table has");
    }
    assert_eq!(state, task.state, "seed {seed}: the history ends elsewhere");
    assert!(task.failures <= task.max_attempts, "seed {seed}");
}

/// Does random things and gives the attempts whose claim it won.
async fn act(fixture: &Fixture, seed: u64) -> Vec<Work> {
    let mut random = StdRng::seed_from_u64(seed);
    let me = agent(&format!("agent-{}", seed % 1000));
    let mut won = Vec::new();
    for step in 0..STEPS {
        let lease = if random.random_bool(0.3) {
            Duration::ZERO
        } else {
            Duration::from_secs(30)
        };
        match random.random_range(0..6) {
            0 | 1 => {
                for queued in fixture.store.queued(&Look::all(2, 2)).await.unwrap() {
                    if let Cas::Applied(given) =
                        fixture.store.claim(&queued, &me, lease).await.unwrap()
                    {
                        won.push(given.work);
                    }
                }
            }
            2 => drop(fixture.store.expire().await.unwrap()),
            3 => drop(fixture.renew(&[&me]).await),
            4 if step % 10 == 9 => {
                if let Some(work) = won.last() {
                    fixture.store.cancel(work.task, "maintainer").await.unwrap();
                }
            }
            _ => report(fixture, &mut random, &won, u64::from(step)).await,
        }
    }
    won
}

/// Reports about any attempt it ever had, old fences included.
async fn report(fixture: &Fixture, random: &mut StdRng, won: &[Work], step: u64) {
    if won.is_empty() {
        return;
    }
    let work = won[random.random_range(0..won.len())];
    let checkpoint = Checkpoint {
        node: "draft".to_owned(),
        visit: 1,
        output: serde_json::json!({}),
    };
    let event = match random.random_range(0..6) {
        0 | 1 => WorkEvent::Accepted,
        2 => WorkEvent::Progress {
            phase: Phase::Test,
            detail: String::new(),
        },
        3 => WorkEvent::Checkpoint(checkpoint),
        4 => WorkEvent::Finished(failure(random.random_bool(0.8), false)),
        _ => WorkEvent::Finished(pull_request(1)),
    };
    let before = fixture.task(work.task).await;
    let cas = fixture.report(work, step + 1, event).await;
    if before.attempt > work.attempt {
        assert!(
            cas == Cas::Stale || step < 2,
            "an old fence was let through: {work}"
        );
    }
}
