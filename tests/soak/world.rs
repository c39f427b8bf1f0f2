//! The fleet, what a maintainer does to its issues, and what must be true when all is over.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use patchfleet_testkit::github::{Options, Permission, Simulator};
use patchfleet_testkit::postgres::Database;
use patchfleet_testkit::process::{Process, Ready, Start};
use patchfleet_testkit::redis::Redis;
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) const REPOSITORY: &str = "acme/notes";
const MAINTAINER: &str = "maintainer";
const KEY: &str = "a-key-of-the-soak-test";
/// A hundredth of the default, for a machine that does nothing else.
const LEASE: Duration = Duration::from_millis(300);
/// The same beside other tests, which may keep an agent from its heartbeats for a while.
const LEASE_IN_COMPANY: Duration = Duration::from_millis(1500);
/// How long a finished task is kept, in the store and in workspaces.
const RETENTION: Duration = Duration::from_secs(10);
/// How long anything may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);
const STATUS_MARK: &str = "<!-- patchfleet:task:";

/// How a round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The pull request is merged.
    Merged,
    /// It is closed without a merge.
    Unmerged,
    /// `/patchfleet cancel` while the draft is written.
    Cancelled,
    /// The issue is closed while the draft is written.
    Closed,
    /// The change breaks the tests in each of its rounds.
    Failed,
}

impl Ending {
    pub(crate) const ALL: [Self; 5] = [
        Self::Merged,
        Self::Cancelled,
        Self::Unmerged,
        Self::Closed,
        Self::Failed,
    ];

    /// What the issue tells the draft command to do.
    const fn title(self) -> &'static str {
        match self {
            Self::Merged | Self::Unmerged => "write",
            Self::Cancelled | Self::Closed => "linger",
            Self::Failed => "spoil",
        }
    }

    const fn state(self) -> &'static str {
        match self {
            Self::Merged => "completed",
            Self::Unmerged | Self::Failed => "failed",
            Self::Cancelled | Self::Closed => "cancelled",
        }
    }

    /// The label that is left on the issue.
    const fn label(self) -> Option<&'static str> {
        match self {
            Self::Merged => Some("patchfleet:done"),
            Self::Unmerged | Self::Failed => Some("patchfleet:failed"),
            Self::Cancelled | Self::Closed => None,
        }
    }
}

/// The draft command: talkative, and obedient to the title of the issue.
const DRAFT: &str = r#"
seq 1 3000 | sed 's/^/a line of output that nobody reads: /'
mkdir -p notes && date +%N > "notes/of second $(date +%S).md"
mkdir -p locked && touch locked/file && chmod 500 locked
case "$(cat "$PATCHFLEET_REQUEST_FILE")" in
*linger*) sleep 60 & sleep 60 ;;
*spoil*) printf 'def f(:\n' > test_notes.py ;;
esac
"#;

pub(crate) struct World {
    github: Simulator,
    pub(crate) database: Database,
    redis: Redis,
    issues: Vec<u64>,
    pub(crate) coordinator: Process,
    pub(crate) agents: Vec<Process>,
    ready: Ready,
    http: reqwest::Client,
    folder: tempfile::TempDir,
}

