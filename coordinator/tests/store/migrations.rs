//! Migrations of databases that are large, busy, and set up by somebody else.

use patchfleet_coordinator::store::{SqlStore, StoreError};
use patchfleet_testkit::postgres::Database;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

async fn connect(database: &Database) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(database.url()).await.unwrap()
}

/// Has a change of the schema fail when a limit of its session could cut it off.
const REFUSE_LIMITS: &str = "
    CREATE FUNCTION refuse_limits() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('statement_timeout') <> '0'
            OR current_setting('idle_in_transaction_session_timeout') <> '0'
            OR current_setting('enable_seqscan') <> 'on' THEN
            RAISE EXCEPTION 'an hour of migration would be cut off, or planned without scans';
        END IF;
    END $$;
    CREATE EVENT TRIGGER refuse_limits ON ddl_command_start EXECUTE FUNCTION refuse_limits();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_may_take_as_long_as_it_takes() {
    let database = Database::create().await.unwrap();
    let mut operator = connect(&database).await;
    operator.execute(REFUSE_LIMITS).await.unwrap();
    let name = database.url().rsplit('/').next().unwrap();
    let limit = format!("ALTER DATABASE {name} SET statement_timeout = '1min'");
    operator.execute(AssertSqlSafe(limit)).await.unwrap();
    SqlStore::postgres(database.url(), 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_waits_for_a_lock_without_holding_up_others() {
    let database = Database::create().await.unwrap();
    let mut operator = connect(&database).await;
    // What sqlx has of its own is there before, and somebody reads it in a long transaction.
    let table = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
         installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, \
         checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL)";
    operator.execute(table).await.unwrap();
    operator.execute("BEGIN").await.unwrap();
    let lock = "LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE";
    operator.execute(lock).await.unwrap();
    let url = database.url().to_owned();
    let mut opening = tokio::task::JoinSet::new();
    opening.spawn(async move { SqlStore::postgres(&url, 2).await });
    let mut observer = connect(&database).await;
    let mut sessions = std::collections::BTreeSet::new();
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
    // A second session asks for what the first one gave up.
    while sessions.len() < 2 {
        let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let pids: Vec<i32> = sqlx::query_scalar(waiting)
            .fetch_all(&mut observer)
            .await
            .unwrap();
        sessions.extend(pids);
        looks.tick().await;
        assert!(opening.try_join_next().is_none(), "it goes on trying");
    }
    operator.execute("COMMIT").await.unwrap();
    opening.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_fails_says_which_one_and_why() {
    let database = Database::create().await.unwrap();
    let mut operator = connect(&database).await;
    let taken = "CREATE TABLE tasks (id TEXT PRIMARY KEY)";
    operator.execute(taken).await.unwrap();
    let refused = SqlStore::postgres(database.url(), 2).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused:?}");
    let why = refused.to_string();
    assert!(why.contains("migration 1 "), "{why}");
    assert!(why.contains("\"tasks\" already exists"), "{why}");
}
