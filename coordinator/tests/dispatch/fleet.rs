//! A coordinator of store, scheduler and dispatch alone, and tasks for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_coordinator::cache::Cache;
use patchfleet_coordinator::dispatch::{
    self, Credentials, FleetOptions, FleetService, IssuedToken, Registry, Requested,
};
use patchfleet_coordinator::scheduler::{Scheduler, SchedulerOptions, leases};
use patchfleet_coordinator::store::{
    Act, Acted, Caps, Cas, Delivery, NewTask, Recorded, SemanticKey, SqlStore, Store,
};
use patchfleet_domain::agent::Requirement;
use patchfleet_domain::{
    Agent, AgentId, AgentState, Complexity, FailurePolicy, IssueNumber, Priority, SecurityLevel,
    Task, TaskAnalysis, TaskId, TaskKind, TaskRequest, TaskState, Work,
};
use patchfleet_listen::Limits;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, Profile};
use sqlx::{Connection as _, SqliteConnection};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "fleet-key-of-the-tests";
const PATIENCE: Duration = Duration::from_mins(1);
/// Long for a stream that is cut and mended at once, short for one that stays away.
const GRACE: Duration = Duration::from_secs(3);

/// Tokens that name what they are for.
#[derive(Debug)]
struct NamedTokens;

#[async_trait]
impl Credentials for NamedTokens {
    async fn token(&self, requested: Requested<'_>) -> Result<IssuedToken, String> {
        let (repository, scope) = (requested.repository, requested.scope);
        let place = if requested.is_local {
            "here"
        } else {
            "elsewhere"
        };
        Ok(IssuedToken {
            token: format!("{repository} {scope:?} {place}").into(),
            expires_at: chrono::Utc::now(),
            api_url: "http://127.0.0.1:1/api".parse().unwrap(),
        })
    }
}

/// How a coordinator is set up.
pub(crate) struct Setup {
    pub(crate) scheduling: SchedulerOptions,
    pub(crate) caps: Caps,
    pub(crate) max_agents: usize,
    /// How often agents are to give a sign of life; a tenth of the lease when none.
    pub(crate) heartbeat: Option<Duration>,
    /// What connections may take; the usual when none.
    pub(crate) limits: Option<Limits>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            scheduling: SchedulerOptions::default(),
            caps: Caps::default(),
            max_agents: 1000,
            heartbeat: None,
            limits: None,
        }
    }
}

