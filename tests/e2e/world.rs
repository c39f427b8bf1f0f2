//! One whole system for one test: a GitHub, a coordinator, an agent, and a person who acts.

mod leftovers;
mod settings;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use patchfleet_agent::sandbox::{Sandbox, SandboxConfig};
use patchfleet_testkit::github::{Permission, Simulator};
use patchfleet_testkit::postgres::Database;
use patchfleet_testkit::process::{Process, Ready, Start};

use settings::Keys;
pub(crate) use settings::{address, issue, kit, shell};
pub(crate) use watch::DraftGate;
use watch::{LOOK, PATIENCE};

/// The repository that is worked on.
pub(crate) const REPOSITORY: &str = "acme/orders";
/// Where the usual agent's own interface listens.
const AGENT_PORT: u16 = 9464;
/// How often nothing is done.
const NEVER: &str = "0s";
/// Who steers.
pub(crate) const MAINTAINER: &str = "maintainer";

/// Where tasks are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kept {
    Sqlite,
    Postgres,
}

/// A process that may be killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Coordinator,
    Agent,
}

/// What differs from the usual world.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says whether one thing is there, whatever the others say"
)]
pub(crate) struct Plan {
    pub(crate) kept: Kept,
    /// Recorded answers, one per round; the fix comes from a command when there are none.
    pub(crate) answers: Vec<String>,
    /// `.patchfleet.yaml` of the repository instead of the sample's.
    pub(crate) repository_config: Option<&'static str>,
    /// Files that the repository has beside the sample's; `MARKER` in them is a folder of the host
    /// that anybody may write and no run in a sandbox sees.
    pub(crate) more_files: &'static [(&'static str, &'static str)],
    /// The repository names a commit of another one at `vendor/lib`.
    pub(crate) submodule: bool,
    /// How many tasks the agent works on at once, if not as many as usual.
    pub(crate) slots: Option<u32>,
    /// The agent's workspaces lie on a disk of their own of this size, which only root can have.
    pub(crate) disk: Option<&'static str>,
    /// The agent runs as this user, which only root can have done.
    pub(crate) agent_user: Option<u32>,
    /// Shell that the draft command runs when it has mended the sample; `$marker` is a folder of the
    /// host that anybody may write and no run in a sandbox sees.
    pub(crate) afterwards: &'static str,
    /// A Python program that drafts instead of the usual shell, with a model at this address.
    pub(crate) model: Option<(String, String)>,
    /// A model drafts instead of a command: `[agents.draft.model]`.
    pub(crate) drafting_model: Option<serde_json::Value>,
    /// The mode in which that model drafts.
    pub(crate) drafting_mode: &'static str,
    /// A second model reviews: `[agents.review.model]`.
    pub(crate) reviewing_model: Option<serde_json::Value>,
    /// A second model summarizes: `[agents.summary.model]`.
    pub(crate) summarizing_model: Option<serde_json::Value>,
    /// How many tokens one task may use.
    pub(crate) task_tokens: Option<u64>,
    /// `[agents.draft]` as a whole, instead of any of these.
    pub(crate) draft: Option<serde_json::Value>,
    /// `[coordinator.budgets]`.
    pub(crate) budgets: Option<serde_json::Value>,
    /// The agent shows its metrics, at one port of the world's address.
    pub(crate) agent_metrics: bool,
    /// What the repository brings runs in the sandbox, where the host isolates.
    pub(crate) isolated: bool,
    /// Folders of the host that every run sees.
    pub(crate) shown: Vec<PathBuf>,
    /// It runs in containers of this image.
    pub(crate) container: Option<String>,
    /// `patchfleet up`: the agent lives in the coordinator's process.
    pub(crate) together: bool,
    /// Where traces go.
    pub(crate) traces: Option<String>,
    /// How often GitHub is compared with the tasks.
    pub(crate) sweep: &'static str,
    /// How many files the coordinator may have open; as many as the tests when left out.
    pub(crate) files: Option<u32>,
    /// How long anything may take.
    pub(crate) patience: Duration,
    /// How often a task is tried.
    pub(crate) max_attempts: u32,
    /// How long an attempt lives without a sign of life; heartbeats come five times as often.
    pub(crate) lease: Option<&'static str>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            kept: Kept::Sqlite,
            answers: Vec::new(),
            repository_config: None,
            more_files: &[],
            submodule: false,
            slots: None,
            disk: None,
            agent_user: None,
            afterwards: "",
            model: None,
            drafting_model: None,
            drafting_mode: "tools",
            reviewing_model: None,
            summarizing_model: None,
            task_tokens: None,
            draft: None,
            budgets: None,
            agent_metrics: false,
            isolated: true,
            shown: Vec::new(),
            container: None,
            together: false,
            traces: None,
            sweep: NEVER,
            patience: PATIENCE,
            max_attempts: 3,
            lease: None,
            files: None,
        }
    }
}

