//! `patchfleet coordinator`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use patchfleet_coordinator::Coordinator;

use crate::config::Config;
use crate::output::Output;
use crate::runtime;

/// How to run a coordinator.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// The configuration file.
    #[arg(
        long,
        short,
        default_value = "patchfleet.toml",
        env = "PATCHFLEET_CONFIG"
    )]
    config: PathBuf,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

/// Runs until it is told to end.
pub(crate) async fn run(args: CoordinatorArgs, output: Output) -> anyhow::Result<ExitCode> {
    if args.end_with_parent {
        runtime::end_with_parent()?;
    }
    let config = Config::load(&args.config)?;
    let telemetry = config.start_telemetry("patchfleet-coordinator")?;
    let shutdown = runtime::shutdown_on_signal()?;
    let coordinator = Coordinator::start(config.coordinator(&args.config)?, shutdown).await?;
    announce(&coordinator, output);
    let result = coordinator.join().await;
    telemetry.shutdown();
    result.map(|()| ExitCode::SUCCESS)
}

/// Says where the coordinator can be reached.
pub(crate) fn announce(coordinator: &Coordinator, output: Output) {
    let (http, fleet) = (coordinator.http_address(), coordinator.fleet_address());
    output.object(&serde_json::json!({ "event": "ready", "http": http, "fleet": fleet }));
    output.line(format!(
        "coordinator ready: webhooks and API on http://{http}, agents on http://{fleet}"
    ));
}
