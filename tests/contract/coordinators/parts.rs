//! The two coordinators under one adapter: the stub of the kit and the real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_coordinator::cache::Cache;
use patchfleet_coordinator::dispatch::{
    self, Credentials, FleetOptions, FleetService, IssuedToken, Registry, Requested,
};
use patchfleet_coordinator::scheduler::{Scheduler, SchedulerOptions};
use patchfleet_coordinator::store::{
    Act, Acted, Commanded, Delivery, NewTask, Recorded, SemanticKey, SqlStore, Store as _,
};
use patchfleet_domain::agent::Requirement;
use patchfleet_domain::{
    AgentType, AttemptNumber, Complexity, FailurePolicy, IssueNumber, Priority, SecurityLevel,
    TaskAnalysis, TaskId, TaskKind, TaskRequest, Work,
};
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::stub_coordinator::{Answers, StubCoordinator, sample_assign};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What agents have to show.
pub(crate) const KEY: &str = "fleet-key-of-the-contract";
/// What is granted to a live attempt.
pub(crate) const TOKEN: &str = "token-of-the-contract";
/// The repository of all tasks.
pub(crate) const REPOSITORY: &str = "acme/orders";

/// What agents are granted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) max_agents: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_millis(200),
            max_agents: 10,
        }
    }
}

/// A coordinator.
pub(crate) trait Part: Sized {
    /// Starts one without tasks.
    async fn start(terms: Terms) -> Self;
    /// Where agents connect.
    fn url(&self) -> String;
    /// Has a new task assigned to the agent that is connected.
    async fn assign(&self);
    /// An operator calls the attempt's task off.
    async fn call_off(&self, work: &v1::Work);
    /// Asks the coordinator to end.
    fn shut_down(&self);
}

/// The kit's.
pub(crate) struct Stub(StubCoordinator);

impl Part for Stub {
    async fn start(terms: Terms) -> Self {
        let answers = Answers {
            key: KEY.to_owned(),
            lease_ttl: terms.lease,
            heartbeat_interval: terms.heartbeat,
            max_agents: terms.max_agents,
            credential: Ok(v1::Token {
                token: TOKEN.to_owned(),
                expires_unix_ms: 1,
                api_url: "http://127.0.0.1:1/".to_owned(),
            }),
            ..Answers::default()
        };
        Self(StubCoordinator::start(answers).await.unwrap())
    }

    fn url(&self) -> String {
        self.0.url()
    }

    async fn assign(&self) {
        let work = Work {
            task: TaskId::new(),
            attempt: AttemptNumber(1),
        };
        self.0.assign(sample_assign(work));
    }

    async fn call_off(&self, work: &v1::Work) {
        self.0.send(Body::Cancel(v1::Cancel {
            work: Some(work.clone()),
            reason: "the task was called off".to_owned(),
        }));
    }

    fn shut_down(&self) {
        self.0.shut_down();
    }
}

/// The real one.
pub(crate) struct Real {
    url: String,
    store: Arc<SqlStore>,
    issues: AtomicU64,
    shutdown: CancellationToken,
    _stages: JoinSet<()>,
    _folder: TempDir,
}

#[derive(Debug)]
struct Tokens;

#[async_trait]
impl Credentials for Tokens {
    async fn token(&self, _: Requested<'_>) -> Result<IssuedToken, String> {
        Ok(IssuedToken {
            token: TOKEN.into(),
            expires_at: chrono::Utc::now(),
            api_url: "http://127.0.0.1:1/".parse().unwrap(),
        })
    }
}

impl Part for Real {
    async fn start(terms: Terms) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqlStore::sqlite(&folder.path().join("patchfleet.db")).await;
        let store = Arc::new(store.unwrap());
        let options = FleetOptions {
            key: KEY.parse().unwrap(),
            lease: terms.lease,
            heartbeat: terms.heartbeat,
            grace: Duration::from_secs(10),
            deadline: Duration::from_hours(1),
            max_agents: terms.max_agents,
        };
        let metrics = Metrics::new();
        let registry = Registry::new(metrics.clone());
        let service = FleetService::new(
            store.clone(),
            registry.clone(),
            Arc::new(Tokens),
            (options, Cache::default()),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let serving = dispatch::serve(listener, service, shutdown.clone());
        let scheduling = SchedulerOptions {
            lease: terms.lease,
            ..SchedulerOptions::default()
        };
        let scheduler = Scheduler::new(store.clone(), registry, metrics, scheduling);
        let ended = shutdown.clone();
        let mut stages = JoinSet::new();
        stages.spawn(serving);
        stages.spawn(async move { scheduler.run(ended).await });
        Self {
            url,
            store,
            issues: AtomicU64::new(1),
            shutdown,
            _stages: stages,
            _folder: folder,
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    async fn assign(&self) {
        let issue = self.issues.fetch_add(1, Ordering::Relaxed);
        let delivery = Delivery {
            id: issue.to_string(),
            event: "issues".to_owned(),
            action: Some("labeled".to_owned()),
            repository: Some(REPOSITORY.parse().unwrap()),
            issue: None,
        };
        let act = Act::Create(Box::new(new_task(issue)));
        let recorded = self.store.record_delivery(&delivery, &[act]).await;
        let Recorded::New(acted) = recorded.unwrap() else {
            panic!("issue {issue} was there before");
        };
        let [Acted::Created(id)] = acted[..] else {
            panic!("{acted:?}");
        };
        let _ = self.store.analyzed(id, &analysis()).await.unwrap();
    }

    async fn call_off(&self, work: &v1::Work) {
        let id = work.task_id.parse().unwrap();
        let done = self.store.cancel(id, "operator").await.unwrap();
        assert!(matches!(done, Commanded::Done(_)), "{done:?}");
    }

    fn shut_down(&self) {
        self.shutdown.cancel();
    }
}

fn new_task(issue: u64) -> NewTask {
    NewTask {
        id: TaskId::new(),
        kind: TaskKind::Issue,
        repository: REPOSITORY.parse().unwrap(),
        issue: Some(IssueNumber(issue)),
        key: SemanticKey {
            trigger: "label".to_owned(),
            object: issue.to_string(),
        },
        branch: format!("patchfleet/{issue}-change"),
        priority: Priority::NORMAL,
        request: TaskRequest {
            title: "Totals are wrong".to_owned(),
            body: "Mend them.".to_owned(),
            labels: Vec::new(),
            author: "octocat".to_owned(),
            triggered_by: "octocat".to_owned(),
            clone_url: format!("http://127.0.0.1:1/{REPOSITORY}.git"),
            default_branch: "main".to_owned(),
            agent_type: None,
        },
        max_attempts: 3,
        traceparent: None,
    }
}

fn analysis() -> TaskAnalysis {
    TaskAnalysis {
        requirement: Requirement {
            agent_type: AgentType::general(),
            capabilities: [].into(),
            security_level: SecurityLevel::Public,
        },
        complexity: Complexity::Simple,
        estimated_tokens: 1000,
        priority: Priority::NORMAL,
        target_files: Vec::new(),
        depends_on: Vec::new(),
        on_dependency_failure: FailurePolicy::Cancel,
        reasons: Vec::new(),
    }
}
