//! The scene: a simulated GitHub with people, a repository and an issue to open.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use patchfleet_coordinator::report::status_label;
use patchfleet_domain::{IssueNumber, RepositoryName, TaskState};
use patchfleet_testkit::github::{Attempt, Delivery, Permission, RequestRecord, Simulator};
use rust_embed::Embed;
use secrecy::SecretString;
use serde_json::Value;

use crate::demo::DemoArgs;
use crate::demo::fleet::Fleet;

/// The sample repository, its issue, the recorded answer and the script of the simulated model.
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
/// How long the coordinator may take to tell the end.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let mut issue = issue_payload(args)?;
        remove_trigger(&mut issue);
        let repository = repository_name(&issue)?;
        match &args.repository {
            Some(origin) => github
                .import_repository(repository.as_str(), &absolute(origin))
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

    /// An error when the delivery of this event and action did not make the coordinator act; of
    /// labels, only the one that starts the work is meant to.
    pub(super) fn check_delivery(&self, (event, action): (&str, &str)) -> anyhow::Result<()> {
        let is_meant = |delivery: &Delivery| {
            let is_cause = delivery.event == event && delivery.action.as_deref() == Some(action);
            let label = || delivery.payload()["label"]["name"] == TRIGGER;
            is_cause && (action != "labeled" || label())
        };
        for delivery in self.github.deliveries().iter().filter(|it| is_meant(it)) {
            if let Some(reason) = delivery.attempts.last().and_then(why_nothing) {
                anyhow::bail!(
                    "the coordinator did nothing about the delivery `{event}` ({action}): {reason}"
                );
            }
        }
        Ok(())
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

    /// Waits until the issue says how the task ended, which is the last that is told of it. A coordinator
    /// that is slow to tell has done its work all the same.
    pub(super) async fn told(&self, issue: IssueNumber) {
        let repository = self.repository.as_str();
        let label = status_label(TaskState::Completed);
        let is_told = |github: &Simulator| {
            let labels = github.labels(repository, issue.0).ok()?;
            let found = labels.iter().any(|it| Some(it.as_str()) == label);
            found.then_some(())
        };
        let what = "the issue says that it is done";
        let told = self.github.until(what, PATIENCE, is_told).await;
        if let Err(error) = told {
            tracing::warn!(%error, "the demo ends all the same");
        }
    }

    /// How many requests for the task counted against the hour's limit. Each start of a coordinator makes
    /// one more, to know as whom it acts.
    pub(super) fn requests(&self) -> usize {
        let counts = |it: &&RequestRecord| {
            let of_task = it.path.starts_with("/repos/") && !it.path.contains(".git/");
            of_task && it.status != Some(304)
        };
        self.github.requests().iter().filter(counts).count()
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
        None => (sample("issue.json")?, "the sample".to_owned()),
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

/// A file of the sample.
pub(super) fn sample(name: &str) -> anyhow::Result<String> {
    let file = Sample::get(name).with_context(|| format!("the sample has no {name}"))?;
    Ok(String::from_utf8(file.data.into_owned())?)
}

/// Why a delivery led to nothing; none when it led to something.
fn why_nothing(attempt: &Attempt) -> Option<String> {
    let answer: Value = serde_json::from_str(&attempt.answer).unwrap_or_default();
    let word = |field: &str| answer[field].as_str().map(str::to_owned);
    match attempt.status {
        None => Some("it did not answer; see coordinator.log".to_owned()),
        Some(202) if answer["outcome"] == "ignored" => {
            Some(word("reason").unwrap_or_else(|| "ignored".to_owned()))
        }
        Some(202) if answer["tasks"].as_array().is_some_and(Vec::is_empty) => {
            Some("it led to no task".to_owned())
        }
        Some(202) => None,
        Some(status) => Some(word("detail").unwrap_or_else(|| format!("HTTP status {status}"))),
    }
}

/// Takes the label off that is put on later: a label that is there already tells nobody.
fn remove_trigger(payload: &mut Value) {
    if let Some(labels) = payload["issue"]["labels"].as_array_mut() {
        labels.retain(|label| {
            let name = label["name"].as_str().or(label.as_str());
            !name.is_some_and(|name| name.eq_ignore_ascii_case(TRIGGER))
        });
    }
}

/// A path, wherever git is run, or any other address as it is.
fn absolute(origin: &str) -> String {
    match Path::new(origin).canonicalize() {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => origin.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attempt(status: Option<u16>, answer: &Value) -> Attempt {
        Attempt {
            id: 1,
            at: chrono::Utc::now(),
            status,
            answer: answer.to_string(),
            duration: std::time::Duration::ZERO,
            redelivery: false,
        }
    }

    #[test]
    fn a_delivery_that_led_to_nothing_says_why() {
        let acted = json!({"outcome": "acted", "tasks": ["1"]});
        assert_eq!(why_nothing(&attempt(Some(202), &acted)), None);
        for (status, answer, expected) in [
            (
                Some(202),
                json!({"outcome": "ignored", "reason": "no trigger", "tasks": []}),
                "no trigger",
            ),
            (
                Some(202),
                json!({"outcome": "acted", "tasks": []}),
                "no task",
            ),
            (
                Some(503),
                json!({"detail": "The database is unavailable"}),
                "database",
            ),
            (Some(500), Value::Null, "500"),
            (None, Value::Null, "did not answer"),
        ] {
            let why = why_nothing(&attempt(status, &answer)).unwrap();
            assert!(why.contains(expected), "{why}");
        }
    }
}
