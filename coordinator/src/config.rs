//! The coordinator's section of the configuration, with its defaults.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::Context as _;
use patchfleet_config::{Faults, HumanDuration, Rules, Secret};
use patchfleet_domain::{Budgets, FailurePolicy, RepositoryName};
use serde::Deserialize;
use url::Url;

use crate::store::{Address, Caps};

/// `[coordinator]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// Where webhooks, the API and metrics are served. Loopback unless told otherwise.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// `[coordinator.fleet]`.
    pub fleet: FleetConfig,
    /// `[coordinator.database]`.
    #[serde(default)]
    pub database: DatabaseConfig,
    /// `[coordinator.redis]`.
    pub redis: Option<RedisConfig>,
    /// `[coordinator.github]`.
    pub github: GitHubConfig,
    /// `[coordinator.api]`.
    pub api: ApiConfig,
    /// `[coordinator.intake]`.
    #[serde(default)]
    pub intake: IntakeConfig,
    /// `[coordinator.limits]`: how many tasks may be at work at once.
    #[serde(default)]
    pub limits: Caps,
    /// `[coordinator.budgets]`: how much may be spent on models.
    #[serde(default)]
    pub budgets: Budgets,
    /// `[coordinator.retention]`.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// How long a shutdown may take before what is left is dropped.
    #[serde(default = "default_shutdown")]
    pub shutdown_deadline: HumanDuration,
}

/// How agents connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    /// Where agents connect. Loopback unless told otherwise: the stream is not encrypted.
    #[serde(default = "default_fleet_listen")]
    pub listen: SocketAddr,
    /// What agents have to know to be let in.
    pub key: Secret,
    /// How long an attempt lives without a heartbeat.
    #[serde(default = "default_lease")]
    pub lease: HumanDuration,
    /// How often agents are to give a sign of life.
    #[serde(default = "default_heartbeat")]
    pub heartbeat: HumanDuration,
    /// How long an agent whose stream broke has to come back before its tasks go to others.
    #[serde(default = "default_grace")]
    pub reconnect_grace: HumanDuration,
    /// How long an attempt may take, although its agent lives: the work hangs.
    #[serde(default = "default_deadline")]
    pub attempt_deadline: HumanDuration,
    /// Agents that may be connected at once; others are asked to come back later.
    #[serde(default = "default_max_agents")]
    pub max_agents: usize,
}

/// Where tasks are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:PATH`, or a secret `postgres://…`.
    pub url: Secret,
    /// Connections held to PostgreSQL at most.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
}

impl DatabaseConfig {
    /// Where the tasks are kept.
    ///
    /// # Errors
    /// When the secret is missing, or is no address.
    pub fn address(&self) -> anyhow::Result<Address> {
        let field = "coordinator.database.url";
        let url = self.url.reveal(field)?;
        Address::parse(&url).context(field)
    }
}

/// What is kept beside the database, where it is quicker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://USER:PASSWORD@HOST:PORT/DB`, `rediss://…` over TLS, or `redis+unix:///PATH`.
    pub url: Secret,
    /// The authority (PEM) of the certificate that Redis shows over TLS; those that the host trusts
    /// when left out.
    pub ca_file: Option<PathBuf>,
    /// What its keys begin with; installations that share a Redis need different ones.
    #[serde(default = "default_prefix")]
    pub prefix: String,
}

/// How long what is over is kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Tasks that have ended, with their histories and logs.
    pub tasks: HumanDuration,
    /// Ids of deliveries, by which one that comes again is known.
    pub deliveries: HumanDuration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let days = |count: u64| HumanDuration::from_secs(count * 24 * 60 * 60);
        Self {
            tasks: days(90),
            deliveries: days(30),
        }
    }
}

/// Which GitHub, and as whom.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitHubConfig {
    /// Root of the REST API.
    #[serde(default = "default_api_url")]
    pub api_url: Url,
    /// A personal access token. Either this or `app`.
    pub token: Option<Secret>,
    /// A GitHub App. Either this or `token`.
    pub app: Option<AppConfig>,
    /// Give the personal token to agents on other hosts, too. Each of them can then do whatever
    /// its owner can; an App gives each attempt a token for one repository instead.
    #[serde(default)]
    pub share_token: bool,
    /// One webhook secret, or two while they are being rotated.
    pub webhook_secrets: Vec<Secret>,
}

/// A GitHub App's identity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    /// The App's id.
    pub id: u64,
    /// Its private key, PEM.
    pub private_key: Secret,
}

/// The REST API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// What callers have to know: `Authorization: Bearer …`.
    pub key: Secret,
    /// Requests in a minute that are answered to one address; a tenth of them at once.
    #[serde(default = "default_requests")]
    pub requests_per_minute: NonZeroU32,
}