pub(crate) struct World {
    pub(crate) github: Simulator,
    pub(crate) keys: Keys,
    folder: tempfile::TempDir,
    database: Option<Database>,
    /// Where the coordinator listens: an address of this world's own, so that nobody takes its
    /// ports between a kill and the next start.
    ready: Ready,
    coordinator: Option<Process>,
    agent: Option<Process>,
    /// Agents beside the usual one.
    others: Vec<Process>,
    /// Numbers of all processes that were started.
    pids: Vec<u32>,
    plan: Plan,
    /// The host isolates what repositories bring, as agents want it by default.
    pub(crate) isolates: bool,
}

impl World {
    /// A world as usual, on SQLite.
    pub(crate) async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    /// A world whose issue is worked on, if the host isolates what repositories bring.
    pub(crate) async fn isolating(plan: Plan) -> Option<(Self, u64)> {
        let world = Self::with(plan).await;
        let issue = world.isolates.then(|| world.open())?;
        world.label(issue);
        Some((world, issue))
    }

    /// A world whose agent is connected and whose GitHub sends its webhooks.
    pub(crate) async fn with(plan: Plan) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("patchfleet-e2e-")
            .tempdir()
            .unwrap();
        let github = Simulator::start().await.unwrap();
        settings::repository(&github, folder.path(), &plan);
        for (login, permission) in [
            (MAINTAINER, Permission::Admin),
            ("stranger", Permission::Read),
        ] {
            let set = github.set_permission(REPOSITORY, login, permission);
            set.unwrap();
        }
        let database = match plan.kept {
            Kept::Sqlite => None,
            Kept::Postgres => Some(Database::create().await.unwrap()),
        };
        let address = settings::address();
        settings::make_open_folder(&folder.path().join("draft"));
        settings::make_open_folder(&folder.path().join("marker"));
        let mut world = Self {
            keys: Keys::make(github.bot_token()),
            github,
            folder,
            database,
            ready: Ready {
                http: address,
                fleet: address,
            },
            coordinator: None,
            agent: None,
            others: Vec::new(),
            pids: Vec::new(),
            plan,
            isolates: isolates().await,
        };
        world.start(Part::Coordinator).await;
        if world.plan.together {
            world.idle_agent().await;
        } else {
            world.start(Part::Agent).await;
        }
        world
            .github
            .add_webhook(&world.webhook_url(), &world.keys.webhook);
        world
    }

    /// Starts a part that does not run; a coordinator listens where it did before.
    pub(crate) async fn start(&mut self, part: Part) {
        let program = Path::new(env!("CARGO_BIN_EXE_patchfleet"));
        match part {
            Part::Coordinator => {
                let config = settings::coordinator(self);
                let command = if self.plan.together {
                    "up"
                } else {
                    "coordinator"
                };
                let args = [command, "--config", &config].map(str::to_owned);
                let limit = self
                    .plan
                    .files
                    .map(|files| format!("--nofile={files}:{files}"));
                let limited = limit.map(|limit| [limit, program.display().to_string()]);
                let limited = limited.into_iter().flatten();
                let mut process = Process::start(Start {
                    program: match self.plan.files {
                        Some(_) => Path::new("prlimit"),
                        None => program,
                    },
                    name: "coordinator",
                    args: limited.chain(args).collect(),
                    secrets: self.keys.for_coordinator(&self.database_url()),
                    folder: self.folder(),
                })
                .unwrap();
                self.ready = process.ready().await.unwrap();
                self.pids.extend(process.pid());
                self.coordinator = Some(process);
            }
            Part::Agent => {
                let config = settings::agent(self);
                let (program, before) = self.as_user(self.on_disk(program));
                let args = ["agent", "--config", &config].map(str::to_owned);
                let process = Process::start(Start {
                    program: &program,
                    name: "agent",
                    args: before.into_iter().chain(args).collect(),
                    secrets: self.keys.for_agent(),
                    folder: self.folder(),
                })
                .unwrap();
                self.pids.extend(process.pid());
                self.agent = Some(process);
                self.idle_agent().await;
            }
        }
    }

    /// The program that begins an agent, and what is said to it before the agent's own arguments.
    fn on_disk(&self, program: &Path) -> (PathBuf, Vec<String>) {
        let Some(size) = self.plan.disk else {
            return (program.to_owned(), Vec::new());
        };
        let disk = self.folder().join("workspaces");
        std::fs::create_dir_all(&disk).unwrap();
        let (disk, program) = (disk.display().to_string(), program.display().to_string());
        let script = "mount -t tmpfs -o size=$0 none \"$1\" && shift && exec \"$@\"";
        let args = ["--mount", "sh", "-c", script, size, &disk, &program];
        ("unshare".into(), args.map(str::to_owned).into())
    }

    /// The same as another user, whose workspaces are its own.
    fn as_user(&self, (program, args): (PathBuf, Vec<String>)) -> (PathBuf, Vec<String>) {
        let Some(user) = self.plan.agent_user else {
            return (program, args);
        };
        let workspaces = self.folder().join("workspaces");
        std::fs::create_dir_all(&workspaces).unwrap();
        std::os::unix::fs::chown(&workspaces, Some(user), Some(user)).unwrap();
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.folder(), readable).unwrap();
        let identity = [format!("--reuid={user}"), format!("--regid={user}")];
        let home = format!("HOME={}", workspaces.display());
        let options = ["--clear-groups".to_owned(), "env".to_owned(), home];
        let options = identity.into_iter().chain(options);
        let program = program.display().to_string();
        let all = options.chain([program]).chain(args).collect();
        ("setpriv".into(), all)
    }

    /// Starts one more agent, whose drafts are made by that command.
    pub(crate) fn start_beside(&mut self, id: &str, command: &str) {
        let config = settings::agent_beside(self, id, command);
        let process = Process::start(Start {
            program: Path::new(env!("CARGO_BIN_EXE_patchfleet")),
            name: "agent-beside",
            args: ["agent", "--config", &config].map(str::to_owned).into(),
            secrets: self.keys.for_agent(),
            folder: self.folder(),
        });
        self.others.push(process.unwrap());
    }

    /// Starts one more agent, of that type and named after it, and waits until it is there.
    pub(crate) async fn start_specialist(&mut self, agent_type: &str) {
        let config = settings::specialist(self, agent_type);
        let process = Process::start(Start {
            program: Path::new(env!("CARGO_BIN_EXE_patchfleet")),
            name: "specialist",
            args: ["agent", "--config", &config].map(str::to_owned).into(),
            secrets: self.keys.for_agent(),
            folder: self.folder(),
        });
        self.others.push(process.unwrap());
        let look = async || {
            let list = self.get("api/v1/agents").await?;
            let is_there = |agent: &serde_json::Value| {
                agent["agent_type"] == agent_type && agent["state"] == "idle"
            };
            list["agents"]
                .as_array()?
                .iter()
                .any(is_there)
                .then_some(())
        };
        self.eventually("the specialist", look).await;
    }

    /// Ends a part as a power cut would.
    pub(crate) async fn kill(&mut self, part: Part) {
        self.take(part).kill().await;
    }

    /// Ends a part as a service manager would.
    pub(crate) async fn end(&mut self, part: Part) {
        self.take(part).end().await.unwrap();
    }

    pub(crate) fn take(&mut self, part: Part) -> Process {
        let process = match part {
            Part::Coordinator => self.coordinator.take(),
            Part::Agent => self.agent.take(),
        };
        process.expect("it runs")
    }

    /// The number of the agent's process.
    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().pid().unwrap()
    }

    /// Has the next coordinator keep its tasks there.
    pub(crate) fn move_to(&mut self, database: Database) {
        self.database = Some(database);
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where drafts are counted, a line each.
    pub(crate) fn drafts(&self) -> usize {
        let text = std::fs::read_to_string(self.draft_folder().join("drafts"));
        text.unwrap_or_default().lines().count()
    }

    /// Where the draft command waits at its gate and is counted: all of the host that it sees.
    pub(crate) fn draft_folder(&self) -> PathBuf {
        self.folder().join("draft")
    }

    /// Who writes here was no run in a sandbox.
    pub(crate) fn marker_folder(&self) -> PathBuf {
        self.folder().join("marker")
    }

    pub(crate) fn webhook_url(&self) -> String {
        format!("http://{}/webhooks/github", self.ready.http)
    }

    /// Where agents connect.
    pub(crate) fn fleet_url(&self) -> String {
        format!("http://{}", self.ready.fleet)
    }

    /// The usual agent's own interface; nobody else has this world's address.
    pub(crate) fn agent_address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.ready.fleet.ip(), AGENT_PORT)
    }

    /// A path of the coordinator's API.
    pub(crate) fn api_url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.ready.http)
    }

    pub(crate) fn database_url(&self) -> String {
        match &self.database {
            Some(database) => database.url().to_owned(),
            None => format!("sqlite:{}", self.folder().join("patchfleet.db").display()),
        }
    }
}

/// Whether agents can run with their defaults here; says so where they can't.
#[expect(
    clippy::print_stdout,
    reason = "whoever reads the test's output has to know"
)]
async fn isolates() -> bool {
    let sandbox = Sandbox::new(&SandboxConfig::default(), []);
    let Err(why) = sandbox.check().await else {
        return true;
    };
    println!("agents run without isolation, because {why}");
    false
}
