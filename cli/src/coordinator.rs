//! `patchfleet coordinator`.

use std::process::ExitCode;

use clap::Args;
use patchfleet_coordinator::Coordinator;

use crate::config::ServiceArgs;
use crate::output::Output;
use crate::runtime;

/// How to run a coordinator.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Runs until it is told to end.
pub(crate) async fn run(args: CoordinatorArgs, output: Output) -> anyhow::Result<ExitCode> {
    let config = args.service.begin()?;
    let telemetry = config.start_telemetry("patchfleet-coordinator")?;
    let shutdown = runtime::shutdown_on_signal()?;
    let coordinator =
        Coordinator::start(config.coordinator(args.service.file())?, shutdown).await?;
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
