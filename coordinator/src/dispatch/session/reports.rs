//! Reports: applied in order, acknowledged when durable, answered with `Stale` when they do not
//! count.
//!
//! What comes in while some are being made durable waits and then goes together, so that a busy
//! agent takes few transactions; one batch at a time keeps its reports in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::{AgentId, Outcome, Report, Work, WorkEvent};
use patchfleet_proto::convert::InvalidMessage;
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tokio::task::JoinSet;
use tonic::Status;

use super::Session;
use super::registration::invalid;
use super::start::unavailable;
use crate::dispatch::registry::Ended;
use crate::dispatch::service::Shared;
use crate::store::{Cas, StoreError};

/// Pauses while the store is unavailable: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Most reports that wait; beyond that the stream is not read.
const MOST: usize = 64;

/// What an agent reported.
#[derive(Debug)]
enum Reported {
    Report(Report),
    /// Something of its own attempt that nobody can understand.
    Unintelligible(Work, InvalidMessage),
}

impl Reported {
    const fn work(&self) -> Work {
        match self {
            Self::Report(report) => report.work,
            Self::Unintelligible(work, _) => *work,
        }
    }
}

/// What became of a report.
#[derive(Debug)]
pub(super) struct Landed {
    work: Work,
    /// Its number, if it counted.
    applied: Option<u64>,
    ended: Option<Ended>,
}

/// The reports of a stream that are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Reports {
    waiting: Vec<Reported>,
    /// What the batch on its way is about.
    flying: BTreeSet<Work>,
    /// One batch at most.
    flight: JoinSet<Result<Vec<Landed>, Status>>,
}

impl Reports {
    /// True when all that was reported is durable.
    pub(super) fn are_durable(&self) -> bool {
        self.flight.is_empty()
    }

    /// True when something about the attempt is not durable yet.
    pub(super) fn tell_of(&self, work: Work) -> bool {
        !self.are_durable() && self.flying.contains(&work)
            || self.waiting.iter().any(|reported| reported.work() == work)
    }

    /// True when more can be taken.
    pub(super) const fn have_room(&self) -> bool {
        self.waiting.len() < MOST
    }

    fn take(&mut self, shared: &Arc<Shared>, agent: &AgentId, reported: Reported) {
        self.waiting.push(reported);
        self.depart(shared, agent);
    }

    /// Sends what waits on its way, unless something is.
    fn depart(&mut self, shared: &Arc<Shared>, agent: &AgentId) {
        if self.flight.is_empty() && !self.waiting.is_empty() {
            let batch = std::mem::take(&mut self.waiting);
            self.flying = batch.iter().map(Reported::work).collect();
            self.flight
                .spawn(make_durable(Arc::clone(shared), agent.clone(), batch));
        }
    }

    /// Waits for what is on its way; for ever when nothing is.
    pub(super) async fn land(&mut self) -> Result<Vec<Landed>, Status> {
        match self.flight.join_next().await {
            Some(Ok(landed)) => landed,
            Some(Err(error)) => {
                tracing::error!(%error, "making reports durable broke off");
                Err(Status::internal("the coordinator's log has the details"))
            }
            None => std::future::pending().await,
        }
    }
}

impl Session {
    pub(super) fn report(&mut self, report: v1::Report) -> Result<(), Status> {
        let missing = || invalid(&InvalidMessage::Missing("report.work"));
        let work = report.work.clone().ok_or_else(missing)?;
        let work = Work::try_from(work).map_err(|error| invalid(&error))?;
        let reported = match Report::try_from(report) {
            Ok(report) => Reported::Report(report),
            Err(error) => Reported::Unintelligible(work, error),
        };
        self.reports.take(&self.shared, &self.agent, reported);
        Ok(())
    }

    /// Tells the agent what became of its reports, and sends the next ones on their way.
    pub(super) async fn settle(&mut self, landed: Vec<Landed>) -> Result<(), Status> {
        self.reports.depart(&self.shared, &self.agent);
        for Landed {
            work,
            applied,
            ended,
        } in landed
        {
            if let Some(how) = ended {
                self.shared.registry.release(&self.agent, work, how);
            }
            let work = Some(work.into());
            self.outgoing
                .say(match applied {
                    Some(seq) => Body::ReportAck(v1::ReportAck { work, seq }),
                    None => Body::Stale(v1::Stale { work }),
                })
                .await?;
        }
        Ok(())
    }
}

