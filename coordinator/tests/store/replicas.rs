//! Several coordinators on one database, and the loops within one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{join, join_all};
use patchfleet_coordinator::store::{
    Act, Cas, Checkpoint, Commanded, Effect, NewPresence, Recorded, Report, Sent, Store,
    TaskFilter, WorkEvent,
};
use patchfleet_domain::{Outcome, SessionId, Task, TaskId, TaskState, Work};

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::watch;

use crate::fixture::{Fixture, LEASE, Place, agent, failure};
use crate::presence::{description, presence};

const ROUNDS: u64 = 40;
/// Far longer than a notification takes; nothing else would wake the other replica.
const PATIENCE: Duration = Duration::from_secs(20);
const HOLD: Duration = Duration::from_mins(1);

pub(crate) async fn all_of_them_may_start_at_once(fixture: &Fixture) {
    let place = fixture.place.fresh().await;
    let stores = join_all((0..4).map(|_| place.open())).await;
    for store in &stores {
        store.ping().await.unwrap();
        let tasks = store.tasks(&TaskFilter::default()).await.unwrap();
        assert_eq!(tasks, []);
    }
    // What one of them has written, one that comes later knows.
    let task = fixture.create(1).await;
    let later = fixture.place.open().await;
    assert_eq!(later.task(task).await.unwrap().unwrap().id, task);
}

pub(crate) async fn two_of_them_never_share_a_task(fixture: &Fixture) {
    let other = fixture.place.open().await;
    let (one, two) = (agent("one"), agent("two"));
    for issue in 1..=ROUNDS {
        let queued = fixture.queued(issue).await;
        let claims = join(
            fixture.store.claim(&queued, &one, LEASE),
            other.claim(&queued, &two, LEASE),
        );
        let claims = claims.await;
        let won = [claims.0.unwrap(), claims.1.unwrap()]
            .iter()
            .filter(|claim| **claim != Cas::Stale)
            .count();
        assert_eq!(won, 1);
    }
}

/// On a database that several coordinators use, one keeps the id for the process that another has;
/// SQLite has one coordinator, which knows its sessions itself.
pub(crate) async fn an_agent_id_has_one_process_over_all_of_them(fixture: &Fixture) {
    let other = fixture.place.open().await;
    let known = description(agent("backend-1"));
    let first = presence(SessionId::new(), LEASE);
    let registered = fixture.store.register_agent(&known, first).await;
    assert_eq!(registered.unwrap(), Cas::Applied(()));
    let second = presence(SessionId::new(), LEASE);
    let registered = other.register_agent(&known, second).await.unwrap();
    if let Place::File(..) = fixture.place {
        assert_eq!(registered, Cas::Applied(()));
        return;
    }
    assert_eq!(registered, Cas::Stale);

    let moved = NewPresence {
        session: SessionId::new(),
        ..first
    };
    let registered = other.register_agent(&known, moved).await.unwrap();
    assert_eq!(registered, Cas::Applied(()), "it is the same process");
    let (id, session) = (&known.id, moved.session);
    other.agent_left(id, session, None).await.unwrap();
    let registered = fixture.store.register_agent(&known, second).await;
    assert_eq!(registered.unwrap(), Cas::Applied(()), "the place is free");
}

pub(crate) async fn a_retry_and_a_new_trigger_make_one_active_task(fixture: &Fixture) {
    let other = fixture.place.open().await;
    for issue in 1..=ROUNDS {
        let failed = fixture.started(issue).await;
        let permanent = WorkEvent::Finished(failure(false, false));
        fixture.applied(failed, 2, permanent).await;
        let delivery = fixture.delivery();
        let create = [Act::Create(Box::new(fixture.new_task(issue)))];
        let (retried, recorded) = join(
            fixture.store.retry(failed.task, "maintainer"),
            other.record_delivery(&delivery, &create),
        )
        .await;
        let Recorded::New(acted) = recorded.unwrap() else {
            panic!("a new delivery is no duplicate");
        };
        let active = active(fixture, issue).await;
        let [active] = active.as_slice() else {
            panic!("one active task, not {active:?}");
        };
        match retried.unwrap() {
            Commanded::Done(_) => assert_eq!(active.id, failed.task, "{acted:?}"),
            Commanded::Conflict(other) => assert_eq!(active.id, other, "{acted:?}"),
            refused => panic!("{refused:?}"),
        }
    }
}

async fn active(fixture: &Fixture, issue: u64) -> Vec<Task> {
    let filter = TaskFilter {
        issue: Some(patchfleet_domain::IssueNumber(issue)),
        ..TaskFilter::default()
    };
    let mut tasks = fixture.store.tasks(&filter).await.unwrap();
    tasks.retain(|task| task.state.is_active());
    tasks
}

