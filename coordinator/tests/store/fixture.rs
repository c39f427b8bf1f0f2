//! A store to test, and the makings of tasks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use patchfleet_coordinator::store::{
    Act, Acted, Assignment, Caps, Cas, Delivery, FileLock, Look, NewTask, QueuedTask, Recorded,
    Report, SemanticKey, SqlStore, Store, Terms, WorkEvent,
};
use patchfleet_domain::agent::Requirement;
use patchfleet_domain::outcome::{Failure, FailureKind, Outcome, PullRequestRef};
use patchfleet_domain::{
    AgentId, AgentState, AgentType, Budgets, Complexity, FailurePolicy, IssueNumber, Priority,
    RepositoryName, SecurityLevel, Task, TaskAnalysis, TaskId, TaskKind, TaskRequest, Work,
};
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::postgres::Database;
use sqlx::{Connection as _, Executor as _};
use tokio::sync::OnceCell;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const TERMS: Terms = Terms {
    lease: LEASE,
    deadline: Duration::from_hours(1),
};

pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    count: AtomicU64,
    pub(crate) place: Place,
}

/// Where a store is kept; gone when dropped.
pub(crate) enum Place {
    /// A folder, and the lock of the store in it, which all that is opened here share.
    File(tempfile::TempDir, OnceCell<FileLock>),
    Server(Database),
}

impl Place {
    /// One more store on the same database, as another process would open it.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        self.limited(Caps::default()).await
    }

    /// The same under limits.
    pub(crate) async fn limited(&self, caps: Caps) -> Arc<dyn Store> {
        Arc::new(self.store().await.limited(caps))
    }

    /// The same with budgets.
    pub(crate) async fn budgeted(&self, budgets: Budgets) -> Arc<dyn Store> {
        Arc::new(self.store().await.budgeted(budgets))
    }

    /// The same, counting what it does.
    pub(crate) async fn counted(&self, metrics: Metrics) -> Arc<dyn Store> {
        Arc::new(self.store().await.counted(metrics))
    }

    async fn store(&self) -> SqlStore {
        let store = match self {
            // What has a meaning in an address has none in a file's name.
            Self::File(folder, lock) => {
                let file = folder.path().join("my tasks, 100%?#.db");
                let lock = lock.get_or_init(async || {
                    let lock = FileLock::acquire(&file, "test").await;
                    lock.unwrap()
                });
                SqlStore::sqlite_locked(lock.await.clone()).await
            }
            Self::Server(database) => SqlStore::postgres(database.url(), 8).await,
        };
        store.unwrap()
    }

    /// The database itself, for what only time or another version would bring about in one row.
    pub(crate) async fn execute(&self, text: String) {
        assert_eq!(self.execute_many(text).await, 1);
    }

    /// The same in any number of rows: in how many.
    pub(crate) async fn execute_many(&self, text: String) -> u64 {
        sqlx::any::install_default_drivers();
        let url = match self {
            Self::File(folder, _) => {
                let file = folder.path().join("my tasks, 100%?#.db");
                format!("sqlite:{}", utf8_path(&file))
            }
            Self::Server(database) => database.url().to_owned(),
        };
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        let done = connection.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
        done.rows_affected()
    }

    /// A folder with nothing in it.
    pub(crate) fn file() -> Self {
        Self::File(tempfile::tempdir().unwrap(), OnceCell::new())
    }

    /// One of the same sort with nothing in it.
    pub(crate) async fn fresh(&self) -> Self {
        match self {
            Self::File(..) => Self::file(),
            Self::Server(_) => Self::Server(Database::create().await.unwrap()),
        }
    }
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        Self::on(Place::file()).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::on(Place::Server(Database::create().await.unwrap())).await
    }

    async fn on(place: Place) -> Self {
        Self {
            store: place.open().await,
            count: AtomicU64::new(0),
            place,
        }
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn delivery(&self) -> Delivery {
        Delivery {
            id: format!("delivery-{}", self.next()),
            event: "issues".to_owned(),
            action: Some("labeled".to_owned()),
            repository: Some(repository()),
            issue: None,
        }
    }

    pub(crate) fn new_task(&self, issue: u64) -> NewTask {
        NewTask {
            id: TaskId::new(),
            kind: TaskKind::Issue,
            repository: repository(),
            issue: Some(IssueNumber(issue)),
            key: SemanticKey {
                trigger: "label".to_owned(),
                object: self.next().to_string(),
            },
            branch: format!("patchfleet/{issue}-fix"),
            priority: Priority::NORMAL,
            request: request(),
            max_attempts: 3,
            traceparent: None,
        }
    }

    pub(crate) async fn act(&self, act: Act) -> Acted {
        match self
            .store
            .record_delivery(&self.delivery(), &[act])
            .await
            .unwrap()
        {
            Recorded::New(mut acted) => acted.pop().unwrap(),
            other => panic!("a new delivery is recorded, not {other:?}"),
        }
    }

    pub(crate) async fn create(&self, issue: u64) -> TaskId {
        match self.act(Act::Create(Box::new(self.new_task(issue)))).await {
            Acted::Created(id) => id,
            other => panic!("not created: {other:?}"),
        }
    }

    pub(crate) async fn queued(&self, issue: u64) -> QueuedTask {
        let id = self.create(issue).await;
        assert_eq!(
            self.store.analyzed(id, &analysis()).await.unwrap(),
            Cas::Applied(())
        );
        self.in_queue(id).await
    }

    pub(crate) async fn in_queue(&self, id: TaskId) -> QueuedTask {
        let all = self.store.queued(&Look::all(1000, 1000)).await.unwrap();
        all.into_iter()
            .find(|task| task.id == id)
            .expect("the task is in the queue")
    }

    pub(crate) async fn claimed(&self, issue: u64) -> Assignment {
        let queued = self.queued(issue).await;
        self.claim(&queued, LEASE).await
    }

    pub(crate) async fn claim(&self, queued: &QueuedTask, lease: Duration) -> Assignment {
        self.claim_by("backend-1", queued, lease).await
    }

    pub(crate) async fn claim_by(
        &self,
        name: &str,
        queued: &QueuedTask,
        lease: Duration,
    ) -> Assignment {
        match self.store.claim(queued, &agent(name), lease).await.unwrap() {
            Cas::Applied(assignment) => assignment,
            Cas::Stale => panic!("the claim was stale"),
        }
    }

    pub(crate) async fn report(&self, work: Work, seq: u64, event: WorkEvent) -> Cas {
        self.store
            .report(&Report { work, seq, event })
            .await
            .unwrap()
    }

    pub(crate) async fn applied(&self, work: Work, seq: u64, event: WorkEvent) {
        assert_eq!(self.report(work, seq, event).await, Cas::Applied(()));
    }

    pub(crate) async fn started(&self, issue: u64) -> Work {
        let work = self.claimed(issue).await.work;
        assert_eq!(
            self.report(work, 1, WorkEvent::Accepted).await,
            Cas::Applied(())
        );
        work
    }

    /// The agents give a sign of life.
    pub(crate) async fn renew(&self, agents: &[&AgentId]) -> Vec<(AgentId, Work)> {
        let busy = |agent: &&AgentId| ((*agent).clone(), AgentState::Busy);
        let agents: Vec<_> = agents.iter().map(busy).collect();
        let live = self.store.renew(&agents, TERMS).await.unwrap();
        live.into_iter()
            .map(|live| (live.agent, live.work))
            .collect()
    }

    pub(crate) async fn task(&self, id: TaskId) -> Task {
        self.store.task(id).await.unwrap().unwrap()
    }
}

