//! A whole store from one database to another kind: every row of every table, in one transaction.

use futures::TryStreamExt as _;
use serde::Serialize;
use serde_json::Value;
use sqlx::{Executor as _, Row as _};

use super::advisory::Alone;
use super::rows::to_json;
use super::rowset;
use super::{Database, Dialect, Sql};
use crate::store::{SqlStore, StoreError, StoreResult};

/// All tables, each after those that it refers to.
const TABLES: [&str; 19] = [
    "deliveries",
    "deferred_deliveries",
    "tasks",
    "task_triggers",
    "task_dependencies",
    "issue_dependencies",
    "attempts",
    "checkpoints",
    "task_events",
    "task_logs",
    "follow_ups",
    "outbox",
    "agents",
    "pauses",
    "tallies",
    "sweeps",
    "spending",
    "model_calls",
    "repository_names",
];
/// Those whose rows are numbered by the database.
const NUMBERED: [&str; 6] = [
    "deferred_deliveries",
    "checkpoints",
    "task_events",
    "task_logs",
    "follow_ups",
    "outbox",
];
/// What makes of a session for short statements one that may read and write everything.
const PATIENT: [&str; 7] = [
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "SET LOCAL lock_timeout = '10s'",
    "SET LOCAL enable_seqscan = on",
    "SET LOCAL enable_bitmapscan = on",
    "SET LOCAL enable_hashjoin = on",
    "SET LOCAL enable_mergejoin = on",
];
/// Rows in one statement.
const CHUNK: usize = 500;

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transferred {
    /// Rows of each table, by its name.
    pub rows: Vec<(&'static str, u64)>,
}

/// A column as both databases have it.
#[derive(Debug)]
struct ColumnInfo {
    name: String,
    sql: String,
}

impl SqlStore {
    /// Copies everything into `to`, which has to be empty, under the lock of the one of both that is
    /// on PostgreSQL.
    ///
    /// # Errors
    /// When there is something already, a row can't be taken over, the lock is lost, or a database
    /// refuses. Nothing is in `to` then that was not there before.
    pub(in crate::store) async fn transfer(
        &self,
        to: &Self,
        lock: &mut Alone,
    ) -> StoreResult<Transferred> {
        transfer(&self.database, &to.database, lock).await
    }
}

async fn transfer(from: &Database, to: &Database, lock: &mut Alone) -> StoreResult<Transferred> {
    let mut source = from.readers.begin().await?;
    let mut target = to.pool.begin_with(to.dialect.begin()).await?;
    if from.dialect == Dialect::Postgres {
        let snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        source.execute(snapshot).await?;
        shut(&mut source).await?;
    }
    if to.dialect == Dialect::Postgres {
        shut(&mut target).await?;
    }
    complete(&mut source, from.dialect).await?;
    let mut rows = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        if count(&mut target, table).await? > 0 {
            let why = format!("the new database is not empty: there are rows in `{table}`");
            return Err(StoreError::Corrupt(why));
        }
        copy(
            table,
            (&mut source, from.dialect),
            (&mut target, to.dialect),
        )
        .await?;
        let (there, here) = (
            count(&mut source, table).await?,
            count(&mut target, table).await?,
        );
        if there != here {
            let why = format!("table `{table}` has {there} rows, of which {here} arrived");
            return Err(StoreError::Corrupt(why));
        }
        rows.push((table, here));
        lock.verify().await?;
    }
    target.commit().await?;
    Ok(Transferred { rows })
}

/// Lets the transaction take as long as it takes, by whatever plan is best, and keeps others from
/// writing to the tables: a coordinator that lost its lock and goes on is held up, not overheard.
async fn shut(sql: &mut Sql) -> StoreResult<()> {
    for setting in PATIENT {
        sql.execute(setting).await?;
    }
    let lock = format!(
        "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
        TABLES.join(", ")
    );
    sql.execute(sqlx::AssertSqlSafe(lock)).await?;
    Ok(())
}

