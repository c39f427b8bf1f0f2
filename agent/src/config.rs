//! An agent's section of the configuration, with its defaults.

mod draft;
mod model;
mod repositories;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use patchfleet_config::{Faults, HumanDuration, Rules, Secret};
use patchfleet_domain::{AgentId, AgentType, Capability, RepositoryName, SecurityLevel};
use serde::Deserialize;
use url::Url;

use crate::nodes::ChangeConfig;
use crate::sandbox::SandboxConfig;
use crate::setup::SetupConfig;
pub use draft::{CliDraftConfig, DiffDraftConfig, DraftConfig, ToolsDraftConfig};
use model::Purpose;
pub(crate) use model::known_model;
pub use model::{LanguageModelConfig, SecondModelConfig};
pub use repositories::RepositorySettings;

/// One of `[[agents]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Its name, unique in the fleet.
    pub id: AgentId,
    /// Its specialty.
    #[serde(rename = "type")]
    pub agent_type: AgentType,
    /// What it is good at; see [`Self::offered_capabilities`] for when it is empty.
    #[serde(default)]
    pub capabilities: BTreeSet<Capability>,
    /// How sensitive a task it may see.
    #[serde(default = "default_clearance")]
    pub clearance: SecurityLevel,
    /// How many tasks it runs at once.
    #[serde(default = "default_slots")]
    pub slots: u32,
    /// `[agents.coordinator]`.
    pub coordinator: CoordinatorAddress,
    /// `[agents.workspace]`.
    pub workspace: WorkspaceConfig,
    /// `[agents.draft]`.
    pub draft: DraftConfig,
    /// `[agents.review]`: a model that reviews what the rules let pass; rules alone when absent.
    #[serde(default)]
    pub review: Option<SecondModelConfig>,
    /// `[agents.summary]`: a model that puts changes into words; none when absent.
    #[serde(default)]
    pub summary: Option<SecondModelConfig>,
    /// `[agents.change]`.
    #[serde(default)]
    pub change: ChangeConfig,
    /// `[agents.sandbox]`.
    #[serde(default)]
    pub sandbox: SandboxConfig,
    /// `[agents.tests]`.
    #[serde(default)]
    pub tests: TestsConfig,
    /// `[agents.setup]`.
    #[serde(default)]
    pub setup: SetupConfig,
    /// `[[agents.repositories]]`.
    #[serde(default)]
    pub repositories: Vec<RepositorySettings>,
    /// `[agents.commit]`.
    #[serde(default)]
    pub commit: CommitConfig,
    /// `[agents.publish]`.
    #[serde(default)]
    pub publish: PublishConfig,
    /// How long running tasks may take to end when the agent is told to end.
    #[serde(default = "default_shutdown")]
    pub shutdown_deadline: HumanDuration,
    /// `[agents.http]`: the agent's own HTTP interface; none when absent.
    #[serde(default)]
    pub http: Option<HttpConfig>,
}

/// The agent's own HTTP interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where it listens; not encrypted, so best on the loopback.
    pub listen: SocketAddr,
    /// What callers have to show for anything but `/health`.
    pub key: Secret,
}

/// Where the coordinator is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorAddress {
    /// Its fleet address, `http://HOST:PORT`.
    pub url: Url,
    /// What it wants to know.
    pub key: Secret,
}

/// Where tasks are worked on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceConfig {
    /// The folder for everything the agent keeps.
    pub root: PathBuf,
    /// How long a finished task's workspace stays.
    #[serde(default = "default_retention")]
    pub retention: HumanDuration,
    /// How many MiB all workspaces, mirrors, templates and setup results may take; no limit when
    /// absent.
    pub max_disk_mib: Option<u64>,
    /// Work trees are overlays over check-outs that tasks share, where the host can do that.
    #[serde(default = "default_overlay")]
    pub overlay: bool,
}

/// How tests are run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestsConfig {
    /// The operator's command; stands above the repository's own.
    pub command: Option<Vec<String>>,
    /// The operator's timeout; stands above the repository's own.
    pub timeout: Option<HumanDuration>,
    /// Programs that tests may be run with, besides the usual ones.
    pub allowed_programs: Vec<String>,
}

/// Who commits are by, when the repository does not say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommitConfig {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

