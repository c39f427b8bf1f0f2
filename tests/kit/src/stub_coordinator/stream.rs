//! The stub's side of one stream: record, answer, cut.

use patchfleet_domain::Agent;
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::fleet_server::Fleet;
use patchfleet_proto::{FREE_WITHIN, PROTOCOL, v1};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::answers::{Answer, Step};
use super::{End, Heard, Open, State};

/// Messages on their way to an agent.
const OUTGOING: usize = 1024;

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
        let (tx, rx) = mpsc::channel(OUTGOING);
        let end = End {
            ended: self.shutdown.child_token(),
            ..End::default()
        };
        let state = self.state.clone();
        self.tasks.spawn(async move {
            let stream = Stream { state, tx, end };
            stream.run(request.into_inner()).await;
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
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
    let open = state.open.as_ref()?;
    if open.agent != register.agent_id || open.instance == register.instance {
        return None;
    }
    let text = format!("another process with the id `{}` is connected", open.agent);
    let mut status = Status::already_exists(text);
    let lease = state.answers.lease_ttl.as_millis();
    let free_within = MetadataValue::from(u64::try_from(lease).unwrap_or(u64::MAX));
    status.metadata_mut().insert(FREE_WITHIN, free_within);
    Some(status)
}

/// One stream; it becomes the open one with its registration.
struct Stream {
    state: watch::Sender<State>,
    tx: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    end: End,
}

impl Stream {
    async fn run(self, mut incoming: Streaming<v1::AgentMessage>) {
        let mut number = 0;
        self.state.send_modify(|state| {
            state.streams += 1;
            number = state.streams;
        });
        let ended = self.end.ended.clone();
        while let Some(Ok(Some(message))) = ended.run_until_cancelled(incoming.message()).await {
            let leaves = matches!(message.body, Some(Said::Goodbye(_)));
            self.state
                .send_modify(|state| self.hear(state, number, message));
            if leaves {
                break;
            }
        }
        if ended.is_cancelled() {
            let why = self.end.why.get().cloned();
            let why = why.unwrap_or_else(|| Status::unavailable("the stub ends"));
            // When the channel is full, dropping it ends the stream as well.
            let _ = self.tx.try_send(Err(why));
        }
        self.state.send_modify(|state| {
            state.open.take_if(|open| open.stream == number);
        });
    }

    fn hear(&self, state: &mut State, stream: usize, message: v1::AgentMessage) {
        let said = message.body.clone();
        let registers = matches!(said, Some(Said::Register(_)));
        let is_first = !state.heard.iter().any(|it| it.stream == stream);
        if registers != is_first {
            let wrong = if is_first {
                "the first message has to be `register`"
            } else {
                "`register` comes once, and first"
            };
            return self.end.with(Status::invalid_argument(wrong));
        }
        state.heard.push(Heard { stream, message });
        match said {
            Some(Said::Register(register)) => {
                if let Some(refusal) = refusal(state, &register) {
                    return self.end.with(refusal);
                }
                let older = state.open.take_if(|it| it.agent == register.agent_id);
                if let Some(older) = older {
                    older.end.with(Status::aborted("a newer stream took over"));
                }
                let welcome = state.answers.welcome(stream, &register);
                state.open = Some(Open {
                    stream,
                    agent: register.agent_id,
                    instance: register.instance,
                    tx: self.tx.clone(),
                    end: self.end.clone(),
                });
                state.pending.push_front(Body::Welcome(welcome));
            }
            Some(Said::Heartbeat(heartbeat)) if state.answers.renew => {
                let works = heartbeat.current;
                if !works.is_empty() {
                    let renewed = Body::Renewed(v1::Renewed { works });
                    state.pending.push_back(renewed);
                }
            }
            Some(Said::Report(report)) => self.answer(state, &report),
            Some(Said::CredentialRequest(request)) => {
                let credential = if state.is_given(request.work.as_ref()) {
                    state.answers.credential(&request)
                } else {
                    let refused = "the attempt is not this agent's".to_owned();
                    v1::Credential {
                        request_id: request.request_id,
                        answer: Some(v1::credential::Answer::Refused(refused)),
                    }
                };
                state.pending.push_back(Body::Credential(credential));
            }
            Some(Said::Heartbeat(_) | Said::Goodbye(_)) | None => {}
        }
        state.flush();
    }

    fn answer(&self, state: &mut State, report: &v1::Report) {
        if !state.is_given(report.work.as_ref()) {
            let work = report.work.clone();
            return state.pending.push_back(Body::Stale(v1::Stale { work }));
        }
        let answer = Step::of(report).map(|step| state.answers.next(step));
        let work = report.work.clone();
        match answer.unwrap_or_default() {
            Answer::Ack => {
                let seq = report.seq;
                let ack = v1::ReportAck { work, seq };
                state.pending.push_back(Body::ReportAck(ack));
            }
            Answer::Silence => {}
            Answer::Stale => state.pending.push_back(Body::Stale(v1::Stale { work })),
            Answer::Cut => self.end.with(Status::unavailable("cut by the stub")),
        }
    }
}
