//! What a statement reads does not grow with its tables, also when PostgreSQL made its plan while
//! they were small: a connection keeps its plans for as long as it lives. And what is remembered is
//! not read at all.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_coordinator::store::{SqlStore, WorkEvent};
use patchfleet_domain::Phase;
use patchfleet_domain::outcome::Outcome;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::fixture::{Fixture, Place};

/// So many tasks that every statement has the plan that it keeps: PostgreSQL tries five others first
/// (its documentation, `PREPARE`).
const FEW: u64 = 10;
/// Rows of each table that are over.
const OLD: i64 = 5000;

/// They come before all others in every index, as rows do that are older.
const OLD_ROWS: [&str; 5] = [
    "INSERT INTO tasks (id, kind, state, attempt, max_attempts, priority, repository, trigger_kind, \
     trigger_object, branch, request, created_at, updated_at) \
     SELECT '00-' || n, 'prompt', 'completed', 1, 3, 5, 'acme/old', 'label', n, 'old', '{}', 0, 0 \
     FROM generate_series(1, $1) AS n",
    "INSERT INTO attempts (task, number, agent, lease_until, assigned_at, ended_at, outcome) \
     SELECT '00-' || n, 1, 'backend-1', 1, 0, 1, 'answered' FROM generate_series(1, $1) AS n",
    "INSERT INTO task_events (task, attempt, at, kind, to_state, actor, detail) \
     SELECT '00-' || n, 1, 1, 'state', 'completed', 'backend-1', '' FROM generate_series(1, $1) AS n",
    "INSERT INTO outbox (repository, issue, task, effect, taken_at, done_at) \
     SELECT 'acme/old', 1, '00-' || n, '{}', 1, 1 FROM generate_series(1, $1) AS n",
    "INSERT INTO task_triggers (repository, issue, kind, object, task) \
     SELECT 'acme/old', -1, 'label', n, '00-' || n FROM generate_series(1, $1) AS n",
];

/// What has been read so far; of a connection that is there it may be known later.
const READ: &str = "SELECT (SELECT COALESCE(SUM(idx_tup_read), 0) FROM pg_stat_user_indexes)::bigint \
    + (SELECT COALESCE(SUM(seq_tup_read), 0) FROM pg_stat_user_tables)::bigint";
/// How often a task's row was looked for by its id.
const FOUND: &str = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'tasks_pkey'";
const CONNECTED: &str = "SELECT COUNT(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// Takes tasks from their creation to their end.
async fn pass(fixture: &Fixture, issues: std::ops::Range<u64>) {
    for issue in issues {
        let work = fixture.started(issue).await;
        let phase = WorkEvent::Progress {
            phase: Phase::Test,
            detail: String::new(),
        };
        fixture.applied(work, 2, phase).await;
        let answer = Outcome::Answer {
            summary: "done".to_owned(),
        };
        fixture.applied(work, 3, WorkEvent::Finished(answer)).await;
    }
}

/// Waits until the store's connections are gone, with what they read counted.
async fn all_is_counted(connection: &mut PgConnection) {
    let gone = async {
        loop {
            let left: i64 = sqlx::query_scalar(CONNECTED)
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            if left == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), gone);
    gone.await
        .expect("a store that is dropped closes its connections");
}

/// A store of one connection, which has all the plans, and another connection to the same database.
async fn small() -> (Fixture, PgConnection) {
    let mut fixture = Fixture::postgres().await;
    let Place::Server(database) = &fixture.place else {
        panic!("PostgreSQL is a server");
    };
    let connection = PgConnection::connect(database.url()).await.unwrap();
    let store = SqlStore::postgres(database.url(), 1).await.unwrap();
    fixture.store = Arc::new(store);
    (fixture, connection)
}

/// What the query tells of what the store did until then.
async fn counted(fixture: Fixture, connection: &mut PgConnection, query: &'static str) -> i64 {
    // The database goes with the place.
    let Fixture { store, place, .. } = fixture;
    drop(store);
    all_is_counted(connection).await;
    let counted = sqlx::query_scalar(query).fetch_one(connection).await;
    drop(place);
    counted.unwrap()
}

pub(crate) async fn what_is_remembered_is_not_read() {
    let (fixture, mut connection) = small().await;
    pass(&fixture, 0..FEW).await;
    let found = counted(fixture, &mut connection, FOUND).await;
    // Its five changes find it, a claim looks whether it is free, and its end who waits for it.
    assert!(
        found <= 7 * i64::try_from(FEW).unwrap(),
        "{found} looks for {FEW} tasks"
    );
}

pub(crate) async fn a_statement_reads_no_more_when_its_tables_have_grown() {
    let (fixture, mut connection) = small().await;
    pass(&fixture, 0..FEW).await;
    for text in OLD_ROWS {
        let insert = sqlx::query(text).bind(OLD);
        connection.execute(insert).await.unwrap();
    }
    pass(&fixture, FEW..2 * FEW).await;
    let read = counted(fixture, &mut connection, READ).await;
    assert!(
        read < OLD,
        "{read} rows were read: an old plan goes through a table"
    );
}
