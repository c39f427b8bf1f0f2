//! Many rows in one statement, on both databases: they travel as one JSON text and are unfolded
//! into a table there. A transaction then takes as many statements for a hundred tasks as for one.

use serde::Serialize;
use sqlx::Row as _;

use super::rows::to_json;
use super::stored::Version;
use super::{Dialect, Sql};
use crate::store::{StoreError, StoreResult};

/// A column's name and its type.
pub(super) type Column = (&'static str, &'static str);

/// A row to be written.
pub(super) trait Row: Serialize {
    /// Its columns, in their order.
    const COLUMNS: &'static [Column];
}

/// A struct that is a row: `column: type => "SQL type"`.
macro_rules! row {
    ($(#[$meta:meta])* $name:ident { $($column:ident: $type:ty => $sql:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, PartialEq, serde::Serialize)]
        struct $name {
            $($column: $type),+
        }

        impl crate::store::sql::rowset::Row for $name {
            const COLUMNS: &'static [crate::store::sql::rowset::Column] =
                &[$((stringify!($column), $sql)),+];
        }
    };
}
pub(super) use row;

/// `$1` as a table `r` with those columns.
pub(super) fn table(dialect: Dialect, columns: &[(&str, &str)]) -> String {
    match dialect {
        Dialect::Postgres => {
            let typed = joined(columns, |(name, sql)| format!("{name} {sql}"));
            format!("json_to_recordset($1::json) AS r({typed})")
        }
        Dialect::Sqlite => {
            let taken = joined(columns, |(name, _)| format!("value ->> '{name}' AS {name}"));
            format!("(SELECT {taken} FROM json_each($1)) AS r")
        }
    }
}

/// Something about each column, as a list.
pub(super) fn joined(columns: &[(&str, &str)], each: impl Fn(&(&str, &str)) -> String) -> String {
    let texts: Vec<_> = columns.iter().map(each).collect();
    texts.join(", ")
}

/// The text that inserts `$1`; `ON CONFLICT` may follow.
pub(super) fn insert_text<R: Row>(dialect: Dialect, into: &str) -> String {
    let names = joined(R::COLUMNS, |(name, _)| (*name).to_owned());
    let table = table(dialect, R::COLUMNS);
    // `WHERE` keeps SQLite from reading `ON` as the condition of a join.
    format!("INSERT INTO {into} ({names}) SELECT {names} FROM {table} WHERE 1 = 1")
}

/// What inserts rows in their order, leaving out those that are there.
pub(super) fn insertion<R: Row>(to: (Dialect, &str), rows: &[R]) -> StoreResult<Option<Statement>> {
    insertion_where(to, "", rows)
}

/// The same for those of which something more is true.
pub(super) fn insertion_where<R: Row>(
    (dialect, into): (Dialect, &str),
    and: &str,
    rows: &[R],
) -> StoreResult<Option<Statement>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let text = insert_text::<R>(dialect, into);
    Ok(Some(Statement {
        text: format!("{text}{and} ON CONFLICT DO NOTHING"),
        told: to_json(&rows)?,
        finds: None,
    }))
}

/// A statement that changes something, about the rows that its `$1` tells.
#[derive(Debug)]
pub(super) struct Statement {
    text: String,
    told: String,
    /// How many rows it has to find.
    finds: Option<usize>,
}

impl Statement {
    /// One that has to find all the rows that it is told.
    pub(super) fn of_all<R: Row>(text: String, rows: &[R]) -> StoreResult<Self> {
        Ok(Self {
            text,
            told: to_json(&rows)?,
            finds: Some(rows.len()),
        })
    }

    fn check(&self, found: u64) -> Result<(), String> {
        match self.finds {
            Some(wanted) if usize::try_from(found) != Ok(wanted) => Err(format!(
                "{found} of {wanted} rows are as they were: {}",
                self.text
            )),
            _ => Ok(()),
        }
    }
}

/// Carries out statements that are about different rows; the version that rows have which they
/// changed, or which of them did not find all of its own. On PostgreSQL they travel together:
/// they see what was before all of them, and take one round trip.
pub(super) async fn execute_all(
    sql: &mut Sql,
    dialect: Dialect,
    statements: &[Statement],
) -> StoreResult<Result<Option<Version>, String>> {
    if statements.is_empty() {
        return Ok(Ok(None));
    }
    match dialect {
        Dialect::Postgres => together(sql, statements).await,
        Dialect::Sqlite => {
            for statement in statements {
                let query = sqlx::query(sqlx::AssertSqlSafe(statement.text.clone()));
                let done = query.bind(&statement.told).execute(&mut *sql).await?;
                if let Err(why) = statement.check(done.rows_affected()) {
                    return Ok(Err(why));
                }
            }
            Ok(Ok(None))
        }
    }
}

/// SQLSTATE `division_by_zero` (PostgreSQL's documentation, appendix A).
const DIVISION_BY_ZERO: &str = "22012";

/// In one statement, which fails by itself when a part of it does not find all of its own: nothing of
/// it is done then, also when it is a transaction of its own.
async fn together(
    sql: &mut Sql,
    statements: &[Statement],
) -> StoreResult<Result<Option<Version>, String>> {
    let mut parts = Vec::with_capacity(statements.len());
    let mut told = vec!["pg_current_xact_id()::xid::text AS version".to_owned()];
    let mut wanted = Vec::new();
    for (place, statement) in statements.iter().enumerate() {
        let text = statement.text.replace("$1", &format!("${}", place + 1));
        parts.push(format!("s{place} AS ({text} RETURNING 1)"));
        if let Some(finds) = statement.finds {
            wanted.push(i64::try_from(finds).unwrap_or(i64::MAX));
            let at = statements.len() + wanted.len();
            told.push(format!(
                "1 / ((SELECT count(*) FROM s{place}) = ${at})::int"
            ));
        }
    }
    let text = format!("WITH {} SELECT {}", parts.join(", "), told.join(", "));
    let mut query = sqlx::query(sqlx::AssertSqlSafe(text));
    for statement in statements {
        query = query.bind(&statement.told);
    }
    for wanted in wanted {
        query = query.bind(wanted);
    }
    // To the end, which a transaction's own statement reaches when it is durable.
    match query.fetch_all(sql).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(DIVISION_BY_ZERO) => {
            Ok(Err("some rows are not as they were".to_owned()))
        }
        found => match found?.first() {
            Some(row) => Ok(Ok(Some(Version(row.try_get("version")?)))),
            None => Err(StoreError::Corrupt("a statement told nothing".to_owned())),
        },
    }
}

/// Does something about what `$1` tells; says how many rows that were.
pub(super) async fn execute(sql: &mut Sql, text: &str, told: &impl Serialize) -> StoreResult<u64> {
    let done = sqlx::query(sqlx::AssertSqlSafe(text.to_owned()))
        .bind(to_json(told)?)
        .execute(sql)
        .await?;
    Ok(done.rows_affected())
}

/// A text as a column can hold it: PostgreSQL refuses the character NUL, which a program's output
/// may well have.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "")
}

/// A number as the databases know it.
pub(super) fn big(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
