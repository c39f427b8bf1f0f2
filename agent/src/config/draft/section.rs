//! `[agents.draft]` as it is written: flat, so that an error names the field that it is about, which
//! serde's tagged enums can't.

use std::collections::BTreeMap;
use std::path::PathBuf;

use patchfleet_config::{HumanDuration, Secret};
use patchfleet_model::Protocol;
use serde::Deserialize;
use url::Url;

use super::{CliDraftConfig, DiffDraftConfig, DraftConfig, ToolsDraftConfig};
use crate::config::LanguageModelConfig;
use crate::draft::{AskedModel, KeyHeader, ModelConfig, Profile};

/// All fields of the section, of whichever mode.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    mode: Mode,
    replay_dir: Option<PathBuf>,
    profile: Option<Profile>,
    command: Option<Vec<String>>,
    timeout: Option<HumanDuration>,
    silence: Option<HumanDuration>,
    pass_env: Option<Vec<String>>,
    network: Option<bool>,
    folders: Option<Vec<PathBuf>>,
    max_steps: Option<u32>,
    record: Option<PathBuf>,
    model: Option<Box<ModelSection>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Replay,
    Cli,
    Tools,
    Diff,
}

/// `[agents.draft.model]` of whichever mode.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelSection {
    url: Option<Url>,
    key: Option<Secret>,
    answer_timeout: Option<HumanDuration>,
    header: Option<KeyHeader>,
    variables: Option<BTreeMap<String, String>>,
    request_mib: Option<u32>,
    draft_mib: Option<u32>,
    provider: Option<Protocol>,
    model: Option<String>,
    role: Option<String>,
    max_output: Option<u32>,
    window: Option<u64>,
    temperature: Option<f64>,
}

/// What a known program needs.
struct Known {
    /// Its way to its model.
    gateway: ModelConfig,
    /// The program's arguments.
    arguments: Vec<String>,
    /// Its model, as the agent itself would ask it; none where the key has a header of its own.
    asked: Option<LanguageModelConfig>,
}

impl TryFrom<Section> for DraftConfig {
    type Error = String;

    fn try_from(section: Section) -> Result<Self, String> {
        match section.mode {
            Mode::Replay => section.replay(),
            Mode::Cli => section.cli(),
            Mode::Tools => section.tools(),
            Mode::Diff => section.diff(),
        }
    }
}

impl Section {
    fn of_commands(&self) -> [(bool, &'static str); 6] {
        [
            (self.profile.is_some(), "profile"),
            (self.command.is_some(), "command"),
            (self.silence.is_some(), "silence"),
            (self.pass_env.is_some(), "pass_env"),
            (self.network.is_some(), "network"),
            (self.folders.is_some(), "folders"),
        ]
    }

    fn replay(self) -> Result<DraftConfig, String> {
        refuse(self.of_commands(), "replay")?;
        let of_others = [
            (self.timeout.is_some(), "timeout"),
            (self.max_steps.is_some(), "max_steps"),
            (self.record.is_some(), "record"),
            (self.model.is_some(), "model"),
        ];
        refuse(of_others, "replay")?;
        let replay_dir = self.replay_dir.ok_or("missing field `replay_dir`")?;
        Ok(DraftConfig::Replay { replay_dir })
    }

    fn cli(self) -> Result<DraftConfig, String> {
        let of_others = [
            (self.replay_dir.is_some(), "replay_dir"),
            (self.max_steps.is_some(), "max_steps"),
        ];
        refuse(of_others, "cli")?;
        let (command, model, asked) = match self.profile {
            None => {
                let command = self.command.ok_or("missing field `command`")?;
                (
                    command,
                    self.model.map(|model| model.of_command()).transpose()?,
                    None,
                )
            }
            Some(profile) => {
                let missing = "missing field `model`: a profile asks the model that it names";
                let known = self.model.ok_or(missing)?.of_profile(profile)?;
                let own = self.command.unwrap_or_default();
                let mut own = own.into_iter();
                let program = own.next().unwrap_or_else(|| profile.program().to_owned());
                let command = std::iter::once(program).chain(known.arguments).chain(own);
                (command.collect(), Some(known.gateway), known.asked)
            }
        };
        let usual = CliDraftConfig::new(command);
        Ok(DraftConfig::Cli(CliDraftConfig {
            profile: self.profile,
            timeout: self.timeout.unwrap_or(usual.timeout),
            silence: self.silence.unwrap_or(usual.silence),
            pass_env: self.pass_env.unwrap_or_default(),
            network: self.network.unwrap_or_default(),
            folders: self.folders.unwrap_or_default(),
            model: model.map(Box::new),
            asked: asked.map(Box::new),
            record: self.record,
            ..usual
        }))
    }

    fn tools(self) -> Result<DraftConfig, String> {
        refuse(self.of_commands(), "tools")?;
        refuse([(self.replay_dir.is_some(), "replay_dir")], "tools")?;
        let model = self.model.ok_or("missing field `model`")?;
        let mut usual = ToolsDraftConfig::new(model.asked("tools")?);
        usual.timeout = self.timeout.unwrap_or(usual.timeout);
        usual.max_steps = self.max_steps.unwrap_or(usual.max_steps);
        usual.record = self.record;
        Ok(DraftConfig::Tools(Box::new(usual)))
    }

    fn diff(self) -> Result<DraftConfig, String> {
        refuse(self.of_commands(), "diff")?;
        let of_others = [
            (self.replay_dir.is_some(), "replay_dir"),
            (self.max_steps.is_some(), "max_steps"),
            (self.timeout.is_some(), "timeout"),
        ];
        refuse(of_others, "diff")?;
        let model = self.model.ok_or("missing field `model`")?;
        let model = model.asked("diff")?;
        Ok(DraftConfig::Diff(Box::new(DiffDraftConfig {
            model,
            record: self.record,
        })))
    }
}

impl ModelSection {
    fn of_command(self) -> Result<ModelConfig, String> {
        let of_asked = [
            (self.provider.is_some(), "model.provider"),
            (self.model.is_some(), "model.model"),
            (self.role.is_some(), "model.role"),
            (self.max_output.is_some(), "model.max_output"),
            (self.window.is_some(), "model.window"),
            (self.temperature.is_some(), "model.temperature"),
        ];
        refuse(of_asked, "cli")?;
        let usual = ModelConfig::at(self.url.ok_or("missing field `model.url`")?);
        Ok(ModelConfig {
            key: self.key,
            header: self.header.unwrap_or(usual.header),
            variables: self.variables.unwrap_or(usual.variables),
            answer_timeout: self.answer_timeout.unwrap_or(usual.answer_timeout),
            request_mib: self.request_mib.unwrap_or(usual.request_mib),
            draft_mib: self.draft_mib.unwrap_or(usual.draft_mib),
            ..usual
        })
    }

