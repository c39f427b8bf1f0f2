//! The schema, brought up to date by migrations that only go forward.
//!
//! A migration may copy a large table or build an index for an hour, so it runs in a session of its
//! own without the limits and planner settings of the pool's. What it must not do is stand in the
//! way: a lock that others hold is waited for shortly and then asked for again, because everything
//! that wants the table afterwards queues behind a waiting migration.
//!
//! An index on a table that may be large is built with `CREATE INDEX CONCURRENTLY IF NOT EXISTS`, alone
//! in a migration whose first line is `-- no-transaction`. Nobody queues behind such a build, so it has
//! no timeout: it waits for all transactions that are open when it begins. It would wait for a replica
//! as well whose statement waits for the migrations' lock, and that one for it, so replicas ask for
//! a lock in front of it without waiting. What an interrupted build leaves is removed before the next.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AnyPool, Executor as _};
use tokio::time::Instant;

use super::connect::connect;
use crate::store::{StoreError, StoreResult};

pub(in crate::store) static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
pub(in crate::store) static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How long a migration waits for a lock before it lets others through.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '2s'";
/// Asks for the lock in front of the migrations' own, for the session. It is not waited for: a session
/// that waits has a snapshot, which a concurrent build waits for.
const TAKE_TURN: &str = "SELECT pg_try_advisory_lock(1885760629, \
     hashtext(COALESCE(current_schema(), '')))";
/// Whether a migration was applied.
const IS_APPLIED: &str = "SELECT COUNT(*) FROM _sqlx_migrations WHERE version = $1";
/// Indexes that no query uses, because they were not built to the end.
const INVALID_INDEXES: &str = "SELECT c.relname::text FROM pg_index i \
     JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE NOT i.indisvalid AND n.nspname = current_schema()";
/// What a session for migrations begins with, whatever the server or the role has as a default.
const POSTGRES_SESSION: [&str; 4] = [
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    LOCK_TIMEOUT,
    "SELECT set_config('application_name', 'patchfleet', false) \
     WHERE current_setting('application_name') = ''",
];
/// What PostgreSQL says when others are in the way, and the next try may find them gone: the lock's
/// timeout is over, a deadlock was ended, a transaction can't be put in an order with others.
const IN_THE_WAY: [&str; 3] = ["55P03", "40P01", "40001"];
/// Between two tries to have a lock, so that others get through.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a replica says that it waits for another one.
const REMINDER: Duration = Duration::from_secs(10);

/// Migrates a file, one process after the other: sqlx takes a lock for that on PostgreSQL, and none
/// on SQLite.
pub(super) async fn migrate_sqlite(path: &Path, writer: &AnyPool) -> StoreResult<()> {
    let alone = sqlite_lock(path).await?;
    let migrated = SQLITE_MIGRATIONS.run(writer).await;
    drop(alone);
    migrated.map_err(failed)
}

/// Migrates a PostgreSQL, for as long as that takes.
pub(super) async fn migrate_postgres(url: &str) -> StoreResult<()> {
    migrate_by(&POSTGRES_MIGRATIONS, url).await
}

