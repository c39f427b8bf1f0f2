//! `[agents.draft]`: how changes are drafted.

mod cli;
mod section;
mod tools;

use std::path::{Path, PathBuf};

use patchfleet_config::{Faults, Secret};
use serde::Deserialize;

use crate::sandbox::{Backend, SandboxConfig};
pub use cli::CliDraftConfig;
use section::Section;
pub use tools::{DiffDraftConfig, ToolsDraftConfig};

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
    /// A model edits the work tree by tools.
    Tools(Box<ToolsDraftConfig>),
    /// A model writes its change in one answer.
    Diff(Box<DiffDraftConfig>),
}

impl DraftConfig {
    /// The program that drafts, where one does.
    pub fn program(&self) -> Option<&str> {
        self.cli()?.command.first().map(String::as_str)
    }

    /// The command that drafts, where one does.
    pub const fn cli(&self) -> Option<&CliDraftConfig> {
        match self {
            Self::Replay { .. } | Self::Tools(_) | Self::Diff(_) => None,
            Self::Cli(config) => Some(config),
        }
    }

    /// Where drafts are recorded, if they are.
    pub fn record(&self) -> Option<&Path> {
        match self {
            Self::Replay { .. } => None,
            Self::Cli(config) => config.record.as_deref(),
            Self::Tools(config) => config.record.as_deref(),
            Self::Diff(config) => config.record.as_deref(),
        }
    }

