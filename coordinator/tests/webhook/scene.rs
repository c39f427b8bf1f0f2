//! The endpoint on a port of its own, its store, and a GitHub that delivers to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use patchfleet_coordinator::cache::Cache;
use patchfleet_coordinator::intake::deferred::{self, Judge};
use patchfleet_coordinator::intake::{Intake, IntakePolicy};
use patchfleet_coordinator::store::{SqlStore, Store, TaskFilter};
use patchfleet_coordinator::webhook::{WebhookState, router};
use patchfleet_domain::{IssueNumber, RepositoryName, Task};
use patchfleet_github::{Credentials, GitHub, GitHubOptions, Settings};
use patchfleet_resilience::Policy;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::github::{Options, Permission, Simulator, sign};
use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const REPOSITORY: &str = "acme/orders";
pub(crate) const SECRET: &str = "the new secret";
pub(crate) const OLD_SECRET: &str = "the old secret";
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Scene {
    pub(crate) simulator: Simulator,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) metrics: Metrics,
    pub(crate) intake: Arc<Intake>,
    pub(crate) router: Router,
    pub(crate) url: String,
    /// Seconds by which GitHub's clock is ahead.
    clock: Arc<AtomicI64>,
    folder: TempDir,
    _server: JoinSet<()>,
}

/// What differs between scenes.
struct Parts {
    policy: IntakePolicy,
    cache: Cache,
    rate_limit: u64,
    store: SqlStore,
    folder: TempDir,
}

impl Scene {
    pub(crate) async fn start() -> Result<Self> {
        Self::with_policy(IntakePolicy::default()).await
    }

    /// With the repository `acme/orders` and the maintainer `mona`, who may write.
    pub(crate) async fn with_policy(policy: IntakePolicy) -> Result<Self> {
        Self::with(policy, Cache::default()).await
    }

    pub(crate) async fn with(policy: IntakePolicy, cache: Cache) -> Result<Self> {
        Self::with_limit(policy, cache, Options::default().rate_limit).await
    }

    /// With so many requests an hour.
    pub(crate) async fn with_limit(
        policy: IntakePolicy,
        cache: Cache,
        rate_limit: u64,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = SqlStore::sqlite(&folder.path().join("tasks.db")).await?;
        Self::of(Parts {
            policy,
            cache,
            rate_limit,
            store,
            folder,
        })
        .await
    }

    /// On a database that the test has in its hands.
    pub(crate) async fn on(policy: IntakePolicy, store: SqlStore) -> Result<Self> {
        Self::of(Parts {
            policy,
            cache: Cache::default(),
            rate_limit: Options::default().rate_limit,
            store,
            folder: tempfile::tempdir()?,
        })
        .await
    }