/// A file's name as an address has it.
fn utf8_path(file: &std::path::Path) -> String {
    let text = file.to_str().unwrap();
    text.replace('%', "%25")
        .replace('?', "%3F")
        .replace('#', "%23")
        .replace(' ', "%20")
}

pub(crate) fn repository() -> RepositoryName {
    "acme/orders".parse().unwrap()
}

pub(crate) fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

pub(crate) fn request() -> TaskRequest {
    TaskRequest {
        title: "Totals are wrong".to_owned(),
        body: "They are.".to_owned(),
        labels: vec!["bug".to_owned()],
        author: "mona".to_owned(),
        triggered_by: "maintainer".to_owned(),
        clone_url: "http://localhost/acme/orders.git".to_owned(),
        default_branch: "main".to_owned(),
        agent_type: None,
    }
}

pub(crate) fn analysis() -> TaskAnalysis {
    TaskAnalysis {
        requirement: Requirement {
            agent_type: AgentType::general(),
            capabilities: BTreeSet::new(),
            security_level: SecurityLevel::Public,
        },
        complexity: Complexity::Simple,
        estimated_tokens: 1000,
        priority: Priority::NORMAL,
        target_files: vec![],
        depends_on: vec![],
        on_dependency_failure: FailurePolicy::Cancel,
        reasons: vec!["default".to_owned()],
    }
}

pub(crate) fn pull_request(number: u64) -> Outcome {
    Outcome::PullRequest {
        pull_request: Box::new(PullRequestRef {
            number,
            url: format!("http://localhost/acme/orders/pull/{number}"),
            head: "patchfleet/1-fix".to_owned(),
            head_sha: "0".repeat(40),
            base: "main".to_owned(),
            draft: true,
            merged: false,
        }),
        summary: "done".to_owned(),
        tests_before: None,
        tests_after: None,
    }
}

pub(crate) fn failure(retryable: bool, discard_checkpoints: bool) -> Outcome {
    Outcome::Failed(Failure {
        kind: FailureKind::PushRefused,
        message: "no".to_owned(),
        retryable,
        discard_checkpoints,
    })
}
