//! The file's fields, and how it is read.

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_domain::{AgentType, Limit};
use serde::Deserialize;

use super::author::{Author, author};
use super::budget::budget;
use super::commands::{commands, tests};
use super::fields::{AGENT_TYPE, HOSTS, agent_type, duration, network};
use super::hosts::{AllowList, Entry};
use super::recheck::recheck;
use super::text::{ListOf, TextOf};
use super::{ConfigError, Globs};

/// Test timeout when the repository says nothing.
pub const DEFAULT_TEST_TIMEOUT: Duration = Duration::from_mins(2);

/// The configuration of one repository.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// The test commands, each as words, which run in order until one fails. One is written as a list
    /// of words, or as a string that is split into words as a shell would, without anything else that
    /// a shell does; several as a list of these.
    #[serde(default, deserialize_with = "tests")]
    pub test: Option<Vec<Vec<String>>>,
    /// The commands that install dependencies, each as the test command; detected by lock files
    /// when absent, and none when empty.
    #[serde(default, deserialize_with = "commands")]
    pub setup: Option<Vec<Vec<String>>>,
    /// How long they may take together.
    #[serde(default, deserialize_with = "duration")]
    pub setup_timeout: Option<Duration>,
    /// The hosts and ecosystems that they may reach; the registries of the lock files when absent.
    #[serde(default, deserialize_with = "network")]
    pub network: Option<Vec<Entry>>,
    /// How long the tests may take.
    #[serde(default, deserialize_with = "duration")]
    pub test_timeout: Option<Duration>,
    /// What may be changed; everything, when empty.
    #[serde(default)]
    pub allowed_paths: Globs,
    /// What must not be changed, besides what is always protected.
    #[serde(default)]
    pub protected_paths: Globs,
    /// What may be changed although it is always protected; never this file.
    #[serde(default)]
    pub unprotected_paths: Globs,
    /// The agent type that tasks of this repository want.
    #[serde(default, deserialize_with = "agent_type")]
    pub agent_type: Option<AgentType>,
    /// The most that models may cost a task in all its attempts, where that is less than the operator
    /// allows.
    #[serde(default, deserialize_with = "budget")]
    pub budget: Limit,
    /// Who commits are by.
    #[serde(default, deserialize_with = "author")]
    pub author: Option<Author>,
}

impl RepositoryConfig {
    /// Parses the file's text.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let says_nothing = |line: &str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || matches!(line, "---" | "...")
        };
        if text.lines().all(says_nothing) {
            return Ok(Self::default());
        }
        yaml_serde::from_str(text).map_err(|error| ConfigError::from_yaml(&error))
    }

    /// Parses the file's text, and refuses one that asks for hosts which are not allowed.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse_within(text: &str, allowed: &AllowList) -> Result<Self, ConfigError> {
        let config = Self::parse(text)?;
        let mut asked = config.network.iter().flatten();
        if asked.all(|entry| allowed.covers(entry)) {
            return Ok(config);
        }
        let check = |text: &str| match text.parse::<Entry>() {
            Ok(entry) if allowed.covers(&entry) => Ok(()),
            Ok(_) => Err(format!(
                "the operator does not allow `{text}`; allowed are: {} (`agents.setup.allow`)",
                allowed.patterns().collect::<Vec<_>>().join(", ")
            )),
            Err(error) => Err(error.to_string()),
        };
        recheck(text, "network", ListOf(HOSTS, check))?;
        // Both readings are of one text; should they ever differ, the stricter one counts.
        Err(ConfigError::somewhere(
            "network: a host that the operator does not allow",
        ))
    }

    /// Refuses a file, parsed from that text, whose agent type is none of these.
    ///
    /// # Errors
    /// That there is no such type, with its place and the types that there are.
    pub fn check_agent_type(
        &self,
        text: &str,
        types: &BTreeSet<AgentType>,
    ) -> Result<(), ConfigError> {
        let Some(wanted) = self.agent_type.as_ref().filter(|it| !types.contains(it)) else {
            return Ok(());
        };
        let known: Vec<_> = types.iter().map(AgentType::as_str).collect();
        let message = format!(
            "this fleet has no agents of the type `{wanted}`; there are: {}",
            known.join(", ")
        );
        let check = |_: &str| Err::<(), _>(message.clone());
        recheck(text, "agent_type", TextOf(AGENT_TYPE, check))?;
        // As above.
        Err(ConfigError::somewhere(&format!("agent_type: {message}")))
    }

    /// How long the tests may take.
    pub fn test_timeout(&self) -> Duration {
        self.test_timeout.unwrap_or(DEFAULT_TEST_TIMEOUT)
    }
}
