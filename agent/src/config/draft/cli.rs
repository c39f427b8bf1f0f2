//! The mode `cli`: a command that edits the work tree, and what it is given.

use std::path::PathBuf;

use patchfleet_config::{Faults, HumanDuration, Rules, Secret};

use crate::command_paths::absolute_paths;
use crate::config::LanguageModelConfig;
use crate::draft::{ModelConfig, Profile};
use crate::sandbox::Fact;

/// A command that edits the work tree.
#[derive(Debug, Clone)]
pub struct CliDraftConfig {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What is known of the program, where it is a known one.
    pub profile: Option<Profile>,
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
    /// The same as the agent itself would ask it, where the program is a known one and the key has its
    /// protocol's usual header.
    pub asked: Option<Box<LanguageModelConfig>>,
    /// Where drafts and the calls of its model are recorded.
    pub record: Option<PathBuf>,
}

impl CliDraftConfig {
    /// A command with the usual times, and nothing besides the work tree.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            profile: None,
            timeout: HumanDuration::from_secs(600),
            silence: HumanDuration::from_secs(300),
            pass_env: Vec::new(),
            network: false,
            folders: Vec::new(),
            model: None,
            asked: None,
            record: None,
        }
    }

    pub(super) fn faults(&self) -> Faults {
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
