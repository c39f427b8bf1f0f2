//! The two agents under one adapter: the mock of the kit and the real one.

use std::path::Path;
use std::time::Duration;

use patchfleet_agent::{AgentConfig, IdTaken};
use patchfleet_domain::Work;
use patchfleet_proto::v1;
use patchfleet_testkit::github::Simulator;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, Profile};
use patchfleet_testkit::stub_coordinator::StubCoordinator;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The agent's id.
pub(crate) const ID: &str = "general-1";
/// How long an agent may take to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// An agent with two slots that accepts what it can and never finishes it by itself.
pub(crate) trait Part: Sized {
    /// Starts one.
    async fn start(stub: &StubCoordinator) -> Self;
    /// Where its tasks' repository is.
    fn clone_url(&self) -> String;
    /// Has it ask for a token to read; one that needs one asks by itself.
    fn ask(&self, work: Work);
    /// Asks it to end in order.
    fn leave(&self);
    /// Waits until it has ended, after [`Part::leave`].
    async fn gone(self);
    /// Waits until it gives up because another process has its id.
    async fn gave_up(self);
}

/// The kit's.
pub(crate) struct Mock(MockAgent);

impl Part for Mock {
    async fn start(stub: &StubCoordinator) -> Self {
        let profile = Profile::new(&stub.url(), stub.key(), &ID.parse().unwrap());
        let hold = |_: &_| Conduct::Hold { events: Vec::new() };
        Self(MockAgent::start(profile, hold))
    }

    fn clone_url(&self) -> String {
        "http://127.0.0.1/acme/orders.git".to_owned()
    }

    fn ask(&self, work: Work) {
        let read = v1::CredentialScope::Read;
        self.0.request_credential(work, read, "of the mock");
    }

    fn leave(&self) {
        self.0.goodbye();
    }

    async fn gone(self) {
        let ended = self.0.wait("the end", |seen| seen.endings > 0);
        ended.await.unwrap();
    }

    async fn gave_up(self) {
        let taken = self.0.wait("the end", |seen| seen.id_taken);
        taken.await.unwrap();
    }
}

/// The real one; its drafts wait for a gate that nobody opens.
pub(crate) struct Real {
    github: Simulator,
    running: JoinHandle<anyhow::Result<()>>,
    shutdown: CancellationToken,
    _folder: TempDir,
}

impl Part for Real {
    async fn start(stub: &StubCoordinator) -> Self {
        let github = Simulator::start().await.unwrap();
        let folder = TempDir::new().unwrap();
        let seed = folder.path().join("seed");
        std::fs::create_dir(&seed).unwrap();
        std::fs::write(seed.join("calc.py"), "ANSWER = 42\n").unwrap();
        github.create_repository("acme/orders", &seed).unwrap();
        stub.grant(v1::Token {
            token: github.bot_token(),
            expires_unix_ms: u64::MAX,
            api_url: github.base_url().to_owned(),
        });
        let gate = folder.path().join("gate");
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let config = config(stub, &folder.path().join("work"), &gate);
        let shutdown = CancellationToken::new();
        let running = patchfleet_agent::run(config, shutdown.clone());
        Self {
            github,
            running: TaskTracker::new().spawn(running),
            shutdown,
            _folder: folder,
        }
    }

    fn clone_url(&self) -> String {
        self.github.clone_url("acme/orders")
    }

    /// It does, to clone.
    fn ask(&self, _: Work) {}

    fn leave(&self) {
        self.shutdown.cancel();
    }

    async fn gone(mut self) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.running).await;
        ended.unwrap().unwrap().unwrap();
    }

    async fn gave_up(mut self) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.running).await;
        let error = ended.unwrap().unwrap().unwrap_err();
        assert!(error.is::<IdTaken>(), "{error:#}");
        let says = format!("another process with the id `{ID}` is connected");
        assert!(error.to_string().contains(&says), "{error:#}");
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn config(stub: &StubCoordinator, root: &Path, gate: &Path) -> AgentConfig {
    let config = serde_json::json!({
        "id": ID,
        "type": "general",
        "slots": 2,
        "coordinator": { "url": stub.url(), "key": stub.key() },
        "workspace": { "root": root },
        // The gate is the test's own.
        "sandbox": { "backend": "none", "required": false },
        "shutdown_deadline": "1s",
        "draft": { "mode": "cli", "command": ["cat", gate] },
    });
    serde_json::from_value(config).unwrap()
}
