//! Who writes the change in the demo: a simulated model, one of the user's, a command, or nobody,
//! because the answer was recorded.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use patchfleet_model::Protocol;
use patchfleet_testkit::model::{Script, Simulator};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use url::Url;

use crate::demo::{DemoArgs, scene, settings};

/// The variable by which agents get the key of their model.
pub(super) const MODEL_KEY: &str = "PATCHFLEET_DEMO_MODEL_KEY";

/// How long a server may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the simulated model is spoken to.
const SIMULATED: Protocol = Protocol::Anthropic;

/// A model of the user's.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Have a model of this provider write the change, instead of the simulated one: anthropic,
    /// openai, openai-chat (any compatible server), gemini or ollama.
    #[arg(long, value_name = "PROVIDER", requires = "model")]
    provider: Option<Protocol>,
    /// The model, by the provider's name for it.
    #[arg(long, value_name = "NAME", requires = "provider")]
    model: Option<String>,
    /// Where its server is, if not at the provider's own address.
    #[arg(long, value_name = "URL", requires = "provider")]
    base_url: Option<Url>,
    /// The variable that holds the key; at the provider's own address `ANTHROPIC_API_KEY`,
    /// `OPENAI_API_KEY` or `GEMINI_API_KEY` when this is left out.
    #[arg(long, value_name = "NAME", requires = "provider")]
    api_key_env: Option<String>,
    /// Its window, as with `agents.draft.model.window`.
    #[arg(long, value_name = "TOKENS", requires = "provider")]
    window: Option<u64>,
    /// The most tokens of one answer, as with `agents.draft.model.max_output`.
    #[arg(long, value_name = "TOKENS", requires = "provider")]
    max_output: Option<u32>,
}

/// Who writes the change.
#[derive(Debug)]
pub(super) enum Author {
    /// Recorded answers are replayed.
    Recorded,
    /// A command edits the work tree.
    Command { command: String, network: bool },
    /// A model edits it by the agent's tools.
    Model(Model),
}

/// A model, and the server that it is simulated by.
#[derive(Debug)]
pub(super) struct Model {
    provider: Protocol,
    name: String,
    base_url: Option<Url>,
    key: Option<SecretString>,
    window: Option<u64>,
    max_output: Option<u32>,
    simulator: Option<Simulator>,
}

impl ModelArgs {
    /// The user's model, if one is named.
    fn model(&self) -> anyhow::Result<Option<Model>> {
        let (Some(provider), Some(name)) = (self.provider, self.model.clone()) else {
            return Ok(None);
        };
        let variable = match &self.api_key_env {
            Some(variable) => Some(variable.as_str()),
            // The key of a provider is for nobody else's server.
            None if self.base_url.is_some() => None,
            None => usual_variable(provider),
        };
        Ok(Some(Model {
            provider,
            name,
            base_url: self.base_url.clone(),
            key: variable.map(key).transpose()?,
            window: self.window,
            max_output: self.max_output,
            simulator: None,
        }))
    }
}

impl Author {
    /// The one that the arguments name; the simulated model when they name none.
    pub(super) async fn of(args: &DemoArgs) -> anyhow::Result<Self> {
        if let Some(command) = args.draft_command.clone() {
            let network = args.draft_network;
            return Ok(Self::Command { command, network });
        }
        if args.replay {
            return Ok(Self::Recorded);
        }
        match args.model.model()? {
            Some(model) => {
                model.is_there().await?;
                Ok(Self::Model(model))
            }
            None => Self::simulated().await,
        }
    }

    /// A model that is simulated by the sample's script.
    async fn simulated() -> anyhow::Result<Self> {
        let script = Script::parse("model.yaml", &scene::sample("model.yaml")?)?;
        let name = script.models.first().map(|model| model.name.clone());
        let simulator = Simulator::start(script).await?;
        Ok(Self::Model(Model {
            provider: SIMULATED,
            name: name.context("the sample's script has no model")?,
            base_url: Some(simulator.base_url().parse()?),
            key: Some(simulator.key().to_owned().into()),
            window: None,
            max_output: None,
            simulator: Some(simulator),
        }))
    }