/// However a publisher's look at the outbox falls between two changes, what it told last is what
/// is true when nothing is left to tell.
pub(crate) async fn the_last_state_is_always_told(fixture: &Fixture) {
    let other = fixture.place.open().await;
    let id = fixture.queued(1).await.id;
    let over = AtomicBool::new(false);
    let told = tokio::sync::watch::Sender::new(TaskState::Pending);
    let publisher = async {
        while !over.load(Ordering::Relaxed) {
            publish(other.as_ref(), &told).await;
        }
    };
    let actor = async {
        for _ in 0..ROUNDS {
            claim_and_interrupt(fixture, id).await;
            drained(fixture).await;
            assert_eq!(*told.borrow(), TaskState::Queued);
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::time::timeout(Duration::from_mins(1), join(publisher, actor))
        .await
        .expect("the outbox is emptied");
}

async fn publish(store: &dyn Store, told: &tokio::sync::watch::Sender<TaskState>) {
    for entry in store.take_outbox(10, HOLD).await.unwrap() {
        let Effect::Status { task } = entry.effect else {
            panic!("{entry:?}");
        };
        told.send_replace(store.task(task).await.unwrap().unwrap().state);
        let done = Sent::Done { comment: None };
        store.settle_outbox(&entry, &done).await.unwrap();
    }
}

/// With progress between, so that it does not come back ever later.
async fn claim_and_interrupt(fixture: &Fixture, id: TaskId) {
    let work = fixture.claim(&fixture.in_queue(id).await, LEASE).await.work;
    fixture.applied(work, 1, WorkEvent::Accepted).await;
    let checkpoint = WorkEvent::Checkpoint(Checkpoint {
        node: "inspect".to_owned(),
        visit: 1,
        output: serde_json::json!({}),
    });
    fixture.applied(work, 2, checkpoint).await;
    let stopped = Outcome::Cancelled { by_operator: false };
    fixture.applied(work, 3, WorkEvent::Finished(stopped)).await;
}

async fn drained(fixture: &Fixture) {
    while fixture.store.outbox_pending().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn a_renewed_lease_is_not_over(fixture: &Fixture) {
    let queued = fixture.queued(1).await;
    let work = fixture.claim(&queued, Duration::ZERO).await.work;
    fixture.applied(work, 1, WorkEvent::Accepted).await;
    let me = agent("backend-1");
    assert_eq!(fixture.renew(&[&me]).await, [(me, work)]);
    assert_eq!(fixture.store.expire().await.unwrap(), []);
    assert_eq!(fixture.renew(&[&agent("stranger")]).await, []);
}

pub(crate) async fn loops_are_woken_by_what_is_theirs(fixture: &Fixture) {
    let mut changed = fixture.store.changed();
    let work = fixture.started(1).await;
    assert!(changed.has_changed().unwrap(), "a task was made");
    changed.mark_unchanged();
    let log = WorkEvent::Log {
        lines: vec!["…".to_owned()],
        dropped: 0,
    };
    fixture.applied(work, 2, log.clone()).await;
    assert!(!changed.has_changed().unwrap(), "a line of log is nobody's");
    let stale = Report {
        work: Work {
            attempt: work.attempt.next(),
            ..work
        },
        seq: 3,
        event: log,
    };
    assert_eq!(fixture.store.report(&stale).await.unwrap(), Cas::Stale);
    assert!(!changed.has_changed().unwrap(), "nothing happened");
    fixture.store.cancel(work.task, "maintainer").await.unwrap();
    assert!(changed.has_changed().unwrap(), "an attempt was called off");
}

pub(crate) async fn they_hear_of_each_other(fixture: &Fixture) {
    let other = fixture.place.open().await;
    let mut changed = other.changed();
    let heard = async |changed: &mut watch::Receiver<u64>| {
        let heard = tokio::time::timeout(PATIENCE, changed.changed()).await;
        heard.expect("the other replica is heard").unwrap();
        changed.mark_unchanged();
    };
    fixture.create(1).await;
    heard(&mut changed).await;
    let Place::Server(database) = &fixture.place else {
        panic!("this is about PostgreSQL");
    };
    let mut admin = PgConnection::connect(database.url()).await.unwrap();
    // A lost connection may have had something to tell.
    let ended = admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'",
    );
    assert_eq!(ended.await.unwrap().rows_affected(), 2);
    heard(&mut changed).await;
    let listeners = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    while sqlx::query_scalar::<_, i64>(listeners)
        .fetch_one(&mut admin)
        .await
        .unwrap()
        < 2
    {
        tokio::task::yield_now().await;
    }
    changed.mark_unchanged();
    fixture.create(2).await;
    heard(&mut changed).await;
}
