//! Acting as the maintainer, and waiting for what comes of it.

use std::path::PathBuf;
use std::time::Duration;

use patchfleet_domain::{Task, TaskState};
use patchfleet_testkit::github::{Comment, Issue};
use serde_json::Value;

use super::{MAINTAINER, REPOSITORY, World, settings};

/// How long anything may take on a machine that is busy with other tests.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// Where the usual agent has its tasks.
const WORK_TREES: &str = "workspaces/general-1/tasks";
/// How often is looked where nothing tells of a change.
pub(super) const LOOK: Duration = Duration::from_millis(15);
/// What a task's status comment is known by.
const STATUS_MARK: &str = "<!-- patchfleet:task:";

impl World {
    /// Opens the sample's issue without a trigger.
    pub(crate) fn open(&self) -> u64 {
        let (title, body) = settings::issue();
        let opened = self
            .github
            .open_issue(REPOSITORY, MAINTAINER, &title, &body, &[]);
        opened.unwrap()
    }

    /// The maintainer labels the issue, which starts the work.
    pub(crate) fn label(&self, issue: u64) {
        let labelled = self
            .github
            .add_label(REPOSITORY, MAINTAINER, issue, "patchfleet");
        labelled.unwrap();
    }

    /// The maintainer writes a comment.
    pub(crate) fn say(&self, issue: u64, text: &str) {
        self.github
            .comment(REPOSITORY, MAINTAINER, issue, text)
            .unwrap();
    }

    /// A file of the sample's branch, once it is merged.
    pub(crate) fn merged(&self, path: &str) -> Option<String> {
        let file = self.github.file(REPOSITORY, "main", path).unwrap();
        file.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// What looked for the model's key in the draft's sandbox looked at something and found none.
    pub(crate) fn no_key_was_seen(&self) {
        let seen = self.merged("orders/seen.txt");
        assert_eq!(seen.as_deref(), Some("0 keys, True\n"));
    }

    /// Looks until something is there.
    pub(crate) async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(self.plan.patience, search).await.ok() {
            Some(found) => found,
            None => panic!("waited in vain for {what}; {}", self.story().await),
        }
    }

    /// Everything that helps to see why a test failed.
    async fn story(&self) -> String {
        let read = |name: &str| {
            let text = std::fs::read_to_string(self.folder().join(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(25).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        format!(
            "tasks: {:#?}\n--- coordinator\n{}\n--- agent\n{}",
            self.tasks().await,
            read("coordinator.log"),
            read("agent.log"),
        )
    }

    /// A document of the API; none while the coordinator is away.
    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        let client = reqwest::Client::new();
        let request = client.get(self.api_url(path)).bearer_auth(&self.keys.api);
        request.send().await.ok()?.json().await.ok()
    }

    /// The coordinator's metrics, as Prometheus gets them.
    pub(crate) async fn metrics(&self) -> String {
        scraped(self.api_url("metrics"), &self.keys.api).await
    }

    /// The agent's metrics.
    pub(crate) async fn agent_metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.agent_address());
        scraped(url, &self.keys.http).await
    }

    /// All tasks, newest first; none while the coordinator is away.
    pub(crate) async fn tasks(&self) -> Vec<Task> {
        let list = self.get("api/v1/tasks").await.unwrap_or_default();
        serde_json::from_value(list["tasks"].clone()).unwrap_or_default()
    }

    /// Waits until the newest task is in a state.
    pub(crate) async fn task_in(&self, state: TaskState) -> Task {
        let look = async || {
            let newest = self.tasks().await.into_iter().next()?;
            (newest.state == state).then_some(newest)
        };
        self.eventually(&format!("a task that is {state}"), look)
            .await
    }

    /// Waits until the agent is known to be connected and idle.
    pub(crate) async fn idle_agent(&self) {
        let look = async || {
            let list = self.get("api/v1/agents").await?;
            let idle = |agent: &Value| agent["state"] == "idle";
            list["agents"].as_array()?.iter().any(idle).then_some(())
        };
        self.eventually("an idle agent", look).await;
    }

    /// Waits until the issue's status comment says something, and gives it.
    pub(crate) async fn status_says(&self, issue: u64, text: &str) -> String {
        let look = async || {
            let comments = self.status_comments(issue);
            let newest = comments.into_iter().next_back()?;
            newest.body.contains(text).then_some(newest.body)
        };
        self.eventually(&format!("a status comment with {text:?}"), look)
            .await
    }