    /// The section `[agents.draft]`.
    pub(super) fn section(&self, recorded: &Path) -> Value {
        match self {
            Self::Recorded => json!({ "mode": "replay", "replay_dir": recorded }),
            Self::Command { command, network } => json!({
                "mode": "cli",
                "command": settings::command_words(command),
                "network": network,
            }),
            Self::Model(model) => json!({ "mode": "tools", "model": model.section() }),
        }
    }

    /// The key of the model, which agents get.
    pub(super) fn key(&self) -> Option<&SecretString> {
        match self {
            Self::Recorded | Self::Command { .. } => None,
            Self::Model(model) => model.key.as_ref(),
        }
    }

    /// What people are told of who writes the change.
    pub(super) fn describe(&self) -> (&'static str, String) {
        match self {
            Self::Recorded => ("change", "a recorded answer".to_owned()),
            Self::Command { command, .. } => ("draft command", command.clone()),
            Self::Model(model) => {
                let what = if model.simulator.is_some() {
                    "model (simulated)"
                } else {
                    "model"
                };
                (what, format!("{} at {}", model.name, model.address()))
            }
        }
    }
}

impl Model {
    fn address(&self) -> Url {
        let usual = || self.provider.default_base_url();
        self.base_url.clone().unwrap_or_else(usual)
    }

    fn section(&self) -> Value {
        let mut section = json!({ "provider": self.provider, "model": self.name });
        if let Some(url) = &self.base_url {
            section["url"] = json!(url);
        }
        if self.key.is_some() {
            section["key"] = json!({ "env": MODEL_KEY });
        }
        if let Some(window) = self.window {
            section["window"] = json!(window);
        }
        if let Some(max_output) = self.max_output {
            section["max_output"] = json!(max_output);
        }
        section
    }

    /// Looks whether anybody listens where a server of this host should. The agents would ask it again
    /// and again, in case that it is about to be started.
    async fn is_there(&self) -> anyhow::Result<()> {
        let url = self.address();
        let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let addresses = url.socket_addrs(|| None).unwrap_or_default();
        if !is_local || addresses.is_empty() {
            return Ok(());
        }
        let connecting = TcpStream::connect(addresses.as_slice());
        let error = match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        let start = match self.provider {
            Protocol::Ollama => "start Ollama there (`ollama serve`)",
            Protocol::Anthropic | Protocol::Responses | Protocol::Chat | Protocol::Gemini => {
                "start the server"
            }
        };
        bail!("no model is served at {url}: {error}; {start}, or mend --base-url")
    }
}

/// The option of the demo that sets a field of an agent's configuration; the field where none does.
pub(super) fn option_of(field: &str) -> &str {
    match field {
        "draft.model.model" => "--model",
        "draft.model.url" => "--base-url",
        "draft.model.key" => "--api-key-env",
        "draft.model.window" => "--window",
        "draft.model.max_output" => "--max-output",
        other => other,
    }
}

/// The variable in which the provider's own tools look for the key.
const fn usual_variable(provider: Protocol) -> Option<&'static str> {
    match provider {
        Protocol::Anthropic => Some("ANTHROPIC_API_KEY"),
        Protocol::Responses | Protocol::Chat => Some("OPENAI_API_KEY"),
        Protocol::Gemini => Some("GEMINI_API_KEY"),
        Protocol::Ollama => None,
    }
}

fn key(variable: &str) -> anyhow::Result<SecretString> {
    match std::env::var(variable) {
        Ok(key) if !key.trim().is_empty() => Ok(key.trim().to_owned().into()),
        _ => bail!(
            "the environment variable {variable}, which should hold the model's key, is not set; \
             set it, or name another one by --api-key-env"
        ),
    }
}
