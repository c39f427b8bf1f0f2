//! A model that the agent asks itself, as it is configured: who it is, and how much an answer may have.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use patchfleet_model::{Client, Conversation, Entry, Model, POLICY, Settings};
use patchfleet_proxy::Proxies;
use patchfleet_resilience::Remote;

use crate::config::LanguageModelConfig;

/// A model, and how much an answer may have.
#[derive(Clone)]
pub struct LanguageModel {
    /// Who is asked.
    pub model: Arc<dyn Model>,
    /// Its provider, by which calls are tried again; none are without it.
    pub remote: Option<Remote>,
    /// What the table knows of it, its prices above all.
    pub entry: Option<Entry>,
    /// What it is besides, in words of the operator.
    pub role: Option<String>,
    /// Most tokens of an answer.
    pub max_output: u32,
    /// The model's window in tokens.
    pub window: u64,
    /// How random its choice of tokens is; left to the provider when absent.
    pub temperature: Option<f64>,
}

impl LanguageModel {
    /// The model that a section of the configuration names.
    ///
    /// # Errors
    /// When its key can't be had, or its address can't be used; the section is named.
    pub fn new(config: &LanguageModelConfig, section: &str) -> anyhow::Result<Self> {
        let client = client(config, section, config.answer_timeout.0)?;
        Ok(Self {
            model: Arc::new(client),
            remote: Some(Remote::new(config.provider.name(), POLICY)),
            entry: config.entry().cloned(),
            role: config.role.clone(),
            max_output: config.max_output(),
            window: config.window(),
            temperature: config.temperature,
        })
    }

    /// The provider and the model.
    pub(crate) fn name(&self) -> String {
        self.model.origin().to_string()
    }

    /// A first question to it, without tools.
    pub(crate) fn question(&self, instructions: &str, text: String) -> Conversation {
        let system = self.instructed(instructions);
        let mut conversation = Conversation::question(system, text, self.max_output);
        conversation.sampling.temperature = self.temperature;
        conversation
    }

    /// Instructions with what the operator adds to them.
    fn instructed(&self, instructions: &str) -> String {
        instructed(instructions, self.role.as_deref())
    }
}

/// The client of a model, whose answers may take so long; an error names the section.
pub(crate) fn client(
    config: &LanguageModelConfig,
    section: &str,
    patience: Duration,
) -> anyhow::Result<Client> {
    let mut target = config.target();
    let key = config.key.as_ref();
    let key = key.map(|key| key.reveal(&format!("{section}.key")));
    target.key = key.transpose()?;
    let settings = Settings {
        timeout: patience,
        idle: patience,
        proxies: Proxies::from_environment()?,
    };
    Client::new(target, settings).with_context(|| section.to_owned())
}

/// Instructions without the line of their version, and with what the operator adds to them.
pub(crate) fn instructed(instructions: &str, role: Option<&str>) -> String {
    let (_, text) = instructions.split_once('\n').unwrap_or_default();
    match role {
        Some(role) => format!("{}\n\nFrom the operator:\n{role}", text.trim()),
        None => text.trim().to_owned(),
    }
}

/// The version of instructions, from their first line, for the record of what was asked.
pub(crate) fn version(instructions: &str) -> &str {
    let first = instructions.lines().next().unwrap_or_default();
    first.trim_start_matches("Version: ")
}

impl fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanguageModel")
            .field("model", self.model.origin())
            .finish_non_exhaustive()
    }
}