impl World {
    /// A fleet that has the machine for itself, or shares it.
    pub(crate) async fn start(is_alone: bool) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("patchfleet-soak-")
            .tempdir()
            .unwrap();
        // The limit of an hour is the subject of other tests.
        let github = Simulator::start_with(Options {
            rate_limit: 1_000_000,
            ..Options::default()
        });
        let github = github.await.unwrap();
        let seed = folder.path().join("seed");
        std::fs::create_dir_all(&seed).unwrap();
        std::fs::write(seed.join("README.md"), "# Notes\n").unwrap();
        std::fs::write(seed.join("test_notes.py"), TEST).unwrap();
        let config = "test: python3 -m unittest -v\n";
        std::fs::write(seed.join(".patchfleet.yaml"), config).unwrap();
        github.create_repository(REPOSITORY, &seed).unwrap();
        github
            .set_permission(REPOSITORY, MAINTAINER, Permission::Admin)
            .unwrap();
        let database = Database::create().await.unwrap();
        let redis = Redis::start().await.unwrap();
        let secrets = secrets(&github, &database, &redis);
        let config = write(
            folder.path(),
            "coordinator",
            &coordinator(&github, if is_alone { LEASE } else { LEASE_IN_COMPANY }),
        );
        let mut coordinator = process(folder.path(), "coordinator", &config, secrets);
        let ready = coordinator.ready().await.unwrap();
        let mut world = Self {
            github,
            database,
            redis,
            issues: Vec::new(),
            coordinator,
            agents: Vec::new(),
            ready,
            http: reqwest::Client::new(),
            folder,
        };
        world.agents = vec![world.agent(0), world.agent(1)];
        let url = format!("http://{}/webhooks/github", ready.http);
        world.github.add_webhook(&url, KEY);
        world
    }

    /// The folder of all agents.
    pub(crate) fn workspaces(&self) -> std::path::PathBuf {
        self.folder.path().join("workspaces")
    }

    fn agent(&self, number: usize) -> Process {
        let name = format!("agent-{number}");
        let millis = |of: Duration| format!("{}ms", of.as_millis());
        let tree = json!({"agents": [{
            "id": name,
            "type": "general",
            "coordinator": {"url": format!("http://{}", self.ready.fleet), "key": {"env": "SOAK_KEY"}},
            "workspace": {"root": self.workspaces(), "retention": millis(RETENTION)},
            "draft": {"mode": "cli", "command": ["sh", "-c", DRAFT]},
        }]});
        let config = write(self.folder.path(), &name, &tree);
        let secrets = secrets(&self.github, &self.database, &self.redis);
        process(self.folder.path(), &name, &config, secrets)
    }

    pub(crate) async fn restart_second_agent(&mut self) {
        self.agents.pop().unwrap().end().await.unwrap();
        self.agents.push(self.agent(1));
    }

    /// One issue from its opening to its end; says how long that took.
    pub(crate) async fn round(&mut self, ending: Ending) -> Duration {
        let begun = Instant::now();
        let (title, body) = (ending.title(), "Please.");
        let issue = self
            .github
            .open_issue(REPOSITORY, MAINTAINER, title, body, &["patchfleet"])
            .unwrap();
        self.issues.push(issue);
        match ending {
            Ending::Merged => {
                let pull = self.pull_request(issue).await;
                self.github
                    .merge_pull(REPOSITORY, MAINTAINER, pull)
                    .unwrap();
            }
            Ending::Unmerged => {
                let pull = self.pull_request(issue).await;
                self.github
                    .close_pull(REPOSITORY, MAINTAINER, pull)
                    .unwrap();
            }
            Ending::Cancelled => {
                self.in_state(issue, "in_progress").await;
                self.github
                    .comment(REPOSITORY, MAINTAINER, issue, "/patchfleet cancel")
                    .unwrap();
            }
            Ending::Closed => {
                self.in_state(issue, "in_progress").await;
                self.github
                    .close_issue(REPOSITORY, MAINTAINER, issue)
                    .unwrap();
            }
            Ending::Failed => {}
        }
        self.in_state(issue, ending.state()).await;
        let look = async || {
            let labels = self.github.labels(REPOSITORY, issue).unwrap();
            let own = labels.into_iter().find(|it| it.starts_with("patchfleet:"));
            (own.as_deref() == ending.label()).then_some(())
        };
        self.eventually(&format!("the label of issue {issue} ({ending:?})"), look)
            .await;
        begun.elapsed()
    }

    async fn pull_request(&self, issue: u64) -> u64 {
        let task = self.in_state(issue, "review").await;
        task["pull_request"]["number"].as_u64().unwrap()
    }

    async fn in_state(&self, issue: u64, state: &str) -> Value {
        let look = async || {
            let tasks = self.tasks().await?;
            let of_issue = |task: &&Value| task["issue"] == issue;
            let task = tasks.as_array()?.iter().find(of_issue)?.clone();
            (task["state"] == state).then_some(task)
        };
        self.eventually(&format!("issue {issue} to be {state}"), look)
            .await
    }

    /// The newest tasks.
    async fn tasks(&self) -> Option<Value> {
        let url = format!("http://{}/api/v1/tasks", self.ready.http);
        let answer = self.http.get(url).bearer_auth(KEY).send().await.ok()?;
        let mut list: Value = answer.json().await.ok()?;
        Some(list["tasks"].take())
    }

    async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        if let Ok(found) = tokio::time::timeout(PATIENCE, search).await {
            return found;
        }
        panic!(
            "there was never {what}: {:#?}\n{}",
            self.tasks().await,
            self.logs()
        )
    }

    /// The ends of the logs.
    fn logs(&self) -> String {
        let end = |name| {
            let log = self.folder.path().join(format!("{name}.log"));
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(30).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        ["coordinator", "agent-0", "agent-1"]
            .map(end)
            .join("\n---\n")
    }

    /// What is over is removed everywhere once it was kept for long enough.
    pub(crate) async fn nothing_is_left(&self) {
        let left = async || {
            let mut rows = self.database.row_counts().await.unwrap();
            rows.retain(|table, rows| RETIRED.contains(&table.as_str()) && *rows > 0);
            (rows, self.kept_workspaces())
        };
        let gone = async {
            while left().await != (BTreeMap::new(), 0) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let all_gone = tokio::time::timeout(PATIENCE, gone).await.is_ok();
        let (rows, workspaces) = left().await;
        assert!(
            all_gone,
            "what is over stays: {rows:?}, {workspaces} workspaces\n{}",
            self.logs()
        );
    }

    fn kept_workspaces(&self) -> usize {
        let agents = (0..2).map(|number| self.workspaces().join(format!("agent-{number}/tasks")));
        let entries = agents.filter_map(|tasks| std::fs::read_dir(tasks).ok());
        entries.map(Iterator::count).sum()
    }

    /// No sweep and no webhook that came late took an issue up again after its task was forgotten.
    pub(crate) fn every_issue_was_worked_on_once(&self) {
        for issue in &self.issues {
            let comments = self.github.comments(REPOSITORY, *issue).unwrap();
            let status = comments.iter().filter(|it| it.body.contains(STATUS_MARK));
            assert_eq!(status.count(), 1, "issue {issue}: {comments:#?}");
        }
    }
}

/// Tables whose rows go with their task.
const RETIRED: [&str; 4] = ["tasks", "task_events", "task_logs", "attempts"];

const TEST: &str = "import unittest\n\n\nclass Notes(unittest.TestCase):\n    \
    def test_nothing(self):\n        pass\n";

fn coordinator(github: &Simulator, lease: Duration) -> Value {
    let millis = |of: Duration| format!("{}ms", of.as_millis());
    json!({"coordinator": {
        "listen": "127.0.0.1:0",
        "fleet": {
            "listen": "127.0.0.1:0", "key": {"env": "SOAK_KEY"},
            "lease": millis(lease), "heartbeat": millis(lease / 6),
            "reconnect_grace": millis(lease / 6),
        },
        "database": {"url": {"env": "SOAK_DATABASE"}},
        "redis": {"url": {"env": "SOAK_REDIS"}},
        "github": {
            "api_url": github.base_url(), "token": {"env": "SOAK_TOKEN"},
            "webhook_secrets": [{"env": "SOAK_KEY"}],
        },
        "api": {"key": {"env": "SOAK_KEY"}},
        "retention": {"tasks": millis(RETENTION), "deliveries": millis(RETENTION)},
        "intake": {"sweep": "3s", "repositories": [REPOSITORY], "max_attempts": 3},
    }})
}

fn secrets(github: &Simulator, database: &Database, redis: &Redis) -> Vec<(&'static str, String)> {
    vec![
        ("SOAK_KEY", KEY.to_owned()),
        ("SOAK_DATABASE", database.url().to_owned()),
        ("SOAK_REDIS", redis.url()),
        ("SOAK_TOKEN", github.bot_token()),
    ]
}

fn write(folder: &Path, name: &str, tree: &Value) -> String {
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, toml::to_string(tree).unwrap()).unwrap();
    path.display().to_string()
}

fn process(
    folder: &Path,
    name: &str,
    config: &str,
    secrets: Vec<(&'static str, String)>,
) -> Process {
    let command = name.split('-').next().unwrap();
    let start = Start {
        program: Path::new(env!("CARGO_BIN_EXE_patchfleet")),
        name,
        args: [command, "--config", config].map(str::to_owned).into(),
        secrets,
        folder,
    };
    Process::start(start).unwrap()
}