/// What becomes a task.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntakeConfig {
    /// The label that triggers a task.
    pub label: String,
    /// How many failed attempts a task may have.
    pub max_attempts: u32,
    /// Only these repositories; all that the credentials may see when absent.
    pub repositories: Option<Vec<RepositoryName>>,
    /// What becomes of a task when an issue that it depends on fails: `cancel` or `continue`.
    pub on_dependency_failure: FailurePolicy,
    /// How often GitHub is compared with the tasks, for webhooks that did not arrive; `0s` for never.
    pub sweep: HumanDuration,
}

impl Default for IntakeConfig {
    fn default() -> Self {
        Self {
            label: "patchfleet".to_owned(),
            max_attempts: 3,
            repositories: None,
            on_dependency_failure: FailurePolicy::default(),
            sweep: HumanDuration::from_secs(5 * 60),
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        let path = PathBuf::from("patchfleet.db");
        let url = Secret::Inline(format!("sqlite:{}", path.display()).into());
        Self {
            url,
            max_connections: default_connections(),
        }
    }
}

impl Rules for CoordinatorConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        faults.section("fleet", self.fleet.faults());
        faults.section("github", self.github.faults());
        let connections = ["database.max_connections"];
        faults.rule(
            self.database.max_connections > 0,
            &connections,
            "without a connection nothing can be stored; write 1 or more",
        );
        let prefix = self.redis.as_ref().map(|redis| redis.prefix.as_str());
        let prefix = prefix.is_none_or(|prefix| !prefix.trim().is_empty());
        faults.rule(prefix, &["redis.prefix"], "the prefix of keys is empty");
        let label = !self.intake.label.trim().is_empty();
        faults.rule(label, &["intake.label"], "the label that triggers is empty");
        faults.rule(
            self.intake.max_attempts > 0,
            &["intake.max_attempts"],
            "no task could be worked on; write 1 or more",
        );
        let at_once = "what is over would be removed at once; write a duration such as `90d`";
        for (field, kept) in [
            ("retention.tasks", self.retention.tasks),
            ("retention.deliveries", self.retention.deliveries),
        ] {
            faults.rule(!kept.0.is_zero(), &[field], at_once);
        }
        faults
    }
}

impl Rules for FleetConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        faults.rule(
            !self.heartbeat.0.is_zero(),
            &["heartbeat"],
            "there is no time between two heartbeats; write a duration such as `5s`",
        );
        // One heartbeat may be lost, or late, without the agent losing its work.
        faults.rule(
            self.lease.0 / 2 >= self.heartbeat.0,
            &["lease", "heartbeat"],
            format!(
                "a lease of {} ends before two heartbeats of {} could come; write at least twice the heartbeat",
                self.lease, self.heartbeat
            ),
        );
        faults.rule(
            !self.attempt_deadline.0.is_zero(),
            &["attempt_deadline"],
            "no attempt could be made; write a duration such as `2h`",
        );
        let agents = self.max_agents > 0;
        faults.rule(
            agents,
            &["max_agents"],
            "no agent could connect; write 1 or more",
        );
        faults
    }
}

impl Rules for GitHubConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        faults.rule(
            self.token.is_some() != self.app.is_some(),
            &["token", "app"],
            "exactly one of `token` and `app` is needed",
        );
        faults.rule(
            !self.webhook_secrets.is_empty(),
            &["webhook_secrets"],
            "at least one is needed, or every delivery would be refused",
        );
        let web = matches!(self.api_url.scheme(), "http" | "https");
        faults.rule(
            web,
            &["api_url"],
            "write `https://HOST` or `https://HOST/api/v3`",
        );
        faults
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn default_fleet_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7070))
}

const fn default_lease() -> HumanDuration {
    HumanDuration::from_secs(30)
}

const fn default_heartbeat() -> HumanDuration {
    HumanDuration::from_secs(5)
}

const fn default_grace() -> HumanDuration {
    HumanDuration::from_secs(5)
}

const fn default_deadline() -> HumanDuration {
    HumanDuration::from_secs(2 * 60 * 60)
}

const fn default_max_agents() -> usize {
    20_000
}

const fn default_requests() -> NonZeroU32 {
    NonZeroU32::new(6000).expect("more than none")
}

fn default_prefix() -> String {
    "patchfleet".to_owned()
}

const fn default_shutdown() -> HumanDuration {
    HumanDuration::from_secs(10)
}

const fn default_connections() -> u32 {
    10
}

fn default_api_url() -> Url {
    Url::parse("https://api.github.com").expect("a constant address parses")
}