    /// Waits until the issue has this label of ours, and no other.
    pub(crate) async fn has_label(&self, issue: u64, expected: &str) {
        let look = async || {
            let labels = self.github.labels(REPOSITORY, issue).unwrap();
            let own = labels.iter().filter(|it| it.starts_with("patchfleet:"));
            own.eq([expected]).then_some(())
        };
        self.eventually(expected, look).await;
    }

    /// All status comments of an issue.
    pub(crate) fn status_comments(&self, issue: u64) -> Vec<Comment> {
        let mut comments = self.github.comments(REPOSITORY, issue).unwrap();
        comments.retain(|comment| comment.body.contains(STATUS_MARK));
        comments
    }

    /// Waits for the pull request that is ready for review.
    pub(crate) async fn pull_request(&self) -> Issue {
        self.task_in(TaskState::Review).await;
        let pulls = self.github.pulls(REPOSITORY).unwrap();
        assert_eq!(pulls.len(), 1, "{pulls:#?}");
        pulls.into_iter().next().unwrap()
    }

    /// The maintainer merges, and the issue tells that all is done; nothing is there twice.
    pub(crate) async fn merge_and_check(&self, issue: u64) {
        let pull = self.pull_request().await;
        self.github
            .merge_pull(REPOSITORY, MAINTAINER, pull.number)
            .unwrap();
        let task = self.task_in(TaskState::Completed).await;
        assert!(task.pull_request.unwrap().merged);
        self.status_says(issue, "Patchfleet: done").await;
        let look = async || {
            let labels = self.github.labels(REPOSITORY, issue).unwrap();
            labels
                .iter()
                .any(|it| it == "patchfleet:done")
                .then_some(())
        };
        self.eventually("the label patchfleet:done", look).await;
        assert_eq!(self.tasks().await.len(), 1);
        assert_eq!(self.github.pulls(REPOSITORY).unwrap().len(), 1);
        assert_eq!(self.status_comments(issue).len(), 1);
    }

    /// Waits until a command in a work tree says that it has begun, by a file of this name.
    pub(crate) async fn begun(&self, name: &str) {
        let look = async || {
            let mut trees = self.work_trees().into_iter();
            trees.any(|tree| tree.join(name).exists()).then_some(())
        };
        self.eventually(name, look).await;
    }

    /// Lets all commands go on that began in a work tree and wait for a file `go` in their home;
    /// never ends. What is written to the work tree itself they need not see: it may be an overlay.
    pub(crate) async fn let_pass(&self) {
        loop {
            for tree in self.work_trees() {
                for home in ["../tests/home", "../implementation/setup/home"] {
                    // It may be cleared away meanwhile, or not be there yet.
                    let _ = std::fs::write(tree.join(home).join("go"), "");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn work_trees(&self) -> Vec<PathBuf> {
        let tasks = std::fs::read_dir(self.folder().join(WORK_TREES));
        let tasks = tasks.into_iter().flatten().flatten();
        let trees = tasks.map(|task| task.path().join("repo-clone"));
        trees.filter(|tree| has_begun(tree)).collect()
    }

    /// A gate in the way of the draft command, until it is opened.
    pub(crate) fn draft_gate(&self) -> DraftGate {
        let path = self.draft_folder().join("gate");
        std::fs::write(&path, "").unwrap();
        DraftGate(path)
    }

    /// Waits until a draft command runs.
    pub(crate) async fn drafting(&self) {
        let look = async || (self.drafts() > 0).then_some(());
        self.eventually("a draft", look).await;
    }
}

/// Holds the draft command up.
pub(crate) struct DraftGate(PathBuf);

impl DraftGate {
    /// Lets the command that waits, and all later ones, go on.
    pub(crate) fn open(self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// A command said so.
fn has_begun(tree: &std::path::Path) -> bool {
    let names = std::fs::read_dir(tree).into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| name.starts_with("begun-"))
}

async fn scraped(url: String, key: &str) -> String {
    let request = reqwest::Client::new().get(url).bearer_auth(key);
    let answer = request.send().await.unwrap().error_for_status().unwrap();
    let kind = answer.headers()["content-type"].clone();
    assert!(kind.to_str().unwrap().contains("version=0.0.4"), "{kind:?}");
    answer.text().await.unwrap()
}
