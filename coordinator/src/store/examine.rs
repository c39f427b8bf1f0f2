//! A look at a store that changes nothing: no file, no lock, no schema.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use sqlx::any::AnyConnectOptions;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection as _};

use super::Address;
use super::sql::connect::sqlite_url;
use super::sql::schema::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS};

/// How long a server may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(8);

/// Says in a line how the store there is, and what the next start would do to it.
///
/// # Errors
/// When a coordinator could not work with it, with the database's or the system's own reason.
pub async fn examine(store: &Address) -> anyhow::Result<String> {
    sqlx::any::install_default_drivers();
    match store {
        Address::Sqlite(path) => file(path).await,
        Address::Postgres(url) => {
            let seen = tokio::time::timeout(PATIENCE, server(url.expose_secret()));
            seen.await
                .with_context(|| format!("the server did not answer within {PATIENCE:?}"))?
        }
    }
}

async fn file(path: &Path) -> anyhow::Result<String> {
    if !path.exists() {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!("{}: there is no such folder", folder.display());
        }
        let may = nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK);
        may.with_context(|| format!("{}: no file can be made there", folder.display()))?;
        return Ok(format!(
            "{} will be made by the first start",
            path.display()
        ));
    }
    let may = nix::unistd::access(path, nix::unistd::AccessFlags::W_OK);
    may.with_context(|| format!("{} can't be written", path.display()))?;
    let url = sqlite_url(path)?.replace("mode=rwc", "mode=ro");
    let mut connection = AnyConnection::connect(&url)
        .await
        .with_context(|| path.display().to_string())?;
    let applied: Result<Vec<i64>, _> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations")
        .fetch_all(&mut connection)
        .await;
    connection.close().await?;
    let applied = applied.with_context(|| format!("{} is no store", path.display()))?;
    schema(&applied, &SQLITE_MIGRATIONS)
}

async fn server(url: &str) -> anyhow::Result<String> {
    let options: AnyConnectOptions = url.parse().context("the address")?;
    let mut connection = AnyConnection::connect_with(&options).await?;
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut connection)
        .await?;
    if !exists {
        let may: bool = sqlx::query_scalar(
            "SELECT COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false)",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        if !may {
            bail!(
                "permission denied: the role may not make tables in the schema; \
                 GRANT CREATE ON SCHEMA public TO it, or make it the database's owner"
            );
        }
        return Ok("answers; empty, the first start makes the tables".to_owned());
    }
    let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations")
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    schema(&applied, &POSTGRES_MIGRATIONS)
}

/// What the versions of the schema that were applied mean to this binary.
fn schema(applied: &[i64], known: &Migrator) -> anyhow::Result<String> {
    let is_newer = |version: &&i64| !known.version_exists(**version);
    if let Some(newer) = applied.iter().find(is_newer) {
        bail!("a newer version of Patchfleet wrote it (its schema has step {newer})");
    }
    let newest = applied.iter().max().copied().unwrap_or_default();
    // Numbers were left out, so that the next one says nothing.
    Ok(if known.iter().any(|step| step.version > newest) {
        format!("answers; schema {newest}, which the next start brings up to date")
    } else {
        format!("answers; schema {newest}, up to date")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_the_connection_and_does_not_answer_is_named() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://me@{}/orders", silent.local_addr().unwrap());
        let error = examine(&Address::Postgres(url.into())).await.unwrap_err();
        assert_eq!(error.to_string(), "the server did not answer within 8s");
    }

    #[test]
    fn a_schema_is_up_to_date_when_no_step_is_left() {
        for known in [&SQLITE_MIGRATIONS, &POSTGRES_MIGRATIONS] {
            let mut applied: Vec<_> = known.iter().map(|step| step.version).collect();
            assert!(schema(&applied, known).unwrap().ends_with(", up to date"));
            while applied.pop().is_some() {
                let seen = schema(&applied, known).unwrap();
                assert!(
                    seen.contains("the next start brings"),
                    "{applied:?}: {seen}"
                );
            }
        }
        let newer = schema(&[1, 9999], &SQLITE_MIGRATIONS).unwrap_err();
        assert!(newer.to_string().contains("step 9999"), "{newer}");
    }
}
