//! `patchfleet`: the one binary. A file per subcommand; this one says which there are.

mod agent;
mod backup;
mod client;
mod config;
mod coordinator;
mod demo;
mod doctor;
mod migrate;
mod model;
mod model_simulator;
mod output;
mod queue;
mod restore;
mod runtime;
mod sandbox;
mod simulator;
mod task;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use patchfleet_agent::process;

use crate::output::Output;

/// Turns GitHub issues into tested pull requests with a fleet of coding agents.
#[derive(Debug, Parser)]
#[command(name = "patchfleet", version, about, propagate_version = true)]
struct Cli {
    /// Print JSON, one object per line, instead of text for people.
    #[arg(long, global = true, display_order = 103)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show an issue become a merged pull request on this machine.
    Demo(demo::DemoArgs),
    /// Run coordinator and agents in one process.
    Up(up::UpArgs),
    /// Run the coordinator.
    Coordinator(coordinator::CoordinatorArgs),
    /// Run one agent.
    Agent(agent::AgentArgs),
    /// List, show, cancel and retry tasks.
    Task(task::TaskArgs),
    /// Show, pause and resume parts of the queue.
    Queue(queue::QueueArgs),
    /// List models with their prices, and import more.
    Model(model::ModelArgs),
    /// Say what is missing on this host and how to mend it.
    Doctor(doctor::DoctorArgs),
    /// Run a command as tests are run, or say what it would see.
    Sandbox(sandbox::SandboxArgs),
    /// Write a SQLite store to a file, also while the coordinator runs.
    Backup(backup::BackupArgs),
    /// Bring a backup back.
    Restore(restore::RestoreArgs),
    /// Run a simulated GitHub, for flows, plugins and tests.
    Simulator(simulator::SimulatorArgs),
    /// Run a simulated provider of models, for prompts, tools and clients.
    ModelSimulator(model_simulator::ModelSimulatorArgs),
    /// Move everything from SQLite to PostgreSQL, or back.
    Migrate(migrate::MigrateArgs),
}

/// A supervisor of commands, a stage of a sandbox, an init, or what was asked for.
fn main() -> ExitCode {
    if let Some(code) = patchfleet_agent::enter() {
        return code;
    }
    match process::be_init() {
        Ok(Some(code)) => code,
        Ok(None) => run(),
        Err(error) => {
            let error = anyhow::Error::from(error).context("process 1 can't start its child");
            Output::new(false).error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    // The process-wide choice of cryptography, made once and before any connection. A second
    // choice in the same process would be refused; there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result = runtime::block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args, output).await,
            Command::Up(args) => up::run(args, output).await,
            Command::Coordinator(args) => coordinator::run(args, output).await,
            Command::Agent(args) => agent::run(args, output).await,
            Command::Task(args) => task::run(args, output).await,
            Command::Queue(args) => queue::run(args, output).await,
            Command::Model(args) => model::run(args, output).await,
            Command::Doctor(args) => doctor::run(args, output).await,
            Command::Sandbox(args) => sandbox::run(args, output).await,
            Command::Backup(args) => backup::run(args, output).await,
            Command::Restore(args) => restore::run(args, output).await,
            Command::Simulator(args) => simulator::run(args, output).await,
            Command::ModelSimulator(args) => model_simulator::run(args, output).await,
            Command::Migrate(args) => migrate::run(args, output).await,
        }
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}
