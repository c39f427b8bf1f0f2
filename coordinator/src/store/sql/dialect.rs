//! The few places where SQLite and PostgreSQL want other words.

/// Where the two databases differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// The database's clock, in microseconds since 1970.
    pub(super) const fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            Self::Postgres => "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
        }
    }

    /// When the oldest transaction began that may still bring rows with numbers given out long ago,
    /// in microseconds since 1970; SQLite's writers come one after the other. A server shows a user
    /// only that user's transactions, and replicas share one.
    pub(super) const fn oldest_transaction(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(
                "SELECT (extract(epoch FROM MIN(xact_start)) * 1000000)::bigint \
                 FROM pg_stat_activity WHERE datname = current_database() \
                 AND usename = current_user AND pid <> pg_backend_pid()",
            ),
        }
    }

    /// Begins a transaction that is going to write. SQLite takes its one lock at once: a
    /// transaction that read before it may otherwise be refused when it comes to write.
    pub(super) const fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// What follows a column that has to be among the texts of `$1`, a JSON array.
    pub(super) const fn among(self) -> &'static str {
        match self {
            Self::Sqlite => "IN (SELECT value FROM json_each($1))",
            Self::Postgres => "= ANY (ARRAY(SELECT json_array_elements_text($1::json)))",
        }
    }

    /// Has whoever draws dependencies wait for others who do; SQLite's transactions wait anyway.
    pub(super) const fn lock_dependencies(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(hashtext('task_dependencies'))"),
        }
    }

    /// Has whoever claims under limits wait for others who do.
    pub(super) const fn lock_claims(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(hashtext('claims'))"),
        }
    }

    /// What tells one version of a row from the next, as a column to read. PostgreSQL keeps the
    /// transaction that wrote a row as `xmin`; SQLite has nothing of the kind, and no use for it.
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::Sqlite => "NULL AS version",
            Self::Postgres => "xmin::text AS version",
        }
    }

    /// A further condition: a table's row still has the version, where that is known.
    pub(super) fn has_version(self, table: &str, version: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => {
                format!(" AND ({version} IS NULL OR {table}.xmin = {version}::xid)")
            }
        }
    }

    /// A condition on the row of `agents` that a registration is to replace: no other instance of
    /// the agent is present. None where one process uses the database: it knows its sessions.
    pub(super) const fn is_vacant(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => {
                " WHERE agents.present_until <= excluded.registered_at \
                 OR agents.description::json ->> 'instance' IS NULL \
                 OR agents.description::json ->> 'instance' \
                 = excluded.description::json ->> 'instance'"
            }
        }
    }

    /// A further condition: nobody else holds the row of `tasks`, which is not waited for.
    pub(super) const fn is_free(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => {
                " AND EXISTS (SELECT 1 FROM tasks AS own WHERE own.id = tasks.id \
                 FOR UPDATE SKIP LOCKED)"
            }
        }
    }

    /// Makes a row of a SELECT one's own until the transaction ends.
    pub(super) const fn lock(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// The same, leaving out what somebody else has.
    pub(super) const fn lock_free(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }
}
