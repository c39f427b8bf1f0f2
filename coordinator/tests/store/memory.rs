//! What a coordinator remembers of a task is never believed against what is stored.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_coordinator::store::{
    Act, Acted, Cas, Claim, Commanded, QueuedTask, Report, Scope, Store, WorkEvent,
};
use patchfleet_domain::{Phase, TaskState, Work};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::fixture::{Fixture, LEASE, Place, agent, analysis, pull_request, repository};

async fn say(store: &Arc<dyn Store>, work: Work, seq: u64, event: WorkEvent) -> Cas {
    let report = Report { work, seq, event };
    store.report(&report).await.unwrap()
}

fn line(text: &str) -> WorkEvent {
    WorkEvent::Log {
        lines: vec![text.to_owned()],
        dropped: 0,
    }
}

fn testing() -> WorkEvent {
    WorkEvent::Progress {
        phase: Phase::Test,
        detail: String::new(),
    }
}

/// The agent's stream goes from one replica to the other and back, with something said twice.
pub(crate) async fn an_agent_that_changes_replicas_is_understood(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let work = fixture.started(1).await;
    assert_eq!(say(&there, work, 2, line("two")).await, Cas::Applied(()));
    assert_eq!(say(&there, work, 3, testing()).await, Cas::Applied(()));
    assert_eq!(say(here, work, 2, line("two")).await, Cas::Applied(()));
    assert_eq!(say(here, work, 3, testing()).await, Cas::Applied(()));
    assert_eq!(say(here, work, 4, line("four")).await, Cas::Applied(()));
    assert_eq!(say(&there, work, 4, line("four")).await, Cas::Applied(()));
    assert_eq!(say(&there, work, 5, line("five")).await, Cas::Applied(()));
    assert_eq!(fixture.task(work.task).await.state, TaskState::Testing);
    let logs = here.logs(work.task, 0).await.unwrap().lines;
    assert_eq!(logs, ["two", "four", "five"]);
}

/// A line of log changes nothing of the task's row, which could show that it is not the same.
pub(crate) async fn what_another_took_away_is_not_reported_on(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    for (issue, event) in [(1, line("late")), (2, testing())] {
        let work = fixture.started(issue).await;
        let called_off = there.cancel(work.task, "maintainer").await.unwrap();
        assert!(matches!(called_off, Commanded::Done(_)), "{called_off:?}");
        assert_eq!(say(here, work, 2, event).await, Cas::Stale);
        let none: [&str; 0] = [];
        assert_eq!(here.logs(work.task, 0).await.unwrap().lines, none);
        assert_eq!(fixture.task(work.task).await.state, TaskState::Cancelled);
    }
}

/// The second attempt was given away elsewhere, and its agent comes here.
pub(crate) async fn the_next_attempt_counts_and_the_last_one_does_not(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let queued = fixture.queued(1).await;
    let first = fixture.claim(&queued, Duration::ZERO).await.work;
    assert_eq!(there.expire().await.unwrap().len(), 1);
    let queued = fixture.in_queue(first.task).await;
    let other = agent("backend-2");
    let second = match there.claim(&queued, &other, LEASE).await.unwrap() {
        Cas::Applied(assignment) => assignment.work,
        Cas::Stale => panic!("nobody else claims it"),
    };
    let accepted = say(here, second, 1, WorkEvent::Accepted).await;
    assert_eq!(accepted, Cas::Applied(()));
    assert_eq!(say(here, first, 1, WorkEvent::Accepted).await, Cas::Stale);
    assert_eq!(say(here, first, 2, line("late")).await, Cas::Stale);
    let task = fixture.task(first.task).await;
    assert_eq!(
        (task.state, task.attempt),
        (TaskState::InProgress, second.attempt)
    );
}

/// What a webhook leaves with the task while it is at work changes neither state nor attempt.
pub(crate) async fn a_merge_that_another_heard_of_counts(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let work = fixture.started(1).await;
    let merged = Act::PullRequestClosed {
        repository: repository(),
        number: 5,
        head: "patchfleet/1-fix".to_owned(),
        merged: true,
        actor: "maintainer".to_owned(),
    };
    let heard = there.record_delivery(&fixture.delivery(), &[merged]).await;
    let changed = Acted::Changed(work.task, TaskState::InProgress);
    assert!(format!("{:?}", heard.unwrap()).contains(&format!("{changed:?}")));
    let opened = WorkEvent::Finished(pull_request(5));
    assert_eq!(say(here, work, 2, opened).await, Cas::Applied(()));
    assert_eq!(fixture.task(work.task).await.state, TaskState::Completed);
}

/// Which of the tasks that store gives to an agent.
async fn won(store: &Arc<dyn Store>, tasks: &[QueuedTask]) -> Vec<bool> {
    let agent = agent("backend-1");
    let claims: Vec<_> = tasks.iter().map(|task| Claim::new(task, &agent)).collect();
    let won = store.claim_all(&claims, LEASE).await.unwrap();
    let applied = won.iter().map(|won| matches!(won, Cas::Applied(_)));
    applied.collect()
}

