//! The whole configuration tree: `[log]`, `[traces]`, `[coordinator]`, `[[agents]]`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use patchfleet_agent::AgentConfig;
use patchfleet_coordinator::config::CoordinatorConfig;
use patchfleet_coordinator::store::Address;
use patchfleet_telemetry::trace::TraceOptions;
use patchfleet_telemetry::{Format, Options, Telemetry};
use serde::Deserialize;
use url::Url;

use crate::runtime;

/// Where the configuration is.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file.
    #[arg(
        long,
        short,
        default_value = "patchfleet.toml",
        env = "PATCHFLEET_CONFIG"
    )]
    config: PathBuf,
}

/// What every process of a fleet is told.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

/// One file for one host.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// `[log]`.
    #[serde(default)]
    pub(crate) log: LogConfig,
    /// `[traces]`.
    pub(crate) traces: Option<TracesConfig>,
    /// `[coordinator]`.
    pub(crate) coordinator: Option<CoordinatorConfig>,
    /// `[[agents]]`.
    #[serde(default)]
    pub(crate) agents: Vec<AgentConfig>,
}

/// What is logged, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// `info`, or directives such as `warn,patchfleet_agent=debug`.
    pub(crate) filter: String,
    /// `human` or `json`.
    pub(crate) format: LogFormat,
}

/// Where traces go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TracesConfig {
    /// An OTLP receiver that speaks gRPC, `http://HOST:4317`.
    pub(crate) endpoint: Url,
    /// The part of tasks that is traced, from 0 to 1.
    #[serde(default = "all")]
    pub(crate) sample: f64,
}

const fn all() -> f64 {
    1.0
}

/// How a line of log looks.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Human,
        }
    }
}

impl ConfigArgs {
    /// The file, which need not be there.
    pub(crate) fn file(&self) -> &Path {
        &self.config
    }

    /// Where the coordinator of that configuration keeps its tasks.
    pub(crate) fn store(&self) -> anyhow::Result<Address> {
        self.load()?.coordinator(self.file())?.database.address()
    }

    /// Reads the file and the environment.
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        patchfleet_config::load(&self.config).map_err(Into::into)
    }
}

impl ServiceArgs {
    /// The configuration file.
    pub(crate) fn file(&self) -> &Path {
        self.config.file()
    }

    /// What a process does first: it sees to its end and reads its configuration.
    pub(crate) fn begin(&self) -> anyhow::Result<Config> {
        if self.end_with_parent {
            runtime::end_with_parent()?;
        }
        self.config.load()
    }
}

impl Config {
    /// The coordinator's section, which has to be there.
    pub(crate) fn coordinator(&self, file: &Path) -> anyhow::Result<&CoordinatorConfig> {
        self.coordinator
            .as_ref()
            .with_context(|| format!("{}: section [coordinator] is missing", file.display()))
    }

    /// Starts logging as configured.
    pub(crate) fn start_telemetry(&self, service: &str) -> anyhow::Result<Telemetry> {
        let format = match self.log.format {
            LogFormat::Human => Format::Human,
            LogFormat::Json => Format::Json,
        };
        if let Some(traces) = &self.traces
            && !(0.0..=1.0).contains(&traces.sample)
        {
            bail!("traces.sample: {} is not between 0 and 1", traces.sample);
        }
        let options = Options {
            format,
            filter: self.log.filter.clone(),
            service: service.to_owned(),
            traces: self.traces.as_ref().map(|traces| TraceOptions {
                endpoint: traces.endpoint.to_string(),
                sample: traces.sample,
            }),
        };
        Telemetry::start(options).context("can't start logging")
    }
}