    /// What breaks its rules, with the section of the sandbox that it runs in.
    pub(super) fn faults(&self, sandbox: &SandboxConfig) -> Faults {
        let mut faults = Faults::default();
        faults.rule(
            self.record().is_none_or(Path::is_absolute),
            &["draft.record"],
            "the folder for recorded drafts needs an absolute path",
        );
        match self {
            Self::Tools(tools) => faults.section("draft", tools.faults()),
            Self::Diff(diff) => faults.section("draft", diff.faults()),
            Self::Replay { .. } | Self::Cli(_) => {}
        }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::draft::KeyHeader;

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

    fn profiled(profile: &str, model: Value) -> Result<DraftConfig, String> {
        let section = json!({"mode": "cli", "profile": profile, "model": model});
        let read = serde_json::from_value(section);
        read.map_err(|error: serde_json::Error| error.to_string())
    }

    #[test]
    fn a_profile_fills_in_command_address_header_and_variables() {
        let model = |url: Value| json!({"model": "m-1", "key": "k", "url": url});
        for (profile, program, url, header) in [
            (
                "claude-code",
                "claude",
                "https://api.anthropic.com/",
                KeyHeader::XApiKey,
            ),
            (
                "codex",
                "codex",
                "https://api.openai.com/",
                KeyHeader::Bearer,
            ),
            (
                "opencode",
                "opencode",
                "https://api.openai.com/",
                KeyHeader::Bearer,
            ),
            (
                "aider",
                "aider",
                "https://api.openai.com/",
                KeyHeader::Bearer,
            ),
            (
                "gemini",
                "gemini",
                "https://generativelanguage.googleapis.com/",
                KeyHeader::XGoogApiKey,
            ),
        ] {
            let config = profiled(profile, model(Value::Null)).unwrap();
            let cli = config.cli().unwrap();
            assert_eq!(cli.command[0], program);
            assert!(cli.command.iter().any(|it| it.ends_with("m-1")), "{cli:?}");
            let asked = cli.model.as_ref().unwrap();
            assert_eq!((asked.url.as_str(), asked.header), (url, header));
            let faults = config.faults(&SandboxConfig::default());
            assert!(faults.first().is_none(), "{profile}");
        }
        let own = json!("http://127.0.0.1:8080/v1");
        let config = profiled("codex", model(own)).unwrap();
        let asked = config.cli().unwrap().model.as_ref().unwrap().url.clone();
        assert_eq!(asked.as_str(), "http://127.0.0.1:8080/");
        let section = json!({"mode": "cli", "profile": "codex", "command": ["/opt/codex", "--search"],
            "model": {"model": "m", "key": "k"}});
        let config: DraftConfig = serde_json::from_value(section).unwrap();
        let command = &config.cli().unwrap().command;
        assert_eq!(
            (command[0].as_str(), command.last().unwrap().as_str()),
            ("/opt/codex", "--search")
        );
    }

    #[test]
    fn what_a_profile_can_not_use_is_named() {
        for (profile, model, why) in [
            (
                "emacs",
                json!({"model": "m", "key": "k"}),
                "unknown variant `emacs`",
            ),
            ("codex", json!({"key": "k"}), "missing field `model.model`"),
            ("codex", json!({"model": "m"}), "missing field `model.key`"),
            (
                "codex",
                json!({"model": "m", "key": "k", "provider": "anthropic"}),
                "the profile `codex` can't use `provider = \"anthropic\"`; it takes openai",
            ),
            (
                "codex",
                json!({"model": "m", "key": "k", "window": 7}),
                "`model.window` is no field of the profile `codex`",
            ),
        ] {
            let error = profiled(profile, model).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let error = profiled("codex", Value::Null).unwrap_err();
        assert!(error.contains("missing field `model`"), "{error}");
    }

    fn tools(more: Value) -> Result<DraftConfig, String> {
        let mut section = json!({
            "mode": "tools",
            "model": {"provider": "anthropic", "model": "no-such-model", "key": "k"},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            section["model"][name] = value.clone();
        }
        let read = serde_json::from_value(section);
        read.map_err(|error: serde_json::Error| error.to_string())
    }

    #[test]
    fn a_model_of_tools_is_read_with_its_own_fields() {
        let Ok(DraftConfig::Tools(config)) = tools(json!({})) else {
            panic!("{:?}", tools(json!({})));
        };
        let model = &config.model;
        assert_eq!(
            (config.max_steps, model.max_output(), model.window()),
            (50, 16_000, 128_000)
        );
        for (more, error) in [
            (
                json!({"header": "bearer"}),
                "`model.header` is no field of the mode `tools`",
            ),
            (json!({"provider": "clippy"}), "unknown variant `clippy`"),
            (json!({"modell": "x"}), "unknown field `modell`"),
        ] {
            let found = tools(more).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
        let section = json!({"mode": "tools", "command": ["x"], "model": {}});
        let error = serde_json::from_value::<DraftConfig>(section).unwrap_err();
        assert!(
            error.to_string().contains("`command` is no field"),
            "{error}"
        );
        let section = json!({"mode": "cli", "command": ["x"], "model": {"provider": "ollama"}});
        let error = serde_json::from_value::<DraftConfig>(section).unwrap_err();
        assert!(
            error.to_string().contains("`model.provider` is no field"),
            "{error}"
        );
    }

    #[test]
    fn a_model_that_can_not_work_by_tools_is_refused_by_field() {
        let usual = SandboxConfig::default();
        for (more, fields) in [
            (json!({}), ""),
            (json!({"model": " "}), "draft.model.model"),
            (json!({"key": null}), "draft.model.key"),
            (json!({"key": null, "provider": "ollama"}), ""),
            (
                json!({"key": null, "url": "http://127.0.0.1:8080/v1", "provider": "openai-chat"}),
                "",
            ),
            (json!({"url": "http://10.0.0.1/v1"}), "draft.model.url"),
            (json!({"window": 16_000}), "draft.model.window"),
            (json!({"max_output": 100}), "draft.model.max_output"),
            (json!({"max_output": 100_000}), "draft.model.max_output"),
            (json!({"temperature": 3.0}), "draft.model.temperature"),
            (
                json!({"answer_timeout": "0s"}),
                "draft.model.answer_timeout",
            ),
        ] {
            let faults = tools(more.clone()).unwrap().faults(&usual);
            let blamed = faults
                .first()
                .map_or_else(String::new, |it| it.fields.join(" "));
            assert_eq!(blamed, fields, "{more}");
        }
    }

    #[test]
    fn a_model_of_diff_has_the_same_form_and_needs_less() {
        let read = |more: Value| {
            let mut section = json!({
                "mode": "diff",
                "model": {"provider": "ollama", "model": "small", "window": 8_000},
            });
            for (name, value) in more.as_object().into_iter().flatten() {
                section[name] = value.clone();
            }
            let read = serde_json::from_value::<DraftConfig>(section);
            read.map_err(|error| error.to_string())
        };
        let config = read(json!({})).unwrap();
        assert!(config.faults(&SandboxConfig::default()).first().is_none());
        let DraftConfig::Diff(diff) = &config else {
            panic!("{config:?}");
        };
        assert_eq!(diff.model.max_output(), 2_000);
        for (more, error) in [
            (
                json!({"max_steps": 3}),
                "`max_steps` is no field of the mode `diff`",
            ),
            (
                json!({"timeout": "1h"}),
                "`timeout` is no field of the mode `diff`",
            ),
            (
                json!({"command": ["x"]}),
                "`command` is no field of the mode `diff`",
            ),
        ] {
            let found = read(more).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
        let small = json!({"provider": "ollama", "model": "small", "window": 4_000});
        let faults = read(json!({"model": small})).unwrap();
        let faults = faults.faults(&SandboxConfig::default());
        let fault = faults.first().unwrap();
        assert_eq!(fault.fields, ["draft.model.window"]);
        assert!(
            fault
                .message
                .contains("4000 tokens, and the mode `diff` needs 8000"),
            "{fault:?}"
        );
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
