//! A running agent between a stub coordinator and a GitHub simulator.

use std::path::PathBuf;
use std::time::Duration;

use patchfleet_agent::nodes::ChangeConfig;
use patchfleet_agent::sandbox::{Backend, SandboxConfig};
use patchfleet_agent::{
    AgentConfig, CliDraftConfig, CommitConfig, CoordinatorAddress, DraftConfig, PublishConfig,
    SetupConfig, TestsConfig, WorkspaceConfig,
};
use patchfleet_config::{HumanDuration, Secret};
use patchfleet_domain::{AgentType, AttemptNumber, SecurityLevel, TaskId, Work};
use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_testkit::github::Simulator;
use patchfleet_testkit::stub_coordinator::{Answers, Heard, StubCoordinator, sample_assign};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an agent may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

const CALC: &str = "def add(a, b):\n    return a - b\n";
const TEST: &str = "import unittest\nfrom calc import add\n\n\nclass CalcTest(unittest.TestCase):\n    \
     def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n";

/// Mends the repository's one fault.
pub(crate) const FIX: &str = "sed -i 's/a - b/a + b/' calc.py";

pub(crate) struct Scene {
    pub(crate) stub: StubCoordinator,
    pub(crate) github: Simulator,
    folder: TempDir,
}

/// An agent that runs.
pub(crate) struct Agent {
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Answers::default()).await
    }

    /// A scene whose coordinator answers so; tokens are the simulator's.
    pub(crate) async fn with(answers: Answers) -> Self {
        let github = Simulator::start().await.unwrap();
        let folder = TempDir::new().unwrap();
        let seed = folder.path().join("seed");
        std::fs::create_dir(&seed).unwrap();
        std::fs::write(seed.join("calc.py"), CALC).unwrap();
        std::fs::write(seed.join("test_calc.py"), TEST).unwrap();
        github.create_repository("acme/orders", &seed).unwrap();
        let token = v1::Token {
            token: github.bot_token(),
            expires_unix_ms: u64::MAX,
            api_url: github.base_url().to_owned(),
        };
        let answers = Answers {
            credential: Ok(token),
            ..answers
        };
        Self {
            stub: StubCoordinator::start(answers).await.unwrap(),
            github,
            folder,
        }
    }

    /// An assignment of an issue of the repository, as that attempt.
    pub(crate) fn assign(&self, work: Work) -> v1::Assign {
        let mut assign = sample_assign(work);
        let task = assign.task.as_mut().unwrap();
        task.clone_url = self.github.clone_url("acme/orders");
        assign
    }

    pub(crate) fn config(&self, script: &str) -> AgentConfig {
        AgentConfig {
            id: "general-1".parse().unwrap(),
            agent_type: AgentType::general(),
            capabilities: ["python".into()].into(),
            clearance: SecurityLevel::Internal,
            slots: 2,
            coordinator: CoordinatorAddress {
                url: self.stub.url().parse().unwrap(),
                key: Secret::Inline(self.stub.key().into()),
            },
            workspace: WorkspaceConfig {
                root: self.folder.path().join("work"),
                retention: HumanDuration::from_secs(3600),
                max_disk_mib: None,
                overlay: true,
            },
            draft: draft_by(["sh", "-c", script].map(str::to_owned).into()),
            // Scripts wait at gates of the test's own and leave notes beside them.
            sandbox: SandboxConfig {
                required: false,
                backend: Backend::None,
                ..SandboxConfig::default()
            },
            review: None,
            summary: None,
            change: ChangeConfig::default(),
            setup: SetupConfig::default(),
            repositories: Vec::new(),
            tests: TestsConfig::default(),
            commit: CommitConfig::default(),
            publish: PublishConfig::default(),
            shutdown_deadline: HumanDuration::from_secs(10),
            http: None,
        }
    }

    /// Starts an agent whose drafts are made by a shell script.
    pub(crate) fn agent(&self, script: &str) -> Agent {
        Agent::start(self.config(script))
    }

    /// A file of the test's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A gate for scripts: `cat` of this path blocks until [`Self::open_gate`].
    pub(crate) fn gate(&self) -> PathBuf {
        let path = self.folder.path().join("gate");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }

    /// Lets the script go on.
    pub(crate) async fn open_gate(&self) {
        let path = self.folder.path().join("gate");
        let open = tokio::fs::write(path, "");
        tokio::time::timeout(PATIENCE, open).await.unwrap().unwrap();
    }

    /// Waits until an attempt is in a node of the flow.
    pub(crate) async fn wait_for_node(&self, work: Work, node: &str) {
        let what = format!("{node} of {work}");
        let at_node = |report: &v1::Report| match &report.event {
            Some(v1::report::Event::Progress(progress)) => progress.detail == node,
            _ => false,
        };
        let look = |heard: &[Heard]| reports_of(work, heard).into_iter().find(at_node);
        self.stub.wait_for(&what, look).await.unwrap();
    }

    /// Waits for the end of an attempt.
    pub(crate) async fn outcome(&self, work: Work) -> v1::finished::Outcome {
        let look = |heard: &[Heard]| reports_of(work, heard).into_iter().find_map(outcome);
        let what = format!("the end of {work}");
        self.stub.wait_for(&what, look).await.unwrap()
    }

    /// Waits for a heartbeat on that stream or a later one.
    pub(crate) async fn heartbeat(
        &self,
        what: &str,
        stream: usize,
        is_it: impl Fn(&v1::Heartbeat) -> bool,
    ) -> v1::Heartbeat {
        let look = |heard: &[Heard]| {
            let mut later = heard.iter().filter(|it| it.stream >= stream);
            let beat = |it: &Heard| match &it.message.body {
                Some(Said::Heartbeat(beat)) if is_it(beat) => Some(beat.clone()),
                _ => None,
            };
            later.find_map(beat)
        };
        self.stub.wait_for(what, look).await.unwrap()
    }
}

impl Agent {
    pub(crate) fn start(config: AgentConfig) -> Self {
        let shutdown = CancellationToken::new();
        let running = TaskTracker::new().spawn(patchfleet_agent::run(config, shutdown.clone()));
        Self { shutdown, running }
    }

    /// Tells it to end and waits until it has.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.ended().await.unwrap();
    }

    /// Waits until it has ended, and says how.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(PATIENCE, self.running);
        ended.await.expect("it ends in time").unwrap()
    }

    /// Ends it the way a power cut would.
    pub(crate) async fn kill(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }
}

pub(crate) fn work(attempt: u32) -> Work {
    Work {
        task: TaskId::new(),
        attempt: AttemptNumber(attempt),
    }
}

/// An attempt's reports, in the order of their arrival.
pub(crate) fn reports_of(work: Work, heard: &[Heard]) -> Vec<v1::Report> {
    let wire = v1::Work::from(work);
    let report = |it: &Heard| match &it.message.body {
        Some(Said::Report(report)) if report.work.as_ref() == Some(&wire) => Some(report.clone()),
        _ => None,
    };
    heard.iter().filter_map(report).collect()
}

/// How an attempt ended, when the report says so.
pub(crate) fn outcome(report: v1::Report) -> Option<v1::finished::Outcome> {
    match report.event {
        Some(v1::report::Event::Finished(finished)) => finished.outcome,
        _ => None,
    }
}

/// Drafts by a command that has a minute.
pub(crate) fn draft_by(command: Vec<String>) -> DraftConfig {
    DraftConfig::Cli(CliDraftConfig {
        timeout: HumanDuration::from_secs(60),
        silence: HumanDuration::from_secs(60),
        ..CliDraftConfig::new(command)
    })
}
