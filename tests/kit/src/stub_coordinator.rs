//! A coordinator that does what it is told: a real gRPC server that sends the assignments it is
//! given, answers each kind of report as it was asked to, cuts streams, and records all that
//! agents say.
//!
//! For tests of agents and of anything that speaks `fleet.v1` as one. Absent: a store, leases that
//! run out, planning. What it decides is what every coordinator does, and the contract suite holds
//! it to that: who may register, whose an attempt is, what counts of what is said about it, and how
//! long an agent may be silent. What tests send goes to the agent that registered last.

mod answers;
mod attempts;
mod stream;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::fleet_server::FleetServer;
use patchfleet_proto::{MAX_MESSAGE_BYTES, v1};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

pub use answers::{Answer, Answers, Resume, Step};
use attempts::Attempts;

/// How long [`StubCoordinator::wait_for`] waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something an agent said.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Which stream it came on; they count from 1.
    pub stream: usize,
    /// The message.
    pub message: v1::AgentMessage,
}

/// The open stream.
#[derive(Debug)]
struct Open {
    stream: usize,
    agent: String,
    instance: String,
    tx: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    end: End,
}

/// Ends a stream, with a reason.
#[derive(Debug, Clone, Default)]
struct End {
    ended: CancellationToken,
    why: Arc<OnceLock<Status>>,
}

impl End {
    /// The first reason counts.
    fn with(&self, status: Status) {
        let _ = self.why.set(status);
        self.ended.cancel();
    }
}

#[derive(Debug, Default)]
struct State {
    heard: Vec<Heard>,
    answers: Answers,
    streams: usize,
    open: Option<Open>,
    /// Streams that are open, whether registered or not.
    connected: usize,
    /// The attempts that were assigned.
    attempts: Attempts,
    /// Requests for a credential that are not answered.
    withheld: usize,
    /// How the next registrations are refused.
    refusals: VecDeque<Status>,
    /// What waits for an agent to be there.
    pending: VecDeque<Body>,
}

impl State {
    /// Sends what waits, as far as the stream takes it.
    fn flush(&mut self) {
        let Some(open) = self.open.as_mut() else {
            return;
        };
        while let Some(body) = self.pending.pop_front() {
            match &body {
                Body::Assign(assign) => self.attempts.assign(&open.agent, assign),
                Body::Cancel(cancel) => drop(self.attempts.call_off(cancel)),
                Body::Stale(stale) => self.attempts.stop(stale.work.as_ref()),
                _ => {}
            }
            let body_again = body.clone();
            let message = v1::CoordinatorMessage { body: Some(body) };
            if open.tx.try_send(Ok(message)).is_err() {
                self.pending.push_front(body_again);
                self.open = None;
                return;
            }
        }
    }
}

/// A running stub. Its server ends when it is dropped.
#[derive(Debug)]
pub struct StubCoordinator {
    address: SocketAddr,
    key: String,
    state: watch::Sender<State>,
    shutdown: CancellationToken,
}

impl StubCoordinator {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(answers: Answers) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("the stub coordinator found no free port")?;
        let address = listener.local_addr()?;
        let key = answers.key.clone();
        let state = watch::Sender::new(State {
            answers,
            ..State::default()
        });
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let service = FleetServer::new(stream::Service {
            state: state.clone(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let ended = shutdown.clone().cancelled_owned();
        tasks.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, ended),
        );
        Ok(Self {
            address,
            key,
            state,
            shutdown,
        })
    }

    /// Where agents connect, as `http://…`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key that agents have to show.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Sends a message; waits in line while no agent is registered. A cancel waits for an agent that
    /// resumes the attempt.
    pub fn send(&self, body: Body) {
        self.state.send_modify(|state| {
            let is_away = state.open.is_none() && state.pending.is_empty();
            if let Body::Cancel(cancel) = &body
                && is_away
                && state.attempts.call_off(cancel)
            {
                return;
            }
            state.pending.push_back(body);
            state.flush();
        });
    }

    /// Assigns a task.
    pub fn assign(&self, assign: v1::Assign) {
        self.send(Body::Assign(assign));
    }

    /// From now on, answers reports of that kind so.
    pub fn answer(&self, step: Step, answer: Answer) {
        self.state.send_modify(|state| {
            state.answers.reports.insert(step, answer);
        });
    }