pub(crate) async fn what_another_did_to_a_waiting_task_counts(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let mut queued = Vec::new();
    for issue in 1..=4 {
        queued.push(fixture.queued(issue).await);
    }
    let called_off = there.cancel(queued[0].id, "maintainer").await.unwrap();
    assert!(matches!(called_off, Commanded::Done(_)), "{called_off:?}");
    assert_eq!(won(&there, &queued[1..2]).await, [true]);
    assert_eq!(won(here, &queued).await, [false, false, true, true]);
    assert_eq!(fixture.task(queued[0].id).await.attempt.0, 0);
    assert_eq!(fixture.task(queued[1].id).await.attempt.0, 1);
}

pub(crate) async fn what_another_did_to_a_new_task_counts(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let (off, known, new) = (
        fixture.create(1).await,
        fixture.create(2).await,
        fixture.create(3).await,
    );
    let called_off = there.cancel(off, "maintainer").await.unwrap();
    assert!(matches!(called_off, Commanded::Done(_)), "{called_off:?}");
    assert_eq!(
        there.analyzed(known, &analysis()).await.unwrap(),
        Cas::Applied(())
    );
    let analyses = [off, known, new].map(|id| (id, analysis()));
    let applied = here.analyzed_all(&analyses).await.unwrap();
    assert_eq!(applied, [Cas::Stale, Cas::Stale, Cas::Applied(())]);
    assert_eq!(fixture.task(off).await.state, TaskState::Cancelled);
    // Once in, once analyzed, and no more.
    let history = here.history(known, 0).await.unwrap();
    let queued = history.iter().filter(|it| it.to == Some(TaskState::Queued));
    assert_eq!(queued.count(), 1);
}

/// It is remembered as one that waits for its analysis, and no claim would ever change that.
pub(crate) async fn what_another_queued_is_given_away(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let new = fixture.create(1).await;
    let analyzed = there.analyzed(new, &analysis()).await.unwrap();
    assert_eq!(analyzed, Cas::Applied(()));
    let queued = [fixture.in_queue(new).await];
    assert_eq!(won(here, &queued).await, [true]);
}

pub(crate) async fn a_pause_by_another_counts(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let queued = [fixture.queued(1).await];
    let orders = Scope::Repository(repository());
    assert!(there.pause(&orders, "maintainer", None).await.unwrap());
    assert_eq!(won(here, &queued).await, [false]);
    assert_eq!(fixture.task(queued[0].id).await.state, TaskState::Queued);
    assert!(there.resume(&orders).await.unwrap());
    assert_eq!(won(here, &queued).await, [true]);
}

/// A process that stands still holds some tasks, and the others are given away meanwhile, whether
/// they are remembered or read. What is remembered is believed first, and what that try held is free
/// when the next one begins.
pub(crate) async fn a_claim_waits_for_nobody(fixture: &Fixture) {
    let Place::Server(database) = &fixture.place else {
        panic!("PostgreSQL is a server");
    };
    let there = fixture.place.open().await;
    let mut pairs = Vec::new();
    for issue in 1..=10 {
        let remembered = fixture.queued(issue * 4).await;
        pairs.push([fixture.queued(issue * 4 + 1).await, remembered]);
        let read = fixture.create(issue * 4 + 2).await;
        let analyzed = there.analyzed(read, &analysis()).await.unwrap();
        assert_eq!(analyzed, Cas::Applied(()));
        let read = fixture.in_queue(read).await;
        pairs.push([fixture.queued(issue * 4 + 3).await, read]);
    }
    let ids: Vec<_> = pairs
        .iter()
        .map(|[held, _]| format!("'{}'", held.id))
        .collect();
    let hold = format!(
        "BEGIN; SELECT FROM tasks WHERE id IN ({}) FOR UPDATE",
        ids.join(", ")
    );
    let mut other = PgConnection::connect(database.url()).await.unwrap();
    other.execute(sqlx::AssertSqlSafe(hold)).await.unwrap();
    let mut watching = PgConnection::connect(database.url()).await.unwrap();
    for pair in &pairs {
        tokio::select! {
            won = won(&fixture.store, pair) => assert_eq!(won, [false, true]),
            () = somebody_waits_for_a_lock(&mut watching) => panic!("it does not wait"),
        }
    }
}

/// Ends when a connection to the database waits for a lock that another one has.
async fn somebody_waits_for_a_lock(connection: &mut PgConnection) {
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting)
        .fetch_one(&mut *connection)
        .await
        .unwrap()
        == 0
    {
        tokio::task::yield_now().await;
    }
}

/// The database ends all connections, as when it restarts: what comes next takes others.
pub(crate) async fn lost_connections_cost_nothing(fixture: &Fixture) {
    let queued = [fixture.queued(1).await];
    let work = fixture.started(2).await;
    let Place::Server(database) = &fixture.place else {
        panic!("PostgreSQL is a server");
    };
    let mut other = PgConnection::connect(database.url()).await.unwrap();
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    other.execute(end_all).await.unwrap();
    fixture.applied(work, 2, testing()).await;
    other.execute(end_all).await.unwrap();
    assert_eq!(won(&fixture.store, &queued).await, [true]);
    other.execute(end_all).await.unwrap();
    fixture.applied(work, 3, line("three")).await;
}
