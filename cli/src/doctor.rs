//! `patchfleet doctor`: what is missing on this host, and how to mend it.

mod agents;
mod check;
mod command_line;
mod fleet;
mod host;
mod model;
mod sandbox;

use std::process::ExitCode;

use clap::Args;

use crate::config::ConfigArgs;
use crate::doctor::check::{Check, Health};
use crate::output::{Line, Output, Tone};

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Looks at everything and shows it; fails when something has to be mended.
pub(crate) async fn run(args: DoctorArgs, output: Output) -> anyhow::Result<ExitCode> {
    let mut checks = host::checks().await;
    match args.config.load() {
        Ok(config) => {
            checks.push(Check::good("configuration", args.config.file().display().to_string()));
            checks.extend(fleet::checks(&config).await);
        }
        Err(error) => checks.push(Check::bad(
            "configuration",
            error.root_cause().to_string(),
            "mend it, or copy deploy/patchfleet.example.toml and fill it in; --config names another file",
        )),
    }
    for check in &checks {
        show(check, output);
    }
    let bad = checks
        .iter()
        .filter(|check| check.health == Health::Bad)
        .count();
    output.line("");
    output.line(if bad == 0 {
        "nothing to mend".to_owned()
    } else {
        format!("{bad} to mend")
    });
    Ok(if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(check: &Check, output: Output) {
    output.object(check);
    let (tone, mark) = match check.health {
        Health::Good => (Tone::Good, "ok "),
        Health::Notice => (Tone::Notice, "-- "),
        Health::Bad => (Tone::Bad, "!! "),
    };
    output.line(Line::toned(tone, mark).and(format!(" {:<24} {}", check.name, check.found)));
    if let Some(mend) = &check.mend {
        output.line(format!("    {:<24} → {mend}", ""));
    }
}
