//! Puts the stages together, starts them and ends them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::TimeDelta;
use patchfleet_github::{Credentials as As, GitHub, GitHubOptions, Observation};
use patchfleet_listen::{Limits, serve};
use patchfleet_resilience::Remote;
use patchfleet_telemetry::Metrics;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Rate};
use crate::config::{CoordinatorConfig, DatabaseConfig, GitHubConfig, RedisConfig};
use crate::dispatch::{FleetOptions, FleetService, GitHubTokens, Registry};
use crate::intake::sweep::{self, Sweeper};
use crate::intake::{Intake, IntakePolicy, deferred};
use crate::report::Publisher;
use crate::scheduler::{Scheduler, SchedulerOptions, leases, unfit};
use crate::stages::{Liveness, Running};
use crate::store::{Hints, Retention, SqlStore, Store, examine};
use crate::webhook::WebhookState;
use crate::{analysis, api, cache, dispatch, report, retention, tally, webhook};

/// How often leases are looked at.
const LEASE_INTERVAL: Duration = Duration::from_millis(500);
/// How old a task is before its issue is told that it waits for an agent; most are at work by then.
const LULL: Duration = Duration::from_secs(5);
/// How often tasks that no agent takes are looked at.
const UNFIT_INTERVAL: Duration = Duration::from_secs(5);

/// A coordinator that runs.
#[derive(Debug)]
pub struct Coordinator {
    http: SocketAddr,
    fleet: SocketAddr,
    running: Running,
    liveness: Liveness,
    shutdown: CancellationToken,
    deadline: Duration,
}

impl Coordinator {
    /// Opens the store, listens, and starts every stage.
    ///
    /// # Errors
    /// When a secret is missing, the database or an address can't be used.
    pub async fn start(
        config: &CoordinatorConfig,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let store = open_store(&config.database).await?;
        let store = store
            .counted(metrics.clone())
            .limited(config.limits.clone())
            .budgeted(config.budgets);
        let cache = open_cache(config.redis.as_ref(), &metrics)?;
        let hints = store.hints();
        let workers = store.clone();
        let store: Arc<dyn Store> = Arc::new(store);
        let github = github(&config.github)?.observed(observer(&metrics));
        let github = github.kept_by(Arc::new(cache.clone()));
        let registry = Registry::new(metrics.clone());
        let http = listen(config.listen).await?;
        let fleet = listen(config.fleet.listen).await?;
        let liveness = Liveness::default();
        let mut running = Running::new(&liveness, &shutdown);
        let parts = Parts {
            config,
            store,
            metrics,
            github,
            registry,
            cache,
            hints,
            liveness,
        };
        let (http_address, fleet_address) = (http.local_addr()?, fleet.local_addr()?);
        let stop = running.loops.stop();
        running.loops.try_start("store", async move {
            let ended = stop.run_until_cancelled(workers.worker_ended()).await;
            ended.map_or(Ok(()), Err)
        });
        parts.start_loops(&mut running);
        parts.start_http(http, &mut running)?;
        parts.start_fleet(fleet, &mut running)?;
        Ok(Self {
            http: http_address,
            fleet: fleet_address,
            running,
            liveness: parts.liveness,
            shutdown,
            deadline: config.shutdown_deadline.0,
        })
    }

    /// Where webhooks, API and metrics are.
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where agents connect.
    pub const fn fleet_address(&self) -> SocketAddr {
        self.fleet
    }

    /// Waits for the end of a stage that nobody had asked to end; whatever depends on the coordinator
    /// is to be ended then, and [`Self::join`] ends the rest.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.liveness.failed()
    }

    /// Waits until it was told to end and has ended, by the deadline.
    ///
    /// # Errors
    /// When a stage ended without having been asked to: the error names it, and the others are
    /// ended then.
    pub async fn join(self) -> anyhow::Result<()> {
        Ok(self.running.join(self.shutdown, self.deadline).await?)
    }
}

/// What the stages are made of.
struct Parts<'a> {
    config: &'a CoordinatorConfig,
    store: Arc<dyn Store>,
    metrics: Metrics,
    github: GitHub,
    registry: Registry,
    cache: Cache,
    hints: Hints,
    liveness: Liveness,
}