async fn migrate_by(migrator: &Migrator, url: &str) -> StoreResult<()> {
    let mut reminded: Option<Instant> = None;
    loop {
        // A session of its own takes all its locks with it when it fails, and has them until then.
        let session = AnyPoolOptions::new().max_connections(1).max_lifetime(None);
        let session = connect(url, session, &POSTGRES_SESSION).await?;
        let migrated = run(migrator, &session).await;
        session.close().await;
        match migrated {
            Ok(true) => return Ok(()),
            Ok(false) if reminded.is_some_and(|at| at.elapsed() < REMINDER) => {}
            Ok(false) => {
                reminded = Some(Instant::now());
                tracing::warn!(
                    "waiting until another replica has brought the schema up to date (pg_locks \
                     shows its pid, by locktype advisory; a session of a host that is gone keeps \
                     the lock until pg_terminate_backend ends it)"
                );
            }
            Err(error) if is_locked(&error) => tracing::warn!(
                %error,
                "the schema can't be brought up to date while others hold a lock on it; trying \
                 again (pg_stat_activity shows who: another replica that migrates, or an old \
                 transaction)"
            ),
            Err(error) => return Err(failed(error)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Runs the migrations in one session; false when another session is at it.
async fn run(migrator: &Migrator, session: &AnyPool) -> Result<bool, MigrateError> {
    let is_first: bool = sqlx::query_scalar(TAKE_TURN).fetch_one(session).await?;
    if !is_first {
        return Ok(false);
    }
    for build in migrator.iter().filter(|migration| migration.no_tx) {
        migrator.run_to(build.version - 1, session).await?;
        let done: i64 = sqlx::query_scalar(IS_APPLIED)
            .bind(build.version)
            .fetch_one(session)
            .await?;
        if done == 0 {
            session.execute("SET lock_timeout = 0").await?;
            remove_unfinished(session, build.sql.as_str()).await?;
            migrator.run_to(build.version, session).await?;
            session.execute(LOCK_TIMEOUT).await?;
        }
    }
    migrator.run(session).await?;
    Ok(true)
}

/// Removes what an interrupted concurrent build of the migration's indexes has left.
async fn remove_unfinished(session: &AnyPool, build: &str) -> Result<(), MigrateError> {
    let invalid: Vec<String> = sqlx::query_scalar(INVALID_INDEXES)
        .fetch_all(session)
        .await?;
    let words: Vec<&str> = build.split_whitespace().collect();
    for index in invalid
        .iter()
        .filter(|index| words.contains(&index.as_str()))
    {
        tracing::warn!(
            index,
            "removing what an interrupted build of an index has left"
        );
        let text = format!("DROP INDEX CONCURRENTLY IF EXISTS {index}");
        session.execute(sqlx::AssertSqlSafe(text)).await?;
    }
    Ok(())
}

fn is_locked(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| IN_THE_WAY.contains(&code.as_ref()))
}

pub(in crate::store) fn failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => error.into(),
        MigrateError::ExecuteMigration(error, version) => match StoreError::from(error) {
            StoreError::Unavailable(why) => {
                StoreError::Unavailable(format!("migration {version} of its schema: {why}"))
            }
            other => StoreError::Corrupt(format!("migration {version} of its schema: {other}")),
        },
        other => StoreError::Corrupt(format!("its schema: {other}")),
    }
}

/// Has the lock of a file's migration, until it is closed.
async fn sqlite_lock(path: &Path) -> StoreResult<File> {
    let mut name = path.as_os_str().to_owned();
    name.push("-migration");
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(name)?;
        file.lock()?;
        Ok(file)
    });
    locked
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| StoreError::Unavailable(format!("its migration's lock: {error}")))
}

