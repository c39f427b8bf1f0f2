//! The schema, brought up to date by migrations that only go forward.
//!
//! A migration may copy a large table or build an index for an hour, so it runs in a session of its
//! own without the limits and planner settings of the pool's. What it must not do is stand in the
//! way: a lock that others hold is waited for shortly and then asked for again, because everything
//! that wants the table afterwards queues behind a waiting migration.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};

use super::connect::connect;
use crate::store::{StoreError, StoreResult};

pub(in crate::store) static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
pub(in crate::store) static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// What a session for migrations begins with, whatever the server or the role has as a default.
const POSTGRES_SESSION: [&str; 4] = [
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET lock_timeout = '2s'",
    "SELECT set_config('application_name', 'patchfleet', false) \
     WHERE current_setting('application_name') = ''",
];
/// What PostgreSQL says when others are in the way, and the next try may find them gone: the lock's
/// timeout is over, a deadlock was ended, a transaction can't be put in an order with others.
const IN_THE_WAY: [&str; 3] = ["55P03", "40P01", "40001"];
/// Between two tries to have a lock, so that others get through.
const PAUSE: Duration = Duration::from_millis(500);

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
    loop {
        // A session of its own takes all its locks with it when it fails.
        let session = AnyPoolOptions::new().max_connections(1);
        let session = connect(url, session, &POSTGRES_SESSION).await?;
        let migrated = POSTGRES_MIGRATIONS.run(&session).await;
        session.close().await;
        let Err(error) = migrated else {
            return Ok(());
        };
        if !is_locked(&error) {
            return Err(failed(error));
        }
        tracing::warn!(
            %error,
            "the schema can't be brought up to date while others hold a lock on it; trying again \
             (pg_stat_activity shows who: another replica that migrates, or an old transaction)"
        );
        tokio::time::sleep(PAUSE).await;
    }
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
    use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

    use super::*;

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
