//! `patchfleet migrate`: from SQLite to PostgreSQL when an installation has grown, or back.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use patchfleet_coordinator::store::{self, Address};
use secrecy::SecretString;

use crate::config::ConfigArgs;
use crate::output::Output;

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
    let moved = store::migrate(&from, &to).await?;
    output.object(&moved);
    for (table, rows) in &moved.rows {
        output.line(format!("{rows:>10}  {table}"));
    }
    output.line("all of it arrived; point coordinator.database.url at the new database");
    Ok(ExitCode::SUCCESS)
}