    async fn of(parts: Parts) -> Result<Self> {
        let Parts {
            policy,
            cache,
            rate_limit,
            store,
            folder,
        } = parts;
        let clock = Arc::new(AtomicI64::new(0));
        let ahead = Arc::clone(&clock);
        let options = Options {
            clock: Arc::new(move || {
                chrono::Utc::now() + chrono::TimeDelta::seconds(ahead.load(Ordering::Relaxed))
            }),
            rate_limit,
            ..Options::default()
        };
        let simulator = Simulator::start_with(options).await?;
        let seed = folder.path().join("seed");
        std::fs::create_dir(&seed)?;
        std::fs::write(seed.join("README.md"), "# Orders\n")?;
        simulator.create_repository(REPOSITORY, &seed)?;
        simulator.set_permission(REPOSITORY, "mona", Permission::Write)?;
        let store: Arc<dyn Store> = Arc::new(store);
        let metrics = Metrics::new();
        let github = github(&simulator)?.kept_by(Arc::new(cache.clone()));
        let intake = Intake::new(Arc::clone(&store), github, policy).cached(cache);
        let intake = Arc::new(intake);
        let router = router(WebhookState {
            secrets: [SECRET, OLD_SECRET].map(|one| one.to_owned().into()).into(),
            intake: Arc::clone(&intake),
            metrics: metrics.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/webhooks/github", listener.local_addr()?);
        let mut server = JoinSet::new();
        let app = router.clone();
        server.spawn(async move {
            axum::serve(listener, app).await.unwrap();
        });
        Ok(Self {
            simulator,
            store,
            metrics,
            intake,
            router,
            url,
            clock,
            folder,
            _server: server,
        })
    }

    /// Another repository like the first.
    pub(crate) fn add_repository(&self, name: &str) -> Result<()> {
        self.simulator
            .create_repository(name, &self.folder.path().join("seed"))?;
        self.simulator
            .set_permission(name, "mona", Permission::Write)
    }

    /// From now on GitHub delivers by itself.
    pub(crate) fn connect(&self) {
        self.simulator.add_webhook(&self.url, SECRET);
    }

    pub(crate) async fn settled(&self) -> Result<()> {
        self.simulator.deliveries_settled(PATIENCE).await
    }

    /// What happens from now on happened an hour ago.
    pub(crate) fn long_ago(&self) {
        self.clock.fetch_sub(3600, Ordering::Relaxed);
    }

    /// Lets a minute pass on GitHub.
    pub(crate) fn later(&self) {
        self.clock.fetch_add(60, Ordering::Relaxed);
    }

    pub(crate) fn open(&self, author: &str, labels: &[&str]) -> Result<u64> {
        self.simulator
            .open_issue(REPOSITORY, author, "Wrong sum", "1 + 1 = 3", labels)
    }

    pub(crate) async fn tasks(&self) -> Result<Vec<Task>> {
        Ok(self.store.tasks(&TaskFilter::default()).await?)
    }

    /// The issue's newest task.
    pub(crate) async fn task(&self, issue: u64) -> Result<Task> {
        let found = self
            .store
            .task_of_issue(&repository(), IssueNumber(issue))
            .await?;
        Ok(found.expect("the issue has a task"))
    }

    /// A delivery as GitHub would make it.
    pub(crate) fn delivery(&self, id: &str, event: &str, body: &str) -> RequestBuilder {
        reqwest::Client::new()
            .post(&self.url)
            .header("content-type", "application/json")
            .header("x-github-event", event)
            .header("x-github-delivery", id)
            .header("x-hub-signature-256", sign(SECRET, body.as_bytes()))
            .body(body.to_owned())
    }

    /// Delivers a payload; status and body of the answer.
    pub(crate) async fn deliver(
        &self,
        id: &str,
        event: &str,
        body: &Value,
    ) -> Result<(u16, Value)> {
        answer(self.delivery(id, event, &body.to_string()).send().await?).await
    }

    /// Judges what is deferred until it is dropped, which is a crash.
    pub(crate) fn judge(&self) -> JoinSet<()> {
        let judge = Judge::new(Arc::clone(&self.intake), self.metrics.clone());
        running(judge.backing_off(Duration::from_millis(1)))
    }

    /// Waits until nothing is deferred any more.
    pub(crate) async fn all_is_judged(&self) -> Result<()> {
        let judged = async {
            let mut looks = tokio::time::interval(Duration::from_millis(20));
            while self.store.deferred_deliveries().await? > 0 {
                looks.tick().await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, judged).await?
    }

    pub(crate) fn counted(&self, event: &str, outcome: &str) -> u64 {
        self.metrics
            .webhook_deliveries
            .with_label_values(&[event, outcome])
            .get()
    }

    /// Answers of the endpoint to GitHub's own deliveries of an event, newest last.
    pub(crate) fn statuses(&self, event: &str) -> Vec<Option<u16>> {
        let deliveries = self.simulator.deliveries();
        let of_event = deliveries.iter().filter(|delivery| delivery.event == event);
        of_event
            .map(patchfleet_testkit::github::Delivery::status)
            .collect()
    }
}

pub(crate) fn running(judge: Judge) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(deferred::run(judge, CancellationToken::new()));
    tasks
}

pub(crate) fn repository() -> RepositoryName {
    REPOSITORY.parse().unwrap()
}

pub(crate) async fn answer(response: Response) -> Result<(u16, Value)> {
    Ok((response.status().as_u16(), response.json().await?))
}

pub(crate) fn github(simulator: &Simulator) -> Result<GitHub> {
    github_as(simulator, Credentials::Token(simulator.bot_token().into()))
}

/// A client that waits so long for an answer.
pub(crate) fn impatient_github(simulator: &Simulator, timeout: Duration) -> Result<GitHub> {
    let options = GitHubOptions {
        api_url: simulator.base_url().parse()?,
        credentials: Credentials::Token(simulator.bot_token().into()),
    };
    let settings = Settings {
        policy: Policy {
            base: Duration::from_millis(1),
            ..Policy::default()
        },
        timeout,
        ..Settings::default()
    };
    Ok(GitHub::with_settings(options, settings)?)
}

pub(crate) fn github_as(simulator: &Simulator, credentials: Credentials) -> Result<GitHub> {
    let options = GitHubOptions {
        api_url: simulator.base_url().parse()?,
        credentials,
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
    Ok(GitHub::with_settings(options, settings)?)
}
