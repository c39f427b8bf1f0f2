//! `patchfleet backup`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use patchfleet_coordinator::store::archive;

use crate::config::ConfigArgs;
use crate::output::Output;

/// Where the backup goes.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The new file. One that is there already is never written over.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Writes the store to a file, also while the coordinator runs.
pub(crate) async fn run(args: BackupArgs, output: Output) -> anyhow::Result<ExitCode> {
    let made = archive::backup(&args.config.store()?, &args.to).await?;
    output.object(&made);
    output.line(format!(
        "{} tasks are in {} ({} bytes)",
        made.tasks,
        made.file.display(),
        made.bytes
    ));
    Ok(ExitCode::SUCCESS)
}
