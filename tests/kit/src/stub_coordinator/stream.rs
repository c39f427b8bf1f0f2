//! The stub's side of one stream: record, answer, cut.

use std::time::Duration;

use patchfleet_domain::{Agent, AgentState};
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::fleet_server::Fleet;
use patchfleet_proto::{FREE_WITHIN, PROTOCOL, PUSHBACK, convert, v1};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::answers::{Answer, Resume, Step};
use super::{End, Heard, Open, State};

/// Messages on their way to an agent.
const OUTGOING: usize = 1024;
/// How long a stream may stay silent before it says who it is.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// When an agent that found no room is to come back.
const FULL_PUSHBACK_MS: u64 = 100;

/// The gRPC service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) state: watch::Sender<State>,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl Fleet for Service {
    type ConnectStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let wanted = format!("Bearer {}", self.state.borrow().answers.key);
        let shown = request.metadata().get("authorization");
        if shown.is_none_or(|shown| shown.as_bytes() != wanted.as_bytes()) {
            return Err(Status::unauthenticated("authentication failed"));
        }
        if self.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        let mut number = None;
        self.state.send_modify(|state| {
            if state.connected < state.answers.max_agents {
                state.connected += 1;
                state.streams += 1;
                number = Some(state.streams);
            }
        });
        let number = number.ok_or_else(full)?;
        let (tx, rx) = mpsc::channel(OUTGOING);
        let end = End {
            ended: self.shutdown.child_token(),
            ..End::default()
        };
        let state = self.state.clone();
        self.tasks.spawn(async move {
            let stream = Stream {
                number,
                state,
                tx,
                end,
                agent: String::new(),
            };
            stream.run(request.into_inner()).await;
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// The answer to streams that come too late, or stayed too long.
fn shutting_down() -> Status {
    Status::unavailable("the stub is shutting down")
}

/// The answer to streams that are too many.
fn full() -> Status {
    let mut status = Status::resource_exhausted("as many agents are connected as may be");
    let pushback = MetadataValue::from(FULL_PUSHBACK_MS);
    status.metadata_mut().insert(PUSHBACK, pushback);
    status
}

/// Why the registration is refused, if it is: as asked for, or because another process has the id.
fn refusal(state: &mut State, register: &v1::Register) -> Option<Status> {
    if let Some(refusal) = state.refusals.pop_front() {
        return Some(refusal);
    }
    if register.protocol != PROTOCOL {
        let text = format!("field `register.protocol`: this stub speaks version {PROTOCOL}");
        return Some(Status::failed_precondition(text));
    }
    if let Err(error) = Agent::try_from(register) {
        return Some(Status::invalid_argument(error.to_string()));
    }
    if register.instance.parse::<Uuid>().is_err() {
        let text = "field `register.instance`: it is not a UUID";
        return Some(Status::invalid_argument(text));
    }
    if let Err(error) = convert::works(register.resume.clone()) {
        return Some(Status::invalid_argument(error.to_string()));
    }
    let open = state.open.as_ref()?;
    if open.agent != register.agent_id || open.instance == register.instance {
        return None;
    }
    let text = format!("another process with the id `{}` is connected", open.agent);
    let mut status = Status::already_exists(text);
    let silence = state.answers.silence().as_millis();
    let free_within = MetadataValue::from(u64::try_from(silence).unwrap_or(u64::MAX));
    status.metadata_mut().insert(FREE_WITHIN, free_within);
    Some(status)
}

/// One stream; it becomes the open one with its registration.
struct Stream {
    number: usize,
    state: watch::Sender<State>,
    tx: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    end: End,
    /// Who it is, once that was said.
    agent: String,
}

impl Stream {
    async fn run(mut self, mut incoming: Streaming<v1::AgentMessage>) {
        let ended = self.end.ended.clone();
        loop {
            let listening = tokio::time::timeout(self.patience(), incoming.message());
            let message = match ended.run_until_cancelled(listening).await {
                Some(Ok(Ok(Some(message)))) => message,
                Some(Err(_)) => {
                    let text = "nothing was heard for a whole lease";
                    self.end.with(Status::deadline_exceeded(text));
                    break;
                }
                _ => break,
            };
            let leaves = matches!(message.body, Some(Said::Goodbye(_)));
            let state = self.state.clone();
            state.send_modify(|state| self.hear(state, message));
            if leaves {
                break;
            }
        }
        if ended.is_cancelled() {
            let why = self.end.why.get().cloned();
            // When the channel is full, dropping it ends the stream as well.
            let _ = self.tx.try_send(Err(why.unwrap_or_else(shutting_down)));
        }
        self.state.send_modify(|state| {
            state.connected -= 1;
            state.open.take_if(|open| open.stream == self.number);
        });
    }

    /// How long it may say nothing.
    fn patience(&self) -> Duration {
        if self.agent.is_empty() {
            REGISTER_WITHIN
        } else {
            self.state.borrow().answers.silence()
        }
    }

    /// Answers; an agent that does not read is cut off.
    fn say(&self, body: Body) {
        let message = v1::CoordinatorMessage { body: Some(body) };
        if self.tx.try_send(Ok(message)).is_err() {
            self.end
                .with(Status::unavailable("the agent does not read"));
        }
    }

    fn hear(&mut self, state: &mut State, message: v1::AgentMessage) {
        let said = message.body.clone();
        let registers = matches!(said, Some(Said::Register(_)));
        let is_first = !state.heard.iter().any(|it| it.stream == self.number);
        if registers != is_first {
            let wrong = if is_first {
                "the first message has to be `register`"
            } else {
                "`register` comes once, and first"
            };
            return self.end.with(Status::invalid_argument(wrong));
        }
        state.heard.push(Heard {
            stream: self.number,
            message,
        });
        match said {
            Some(Said::Register(register)) => self.register(state, register),
            Some(Said::Heartbeat(heartbeat)) => self.heartbeat(state, &heartbeat),
            Some(Said::Report(report)) => self.report(state, report),
            Some(Said::CredentialRequest(request)) => self.credential(state, request),
            Some(Said::ReservationRequest(request)) => self.reservation(state, request),
            Some(Said::Goodbye(_)) => state.attempts.give_up(&self.agent),
            None => {}
        }
    }

    fn register(&mut self, state: &mut State, register: v1::Register) {
        if let Some(refusal) = refusal(state, &register) {
            return self.end.with(refusal);
        }
        self.agent.clone_from(&register.agent_id);
        let older = state.open.take_if(|it| it.agent == register.agent_id);
        if let Some(older) = older {
            older.end.with(Status::aborted("a newer stream took over"));
        }
        if state.answers.resume == Resume::Drop {
            let all = register.resume.iter();
            all.for_each(|work| state.attempts.end(Some(work)));
        }
        let reconciled = state.attempts.reconcile(&self.agent, register.resume);
        self.say(Body::Welcome(
            state.answers.welcome(self.number, &reconciled),
        ));
        for cancel in reconciled.cancel {
            self.say(Body::Cancel(cancel));
        }
        for assign in reconciled.again {
            self.say(Body::Assign(assign));
        }
        state.open = Some(Open {
            stream: self.number,
            agent: register.agent_id,
            instance: register.instance,
            tx: self.tx.clone(),
            end: self.end.clone(),
        });
        state.flush();
    }

    fn heartbeat(&self, state: &mut State, heartbeat: &v1::Heartbeat) {
        if let Err(error) = heartbeat.state.parse::<AgentState>() {
            let text = format!("field `heartbeat.state`: {error}");
            return self.end.with(Status::invalid_argument(text));
        }
        if let Err(error) = convert::works(heartbeat.current.clone()) {
            return self.end.with(Status::invalid_argument(error.to_string()));
        }
        let (works, ends) = state.attempts.heartbeat(&self.agent, &heartbeat.current);
        for end in ends {
            self.say(end);
        }
        if state.answers.renew && !works.is_empty() {
            self.say(Body::Renewed(v1::Renewed { works }));
        }
    }

    fn credential(&self, state: &mut State, request: v1::CredentialRequest) {
        if state.withheld > 0 {
            state.withheld -= 1;
            return;
        }
        let answer = if state.attempts.is_live(&self.agent, request.work.as_ref()) {
            state.answers.credential(request.scope())
        } else {
            Err("the attempt is not this agent's, or not live any more".to_owned())
        };
        let answer = match answer {
            Ok(token) => v1::credential::Answer::Token(token),
            Err(refused) => v1::credential::Answer::Refused(refused),
        };
        self.say(Body::Credential(v1::Credential {
            request_id: request.request_id,
            answer: Some(answer),
        }));
    }

    fn reservation(&self, state: &mut State, request: v1::ReservationRequest) {
        let answer = if state.attempts.is_live(&self.agent, request.work.as_ref()) {
            state.answers.reservation()
        } else {
            v1::reservation::Answer::Refused(
                "the attempt is not this agent's, or not live any more".to_owned(),
            )
        };
        self.say(Body::Reservation(v1::Reservation {
            call: request.call,
            answer: Some(answer),
        }));
    }

    fn report(&self, state: &mut State, report: v1::Report) {
        let (work, seq) = (report.work.clone(), report.seq);
        if work
            .clone()
            .and_then(|it| patchfleet_domain::Work::try_from(it).ok())
            .is_none()
        {
            let text = "field `report.work` is missing, or no attempt";
            return self.end.with(Status::invalid_argument(text));
        }
        let step = Step::of(&report);
        if !state.attempts.report(&self.agent, report) {
            return self.say(Body::Stale(v1::Stale { work }));
        }
        let answer = step.map(|step| state.answers.next(step));
        match answer.unwrap_or_default() {
            Answer::Ack => self.say(Body::ReportAck(v1::ReportAck { work, seq })),
            Answer::Silence => {}
            Answer::Stale => {
                state.attempts.end(work.as_ref());
                self.say(Body::Stale(v1::Stale { work }));
            }
            Answer::Cut => self.end.with(Status::unavailable("cut by the stub")),
        }
    }
}
