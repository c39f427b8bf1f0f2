//! The scene: a simulated GitHub with people, a repository and an issue to open.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use patchfleet_domain::RepositoryName;
use patchfleet_testkit::github::{Permission, Simulator};
use rust_embed::Embed;
use secrecy::SecretString;
use serde_json::Value;

use crate::demo::DemoArgs;
use crate::demo::fleet::Fleet;

/// The sample repository, its issue and the recorded answer.
#[derive(Embed)]
#[folder = "../tests/kit/sample"]
#[exclude = "**/__pycache__/*"]
struct Sample;

/// Who labels and merges.
const MAINTAINER: &str = "maintainer";
/// Whose token the coordinator has.
const BOT: &str = "patchfleet-bot";
/// What starts the work.
const TRIGGER: &str = "patchfleet";

/// Everything that is there before the fleet starts.
#[derive(Debug)]
pub(super) struct Scene {
    folder: Folder,
    github: Simulator,
    repository: RepositoryName,
    issue: Value,
    token: SecretString,
}

/// The demo's folder: removed at the end unless it is to be kept.
#[derive(Debug)]
enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Scene {
    /// Starts the simulated GitHub and fills it.
    pub(super) async fn set(args: &DemoArgs) -> anyhow::Result<Self> {
        let folder = Folder::make(args.keep)?;
        let github = Simulator::start().await?;
        let issue = issue_payload(args)?;
        let repository = repository_name(&issue)?;
        match &args.repository {
            Some(origin) => github
                .import_repository(repository.as_str(), origin)
                .with_context(|| format!("can't take over the repository {origin}"))?,
            None => {
                let source = folder.path().join("sample");
                extract("repository/", &source)?;
                github.create_repository(repository.as_str(), &source)?;
            }
        }
        for (login, permission) in [(MAINTAINER, Permission::Admin), (BOT, Permission::Write)] {
            github.add_user(login);
            github.set_permission(repository.as_str(), login, permission)?;
        }
        let token = github.issue_token(BOT).into();
        let scene = Self {
            folder,
            github,
            repository,
            issue,
            token,
        };
        scene.install_answers()?;
        Ok(scene)
    }

    /// Has GitHub send its deliveries to the coordinator.
    pub(super) fn connect(&self, fleet: &Fleet) {
        self.github
            .add_webhook(&fleet.webhook_url(), fleet.webhook_secret());
    }

    /// Opens the issue; then the maintainer labels it, which starts the work.
    pub(super) fn open_issue(&self) -> anyhow::Result<u64> {
        let repository = self.repository.as_str();
        let number = self.github.inject_issue(repository, &self.issue)?;
        self.github
            .add_label(repository, MAINTAINER, number, TRIGGER)?;
        Ok(number)
    }

    /// The maintainer merges.
    pub(super) fn merge(&self, number: u64) -> anyhow::Result<()> {
        self.github
            .merge_pull(self.repository.as_str(), MAINTAINER, number)?;
        Ok(())
    }

    /// The pull request's change.
    pub(super) fn diff(&self, number: u64) -> anyhow::Result<String> {
        self.github.pull_diff(self.repository.as_str(), number)
    }

    /// The pull request as GitHub has it.
    pub(super) fn pull(
        &self,
        number: u64,
    ) -> anyhow::Result<Option<patchfleet_testkit::github::Issue>> {
        let pulls = self.github.pulls(self.repository.as_str())?;
        Ok(pulls.into_iter().find(|pull| pull.number == number))
    }

    /// Ends the simulated GitHub.
    pub(super) async fn leave(self) {
        self.github.shutdown().await;
    }

    /// `owner/name`.
    pub(super) const fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Root of the simulated REST API.
    pub(super) fn api_url(&self) -> &str {
        self.github.base_url()
    }

    /// The coordinator's token.
    pub(super) fn bot_token(&self) -> SecretString {
        self.token.clone()
    }

    /// Where everything of this run lies.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the recorded answers lie.
    pub(super) fn answers(&self) -> PathBuf {
        self.folder().join("answers")
    }

    /// Lays the recorded answer where the agent looks for it.
    fn install_answers(&self) -> anyhow::Result<()> {
        let text = |field: &str| self.issue["issue"][field].as_str().unwrap_or_default();
        let fingerprint = patchfleet_agent::fingerprint(text("title"), text("body"));
        extract("answers/", &self.answers().join(fingerprint))
    }
}

impl Folder {
    fn make(keep: bool) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("patchfleet-demo-")
            .tempdir()
            .context("can't make a temporary folder")?;
        Ok(if keep {
            Self::Kept(folder.keep())
        } else {
            Self::Temporary(folder)
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// The issue's payload: the user's file, or the sample's.
fn issue_payload(args: &DemoArgs) -> anyhow::Result<Value> {
    let (text, origin) = match &args.issue {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("can't read the issue {}", file.display()))?;
            (text, file.display().to_string())
        }
        None => {
            let file = Sample::get("issue.json").context("the sample has no issue")?;
            (
                String::from_utf8(file.data.into_owned())?,
                "the sample".to_owned(),
            )
        }
    };
    let payload: Value =
        serde_json::from_str(&text).with_context(|| format!("{origin} is not valid JSON"))?;
    for field in ["title", "number"] {
        if payload["issue"][field].is_null() {
            anyhow::bail!(
                "{origin}: field `issue.{field}` is missing; give the payload of an `issues` webhook"
            );
        }
    }
    Ok(payload)
}

/// The repository that the payload names.
fn repository_name(payload: &Value) -> anyhow::Result<RepositoryName> {
    let name = payload["repository"]["full_name"]
        .as_str()
        .unwrap_or("acme/demo");
    name.parse()
        .context("field `repository.full_name` of the issue's payload")
}

/// Writes the embedded files below `prefix` into a folder.
fn extract(prefix: &str, folder: &Path) -> anyhow::Result<()> {
    for name in Sample::iter() {
        let Some(relative) = name.strip_prefix(prefix) else {
            continue;
        };
        let path = folder.join(relative);
        let file = Sample::get(&name).context("an embedded file is missing")?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, file.data)
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}