/// Makes a batch durable, in its order.
async fn make_durable(
    shared: Arc<Shared>,
    agent: AgentId,
    batch: Vec<Reported>,
) -> Result<Vec<Landed>, Status> {
    let mut landed = Vec::with_capacity(batch.len());
    let mut reports = Vec::with_capacity(batch.len());
    for reported in batch {
        let work = reported.work();
        if !owns(&shared, &agent, work).await? {
            landed.extend(apply(&shared, &mut reports).await?);
            landed.push(Landed {
                work,
                applied: None,
                ended: None,
            });
            continue;
        }
        match reported {
            Reported::Report(report) => reports.push(report),
            Reported::Unintelligible(work, error) => {
                landed.extend(apply(&shared, &mut reports).await?);
                landed.push(refuse(&shared, work, &error).await?);
            }
        }
    }
    landed.extend(apply(&shared, &mut reports).await?);
    Ok(landed)
}

/// True when the attempt is or was this agent's; ended ones are left to the store, which
/// knows a report that was said twice from one that comes too late.
async fn owns(shared: &Shared, agent: &AgentId, work: Work) -> Result<bool, Status> {
    if shared.registry.holds(agent, work) {
        return Ok(true);
    }
    let attempts = shared.store.attempts(work.task).await;
    let attempts = attempts.map_err(|error| unavailable(&error))?;
    let is_own = |attempt: &crate::store::AttemptRecord| {
        attempt.number == work.attempt && attempt.agent == *agent
    };
    Ok(attempts.iter().any(is_own))
}

/// Applies the reports, and takes them out; tries until the store has them.
async fn apply(shared: &Shared, reports: &mut Vec<Report>) -> Result<Vec<Landed>, Status> {
    let mut pause = PAUSES.0;
    let applied = loop {
        match shared.store.report_all(reports).await {
            Ok(applied) => break applied,
            Err(error @ (StoreError::Unavailable(_) | StoreError::Contended(_))) => {
                tracing::warn!(%error, count = reports.len(), ?pause, "reports wait for the store");
            }
            Err(error @ StoreError::Corrupt(_)) => return Err(unavailable(&error)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    };
    let landed = |(report, applied): (Report, Cas)| Landed {
        work: report.work,
        applied: (applied == Cas::Applied(())).then_some(report.seq),
        ended: ended(&report.event),
    };
    Ok(reports.drain(..).zip(applied).map(landed).collect())
}

/// A report of its own attempt that nobody can understand: said again it would be no better, so
/// the attempt ends here instead of hanging.
async fn refuse(shared: &Shared, work: Work, error: &InvalidMessage) -> Result<Landed, Status> {
    tracing::error!(%work, %error, "a report can't be understood; the attempt is given up");
    let why = format!("the agent reported something that can't be understood: {error}");
    let lost = shared.store.lose(work, &why).await;
    let _ = lost.map_err(|error| unavailable(&error))?;
    Ok(Landed {
        work,
        applied: None,
        ended: Some(Ended::Finished { succeeded: false }),
    })
}

/// How the attempt ends with that event, if it does.
const fn ended(event: &WorkEvent) -> Option<Ended> {
    match event {
        WorkEvent::Refused { .. } => Some(Ended::Returned),
        WorkEvent::Finished(outcome) => Some(match outcome {
            Outcome::PullRequest { .. } | Outcome::Answer { .. } => {
                Ended::Finished { succeeded: true }
            }
            Outcome::Failed(failure) if failure.kind.is_return() => Ended::Returned,
            Outcome::Failed(_) => Ended::Finished { succeeded: false },
            Outcome::Cancelled { .. } => Ended::Stopped,
        }),
        WorkEvent::Accepted
        | WorkEvent::Progress { .. }
        | WorkEvent::Log { .. }
        | WorkEvent::Checkpoint(_)
        | WorkEvent::Usage(_) => None,
    }
}
