//! `[agents.draft]`: how changes are drafted.

use std::path::PathBuf;

use patchfleet_config::{Faults, HumanDuration, Rules, Secret};
use serde::Deserialize;

use crate::command_paths::absolute_paths;
use crate::draft::ModelConfig;
use crate::sandbox::{Backend, Fact, SandboxConfig};

/// How changes are drafted.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Section")]
pub enum DraftConfig {
    /// Changes that were recorded before are replayed, without a model.
    Replay {
        /// Where the recordings are.
        replay_dir: PathBuf,
    },
    /// A command edits the work tree.
    Cli(CliDraftConfig),
}

/// A command that edits the work tree.
#[derive(Debug, Clone)]
pub struct CliDraftConfig {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: HumanDuration,
    /// How long it may say nothing new, change no file and use no processor.
    pub silence: HumanDuration,
    /// Variables of the agent's environment that the command also sees.
    pub pass_env: Vec<String>,
    /// It may use the host's network, which a command that looks for its model by itself needs.
    pub network: bool,
    /// Folders of the host that it may read and write, such as the one with its login.
    pub folders: Vec<PathBuf>,
    /// The model that it reaches without any other network.
    pub model: Option<Box<ModelConfig>>,
}

/// The section as it is written: flat, so that an error names the field that it is about, which
/// serde's tagged enums can't.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    mode: Mode,
    replay_dir: Option<PathBuf>,
    command: Option<Vec<String>>,
    timeout: Option<HumanDuration>,
    silence: Option<HumanDuration>,
    pass_env: Option<Vec<String>>,
    network: Option<bool>,
    folders: Option<Vec<PathBuf>>,
    model: Option<Box<ModelConfig>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Replay,
    Cli,
}

impl CliDraftConfig {
    /// A command with the usual times, and nothing besides the work tree.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            timeout: HumanDuration::from_secs(600),
            silence: HumanDuration::from_secs(300),
            pass_env: Vec::new(),
            network: false,
            folders: Vec::new(),
            model: None,
        }
    }

    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        faults.rule(
            self.folders.iter().all(|folder| folder.is_absolute()),
            &["folders"],
            "a folder that the command may write needs an absolute path",
        );
        let program = self.command.first().is_some_and(|it| !it.trim().is_empty());
        faults.rule(program, &["command"], "the program is missing");
        let time = "there is no time for it; write a duration such as `10m`";
        faults.rule(!self.timeout.0.is_zero(), &["timeout"], time);
        if let Some(model) = &self.model {
            self.model_faults(model, &mut faults);
        }
        faults
    }

    /// What the command is given besides what the sandbox shows, for `sandbox explain`.
    pub fn facts(&self) -> Vec<Fact> {
        let passed = self.pass_env.iter();
        let mut facts: Vec<_> = passed
            .map(|name| Fact::set(name, "the agent's own value (`draft.pass_env`)"))
            .collect();
        if let Some(model) = &self.model {
            facts.extend(model.facts());
        }
        facts
    }

    /// What would make the model's proxy pointless, or show its key to the command.
    fn model_faults(&self, model: &ModelConfig, faults: &mut Faults) {
        faults.section("model", model.faults());
        faults.rule(
            !self.network,
            &["model", "network"],
            "a command with the host's network needs no proxy to its model; leave `network` out",
        );
        let variable = model.key.as_ref().and_then(Secret::variable);
        faults.rule(
            !self
                .pass_env
                .iter()
                .any(|name| Some(name.as_str()) == variable),
            &["pass_env", "model.key"],
            "the model's key is added outside of the sandbox; leave its variable out of `pass_env`",
        );
        faults.rule(
            !self
                .pass_env
                .iter()
                .any(|name| model.variables.contains_key(name)),
            &["pass_env", "model.variables"],
            "a variable that leads to the model would also be the agent's own; name it once",
        );
        let Some(file) = model.key.as_ref().and_then(Secret::file) else {
            return;
        };
        let named: Vec<_> = absolute_paths(&self.command).collect();
        let mut shown = self.folders.iter().chain(&named);
        faults.rule(
            !shown.any(|path| file.starts_with(path)),
            &["model.key"],
            "the command may read that file; keep it apart from `folders` and from what `command` names",
        );
    }
}

impl DraftConfig {
    /// The program that drafts, where one does.
    pub fn program(&self) -> Option<&str> {
        self.cli()?.command.first().map(String::as_str)
    }

    /// The command that drafts, where one does.
    pub const fn cli(&self) -> Option<&CliDraftConfig> {
        match self {
            Self::Replay { .. } => None,
            Self::Cli(config) => Some(config),
        }
    }

    /// What breaks its rules, with the section of the sandbox that it runs in.
    pub(super) fn faults(&self, sandbox: &SandboxConfig) -> Faults {
        let mut faults = Faults::default();
        let Some(cli) = self.cli() else { return faults };
        faults.section("draft", cli.faults());
        let Some(model) = &cli.model else {
            return faults;
        };
        faults.rule(
            sandbox.backend != Backend::None,
            &["draft.model", "sandbox.backend"],
            "a model is reached from inside of a sandbox; leave `backend` out, or write \
             `draft.network = true` and pass the key by `draft.pass_env`",
        );
        let file = model.key.as_ref().and_then(Secret::file);
        let is_shown =
            |file: &std::path::Path| sandbox.read_only.iter().any(|path| file.starts_with(path));
        faults.rule(
            !file.is_some_and(is_shown),
            &["draft.model.key", "sandbox.read_only"],
            "every run may read that file; keep it apart from `read_only`",
        );
        faults
    }
}