/// Refuses to leave out a table that this list has not heard of.
async fn complete(sql: &mut Sql, dialect: Dialect) -> StoreResult<()> {
    let text = match dialect {
        Dialect::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' \
             ESCAPE '\\' AND name <> '_sqlx_migrations'"
        }
        Dialect::Postgres => {
            "SELECT table_name::text FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'"
        }
    };
    let found: Vec<String> = sqlx::query_scalar(text).fetch_all(sql).await?;
    match found.iter().find(|name| !TABLES.contains(&name.as_str())) {
        Some(name) => Err(StoreError::Corrupt(format!("unknown table `{name}`"))),
        None => Ok(()),
    }
}

async fn count(sql: &mut Sql, table: &str) -> StoreResult<u64> {
    let text = format!("SELECT COUNT(*) FROM {table}");
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
        .fetch_one(sql)
        .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

async fn copy(
    table: &str,
    (source, from): (&mut Sql, Dialect),
    (target, to): (&mut Sql, Dialect),
) -> StoreResult<()> {
    let columns = columns(target, to, table).await?;
    let text = insertion(table, &columns, to);
    let selection = selection(table, &columns, from);
    let rows = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(selection)).fetch(source);
    let mut chunks = rows.try_chunks(CHUNK);
    loop {
        let chunk = chunks.try_next().await.map_err(|error| error.1)?;
        let Some(chunk) = chunk else { break };
        let rows = chunk.iter().map(|row| without_nul(row));
        let rows: Vec<Value> = rows.collect::<StoreResult<_>>()?;
        sqlx::query(sqlx::AssertSqlSafe(text.clone()))
            .bind(to_json(&rows)?)
            .execute(&mut *target)
            .await?;
    }
    if to == Dialect::Postgres && NUMBERED.contains(&table) {
        let text = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'id'), \
             COALESCE((SELECT MAX(id) FROM {table}), 0) + 1, false)"
        );
        sqlx::query(sqlx::AssertSqlSafe(text))
            .execute(&mut *target)
            .await?;
    }
    Ok(())
}

/// A row as JSON text; SQLite may hold the character NUL in a text, PostgreSQL may not.
fn without_nul(row: &str) -> StoreResult<Value> {
    let corrupt = |error: serde_json::Error| StoreError::Corrupt(format!("a row: {error}"));
    let mut row: Value = serde_json::from_str(row).map_err(corrupt)?;
    for value in row
        .as_object_mut()
        .into_iter()
        .flat_map(|row| row.values_mut())
    {
        if let Value::String(text) = value {
            text.retain(|letter| letter != '\0');
        }
    }
    Ok(row)
}

async fn columns(sql: &mut Sql, dialect: Dialect, table: &str) -> StoreResult<Vec<ColumnInfo>> {
    let text = match dialect {
        Dialect::Sqlite => "SELECT name, type AS sql FROM pragma_table_info($1) ORDER BY name",
        Dialect::Postgres => {
            "SELECT column_name::text AS name, data_type::text AS sql \
             FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name = $1 ORDER BY column_name"
        }
    };
    let found = sqlx::query(text).bind(table).fetch_all(sql).await?;
    let column = |row: &sqlx::any::AnyRow| {
        Ok(ColumnInfo {
            name: row.try_get("name")?,
            sql: row.try_get("sql")?,
        })
    };
    found.iter().map(column).collect()
}

fn selection(table: &str, columns: &[ColumnInfo], dialect: Dialect) -> String {
    let pairs: Vec<_> = columns
        .iter()
        .map(|column| format!("'{name}', {name}", name = column.name))
        .collect();
    let pairs = pairs.join(", ");
    match dialect {
        Dialect::Sqlite => format!("SELECT json_object({pairs}) FROM {table}"),
        Dialect::Postgres => format!("SELECT json_build_object({pairs})::text FROM {table}"),
    }
}

fn insertion(table: &str, columns: &[ColumnInfo], dialect: Dialect) -> String {
    let known: Vec<(&str, &str)> = columns
        .iter()
        .map(|column| (column.name.as_str(), column.sql.as_str()))
        .collect();
    let names = rowset::joined(&known, |(name, _)| (*name).to_owned());
    let source = rowset::table(dialect, &known);
    let numbers = match dialect {
        // The rows keep their numbers.
        Dialect::Postgres if NUMBERED.contains(&table) => "OVERRIDING SYSTEM VALUE ",
        Dialect::Postgres | Dialect::Sqlite => "",
    };
    format!("INSERT INTO {table} ({names}) {numbers}SELECT {names} FROM {source}")
}
