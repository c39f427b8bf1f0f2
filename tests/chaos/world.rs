//! The fleet: two coordinators, a PostgreSQL, a Redis, a GitHub, twenty agents, and what is done to
//! them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use patchfleet_testkit::gateway::{Gateway, Line};
use patchfleet_testkit::github::{
    Fault as Trouble, Matcher, Options, Order, Permission, Simulator,
};
use patchfleet_testkit::mock_agent::MockAgent;
use patchfleet_testkit::postgres::Database;
use patchfleet_testkit::process::{Process, Start};
use patchfleet_testkit::redis::Redis;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::json;

use crate::agents;
use crate::daemons::{Daemon, may_mount, sample};
use crate::faults::Fault;

pub(crate) const REPOSITORY: &str = "acme/orders";
const MAINTAINER: &str = "maintainer";
pub(crate) const KEY: &str = "a-key-of-the-chaos-test";
const COORDINATORS: usize = 2;
/// Agents that are processes of their own and do real work, and such as only speak like them.
const DAEMONS: u64 = 4;
const AGENTS: u64 = 16;
/// Short, so that what is lost is found while the test runs.
const LEASE: Duration = Duration::from_secs(3);
/// How long until everything is quiet: when GitHub failed five times in a row, it is left alone for a
/// minute. Where its requests may run out, there are only so many in every hour.
const PATIENCE: Duration = Duration::from_mins(3);
const SCARCE_PATIENCE: Duration = Duration::from_mins(15);
/// An hour of GitHub's limit, where it may run out.
const HOUR: Duration = Duration::from_secs(15);

pub(crate) struct World {
    pub(crate) github: Simulator,
    pub(crate) database: Database,
    redis: Redis,
    pub(crate) issues: Vec<u64>,
    /// Issues that say which other one has to be done first.
    pub(crate) depends_on: BTreeMap<u64, u64>,
    pub(crate) agents: Vec<MockAgent>,
    /// How long until everything is quiet.
    pub(crate) patience: Duration,
    daemons: Vec<Daemon>,
    coordinators: Vec<Option<Process>>,
    http: Gateway,
    fleet: Gateway,
    folder: tempfile::TempDir,
}