/// How pull requests are opened.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishConfig {
    /// As drafts.
    pub draft: bool,
}

/// What agents of the usual types are good at when their configuration does not say.
const USUAL_CAPABILITIES: &[(&str, &[&str])] = &[
    ("backend", &["python", "fastapi", "postgresql", "redis"]),
    ("frontend", &["typescript", "react", "css", "ui/ux"]),
    ("testing", &["pytest", "jest", "selenium", "qa"]),
    ("devops", &["docker", "ansible", "github actions"]),
    ("database", &["postgresql", "redis", "migration"]),
    (
        "security",
        &[
            "authentication",
            "authorization",
            "vulnerability inspection",
        ],
    ),
    ("documentation", &["markdown", "api doc", "tutorial"]),
];

impl AgentConfig {
    /// What the agent says it is good at: what is configured, else what is usual for its type.
    pub fn offered_capabilities(&self) -> BTreeSet<Capability> {
        if !self.capabilities.is_empty() {
            return self.capabilities.clone();
        }
        let usual = USUAL_CAPABILITIES
            .iter()
            .find(|(name, _)| *name == self.agent_type.as_str());
        let words = usual.map_or(&[] as &[&str], |(_, words)| words);
        words.iter().copied().map(Capability::from).collect()
    }
}

impl AgentConfig {
    /// What is configured for one repository.
    pub fn repository(&self, name: &RepositoryName) -> Option<&RepositorySettings> {
        self.repositories.iter().find(|it| &it.name == name)
    }
}

impl Rules for AgentConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        let slots = self.slots > 0;
        faults.rule(
            slots,
            &["slots"],
            "the agent could take no task; write 1 or more",
        );
        let url = &self.coordinator.url;
        faults.rule(
            matches!(url.scheme(), "http" | "https") && url.host().is_some(),
            &["coordinator.url"],
            "write `http://HOST:PORT`, the address of coordinator.fleet.listen",
        );
        faults.rule(
            self.workspace.max_disk_mib != Some(0),
            &["workspace.max_disk_mib"],
            "there is no room for a workspace; leave it out for no limit",
        );
        faults.section("sandbox", self.sandbox.faults());
        faults.all(self.draft.faults(&self.sandbox));
        for (section, config, purpose) in [
            ("review", &self.review, Purpose::Review),
            ("summary", &self.summary, Purpose::Summary),
        ] {
            if let Some(config) = config {
                faults.section(section, config.faults(purpose));
            }
        }
        faults.section("change", self.change.faults());
        faults.section("setup", self.setup.faults());
        faults.section("repositories", repositories::faults(&self.repositories));
        let tests = &self.tests;
        let program = tests.command.as_ref().is_none_or(|it| !it.is_empty());
        faults.rule(program, &["tests.command"], "the program is missing");
        let time = tests.timeout.is_none_or(|it| !it.0.is_zero());
        faults.rule(time, &["tests.timeout"], "there is no time for tests");
        faults
    }
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self {
            name: "Patchfleet".to_owned(),
            email: "patchfleet@users.noreply.github.com".to_owned(),
        }
    }
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self { draft: true }
    }
}

const fn default_clearance() -> SecurityLevel {
    SecurityLevel::Internal
}

const fn default_slots() -> u32 {
    2
}

const fn default_retention() -> HumanDuration {
    HumanDuration::from_secs(7 * 24 * 3600)
}

const fn default_overlay() -> bool {
    true
}