impl TryFrom<Section> for DraftConfig {
    type Error = String;

    fn try_from(section: Section) -> Result<Self, String> {
        match section.mode {
            Mode::Replay => section.replay(),
            Mode::Cli => section.cli(),
        }
    }
}

impl Section {
    fn replay(self) -> Result<DraftConfig, String> {
        let of_cli = [
            (self.command.is_some(), "command"),
            (self.timeout.is_some(), "timeout"),
            (self.silence.is_some(), "silence"),
            (self.pass_env.is_some(), "pass_env"),
            (self.network.is_some(), "network"),
            (self.folders.is_some(), "folders"),
            (self.model.is_some(), "model"),
        ];
        refuse(of_cli, "replay")?;
        let replay_dir = self.replay_dir.ok_or("missing field `replay_dir`")?;
        Ok(DraftConfig::Replay { replay_dir })
    }

    fn cli(self) -> Result<DraftConfig, String> {
        refuse([(self.replay_dir.is_some(), "replay_dir")], "cli")?;
        let usual = CliDraftConfig::new(self.command.ok_or("missing field `command`")?);
        Ok(DraftConfig::Cli(CliDraftConfig {
            timeout: self.timeout.unwrap_or(usual.timeout),
            silence: self.silence.unwrap_or(usual.silence),
            pass_env: self.pass_env.unwrap_or_default(),
            network: self.network.unwrap_or_default(),
            folders: self.folders.unwrap_or_default(),
            model: self.model,
            ..usual
        }))
    }
}

/// Refuses fields of another mode.
fn refuse<const N: usize>(fields: [(bool, &str); N], mode: &str) -> Result<(), String> {
    match fields.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, name)) => Err(format!("`{name}` is no field of the mode `{mode}`")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(more: Value) -> Result<DraftConfig, String> {
        let mut section = json!({"mode": "cli", "command": ["tool"]});
        for (name, value) in more.as_object().into_iter().flatten() {
            section[name] = value.clone();
        }
        let read = serde_json::from_value(section);
        read.map_err(|error: serde_json::Error| error.to_string())
    }

    /// The fields of the first fault.
    fn blamed(more: Value, sandbox: &SandboxConfig) -> String {
        let faults = parsed(more).unwrap().faults(sandbox);
        faults
            .first()
            .map_or_else(String::new, |it| it.fields.join(" "))
    }

    #[test]
    fn each_mode_has_its_own_fields() {
        assert!(matches!(parsed(json!({})), Ok(DraftConfig::Cli(_))));
        let error = parsed(json!({"replay_dir": "x"})).unwrap_err();
        assert_eq!(error, "`replay_dir` is no field of the mode `cli`");
        let error = parsed(json!({"mode": "replay"})).unwrap_err();
        assert_eq!(error, "`command` is no field of the mode `replay`");
        let error = parsed(json!({"mode": "magic"})).unwrap_err();
        assert!(error.contains("unknown variant `magic`"), "{error}");
        let error = parsed(json!({"comand": []})).unwrap_err();
        assert!(error.contains("unknown field `comand`"), "{error}");
    }

    #[test]
    fn a_model_whose_key_the_command_could_read_is_refused_by_field() {
        let model = |key: Value| json!({"url": "https://model.example", "key": key});
        let usual = SandboxConfig::default();
        let file = json!({"file": "/srv/keys/model"});
        let named = json!(["sh", "-c", "cat /srv/keys/model"]);
        for (more, fields) in [
            (json!({"model": model(json!("k"))}), ""),
            (json!({"model": model(file.clone())}), ""),
            (
                json!({"model": model(json!({"env": "KEY"})), "pass_env": ["KEY"]}),
                "draft.pass_env draft.model.key",
            ),
            (
                json!({"model": model(json!("k")), "pass_env": ["ANTHROPIC_API_KEY"]}),
                "draft.pass_env draft.model.variables",
            ),
            (
                json!({"model": model(file.clone()), "folders": ["/srv/keys"]}),
                "draft.model.key",
            ),
            (
                json!({"model": model(file.clone()), "command": named}),
                "draft.model.key",
            ),
            (
                json!({"model": model(json!("k")), "network": true}),
                "draft.model draft.network",
            ),
        ] {
            assert_eq!(blamed(more.clone(), &usual), fields, "{more}");
        }
        let shown = SandboxConfig {
            read_only: vec!["/srv".into()],
            ..SandboxConfig::default()
        };
        let blamed_for = blamed(json!({"model": model(file)}), &shown);
        assert_eq!(blamed_for, "draft.model.key sandbox.read_only");
        let exposed = SandboxConfig {
            required: false,
            backend: Backend::None,
            ..SandboxConfig::default()
        };
        let blamed_for = blamed(json!({"model": model(json!("k"))}), &exposed);
        assert_eq!(blamed_for, "draft.model sandbox.backend");
    }
}