impl World {
    /// With so many requests in an hour of [`HOUR`], if that is not nothing.
    pub(crate) async fn start(seed: u64, hourly: u64) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("patchfleet-chaos-")
            .tempdir()
            .unwrap();
        // Minutes here are full of the work of hours, and so are the requests.
        let mut options = Options {
            rate_limit: 1_000_000,
            ..Options::default()
        };
        let mut patience = PATIENCE;
        if hourly > 0 {
            (options.rate_limit, options.rate_window) = (hourly, HOUR);
            patience = SCARCE_PATIENCE;
        }
        let github = Simulator::start_with(options).await.unwrap();
        github
            .create_repository(REPOSITORY, &sample("repository"))
            .unwrap();
        github
            .set_permission(REPOSITORY, MAINTAINER, Permission::Admin)
            .unwrap();
        let mut world = Self {
            github,
            database: Database::create().await.unwrap(),
            redis: Redis::start().await.unwrap(),
            issues: Vec::new(),
            depends_on: BTreeMap::new(),
            agents: Vec::new(),
            patience,
            daemons: Vec::new(),
            coordinators: (0..COORDINATORS).map(|_| None).collect(),
            http: Gateway::start(COORDINATORS).await.unwrap(),
            fleet: Gateway::start(COORDINATORS).await.unwrap(),
            folder,
        };
        for index in 0..COORDINATORS {
            world.start_coordinator(index).await;
        }
        let has_disk = may_mount();
        for number in 0..DAEMONS {
            let (folder, fleet) = (world.folder.path(), world.fleet.address);
            let daemon = Daemon::start(folder, fleet, (number, has_disk));
            world.daemons.push(daemon);
        }
        for number in 0..AGENTS {
            let agent = agents::start(world.fleet.address, KEY, (number, seed));
            world.agents.push(agent);
        }
        let url = format!("http://{}/webhooks/github", world.http.address);
        world.github.add_webhook(&url, KEY);
        world
    }

    async fn start_coordinator(&mut self, index: usize) {
        let name = format!("coordinator-{index}");
        let tree = json!({"coordinator": {
            "listen": "127.0.0.1:0",
            "fleet": {
                "listen": "127.0.0.1:0", "key": {"env": "CHAOS_KEY"},
                "lease": format!("{}s", LEASE.as_secs()), "heartbeat": "300ms", "reconnect_grace": "1s",
            },
            "database": {"url": {"env": "CHAOS_DATABASE"}},
            "redis": {"url": {"env": "CHAOS_REDIS"}},
            "github": {
                "api_url": self.github.base_url(), "token": {"env": "CHAOS_TOKEN"},
                "webhook_secrets": [{"env": "CHAOS_KEY"}],
            },
            "api": {"key": {"env": "CHAOS_KEY"}},
            "intake": {"sweep": "2s"},
        }});
        let config = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&config, toml::to_string(&tree).unwrap()).unwrap();
        let mut process = Process::start(Start {
            program: Path::new(env!("CARGO_BIN_EXE_patchfleet")),
            name: &name,
            args: vec![
                "coordinator".to_owned(),
                "--config".to_owned(),
                config.display().to_string(),
            ],
            secrets: vec![
                ("CHAOS_KEY", KEY.to_owned()),
                ("CHAOS_DATABASE", self.database.url().to_owned()),
                ("CHAOS_REDIS", self.redis.url()),
                ("CHAOS_TOKEN", self.github.bot_token()),
            ],
            folder: self.folder.path(),
        })
        .unwrap();
        let ready = process.ready().await.unwrap();
        self.http.set(index, Some(ready.http));
        self.fleet.set(index, Some(ready.fleet));
        self.coordinators[index] = Some(process);
    }

    fn take_coordinator(&mut self, index: usize) -> Process {
        self.http.set(index, None);
        self.fleet.set(index, None);
        self.coordinators[index].take().unwrap()
    }

    /// A maintainer labels some issues; one in four has to wait for one of the last four.
    pub(crate) fn trigger(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(0..3) {
            let title = format!("Change {}", self.issues.len());
            let back = random.random_range(0..16);
            let last = self.issues.iter().rev().take(4);
            let first = last.copied().nth(back);
            let body = first.map_or_else(
                || "Please.".to_owned(),
                |first| format!("Depends on #{first}."),
            );
            let opened = self
                .github
                .open_issue(REPOSITORY, MAINTAINER, &title, &body, &[]);
            let issue = opened.unwrap();
            self.depends_on.extend(first.map(|first| (issue, first)));
            self.github
                .add_label(REPOSITORY, MAINTAINER, issue, "patchfleet")
                .unwrap();
            self.issues.push(issue);
        }
    }

    pub(crate) async fn inject(&mut self, fault: Fault, random: &mut StdRng) {
        let pause = Duration::from_millis(random.random_range(20..400));
        let index = random.random_range(0..COORDINATORS);
        match fault {
            Fault::KillCoordinator => {
                self.take_coordinator(index).kill().await;
                tokio::time::sleep(pause).await;
                self.start_coordinator(index).await;
            }
            Fault::EndCoordinator => {
                self.take_coordinator(index).end().await.unwrap();
                self.start_coordinator(index).await;
            }
            Fault::FreezeCoordinator => {
                let process = self.coordinators[index].as_ref().unwrap();
                process.freeze().unwrap();
                tokio::time::sleep(LEASE + pause).await;
                process.thaw().unwrap();
            }
            Fault::CutConnections => {
                self.http.cut();
                self.fleet.cut();
            }
            Fault::SlowConnections => {
                let late = Line::Open(Duration::from_millis(random.random_range(5..80)));
                self.pass(late);
                tokio::time::sleep(pause * 3).await;
                self.pass(Line::Open(Duration::ZERO));
            }
            Fault::HoldConnections => {
                self.pass(Line::Held);
                tokio::time::sleep(LEASE + pause).await;
                self.pass(Line::Open(Duration::ZERO));
            }
            Fault::HoldOneWay => {
                self.pass(Line::Deaf);
                tokio::time::sleep(LEASE + pause).await;
                self.pass(Line::Open(Duration::ZERO));
            }
            Fault::KillRedis => {
                self.redis.kill();
                tokio::time::sleep(pause).await;
                self.redis.revive().await.unwrap();
            }
            Fault::RestartDatabase => self.database.restart().await.unwrap(),
            Fault::CutAgent | Fault::RestartAgent | Fault::SilenceAgent | Fault::DismissAgent => {
                let agent = &self.agents[random.random_range(0..self.agents.len())];
                disturb(agent, fault, pause).await;
            }
            Fault::KillDaemon | Fault::EndDaemon | Fault::FreezeDaemon | Fault::FillDisk => {
                let number = random.random_range(0..self.daemons.len());
                harm(&mut self.daemons[number], fault, pause).await;
            }
            Fault::GitHubFails => self.trouble(Trouble::Status(500), 3),
            Fault::GitHubLimits => {
                let retry_after = Duration::from_secs(1);
                self.trouble(Trouble::SecondaryLimit { retry_after }, 2);
            }
            Fault::GitHubCuts => self.trouble(Trouble::Cut, 3),
            Fault::LoseWebhooks => self.github.lose_next(2),
            Fault::DoubleWebhooks => self.github.duplicate_next(4),
            Fault::ReorderWebhooks => {
                self.github.hold_deliveries();
                self.trigger(random);
                self.github.release_deliveries(Order::Reversed);
            }
            Fault::Peace => {}
        }
        tokio::time::sleep(pause).await;
    }

    fn pass(&self, line: Line) {
        self.http.pass(line);
        self.fleet.pass(line);
    }

    fn trouble(&self, trouble: Trouble, times: usize) {
        self.github
            .fault(Matcher::containing("*", "/repos/"), trouble, times);
    }

    /// The faults stop. What GitHub could not deliver is delivered again, as an operator has it
    /// done: GitHub does not try again by itself.
    pub(crate) async fn calm(&mut self) {
        self.github.heal();
        for agent in &self.agents {
            agent.reconnect();
        }
        for _ in 0..600 {
            self.github
                .deliveries_settled(Duration::from_mins(1))
                .await
                .unwrap();
            let deliveries = self.github.deliveries();
            let failed = deliveries.iter().filter(|it| it.status() != Some(202));
            let failed: Vec<_> = failed.map(|it| it.id).collect();
            if failed.is_empty() {
                return;
            }
            for id in failed {
                self.github.redeliver(id).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let deliveries = self.github.deliveries();
        let failed = deliveries.iter().find(|it| it.status() != Some(202));
        panic!("not taken: {failed:#?}\n{}", self.story());
    }

    /// How many deliveries were to be judged later.
    pub(crate) fn deferred(&self) -> usize {
        let deliveries = self.github.deliveries();
        let attempts = deliveries.iter().flat_map(|it| &it.attempts);
        let deferred = attempts.filter(|it| it.answer.contains(r#""outcome":"deferred""#));
        deferred.count()
    }

    /// The ends of the logs.
    pub(crate) fn story(&self) -> String {
        let end = |name: String| {
            let log = self.folder.path().join(format!("{name}.log"));
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(40).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        let coordinators = (0..COORDINATORS).map(|index| format!("coordinator-{index}"));
        let daemons = (0..DAEMONS).map(|number| format!("agent-{number}"));
        let all = coordinators.chain(daemons);
        all.map(end).collect::<Vec<_>>().join("\n---\n")
    }
}

/// Does something to an agent that only speaks like one.
async fn disturb(agent: &MockAgent, fault: Fault, pause: Duration) {
    match fault {
        Fault::CutAgent => {
            agent.cut();
            tokio::time::sleep(pause).await;
            agent.reconnect();
        }
        Fault::RestartAgent => agent.restart(),
        Fault::SilenceAgent => {
            agent.fall_silent();
            tokio::time::sleep(pause).await;
            agent.reconnect();
        }
        Fault::DismissAgent => {
            agent.goodbye();
            tokio::time::sleep(pause).await;
            agent.reconnect();
        }
        other => panic!("{other:?} is nothing that is done to an agent"),
    }
}

/// Does something to an agent's process, or its disk.
async fn harm(daemon: &mut Daemon, fault: Fault, pause: Duration) {
    match fault {
        Fault::KillDaemon => {
            daemon.take().kill().await;
            tokio::time::sleep(pause).await;
            daemon.begin();
        }
        Fault::EndDaemon => {
            // One that has only just begun dies of it.
            let _ = daemon.take().end().await;
            daemon.begin();
        }
        Fault::FreezeDaemon => {
            let process = daemon.process();
            process.freeze().unwrap();
            tokio::time::sleep(LEASE + pause).await;
            process.thaw().unwrap();
        }
        Fault::FillDisk => {
            let filler = daemon.fill_disk();
            tokio::time::sleep(pause * 3).await;
            if let Some(filler) = filler {
                std::fs::remove_file(filler).unwrap();
            }
        }
        other => panic!("{other:?} is nothing that is done to a process"),
    }
}
