//! `patchfleet migrate`: from SQLite to PostgreSQL when an installation has grown, or back.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use patchfleet_coordinator::store::{Address, archive};
use secrecy::SecretString;

use crate::config::ConfigArgs;
use crate::output::Output;

/// Connections to each database.
const CONNECTIONS: u32 = 4;

/// Where the tasks go.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where they are: `sqlite:PATH` or `postgres://…`; the configuration's database when absent.
    #[arg(
        long,
        value_name = "URL",
        env = "PATCHFLEET_MIGRATE_FROM",
        hide_env_values = true
    )]
    from: Option<SecretString>,
    /// Where they go, an empty database of the other kind. A password is better kept in the
    /// environment: other users of a machine see the arguments of its processes.
    #[arg(
        long,
        value_name = "URL",
        env = "PATCHFLEET_MIGRATE_TO",
        hide_env_values = true
    )]
    to: SecretString,
}

/// Moves everything, or nothing.
pub(crate) async fn run(args: MigrateArgs, output: Output) -> anyhow::Result<ExitCode> {
    let from = match &args.from {
        Some(url) => Address::parse(url).context("--from")?,
        None => args.config.store()?,
    };
    let to = Address::parse(&args.to).context("--to")?;
    match (&from, &to) {
        (Address::Sqlite(_), Address::Sqlite(_)) => {
            bail!("both are SQLite: use `patchfleet backup` and `patchfleet restore`")
        }
        (Address::Postgres(_), Address::Postgres(_)) => {
            bail!("both are PostgreSQL: use `pg_dump` and `pg_restore`")
        }
        _ => {}
    }
    if let Address::Sqlite(path) = &from
        && !path.exists()
    {
        bail!("{}: there is no such file", path.display());
    }
    archive::unused(&from).await.context("the old database")?;
    archive::unused(&to).await.context("the new database")?;
    let old = from.open(CONNECTIONS).await.context("the old database")?;
    let new = to.open(CONNECTIONS).await.context("the new database")?;
    let moved = old.transfer(&new).await?;
    output.object(&moved);
    for (table, rows) in &moved.rows {
        output.line(format!("{rows:>10}  {table}"));
    }
    output.line("all of it arrived; point coordinator.database.url at the new database");
    Ok(ExitCode::SUCCESS)
}
