//! `patchfleet model-simulator`: a provider of models on this machine, whose answers are a script.
//!
//! It speaks Anthropic's, `OpenAI`'s, Gemini's and Ollama's protocols, for trying the product, for
//! tests of prompts, tools and providers, and for clients that are not ours. It ends with success only
//! if nothing was asked twice and nothing was asked that the script has no answer for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use patchfleet_testkit::model::{Script, Simulator, State};

use crate::output::Output;
use crate::runtime;

/// Where it is reached and what it answers.
#[derive(Debug, Args)]
pub(crate) struct ModelSimulatorArgs {
    /// Where to listen; port 0 is a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What is answered: YAML or JSON, described in docs/TESTING.md.
    #[arg(long, value_name = "FILE")]
    script: PathBuf,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

/// Runs until it is told to end.
pub(crate) async fn run(args: ModelSimulatorArgs, output: Output) -> anyhow::Result<ExitCode> {
    if args.end_with_parent {
        runtime::end_with_parent()?;
    }
    let shutdown = runtime::shutdown_on_signal()?;
    let script = Script::read(&args.script)?;
    let simulator = Simulator::start_at(args.listen, script).await?;
    let (base_url, key) = (simulator.base_url(), simulator.key());
    output.object(&serde_json::json!({ "event": "ready", "base_url": base_url, "key": key }));
    output.line(format!("simulated models ready on {base_url}; key: {key}"));
    shutdown.cancelled().await;
    let state = simulator.state();
    simulator.shutdown().await;
    Ok(sum_up(&state, output))
}

/// Says what was counted, and whether all went as the script wants it.
fn sum_up(state: &State, output: Output) -> ExitCode {
    output.object(&serde_json::json!({
        "event": "ended",
        "calls": state.calls,
        "answered": state.answered,
        "faults": state.faults,
        "refused": state.refused,
        "billed": state.total,
        "failures": state.failures,
    }));
    output.line(format!(
        "{} calls: {} answered, {} of them with a fault, {} refused; billed {} input, {} cache read, \
         {} cache write and {} output tokens",
        state.calls,
        state.answered,
        state.faults,
        state.refused,
        state.total.input,
        state.total.cache_read,
        state.total.cache_write,
        state.total.output,
    ));
    for failure in &state.failures {
        output.line(failure.clone());
    }
    if state.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