#[cfg(test)]
mod tests {
    use patchfleet_testkit::postgres::Database;
    use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};
    use tokio::task::JoinSet;

    use super::*;

    /// The newest migration before indexes had to be built concurrently.
    const BEFORE_THE_RULE: i64 = 19;

    /// What keeps a migration from being run beside writers of a large table.
    fn fault(sql: &str, has_transaction: bool) -> Option<&'static str> {
        let lines = sql.lines().filter(|line| !line.starts_with("--"));
        let text = lines.collect::<Vec<_>>().join(" ").to_uppercase();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let statements: Vec<_> = text
            .split(';')
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .collect();
        for statement in &statements {
            let unique = statement.strip_prefix("CREATE UNIQUE INDEX ");
            let Some(index) = unique.or_else(|| statement.strip_prefix("CREATE INDEX ")) else {
                continue;
            };
            let table = index.split(" ON ").nth(1).unwrap_or_default();
            let table = table.split([' ', '(']).next().unwrap_or_default();
            if text.contains(&format!("CREATE TABLE {table} (")) {
                continue;
            }
            if !index.starts_with("CONCURRENTLY IF NOT EXISTS ") {
                return Some("an index locks out those who write its table");
            }
            if has_transaction || statements.len() > 1 {
                return Some("a concurrent build is alone in a file with `-- no-transaction`");
            }
        }
        None
    }

    #[test]
    fn an_index_on_a_table_that_is_there_is_built_beside_its_writers() {
        let concurrent = "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a);";
        let new = "CREATE TABLE t (\n a TEXT);\nCREATE UNIQUE INDEX i\n ON t (a);";
        assert_eq!(fault(concurrent, false), None);
        assert_eq!(fault(new, true), None);
        assert!(fault("-- Why.\nCREATE INDEX i\n ON t (a);", false).is_some());
        assert!(fault("CREATE INDEX CONCURRENTLY i ON t (a);", false).is_some());
        assert!(fault(concurrent, true).is_some());
        assert!(fault(&format!("{concurrent} {concurrent}"), false).is_some());
        for migration in POSTGRES_MIGRATIONS.iter() {
            if migration.version > BEFORE_THE_RULE {
                let fault = fault(migration.sql.as_str(), !migration.no_tx);
                assert_eq!(fault, None, "migration {}", migration.version);
            }
        }
    }

    /// Waits until a session of that database waits for the end of another's transaction; its process.
    async fn building(server: &mut AnyConnection) -> i32 {
        let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
             AND query LIKE '%INDEX CONCURRENTLY%' AND wait_event = 'virtualxid' \
             AND pid <> pg_backend_pid()";
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        loop {
            looks.tick().await;
            let found = sqlx::query_scalar(waiting).fetch_optional(&mut *server);
            if let Some(pid) = found.await.unwrap() {
                return pid;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_build_that_was_interrupted_is_done_again_beside_a_writer() {
        sqlx::any::install_default_drivers();
        let database = Database::create().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("1_table.sql", "CREATE TABLE words (word TEXT);"),
            (
                "2_index.sql",
                "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS words_index ON words (word);",
            ),
            ("3_more.sql", "ALTER TABLE words ADD COLUMN more TEXT;"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let migrator = Migrator::new(folder.path()).await.unwrap();
        let mut server = AnyConnection::connect(database.url()).await.unwrap();
        let mut writer = AnyConnection::connect(database.url()).await.unwrap();
        migrator.run_to(1, &mut server).await.unwrap();
        let write = "INSERT INTO words (word) VALUES ('a')";

        let mut replicas = JoinSet::new();
        let start = |replicas: &mut JoinSet<_>| {
            let (folder, url) = (folder.path().to_owned(), database.url().to_owned());
            replicas.spawn(async move {
                let migrator = Migrator::new(folder).await.unwrap();
                migrate_by(&migrator, &url).await
            });
        };
        writer.execute("BEGIN").await.unwrap();
        writer.execute(write).await.unwrap();
        start(&mut replicas);
        let pid = building(&mut server).await;
        let end = format!("SELECT pg_terminate_backend({pid})");
        server.execute(AssertSqlSafe(end)).await.unwrap();
        replicas.join_next().await.unwrap().unwrap().unwrap_err();
        let left: Vec<String> = sqlx::query_scalar(INVALID_INDEXES)
            .fetch_all(&mut server)
            .await
            .unwrap();
        assert_eq!(left, ["words_index"]);

        start(&mut replicas);
        start(&mut replicas);
        building(&mut server).await;
        // Nobody who writes waits for it.
        server.execute(write).await.unwrap();
        writer.execute(write).await.unwrap();
        writer.execute("COMMIT").await.unwrap();
        for migrated in replicas.join_all().await {
            migrated.unwrap();
        }
        let left: Vec<String> = sqlx::query_scalar(INVALID_INDEXES)
            .fetch_all(&mut server)
            .await
            .unwrap();
        assert!(left.is_empty(), "{left:?}");
        let applied: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations")
            .fetch_one(&mut server)
            .await
            .unwrap();
        assert_eq!(applied, 3);
    }

    #[tokio::test]
    async fn a_migration_that_others_are_in_the_way_of_is_tried_again() {
        sqlx::any::install_default_drivers();
        let database = Database::create().await.unwrap();
        let mut server = AnyConnection::connect(database.url()).await.unwrap();
        for (code, is_tried_again) in [
            ("55P03", true),
            ("40P01", true),
            ("40001", true),
            ("23505", false),
            ("42P07", false),
        ] {
            let raise = format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$");
            let error = server.execute(AssertSqlSafe(raise)).await.unwrap_err();
            let error = MigrateError::ExecuteMigration(error, 7);
            assert_eq!(is_locked(&error), is_tried_again, "{error}");
        }
    }
}
