//! A store with tasks, a GitHub with their issues, and publishers between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use patchfleet_coordinator::report::{Publisher, run};
use patchfleet_coordinator::store::{
    Act, Acted, Delivery, NewTask, Recorded, Reply, SemanticKey, SqlStore, Store,
};
use patchfleet_domain::{
    IssueNumber, Priority, RepositoryName, TaskId, TaskKind, TaskRequest, task::branch_name,
};
use patchfleet_github::{Credentials, GitHub, GitHubOptions, Settings};
use patchfleet_resilience::Policy;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::github::{Comment, Options, Simulator};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const REPOSITORY: &str = "acme/orders";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Short, so that a test needn't wait long for what a crashed publisher held.
const HOLD: Duration = Duration::from_secs(4);

pub(crate) struct Scene {
    pub(crate) simulator: Simulator,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) metrics: Metrics,
    deliveries: AtomicU64,
    /// Seconds by which GitHub's clock is ahead.
    clock: Arc<AtomicI64>,
    _folder: TempDir,
}

/// A publisher that runs; dropping it is a crash.
pub(crate) struct Running {
    tasks: JoinSet<()>,
    cancel: CancellationToken,
}

impl Running {
    pub(crate) async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Scene {
    pub(crate) async fn start() -> Result<Self> {
        let clock = Arc::new(AtomicI64::new(0));
        let ahead = Arc::clone(&clock);
        let options = Options {
            clock: Arc::new(move || {
                chrono::Utc::now() + chrono::TimeDelta::seconds(ahead.load(Ordering::Relaxed))
            }),
            ..Options::default()
        };
        let simulator = Simulator::start_with(options).await?;
        let folder = tempfile::tempdir()?;
        let seed = folder.path().join("seed");
        std::fs::create_dir(&seed)?;
        std::fs::write(seed.join("README.md"), "# Orders\n")?;
        simulator.create_repository(REPOSITORY, &seed)?;
        let store = SqlStore::sqlite(&folder.path().join("tasks.db")).await?;
        Ok(Self {
            simulator,
            store: Arc::new(store),
            metrics: Metrics::new(),
            deliveries: AtomicU64::new(0),
            clock,
            _folder: folder,
        })
    }

    /// The same on another store.
    pub(crate) async fn on(store: SqlStore) -> Result<Self> {
        let mut scene = Self::start().await?;
        scene.store = Arc::new(store);
        Ok(scene)
    }

    /// Sets GitHub's clock so many hours back.
    pub(crate) fn hours_ago(&self, hours: i64) {
        self.clock.store(-3600 * hours, Ordering::Relaxed);
    }

    pub(crate) fn publisher(&self) -> Result<Running> {
        self.publisher_holding(HOLD)
    }

    pub(crate) fn publisher_holding(&self, hold: Duration) -> Result<Running> {
        let options = GitHubOptions {
            api_url: self.simulator.base_url().parse()?,
            credentials: Credentials::Token(self.simulator.bot_token().into()),
        };
        let policy = Policy {
            base: Duration::from_millis(1),
            threshold: 50,
            ..Policy::default()
        };
        let settings = Settings {
            policy,
            ..Settings::default()
        };
        let github = GitHub::with_settings(options, settings)?;
        let publisher = Publisher::new(Arc::clone(&self.store), github, self.metrics.clone());
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(run(publisher.holding(hold), cancel.clone()));
        Ok(Running { tasks, cancel })
    }

    pub(crate) fn open(&self) -> Result<u64> {
        self.simulator
            .open_issue(REPOSITORY, "acme", "Wrong sum", "", &["bug"])
    }

    pub(crate) async fn act(&self, act: Act) -> Result<Acted> {
        let delivery = Delivery {
            id: format!("d-{}", self.deliveries.fetch_add(1, Ordering::Relaxed)),
            event: "issues".to_owned(),
            action: None,
            repository: None,
            issue: None,
        };
        match self.store.record_delivery(&delivery, &[act]).await? {
            Recorded::New(mut acted) => Ok(acted.pop().unwrap()),
            other => bail!("a new delivery is recorded, not {other:?}"),
        }
    }

    pub(crate) async fn create(&self, issue: u64) -> Result<TaskId> {
        let issue = IssueNumber(issue);
        let request = TaskRequest {
            title: "Wrong sum".to_owned(),
            body: String::new(),
            labels: Vec::new(),
            author: "acme".to_owned(),
            triggered_by: "acme".to_owned(),
            clone_url: self.simulator.clone_url(REPOSITORY),
            default_branch: "main".to_owned(),
            agent_type: None,
        };
        let new = NewTask {
            id: TaskId::new(),
            kind: TaskKind::Issue,
            repository: repository(),
            issue: Some(issue),
            key: SemanticKey {
                trigger: "comment".to_owned(),
                object: self.deliveries.load(Ordering::Relaxed).to_string(),
            },
            branch: branch_name(issue, &request.title),
            priority: Priority::default(),
            request,
            max_attempts: 3,
            traceparent: None,
        };
        let id = new.id;
        let acted = self.act(Act::Create(Box::new(new))).await?;
        assert_eq!(acted, Acted::Created(id));
        Ok(id)
    }

    pub(crate) async fn tell(&self, issue: u64, message: &str) -> Result<()> {
        let reply = Reply::Problem {
            message: message.to_owned(),
        };
        self.reply(issue, reply).await
    }

    pub(crate) async fn reply(&self, issue: u64, reply: Reply) -> Result<()> {
        let (repository, issue) = (repository(), IssueNumber(issue));
        let acted = self
            .act(Act::Reply {
                repository,
                issue,
                reply,
            })
            .await?;
        assert_eq!(acted, Acted::Replied);
        Ok(())
    }

    /// Waits until all that the outbox held is on GitHub, or dropped.
    pub(crate) async fn emptied(&self) -> Result<()> {
        let empty = async {
            let mut changes = self.store.changed();
            while self.store.outbox_pending().await? > 0 {
                changes.changed().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, empty).await?
    }

    pub(crate) fn comments(&self, issue: u64) -> Vec<Comment> {
        self.simulator.comments(REPOSITORY, issue).unwrap()
    }

    /// The texts of the comments on an issue, without their marks.
    pub(crate) fn texts(&self, issue: u64) -> Vec<String> {
        let comments = self.comments(issue).into_iter();
        let texts = comments.map(|comment| match comment.body.split_once('\n') {
            Some((mark, text)) if mark.starts_with("<!-- ") => text.to_owned(),
            _ => comment.body,
        });
        texts.collect()
    }

    pub(crate) fn labels(&self, issue: u64) -> Vec<String> {
        self.simulator.labels(REPOSITORY, issue).unwrap()
    }
}

pub(crate) fn repository() -> RepositoryName {
    REPOSITORY.parse().unwrap()
}