const fn default_shutdown() -> HumanDuration {
    HumanDuration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::CloneMode;
    use serde_json::json;

    fn config(more: serde_json::Value) -> Result<AgentConfig, serde_json::Error> {
        let mut config = json!({
            "id": "backend-1",
            "type": "backend",
            "coordinator": {"url": "http://127.0.0.1:7070", "key": "k"},
            "workspace": {"root": "work"},
            "draft": {"mode": "cli", "command": ["tool", "--now"]},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        serde_json::from_value(config)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let config = config(json!({})).unwrap();
        assert_eq!(
            (config.slots, config.clearance),
            (2, SecurityLevel::Internal)
        );
        assert_eq!(config.workspace.retention.to_string(), "7d");
        assert_eq!(config.draft.program(), Some("tool"));
        assert!(config.publish.draft && config.http.is_none());
    }

    #[test]
    fn capabilities_are_those_of_the_type_unless_said() {
        let usual = config(json!({})).unwrap().offered_capabilities();
        assert!(usual.contains(&"postgresql".into()) && usual.len() == 4);
        let said = config(json!({"capabilities": ["Rust"]})).unwrap();
        assert_eq!(said.offered_capabilities(), ["rust".into()].into());
        let own = config(json!({"type": "games"})).unwrap();
        assert_eq!(own.offered_capabilities(), BTreeSet::new());
    }

    #[test]
    fn a_misspelt_field_is_an_error() {
        let error = config(json!({"slot": 3})).unwrap_err().to_string();
        assert!(error.contains("unknown field `slot`"), "{error}");
        let error = config(json!({"http": {"listen": "127.0.0.1:0"}})).unwrap_err();
        assert!(error.to_string().contains("missing field `key`"), "{error}");
    }

    #[test]
    fn limits_of_a_change_are_possible_ones() {
        let of = |change: serde_json::Value| config(json!({"change": change})).unwrap().faults();
        assert!(
            of(json!({"max_files": 3000, "max_kib": 8192}))
                .first()
                .is_none()
        );
        for change in [json!({"max_files": 0}), json!({"max_kib": 8193})] {
            assert!(of(change).first().is_some());
        }
    }

    #[test]
    fn a_repository_has_settings_of_its_own_once() {
        let entry = |name: &str| json!({"name": name, "clone": "blobless"});
        let entries = json!({"repositories": [entry("acme/Huge"), entry("acme/other")]});
        let config_of_two = config(entries).unwrap();
        assert!(config_of_two.faults().first().is_none());
        let found = config_of_two.repository(&"acme/huge".parse().unwrap());
        assert_eq!(found.unwrap().clone, CloneMode::Blobless);
        let unnamed = config_of_two.repository(&"acme/small".parse().unwrap());
        assert_eq!(unnamed, None);
        let entries = json!({"repositories": [entry("acme/huge"), entry("ACME/huge")]});
        assert!(config(entries).unwrap().faults().first().is_some());
        for (extra, is_right) in [("lfs", true), ("submodules", true), ("hosts", false)] {
            let mut entry = json!({"name": "acme/media", "hosts": ["github"]});
            if is_right {
                entry[extra] = json!(true);
            }
            let faults = config(json!({"repositories": [entry]})).unwrap().faults();
            assert_eq!(faults.first().is_none(), is_right, "{extra}");
        }
        let unknown = config(json!({"repositories": [{"name": "acme/a", "depth": 1}]}));
        assert!(unknown.is_err());
    }

    #[test]
    fn second_models_have_the_form_of_the_one_that_drafts() {
        let of = |review: serde_json::Value| config(json!({"review": {"model": review}}));
        let right = json!({"provider": "openai", "model": "gpt-5.4-mini", "key": "k"});
        let both = json!({"review": {"model": right}, "summary": {"model": right}});
        assert!(config(both).unwrap().faults().first().is_none());
        let none = config(json!({})).unwrap();
        assert!(none.review.is_none() && none.summary.is_none());
        for (model, field, words) in [
            (
                json!({"provider": "openai", "model": "gpt-5.4-mini"}),
                "review.model.key",
                "wants a key",
            ),
            (
                json!({"provider": "ollama", "model": "small", "window": 2048}),
                "review.model.window",
                "2048 tokens, and a review needs 8000",
            ),
        ] {
            let faults = of(model).unwrap().faults();
            let fault = faults.first().unwrap();
            assert_eq!(fault.fields, [field]);
            assert!(fault.message.contains(words), "{fault:?}");
        }
        let error = of(json!({"provider": "openai", "modell": "x"})).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `modell`"),
            "{error}"
        );
        let error = config(json!({"review": {}})).unwrap_err();
        assert!(
            error.to_string().contains("missing field `model`"),
            "{error}"
        );
    }

    #[test]
    fn the_key_is_not_shown() {
        let config = config(json!({"coordinator": {"url": "http://h", "key": "hush-hush"}}));
        assert!(!format!("{:?}", config.unwrap()).contains("hush-hush"));
    }
}
