//! `patchfleet restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use patchfleet_coordinator::store::archive;

use crate::config::ConfigArgs;
use crate::output::Output;

/// Which backup to bring back.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file that `patchfleet backup` wrote.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

/// Puts a backup in the place of the store; the coordinator has to be stopped.
pub(crate) async fn run(args: RestoreArgs, output: Output) -> anyhow::Result<ExitCode> {
    let restored = archive::restore(&args.config.store()?, &args.from).await?;
    output.object(&restored);
    output.line(format!("{} tasks are back", restored.tasks));
    for kept in &restored.kept {
        output.line(format!("what was there before is in {}", kept.display()));
    }
    Ok(ExitCode::SUCCESS)
}
