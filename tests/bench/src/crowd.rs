//! A PostgreSQL that has seen much: rows that are of no interest to the next task, and a
//! transaction that keeps their dead versions from being cleared away.

use anyhow::Context as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

/// A million tasks that wait for agents which do not exist, and a million that are over.
const ROWS: &str = "INSERT INTO tasks (id, kind, state, max_attempts, priority, repository, trigger_kind, \
    trigger_object, branch, request, analysis, agent_type, queued_at, created_at, updated_at) \
    SELECT gen_random_uuid(), 'prompt', CASE WHEN n % 2 = 0 THEN 'queued' ELSE 'completed' END, 3, 5, \
    'crowd/r' || n % 100, 'label', n, 'patchfleet/' || n, \
    '{\"title\":\"\",\"body\":\"\",\"labels\":[],\"author\":\"a\",\"triggered_by\":\"a\",\
      \"clone_url\":\"\",\"default_branch\":\"main\",\"agent_type\":null}', \
    '{\"requirement\":{\"agent_type\":\"mobile\",\"capabilities\":[],\"security_level\":\"public\"},\
      \"complexity\":\"simple\",\"estimated_tokens\":0,\"priority\":5,\"target_files\":[],\
      \"depends_on\":[],\"reasons\":[]}', \
    'mobile', n, 0, 0 FROM generate_series(1, 2000000) AS n";

/// Brings the crowd in.
pub(crate) async fn enter(url: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute(ROWS).await.context("the crowd's rows")?;
    // It came long ago: nothing of its coming is still being written.
    connection.execute("VACUUM ANALYZE tasks").await?;
    connection.execute("CHECKPOINT").await?;
    Ok(())
}

/// A transaction that sees the database as it is now, until it is dropped.
pub(crate) async fn old_transaction(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT COUNT(*) FROM agents")
        .await?;
    Ok(connection)
}