pub(crate) struct Fleet {
    pub(crate) store: Arc<SqlStore>,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    folder: tempfile::TempDir,
    pub(crate) url: String,
    shutdown: CancellationToken,
    stages: JoinSet<()>,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        Self::with_options(SchedulerOptions::default()).await
    }

    pub(crate) async fn with_lease(lease: Duration) -> Self {
        Self::with_options(SchedulerOptions {
            lease,
            ..SchedulerOptions::default()
        })
        .await
    }

    pub(crate) async fn with_options(scheduling: SchedulerOptions) -> Self {
        Self::with(Setup {
            scheduling,
            ..Setup::default()
        })
        .await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("patchfleet.db");
        let metrics = Metrics::new();
        let store = SqlStore::sqlite(&path).await.unwrap();
        let store = Arc::new(store.counted(metrics.clone()).limited(setup.caps.clone()));
        let registry = Registry::new(metrics.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut fleet = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            store,
            registry,
            metrics,
            folder,
            shutdown: CancellationToken::new(),
            stages: JoinSet::new(),
        };
        fleet.start_stages(listener, &setup);
        fleet
    }

    fn start_stages(&mut self, listener: TcpListener, setup: &Setup) {
        let scheduling = setup.scheduling;
        let lease = scheduling.lease;
        let (store, shutdown) = (self.store.clone(), self.shutdown.clone());
        let options = FleetOptions {
            key: KEY.parse().unwrap(),
            lease,
            heartbeat: setup
                .heartbeat
                .unwrap_or_else(|| (lease / 10).min(Duration::from_millis(300))),
            grace: GRACE,
            deadline: Duration::from_hours(1),
            max_agents: setup.max_agents,
        };
        let service = FleetService::new(
            store.clone(),
            self.registry.clone(),
            Arc::new(NamedTokens),
            (options, Cache::default()),
        );
        let service = match setup.limits {
            Some(limits) => service.limited(limits),
            None => service,
        };
        let serving = dispatch::serve(listener, service, shutdown.clone());
        self.stages.spawn(serving);
        let (registry, metrics) = (self.registry.clone(), self.metrics.clone());
        let scheduler = Scheduler::new(store.clone(), registry, metrics.clone(), scheduling);
        let ended = shutdown.clone();
        self.stages.spawn(async move { scheduler.run(ended).await });
        let interval = Duration::from_millis(100);
        self.stages
            .spawn(leases::run(store, metrics, interval, shutdown));
    }

    /// Ends the coordinator and waits for its end.
    pub(crate) async fn shut_down(&mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.stages.join_next().await {
            ended.unwrap();
        }
    }

    /// A connection to the store's database that the store knows nothing of.
    pub(crate) async fn operator(&self) -> SqliteConnection {
        let path = self.folder.path().join("patchfleet.db");
        let url = format!("sqlite:{}", path.display());
        SqliteConnection::connect(&url).await.unwrap()
    }

    pub(crate) fn profile(&self, id: &str) -> Profile {
        let id: AgentId = id.parse().unwrap();
        Profile::new(&self.url, KEY, &id)
    }

    /// An agent that does the same with each assignment.
    pub(crate) async fn agent(&self, id: &str, conduct: Conduct) -> MockAgent {
        let agent = MockAgent::start(self.profile(id), move |_| conduct.clone());
        agent.wait_connected().await.unwrap();
        agent
    }

    /// A queued task for the issue with that number.
    pub(crate) async fn task(&self, repository: &str, issue: u64) -> TaskId {
        let delivery = Delivery {
            id: format!("{repository}-{issue}"),
            event: "issues".to_owned(),
            action: Some("labeled".to_owned()),
            repository: Some(repository.parse().unwrap()),
            issue: None,
        };
        let act = Act::Create(Box::new(new_task(repository, issue)));
        let recorded = self.store.record_delivery(&delivery, &[act]).await.unwrap();
        let Recorded::New(acted) = recorded else {
            panic!("{repository}#{issue} was there before");
        };
        let [Acted::Created(id)] = acted[..] else {
            panic!("{acted:?}");
        };
        let queued = self.store.analyzed(id, &analysis()).await.unwrap();
        assert_eq!(queued, Cas::Applied(()));
        id
    }

    /// Waits until the store says that of the agent.
    pub(crate) async fn wait_agent(&self, id: &str, state: AgentState) {
        let id: AgentId = id.parse().unwrap();
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                looks.tick().await;
                let agents = self.store.agents().await.unwrap();
                let is_it = |agent: &Agent| agent.id == id && agent.state == state;
                if agents.iter().any(is_it) {
                    return;
                }
            }
        });
        found.await.expect("the agent comes to that state");
    }

    /// Waits until the task is as wanted.
    pub(crate) async fn wait(&self, id: TaskId, wanted: impl Fn(&Task) -> bool) -> Task {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                looks.tick().await;
                let task = self.store.task(id).await.unwrap().unwrap();
                if wanted(&task) {
                    return task;
                }
            }
        });
        let Ok(task) = found.await else {
            let task = self.store.task(id).await.unwrap();
            let history = self.store.history(id, 0).await.unwrap();
            panic!("waited in vain; {task:#?} {history:#?}");
        };
        task
    }

    pub(crate) async fn wait_state(&self, id: TaskId, state: TaskState) -> Task {
        self.wait(id, |task| task.state == state).await
    }

    /// The states that the task went through, in order.
    pub(crate) async fn path(&self, id: TaskId) -> Vec<TaskState> {
        let history = self.store.history(id, 0).await.unwrap();
        history.into_iter().filter_map(|event| event.to).collect()
    }

    /// How each attempt of the task ended: who, and the word.
    pub(crate) async fn attempts(&self, id: TaskId) -> Vec<(String, Option<String>)> {
        let attempts = self.store.attempts(id).await.unwrap();
        let told = attempts.into_iter();
        told.map(|attempt| (attempt.agent.to_string(), attempt.outcome))
            .collect()
    }
}

/// Waits until the agent was assigned that many times and returns the last attempt.
pub(crate) async fn assigned(agent: &MockAgent, times: usize) -> Work {
    let what = format!("{times} assignments");
    let seen = agent.wait(&what, |seen| seen.assigns.len() >= times).await;
    *seen.unwrap().works().last().unwrap()
}

pub(crate) fn hold() -> Conduct {
    Conduct::Hold { events: Vec::new() }
}

fn new_task(repository: &str, issue: u64) -> NewTask {
    NewTask {
        id: TaskId::new(),
        kind: TaskKind::Issue,
        repository: repository.parse().unwrap(),
        issue: Some(IssueNumber(issue)),
        key: SemanticKey {
            trigger: "label".to_owned(),
            object: issue.to_string(),
        },
        branch: format!("patchfleet/{issue}-change"),
        priority: Priority::NORMAL,
        request: TaskRequest {
            title: format!("Change {issue}"),
            body: "Please.".to_owned(),
            labels: vec!["patchfleet".to_owned()],
            author: "octocat".to_owned(),
            triggered_by: "octocat".to_owned(),
            clone_url: format!("http://127.0.0.1:1/{repository}.git"),
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
            agent_type: "backend".parse().unwrap(),
            capabilities: ["python".into()].into(),
            security_level: SecurityLevel::Internal,
        },
        complexity: Complexity::Simple,
        estimated_tokens: 1000,
        priority: Priority::NORMAL,
        target_files: vec!["orders/money.py".to_owned()],
        depends_on: Vec::new(),
        on_dependency_failure: FailurePolicy::Cancel,
        reasons: Vec::new(),
    }
}
