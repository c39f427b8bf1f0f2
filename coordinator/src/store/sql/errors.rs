//! What the databases' errors mean to callers.

use crate::store::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound => Self::Corrupt(error.to_string()),
            sqlx::Error::Database(error) => refused(error.code().as_deref(), error.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// True when the connection is gone, which says nothing about others. Class 57P is what PostgreSQL
/// says to those that it ends when it is shut down.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code();
            code.is_some_and(|code| code.starts_with("57P"))
        }
        _ => false,
    }
}

/// What a database's own error means. PostgreSQL tells five characters, of which the first two
/// are a class (PostgreSQL's documentation, appendix A); SQLite tells numbers, of which the lower
/// eight bits are a class (sqlite.org/rescode.html).
fn refused(code: Option<&str>, why: String) -> StoreError {
    match code {
        // A serialization failure, a deadlock; and a row that somebody else was faster to insert,
        // which the next try finds.
        Some("40001" | "40P01" | "23505" | "2067" | "1555") => StoreError::Contended(why),
        Some(code) if code.len() == 5 => match &code[..2] {
            "22" | "23" | "42" => StoreError::Corrupt(why),
            _ => StoreError::Unavailable(why),
        },
        Some(code) => match code.parse().map(|code: u32| code & 0xff) {
            // SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH.
            Ok(1 | 11 | 18 | 19 | 20) => StoreError::Corrupt(why),
            _ => StoreError::Unavailable(why),
        },
        None => StoreError::Unavailable(why),
    }
}
