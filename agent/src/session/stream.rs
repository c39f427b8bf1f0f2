//! One stream, from registration to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use patchfleet_domain::Work;
use patchfleet_proto::v1::agent_message::Body as Say;
use patchfleet_proto::v1::coordinator_message::Body as Hear;
use patchfleet_proto::{convert, v1};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};

use super::Client;
use super::desk::Stop;
use crate::member::{Connected, Member};

/// Messages on their way out.
const OUTGOING: usize = 64;
/// How long the coordinator may take to welcome, and a full channel to move.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a stream ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Goodbye was said.
    Goodbye,
    /// Another process with this agent's id took over.
    TakenOver,
    /// It broke.
    Broken {
        /// How long it was there.
        lasted: Duration,
        /// Why, for the log.
        why: String,
    },
}

/// A stream that was welcomed.
pub(super) struct Stream<'a> {
    member: &'a Arc<Member>,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    incoming: Streaming<v1::CoordinatorMessage>,
    heartbeat: Duration,
    lease: Duration,
    opened: Instant,
    _connected: Connected<'a>,
}

impl<'a> Stream<'a> {
    /// Registers, and settles with the coordinator which attempts go on.
    pub(super) async fn open(mut client: Client, member: &'a Arc<Member>) -> anyhow::Result<Self> {
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        let register = v1::AgentMessage {
            body: Some(Say::Register(member.register())),
        };
        outgoing
            .send(register)
            .await
            .context("the channel is new")?;
        member.desk.start_over();
        let call = client.connect(ReceiverStream::new(messages));
        let answer = tokio::time::timeout(PATIENCE, call)
            .await
            .context("the coordinator did not answer")?;
        let mut incoming = answer.map_err(refused)?.into_inner();
        let first = tokio::time::timeout(PATIENCE, incoming.message())
            .await
            .context("the coordinator did not welcome the agent")?
            .map_err(refused)?;
        let Some(v1::CoordinatorMessage {
            body: Some(Hear::Welcome(welcome)),
            ..
        }) = first
        else {
            bail!("the coordinator's first message is no welcome");
        };
        for work in convert::works(welcome.drop)? {
            tracing::info!(task.id = %work.task, attempt = work.attempt.0, "the attempt is not ours any more");
            member.desk.stop(work, Stop::Dropped);
        }
        tracing::info!(session = welcome.session, "registered with the coordinator");
        Ok(Self {
            member,
            outgoing,
            incoming,
            heartbeat: Duration::from_millis(welcome.heartbeat_interval_ms.max(100)),
            lease: Duration::from_millis(welcome.lease_ttl_ms),
            opened: Instant::now(),
            _connected: member.connected(),
        })
    }

    /// Talks and listens until the stream breaks or it is time to say goodbye.
    pub(super) async fn run(mut self, goodbye: &CancellationToken) -> anyhow::Result<Ended> {
        let mut heartbeat = tokio::time::interval(self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let heard = tokio::select! {
                heard = self.incoming.message() => heard,
                () = self.member.desk.news.notified() => {
                    self.say_news().await?;
                    continue;
                }
                _ = heartbeat.tick() => {
                    if self.member.desk.is_overdue(self.lease) {
                        return Ok(self.broken("no lease was renewed for a whole lease"));
                    }
                    self.say_how_it_does().await?;
                    continue;
                }
                () = goodbye.cancelled() => {
                    self.say(Say::Goodbye(v1::Goodbye {})).await?;
                    return self.hang_up().await;
                }
            };
            match heard {
                // A body of `None` is something that a newer coordinator knows.
                Ok(Some(message)) => message.body.map_or(Ok(()), |body| self.act_on(body))?,
                Ok(None) => return Ok(self.broken("the coordinator closed it")),
                Err(status) if status.code() == Code::Aborted => return Ok(Ended::TakenOver),
                Err(status) => return Ok(self.broken(status.message())),
            }
        }
    }

    fn broken(&self, why: &str) -> Ended {
        Ended::Broken {
            lasted: self.opened.elapsed(),
            why: why.to_owned(),
        }
    }

    /// Closes our side and waits until the coordinator has closed its own, so that the goodbye
    /// has arrived.
    async fn hang_up(self) -> anyhow::Result<Ended> {
        let Self {
            outgoing,
            mut incoming,
            ..
        } = self;
        drop(outgoing);
        while let Ok(Some(_)) = incoming.message().await {}
        Ok(Ended::Goodbye)
    }

    async fn say_news(&self) -> anyhow::Result<()> {
        // Before the reports: what gave a task back takes no other.
        if self.member.fitness.take_news() {
            self.say_how_it_does().await?;
        }
        for body in self.member.desk.unsaid() {
            self.say(body).await?;
        }
        Ok(())
    }

    async fn say_how_it_does(&self) -> anyhow::Result<()> {
        let mut beat = self.member.heartbeat().await;
        beat.reason = self.member.paths.hide(&beat.reason);
        self.say(Say::Heartbeat(beat)).await
    }

    async fn say(&self, body: Say) -> anyhow::Result<()> {
        let message = v1::AgentMessage { body: Some(body) };
        let sent = tokio::time::timeout(PATIENCE, self.outgoing.send(message)).await;
        sent.context("the stream takes nothing any more")?
            .context("the stream is closed")
    }

    fn act_on(&self, body: Hear) -> anyhow::Result<()> {
        let desk = &self.member.desk;
        match body {
            Hear::Assign(assign) => self.member.assigned(assign)?,
            Hear::ReportAck(ack) => desk.durable(work(ack.work)?, ack.seq),
            Hear::Stale(stale) => desk.stop(work(stale.work)?, Stop::Dropped),
            Hear::Cancel(cancel) => {
                let work = work(cancel.work)?;
                tracing::info!(task.id = %work.task, reason = cancel.reason, "called off");
                desk.stop(work, Stop::Cancelled);
            }
            Hear::Credential(credential) => {
                let answer = match credential.answer {
                    Some(v1::credential::Answer::Token(token)) => Ok(token),
                    Some(v1::credential::Answer::Refused(why)) => Err(why),
                    None => Err("the coordinator's answer is empty".to_owned()),
                };
                desk.answer(&credential.request_id, answer);
            }
            Hear::Reservation(reservation) => {
                let answer = reservation.answer.unwrap_or_else(|| {
                    v1::reservation::Answer::Refused("the coordinator's answer is empty".to_owned())
                });
                desk.reserved(&reservation.call, answer);
            }
            Hear::FollowUp(follow_up) => {
                let (work, follow_up) = follow_up.try_into()?;
                let comment = follow_up.comment;
                if desk.follow_up(work, follow_up) {
                    tracing::info!(task.id = %work.task, comment, "a person added to the request");
                }
            }
            Hear::Drain(drain) => {
                tracing::info!(reason = drain.reason, "draining");
                self.member.drain();
            }
            Hear::Renewed(renewed) => desk.renewed(&convert::works(renewed.works)?),
            Hear::Welcome(_) => {}
        }
        Ok(())
    }
}

fn work(work: Option<v1::Work>) -> anyhow::Result<Work> {
    let work = work.context("a message about work names none")?;
    Ok(work.try_into()?)
}

/// What a refusal means to an operator.
fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::Error::new(status).context("the coordinator refused")
}