    /// Answers the next report of that kind so; asked several times, the next ones in order.
    pub fn answer_once(&self, step: Step, answer: Answer) {
        self.state.send_modify(|state| {
            state
                .answers
                .once
                .entry(step)
                .or_default()
                .push_back(answer);
        });
    }

    /// From now on, grants that token to requests for a credential.
    pub fn grant(&self, token: v1::Token) {
        self.state
            .send_modify(|state| state.answers.credential = Ok(token));
    }

    /// Leaves the next request for a credential without an answer; asked several times, the next ones.
    pub fn withhold_credential(&self) {
        self.state.send_modify(|state| state.withheld += 1);
    }

    /// From now on, treats what agents want to resume so.
    pub fn on_resume(&self, resume: Resume) {
        self.state
            .send_modify(|state| state.answers.resume = resume);
    }

    /// Cuts the open stream, if there is one.
    pub fn cut(&self) {
        self.end(Status::unavailable("cut by the stub"));
    }

    /// Ends the open stream with that status, if there is one.
    pub fn end(&self, status: Status) {
        self.state.send_modify(|state| {
            if let Some(open) = state.open.take() {
                open.end.with(status);
            }
        });
    }

    /// Refuses the next registration so; asked several times, the next ones in order.
    pub fn refuse_once(&self, status: Status) {
        self.state
            .send_modify(|state| state.refusals.push_back(status));
    }

    /// Sends a message without a body, as one of a kind that the agent does not know.
    pub fn send_unknown(&self) {
        self.state.send_modify(|state| {
            if let Some(open) = &state.open {
                let unknown = v1::CoordinatorMessage { body: None };
                // A channel that is full has ended the stream already.
                let _ = open.tx.try_send(Ok(unknown));
            }
        });
    }

    /// All that was heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.state.borrow().heard.clone()
    }

    /// How many streams were opened so far.
    pub fn streams(&self) -> usize {
        self.state.borrow().streams
    }

    /// Waits until `look` finds something in what was heard.
    ///
    /// # Errors
    /// After 20 seconds, naming `what` was waited for and what was heard instead.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&[Heard]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut found = None;
        let mut changes = self.state.subscribe();
        let waiting = changes.wait_for(|state| {
            found = look(&state.heard);
            found.is_some()
        });
        let waited = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        found.filter(|_| waited).with_context(|| {
            let heard = self.heard();
            format!("waited {PATIENCE:?} for {what}; heard {heard:#?}")
        })
    }

    /// Waits for the first report of that kind and returns it.
    ///
    /// # Errors
    /// After 20 seconds, see [`Self::wait_for`].
    pub async fn wait_for_report(&self, step: Step) -> anyhow::Result<v1::Report> {
        let what = format!("a report {step:?}");
        self.wait_for(&what, |heard| {
            reports(heard).find(|it| Step::of(it) == Some(step))
        })
        .await
    }

    /// All reports so far, in the order of their arrival.
    pub fn reports(&self) -> Vec<v1::Report> {
        reports(&self.state.borrow().heard).collect()
    }

    /// Ends the stub as a coordinator that is stopped ends: agents are sent away to come back.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }
}

impl Drop for StubCoordinator {
    fn drop(&mut self) {
        self.cut();
        self.shutdown.cancel();
    }
}

fn reports(heard: &[Heard]) -> impl Iterator<Item = v1::Report> + '_ {
    heard.iter().filter_map(|it| match &it.message.body {
        Some(v1::agent_message::Body::Report(report)) => Some(report.clone()),
        _ => None,
    })
}

/// An assignment of an issue of `acme/orders`, for tests that care about the attempt only.
pub fn sample_assign(work: patchfleet_domain::Work) -> v1::Assign {
    v1::Assign {
        work: Some(work.into()),
        task: Some(v1::Task {
            kind: "issue".to_owned(),
            repository: "acme/orders".to_owned(),
            issue: Some(7),
            branch: "patchfleet/7-totals-are-wrong".to_owned(),
            title: "Totals are wrong".to_owned(),
            body: "The total of an order leaves out the last line.".to_owned(),
            author: "octocat".to_owned(),
            triggered_by: "octocat".to_owned(),
            clone_url: "http://127.0.0.1/acme/orders.git".to_owned(),
            default_branch: "main".to_owned(),
            agent_type: "general".to_owned(),
            priority: 5,
            ..v1::Task::default()
        }),
        ..v1::Assign::default()
    }
}
