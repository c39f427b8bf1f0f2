//! The stub's side of one stream: record, answer, cut.

use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::fleet_server::Fleet;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::answers::{Answer, Step};
use super::{Heard, Open, State};

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
        let cut = self.shutdown.child_token();
        let state = self.state.clone();
        self.tasks.spawn(async move {
            let stream = Stream { state, tx, cut };
            stream.run(request.into_inner()).await;
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// One stream; it becomes the open one with its registration.
struct Stream {
    state: watch::Sender<State>,
    tx: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    cut: CancellationToken,
}

impl Stream {
    async fn run(self, mut incoming: Streaming<v1::AgentMessage>) {
        let mut number = 0;
        self.state.send_modify(|state| {
            state.streams += 1;
            number = state.streams;
        });
        let cut = self.cut.clone();
        while let Some(Ok(Some(message))) = cut.run_until_cancelled(incoming.message()).await {
            self.state
                .send_modify(|state| self.hear(state, number, message));
        }
        if self.cut.is_cancelled() {
            // When the channel is full, dropping it ends the stream as well.
            let _ = self
                .tx
                .try_send(Err(Status::unavailable("cut by the stub")));
        }
        self.state.send_modify(|state| {
            state.open.take_if(|open| open.stream == number);
        });
    }

    fn hear(&self, state: &mut State, stream: usize, message: v1::AgentMessage) {
        let said = message.body.clone();
        state.heard.push(Heard { stream, message });
        match said {
            Some(Said::Register(register)) => {
                let welcome = state.answers.welcome(stream, &register);
                state.open = Some(Open {
                    stream,
                    tx: self.tx.clone(),
                    cut: self.cut.clone(),
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
                let credential = state.answers.credential(&request);
                state.pending.push_back(Body::Credential(credential));
            }
            Some(Said::Heartbeat(_) | Said::Goodbye(_)) | None => {}
        }
        state.flush();
    }

    fn answer(&self, state: &mut State, report: &v1::Report) {
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
            Answer::Cut => self.cut.cancel(),
        }
    }
}
