//! The whole configuration tree: `[log]`, `[traces]`, `[coordinator]`, `[[agents]]`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use patchfleet_agent::AgentConfig;
use patchfleet_config::{Faults, Rules};
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
        env = "PATCHFLEET_CONFIG",
        value_name = "FILE",
        global = true,
        display_order = 102
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

impl Rules for Config {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        if let Some(traces) = &self.traces {
            faults.rule(
                (0.0..=1.0).contains(&traces.sample),
                &["traces.sample"],
                format!("{} is not between 0 and 1", traces.sample),
            );
        }
        if let Some(coordinator) = &self.coordinator {
            faults.section("coordinator", coordinator.faults());
        }
        for (index, agent) in self.agents.iter().enumerate() {
            faults.section(&format!("agents.{index}"), agent.faults());
            let others = &self.agents[..index];
            if let Some(first) = others.iter().position(|it| it.id == agent.id) {
                faults.rule(
                    false,
                    &[&format!("agents.{index}.id"), &format!("agents.{first}.id")],
                    format!(
                        "the agent `{}` is in this file twice; give each an id of its own",
                        agent.id
                    ),
                );
            }
        }
        faults
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
        let loaded = patchfleet_config::load(&self.config);
        if self.config.exists() {
            return Ok(loaded?);
        }
        loaded.context(
            "there is no configuration; name a file with --config, or begin with a copy of \
             deploy/patchfleet.example.toml",
        )
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// What is said of a file with these lines under their sections.
    fn refused(fleet: &str, more: &str, agents: &[&str]) -> String {
        let mut text = format!(
            "[coordinator.fleet]\nkey = 'k'\n{fleet}\n[coordinator.api]\nkey = 'k'\n\
             [coordinator.github]\ntoken = 't'\nwebhook_secrets = ['s']\n{more}\n"
        );
        for agent in agents {
            let _ = write!(
                text,
                "[[agents]]\ntype = 'backend'\n{agent}\n\
                 coordinator = {{ url = 'http://h:1', key = 'k' }}\nworkspace = {{ root = 'w' }}\n\
                 draft = {{ mode = 'cli', command = ['x'] }}\n"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patchfleet.toml");
        std::fs::write(&file, text).unwrap();
        match patchfleet_config::load::<Config>(&file) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => {
                let error = error.to_string();
                let place = format!("{}/", folder.path().display());
                error.replace(&place, "")
            }
        }
    }

    #[test]
    fn a_rule_that_is_broken_is_told_with_file_line_and_field() {
        let errors = [
            refused("heartbeat = '0s'", "", &[]),
            refused("lease = '6s'", "", &[]),
            refused("heartbeat = '20s'", "", &[]),
            refused("max_agents = 0", "", &[]),
            refused("", "app = { id = 1, private_key = 'x' }", &[]),
            refused("", "[coordinator.retention]\ntasks = '0s'", &[]),
            refused("", "[traces]\nendpoint = 'http://h'\nsample = 2.0", &[]),
            refused("", "", &["id = 'a'", "id = 'b'", "id = 'a'"]),
            refused("", "", &["id = 'a'\nslots = 0"]),
            refused("", "", &["id = 'a'\nsandbox.memory_mib = 8"]),
            refused("", "", &["id = 'a'\nsandbox.disk_mib = 1"]),
            refused("lease = '10s'", "", &["id = 'a'", "id = 'b'"]),
        ];
        insta::assert_snapshot!(errors.join("\n"), @r"
        patchfleet.toml:3:13: field `coordinator.fleet.heartbeat`: there is no time between two heartbeats; write a duration such as `5s`
        patchfleet.toml:3:9: field `coordinator.fleet.lease`: a lease of 6s ends before two heartbeats of 5s could come; write at least twice the heartbeat
        patchfleet.toml:3:13: field `coordinator.fleet.lease`: a lease of 30s ends before two heartbeats of 20s could come; write at least twice the heartbeat
        patchfleet.toml:3:14: field `coordinator.fleet.max_agents`: no agent could connect; write 1 or more
        patchfleet.toml:7:9: field `coordinator.github.token`: exactly one of `token` and `app` is needed
        patchfleet.toml:10:9: field `coordinator.retention.tasks`: what is over would be removed at once; write a duration such as `90d`
        patchfleet.toml:11:10: field `traces.sample`: 2 is not between 0 and 1
        patchfleet.toml:24:6: field `agents.2.id`: the agent `a` is in this file twice; give each an id of its own
        patchfleet.toml:13:9: field `agents.0.slots`: the agent could take no task; write 1 or more
        patchfleet.toml:13:22: field `agents.0.sandbox.memory_mib`: no program can work with so little
        patchfleet.toml:13:20: field `agents.0.sandbox.disk_mib`: no program can work with so little
        accepted
        ");
    }
}
