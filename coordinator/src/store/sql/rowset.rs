//! Many rows in one statement, on both databases: they travel as one JSON text and are unfolded
//! into a table there. A transaction then takes as many statements for a hundred tasks as for one.

use serde::Serialize;

use super::rows::to_json;
use super::{Dialect, Sql};
use crate::store::StoreResult;

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
        #[derive(Debug, serde::Serialize)]
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

/// Inserts rows in their order, leaving out those that are there.
pub(super) async fn insert<R: Row>(
    sql: &mut Sql,
    (dialect, into): (Dialect, &str),
    rows: &[R],
) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let text = insert_text::<R>(dialect, into);
    execute(sql, &format!("{text} ON CONFLICT DO NOTHING"), &rows).await?;
    Ok(())
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