impl Parts<'_> {
    fn start_loops(&self, running: &mut Running) {
        let (store, metrics) = (&self.store, &self.metrics);
        let stages = &mut running.loops;
        let stop = || stages.stop();
        let analyzing = analysis::run(
            Arc::clone(store),
            analysis::AnalysisPolicy {
                on_dependency_failure: self.config.intake.on_dependency_failure,
                ..analysis::AnalysisPolicy::default()
            },
            Some(analysis::Configurations::new(self.github.clone())),
            stop(),
        );
        let waiting = analysis::awaited::run(Arc::clone(store), self.github.clone(), stop());
        let options = SchedulerOptions {
            lease: self.config.fleet.lease.0,
            ..SchedulerOptions::default()
        };
        let scheduler = Scheduler::new(
            Arc::clone(store),
            self.registry.clone(),
            metrics.clone(),
            options,
        );
        let stop_scheduler = stop();
        let scheduling = async move { scheduler.run(stop_scheduler).await };
        let expiry = leases::run(Arc::clone(store), metrics.clone(), LEASE_INTERVAL, stop());
        let setting_aside = unfit::run(Arc::clone(store), UNFIT_INTERVAL, stop());
        let publisher = Publisher::new(Arc::clone(store), self.github.clone(), metrics.clone());
        let publisher = publisher.after(LULL);
        let outbox = report::run(publisher, stop());
        let kept = Retention {
            tasks: self.config.retention.tasks.0,
            deliveries: self.config.retention.deliveries.0,
        };
        let removing = retention::run(Arc::clone(store), kept, stop());
        let counting = tally::run(Arc::clone(store), metrics.clone(), stop());
        let fan_out = cache::fan_out(self.cache.clone(), self.hints.clone(), stop());
        stages.start("analysis", analyzing);
        stages.start("awaited issues", waiting);
        stages.start("scheduler", scheduling);
        stages.start("leases", expiry);
        stages.start("unfit agents", setting_aside);
        stages.start("outbox", outbox);
        stages.start("retention", removing);
        stages.start("tally", counting);
        stages.start("cache", fan_out);
    }

    fn start_http(&self, listener: TcpListener, running: &mut Running) -> anyhow::Result<()> {
        let secrets = self.config.github.webhook_secrets.iter();
        let secrets: Vec<_> = secrets
            .map(|secret| secret.reveal("coordinator.github.webhook_secrets"))
            .collect::<Result<_, _>>()?;
        if secrets.is_empty() {
            bail!(
                "coordinator.github.webhook_secrets: at least one is needed, or every delivery would be refused"
            );
        }
        let intake = Intake::new(Arc::clone(&self.store), self.github.clone(), self.policy())
            .cached(self.cache.clone());
        let intake = Arc::new(intake);
        let judge = deferred::Judge::new(Arc::clone(&intake), self.metrics.clone());
        let judging = deferred::run(judge, running.loops.stop());
        running.loops.start("deferred deliveries", judging);
        let every = self.config.intake.sweep.0;
        if !every.is_zero() {
            let sweeper = Sweeper::new(Arc::clone(&intake), self.metrics.clone())
                .remembering(self.config.retention.deliveries.0);
            let sweeping = sweep::run(sweeper, every, running.loops.stop());
            running.loops.start("sweep", sweeping);
        }
        let state = WebhookState {
            secrets: secrets.into(),
            intake,
            metrics: self.metrics.clone(),
        };
        let api = api::ApiState {
            store: Arc::clone(&self.store),
            metrics: self.metrics.clone(),
            bounds: api::Bounds::default(),
            rate: self.rate(),
            registry: self.registry.clone(),
            cache: self.cache.clone(),
            remotes: self.remotes(),
            liveness: self.liveness.clone(),
            key: self.config.api.key.api_key("coordinator.api.key")?,
        };
        let app = webhook::router(state).merge(api::router(api));
        let stop = running.http.stop();
        let serving = serve(listener, app, Limits::default(), stop);
        running.http.start("http", serving);
        Ok(())
    }

    fn start_fleet(&self, listener: TcpListener, running: &mut Running) -> anyhow::Result<()> {
        let config = &self.config.fleet;
        let options = FleetOptions {
            key: config.key.api_key("coordinator.fleet.key")?,
            lease: config.lease.0,
            heartbeat: config.heartbeat.0,
            grace: config.reconnect_grace.0,
            deadline: config.attempt_deadline.0,
            max_agents: config.max_agents,
        };
        let github = &self.config.github;
        if self.github.is_personal() && !github.share_token && !config.listen.ip().is_loopback() {
            tracing::warn!(
                "agents on other hosts will get no token for GitHub: it is a personal one; \
                 configure coordinator.github.app, or set coordinator.github.share_token = true"
            );
        }
        let tokens = GitHubTokens::new(
            self.github.clone(),
            github.api_url.clone(),
            github.share_token,
        );
        let service = FleetService::new(
            Arc::clone(&self.store),
            self.registry.clone(),
            Arc::new(tokens),
            (options, self.cache.clone()),
        );
        let stages = &mut running.loops;
        let serving = dispatch::serve(listener, service, stages.stop());
        stages.start("dispatch", serving);
        Ok(())
    }

    /// A tenth of what an address may ask in a minute may come at once.
    fn rate(&self) -> Rate {
        let per_minute = self.config.api.requests_per_minute;
        let burst = NonZeroU32::new(per_minute.get() / 10);
        Rate {
            per_minute,
            burst: burst.unwrap_or(NonZeroU32::MIN),
        }
    }

    fn remotes(&self) -> api::Remotes {
        let (github, cache) = (self.github.clone(), self.cache.clone());
        Arc::new(move || {
            let redis = cache.remote().map(Remote::health);
            [github.health()].into_iter().chain(redis).collect()
        })
    }

    fn policy(&self) -> IntakePolicy {
        let intake = &self.config.intake;
        IntakePolicy {
            label: intake.label.clone(),
            max_attempts: intake.max_attempts,
            repositories: intake
                .repositories
                .clone()
                .map(|all| all.into_iter().collect()),
            ..IntakePolicy::default()
        }
    }
}

