//! An agent without a workspace, a model or a repository: it speaks `fleet.v1` over real gRPC
//! and does with each assignment what its script says.
//!
//! For tests and benchmarks of coordinators. It keeps the agent's part of the contract (numbered
//! reports, said again until they are acknowledged; heartbeats; resume) and can break off in
//! every way that a real one can: a cut stream, a crash, a restart, a goodbye. The contract suite
//! (`tests/contract`) holds it to what the real agent does.
//! Absent: any real work, and any knowledge of how a coordinator is built.

mod conduct;
mod state;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use patchfleet_domain::{AgentId, AgentType, SecurityLevel, Work, WorkEvent};
use patchfleet_proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use conduct::{Conduct, sample_pull_request};
use state::State;
pub use state::{Closed, Seen};

/// How long [`MockAgent::wait`] waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who the agent is and where it connects.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The coordinator, `http://…`.
    pub coordinator: String,
    /// The fleet's key.
    pub key: String,
    /// `Register.agent_id`; text, so that a bad one can be tried.
    pub id: String,
    /// `Register.agent_type`.
    pub agent_type: String,
    /// `Register.capabilities`.
    pub capabilities: Vec<String>,
    /// `Register.clearance`.
    pub clearance: String,
    /// `Register.slots`.
    pub slots: u32,
    /// `Register.protocol`.
    pub protocol: u32,
    /// How long it thinks before it answers an assignment.
    pub response_delay: Duration,
}

impl Profile {
    /// A general agent with two slots that answers at once.
    pub fn new(coordinator: &str, key: &str, id: &AgentId) -> Self {
        Self {
            coordinator: coordinator.to_owned(),
            key: key.to_owned(),
            id: id.to_string(),
            agent_type: AgentType::general().to_string(),
            capabilities: Vec::new(),
            clearance: SecurityLevel::Internal.to_string(),
            slots: 2,
            protocol: patchfleet_proto::PROTOCOL,
            response_delay: Duration::ZERO,
        }
    }
}

/// Decides what is done with an assignment.
type Script = dyn Fn(&v1::Assign) -> Conduct + Send + Sync;

/// What all parts of one agent share.
struct Shared {
    profile: Profile,
    script: Box<Script>,
    state: watch::Sender<State>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A running mock agent. It vanishes without a word when it is dropped.
pub struct MockAgent {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for MockAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MockAgent")
            .field("id", &self.shared.profile.id)
            .field("seen", &self.seen())
            .finish_non_exhaustive()
    }
}

impl MockAgent {
    /// Starts one that connects at once; `script` is asked about each assignment.
    pub fn start(
        profile: Profile,
        script: impl Fn(&v1::Assign) -> Conduct + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            profile,
            script: Box::new(script),
            state: watch::Sender::new(State::default()),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        });
        shared.tasks.spawn(stream::keep_connected(shared.clone()));
        Self { shared }
    }

    /// What it saw so far.
    pub fn seen(&self) -> Seen {
        self.shared.state.borrow().seen.clone()
    }

    /// How many assignments it got.
    pub fn calls(&self) -> usize {
        self.shared.state.borrow().seen.assigns.len()
    }

    /// Waits until what it saw satisfies `wanted`, and returns that.
    ///
    /// # Errors
    /// After 30 seconds, naming `what` was waited for and what was seen instead.
    pub async fn wait(
        &self,
        what: &str,
        mut wanted: impl FnMut(&Seen) -> bool,
    ) -> anyhow::Result<Seen> {
        let mut changes = self.shared.state.subscribe();
        let satisfied = changes.wait_for(|state| wanted(&state.seen));
        match tokio::time::timeout(PATIENCE, satisfied).await {
            Ok(state) => Ok(state
                .context("the mock agent's state is gone")?
                .seen
                .clone()),
            Err(_) => anyhow::bail!("waited {PATIENCE:?} for {what}; saw {:#?}", self.seen()),
        }
    }

    /// Waits until it is welcome.
    ///
    /// # Errors
    /// After 30 seconds, see [`Self::wait`].
    pub async fn wait_connected(&self) -> anyhow::Result<Seen> {
        self.wait("a welcome", |seen| seen.connected).await
    }

    /// Reports something about an attempt, numbered after what was reported before.
    pub fn report(&self, work: Work, event: WorkEvent) {
        self.shared
            .state
            .send_modify(|state| state.report(work, event));
    }

    /// Says the newest report of an attempt once more, as if its acknowledgement had been lost.
    pub fn repeat_last_report(&self, work: Work) {
        self.shared
            .state
            .send_modify(|state| state.repeat_last(work));
    }

    /// Asks for a credential, again on each stream until it is answered; the answer comes to [`Seen::credentials`] under `request_id`.
    pub fn request_credential(&self, work: Work, scope: v1::CredentialScope, request_id: &str) {
        let request = v1::CredentialRequest {
            work: Some(work.into()),
            scope: scope.into(),
            request_id: request_id.to_owned(),
        };
        self.shared.state.send_modify(|state| state.ask(request));
    }

    /// Asks whether a call of a model may be made; the answer comes to [`Seen::reservations`] under the
    /// call's name.
    pub fn reserve(&self, request: v1::ReservationRequest) {
        self.shared
            .state
            .send_modify(|state| state.say(v1::agent_message::Body::ReservationRequest(request)));
    }

    /// Says something of itself in its next heartbeats, such as `maintenance`; sent at once.
    pub fn set_state(&self, agent_state: patchfleet_domain::AgentState) {
        let slots = self.shared.profile.slots;
        self.shared.state.send_modify(|state| {
            state.says = Some(agent_state);
            let heartbeat = state.heartbeat(slots);
            state.say(v1::agent_message::Body::Heartbeat(heartbeat));
        });
    }

    /// Cuts the stream and stays away; the work goes on and its reports are kept.
    pub fn cut(&self) {
        self.shared.state.send_modify(State::disconnect);
    }

    /// Hangs: the stream stays open, and nothing is said or heard on it any more.
    pub fn fall_silent(&self) {
        self.shared.state.send_modify(|state| state.silent = true);
    }

    /// Comes back after [`Self::cut`], [`Self::crash`], [`Self::fall_silent`], a goodbye, or when
    /// it gave up because another process has its id.
    pub fn reconnect(&self) {
        self.shared.state.send_modify(|state| {
            state.away = false;
            state.silent = false;
            state.seen.id_taken = false;
        });
    }

    /// Dies: the stream is cut, all work and all reports are gone.
    pub fn crash(&self) {
        self.shared.state.send_modify(State::crash);
    }

    /// Dies and comes back as a new process.
    pub fn restart(&self) {
        self.crash();
        self.reconnect();
    }

    /// Says goodbye and goes; all work is dropped.
    pub fn goodbye(&self) {
        self.shared.state.send_modify(|state| {
            state.stop_jobs();
            state.say(v1::agent_message::Body::Goodbye(v1::Goodbye {}));
        });
    }
}

impl Drop for MockAgent {
    fn drop(&mut self) {
        self.crash();
        self.shared.shutdown.cancel();
    }
}
