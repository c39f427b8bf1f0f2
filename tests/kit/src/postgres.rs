//! A private PostgreSQL: started from nothing in a temporary folder, gone when it is dropped.
//!
//! `PATCHFLEET_TEST_POSTGRES` names a server to use instead; each [`Database`] is one of its own
//! either way. Absent: anything a product would use a database for.

mod data;
mod programs;
mod server;

use std::collections::BTreeMap;

use anyhow::Context as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::gateway::Gateway;
use programs::Programs;
use server::{Commit, Server};

/// A server that is there already.
const SERVER: &str = "PATCHFLEET_TEST_POSTGRES";

/// A database of one's own.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
    host: Host,
}

/// Where a database is.
#[derive(Debug)]
enum Host {
    /// On a server of its own, which ends with it.
    Private(Server),
    /// On somebody's server at this address; the database is dropped, the server stays.
    Lent(String),
}

impl Database {
    /// Starts a server, or uses the one that is there, and makes an empty database.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the message says what to do.
    pub async fn create() -> anyhow::Result<Self> {
        match std::env::var(SERVER) {
            Ok(url) => Self::on(url.clone(), Host::Lent(url)).await,
            Err(_) => Self::private(Commit::Fast).await,
        }
    }

    /// Starts a server whose commits wait for the disk, for benchmarks.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn durable() -> anyhow::Result<Self> {
        Self::private(Commit::Durable).await
    }

    async fn private(commit: Commit) -> anyhow::Result<Self> {
        let server = Server::start(commit).await?;
        Self::on(server.url(), Host::Private(server)).await
    }

    async fn on(root: String, host: Host) -> anyhow::Result<Self> {
        let name = format!("patchfleet_{}", uuid::Uuid::now_v7().simple());
        execute(&root, format!("CREATE DATABASE {name}")).await?;
        let mut url = url::Url::parse(&root).context("the server's address")?;
        url.set_path(&name);
        Ok(Self {
            url: url.into(),
            name,
            host,
        })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it is for those who come through a gateway: at its address instead of the server's.
    ///
    /// # Errors
    /// When the server's address is no address and port.
    pub fn url_through(&self, gateway: &Gateway) -> anyhow::Result<String> {
        let mut url = url::Url::parse(&self.url)?;
        let host = url.host_str().context("the server has no host")?;
        let server = format!("{host}:{}", url.port().unwrap_or(5432));
        gateway.set(0, Some(server.parse().context("the server's address")?));
        let port = Some(gateway.address.port());
        url.set_ip_host(gateway.address.ip())
            .and_then(|()| url.set_port(port))
            .map_err(|()| anyhow::anyhow!("the server's address has no host"))?;
        Ok(url.into())
    }

    /// Copies everything into another database, as an operator does: `pg_dump`, then `pg_restore`.
    ///
    /// # Errors
    /// When one of them fails; the error has what it said.
    pub fn dump_into(&self, other: &Self) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new()
            .prefix("patchfleet-dump-")
            .tempdir()?;
        let programs = Programs::for_folder(folder.path())?;
        let file = folder.path().join("dump");
        let mut dump = programs.command("pg_dump");
        dump.args(["--format=custom", "--file"]).arg(&file);
        dump.arg(&self.url);
        programs::finish(dump)?;
        let mut restore = programs.command("pg_restore");
        restore.args(["--no-owner", "--exit-on-error", "--dbname"]);
        restore.arg(&other.url).arg(&file);
        programs::finish(restore)?;
        Ok(())
    }

    /// Counts the rows of every table.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn row_counts(&self) -> anyhow::Result<BTreeMap<String, i64>> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let names = "SELECT relname::text FROM pg_stat_user_tables";
        let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut connection).await?;
        let mut counts = BTreeMap::new();
        for name in names {
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {name}"));
            let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
            counts.insert(name, count);
        }
        connection.close().await?;
        Ok(counts)
    }

    /// Ends this database's server at once, as a crash would, and starts it again.
    ///
    /// # Errors
    /// When the server is somebody else's, or does not start again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        match &mut self.host {
            Host::Private(server) => server.restart().await,
            Host::Lent(_) => anyhow::bail!("a server that was lent is not restarted"),
        }
    }

    /// True when the server is this database's own.
    pub const fn is_private(&self) -> bool {
        matches!(self.host, Host::Private(_))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Host::Lent(root) = &self.host {
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
            execute_blocking(root.clone(), drop);
        }
    }
}

async fn execute(root: &str, statement: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(root)
        .await
        .context("can't reach PostgreSQL")?;
    connection.execute(sqlx::AssertSqlSafe(statement)).await?;
    Ok(connection.close().await?)
}

/// The same where nothing can be awaited: on a thread of its own, as this one may be a runtime's.
fn execute_blocking(root: String, statement: String) {
    let done = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(execute(&root, statement))
    });
    match done.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("a test's database stays: {error:#}"),
        Err(_) => tracing::warn!("a test's database stays"),
    }
}