    /// What a known program needs for the model that it asks.
    fn of_profile(self, profile: Profile) -> Result<Known, String> {
        let of_others = [
            (self.variables.is_some(), "model.variables"),
            (self.role.is_some(), "model.role"),
            (self.max_output.is_some(), "model.max_output"),
            (self.window.is_some(), "model.window"),
            (self.temperature.is_some(), "model.temperature"),
        ];
        let name = profile.name();
        if let Some((_, field)) = of_others.into_iter().find(|(is_there, _)| *is_there) {
            return Err(format!("`{field}` is no field of the profile `{name}`"));
        }
        let protocols = profile.protocols();
        let protocol = self.provider.unwrap_or(protocols[0]);
        if !protocols.contains(&protocol) {
            let names: Vec<_> = protocols.iter().copied().map(Protocol::name).collect();
            return Err(format!(
                "the profile `{name}` can't use `provider = \"{protocol}\"`; it takes {}",
                names.join(" and ")
            ));
        }
        let model = self.model.filter(|model| !model.trim().is_empty());
        let model = model.ok_or("missing field `model.model`")?;
        if self.key.is_none() && self.url.is_none() {
            return Err(format!(
                "missing field `model.key`: the server of `{protocol}` wants one"
            ));
        }
        let asked = LanguageModelConfig {
            url: self.url.clone(),
            key: self.key.clone(),
            ..LanguageModelConfig::new(protocol, model.clone())
        };
        let named = AskedModel {
            protocol,
            name: &model,
            entry: asked.entry(),
        };
        let url = self.url.unwrap_or_else(|| protocol.default_base_url());
        let usual = ModelConfig::at(without_version(url));
        let header = match protocol {
            Protocol::Anthropic => KeyHeader::XApiKey,
            Protocol::Gemini => KeyHeader::XGoogApiKey,
            Protocol::Responses | Protocol::Chat | Protocol::Ollama => KeyHeader::Bearer,
        };
        let gateway = ModelConfig {
            key: self.key,
            header: self.header.unwrap_or(header),
            variables: profile.variables(named).into_iter().collect(),
            answer_timeout: self.answer_timeout.unwrap_or(usual.answer_timeout),
            request_mib: self.request_mib.unwrap_or(usual.request_mib),
            draft_mib: self.draft_mib.unwrap_or(usual.draft_mib),
            ..usual
        };
        Ok(Known {
            gateway,
            arguments: profile.arguments(named),
            asked: self.header.is_none().then_some(asked),
        })
    }

    /// The model that the agent asks itself.
    fn asked(self, mode: &str) -> Result<LanguageModelConfig, String> {
        let of_commands = [
            (self.header.is_some(), "model.header"),
            (self.variables.is_some(), "model.variables"),
            (self.request_mib.is_some(), "model.request_mib"),
            (self.draft_mib.is_some(), "model.draft_mib"),
        ];
        refuse(of_commands, mode)?;
        let provider = self.provider.ok_or("missing field `model.provider`")?;
        let model = self.model.ok_or("missing field `model.model`")?;
        let usual = LanguageModelConfig::new(provider, model);
        Ok(LanguageModelConfig {
            url: self.url,
            key: self.key,
            role: self.role,
            max_output: self.max_output,
            window: self.window,
            temperature: self.temperature,
            answer_timeout: self.answer_timeout.unwrap_or(usual.answer_timeout),
            ..usual
        })
    }
}

/// An address without the version of the interface at its end, which stands in each request's path.
fn without_version(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/');
    if let Some(rest) = path.strip_suffix("/v1").map(str::to_owned) {
        url.set_path(&rest);
    }
    url
}

/// Refuses fields of another mode.
fn refuse<const N: usize>(fields: [(bool, &str); N], mode: &str) -> Result<(), String> {
    match fields.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, name)) => Err(format!("`{name}` is no field of the mode `{mode}`")),
        None => Ok(()),
    }
}