/// Counts requests to GitHub, and keeps what it says of its limit.
fn observer(metrics: &Metrics) -> impl Fn(Observation) + Send + Sync + 'static {
    let requests = metrics.github_requests.clone();
    let limit = metrics.github_rate_remaining.clone();
    move |Observation { outcome, remaining }| {
        requests.with_label_values(&[outcome]).inc();
        if let Some(remaining) = remaining.and_then(|left| i64::try_from(left).ok()) {
            limit.set(remaining);
        }
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}"))
}

async fn open_store(config: &DatabaseConfig) -> anyhow::Result<SqlStore> {
    let address = config.address()?;
    let store = address.open(config.max_connections).await;
    store.context("can't open the database")
}

fn open_cache(config: Option<&RedisConfig>, metrics: &Metrics) -> anyhow::Result<Cache> {
    let Some(config) = config else {
        return Ok(Cache::default());
    };
    let server = redis_server(config)?;
    Ok(Cache::open(server, &config.prefix, metrics.clone()))
}

fn redis_server(config: &RedisConfig) -> anyhow::Result<cache::Server> {
    let url = config.url.reveal("coordinator.redis.url")?;
    cache::Server::new(url.expose_secret(), config.ca_file.as_deref()).context("coordinator.redis")
}

fn github(config: &GitHubConfig) -> anyhow::Result<GitHub> {
    let credentials = match (&config.token, &config.app) {
        (Some(token), None) => As::Token(token.reveal("coordinator.github.token")?),
        (None, Some(app)) => {
            let private_key: SecretString = app
                .private_key
                .reveal("coordinator.github.app.private_key")?;
            As::App {
                id: app.id,
                private_key,
            }
        }
        _ => bail!("coordinator.github: exactly one of `token` and `app` is needed"),
    };
    GitHub::new(GitHubOptions {
        api_url: config.api_url.clone(),
        credentials,
    })
    .context("coordinator.github")
}

/// Says how the database is, and changes nothing there.
///
/// # Errors
/// When it can't be used.
pub async fn check_database(config: &DatabaseConfig) -> anyhow::Result<String> {
    examine(&config.address()?).await
}

/// Asks GitHub who we are: what it says, or its reason for not saying it; and how far this host's clock is
/// ahead of GitHub's, if it answered at all.
pub async fn check_github(config: &GitHubConfig) -> (anyhow::Result<String>, Option<TimeDelta>) {
    let github = match github(config) {
        Ok(github) => github,
        Err(error) => return (Err(error), None),
    };
    let identity = github.identity().await;
    let proxy = github.proxy();
    let way = proxy.map_or_else(String::new, |proxy| format!(", through the proxy {proxy}"));
    let found = identity.map(|identity| format!("{} as {}{way}", config.api_url, identity.login));
    (found.map_err(anyhow::Error::from), github.clock_skew())
}

/// Asks Redis whether it is there and lets us in.
///
/// # Errors
/// Redis' own reason, or the system's.
pub async fn check_redis(config: &RedisConfig) -> anyhow::Result<String> {
    cache::check(&redis_server(config)?, &config.prefix).await?;
    Ok("answers, and may be used".to_owned())
}
