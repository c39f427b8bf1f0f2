//! Reports: applied in order, acknowledged when durable, answered with `Stale` when they do not
//! count.
//!
//! What comes in while some are being made durable waits and then goes together, so that a busy
//! agent takes few transactions; one batch at a time keeps its reports in order.
//!
//! Reports on a task that the store can't decode are neither acknowledged nor stale: the agent keeps
//! them. After a while the stream ends, and the agent says them again on its next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::{AgentId, Outcome, Report, TaskId, Work, WorkEvent};
use patchfleet_proto::convert::InvalidMessage;
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;

use super::Session;
use super::ended::end_message;
use super::registration::invalid;
use super::start::unavailable;
use crate::dispatch::registry::Ended;
use crate::dispatch::service::Shared;
use crate::store::{Cas, StoreError, StoreResult};

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
    fate: Fate,
    ended: Option<Ended>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It counted; its number.
    Applied(u64),
    /// It does not count.
    Stale,
    /// It does not count, as the task was called off while the attempt went on.
    CalledOff,
    /// Its task can't be decoded now: the agent keeps it.
    Kept,
}

/// The reports of a stream that are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Reports {
    waiting: Vec<Reported>,
    /// What the batch on its way is about.
    flying: BTreeSet<Work>,
    /// One batch at most.
    flight: JoinSet<Result<Vec<Landed>, Status>>,
    /// Attempts whose reports the agent keeps, and since when there are such.
    kept: BTreeSet<Work>,
    kept_since: Option<Instant>,
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

    /// Since when the agent keeps reports that could not be applied.
    pub(super) const fn kept_since(&self) -> Option<Instant> {
        self.kept_since
    }

    fn take(&mut self, shared: &Arc<Shared>, agent: &AgentId, reported: Reported) {
        // Those that come after one that is kept are kept as well: they have an order.
        if !self.kept.contains(&reported.work()) {
            self.waiting.push(reported);
            self.depart(shared, agent);
        }
    }

    /// Leaves reports to the agent that could not be applied, and those that came after them.
    fn keep(&mut self, landed: &[Landed]) {
        let kept = landed.iter().filter(|it| it.fate == Fate::Kept);
        self.kept.extend(kept.map(|it| it.work));
        if !self.kept.is_empty() {
            self.kept_since.get_or_insert_with(Instant::now);
            self.waiting.retain(|it| !self.kept.contains(&it.work()));
        }
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
        self.reports.keep(&landed);
        self.reports.depart(&self.shared, &self.agent);
        for Landed { work, fate, ended } in landed {
            if fate == Fate::Kept {
                continue;
            }
            if let Some(how) = ended {
                self.shared.registry.release(&self.agent, work, how);
            }
            let body = match fate {
                Fate::Applied(seq) => {
                    let work = Some(work.into());
                    Body::ReportAck(v1::ReportAck { work, seq })
                }
                Fate::CalledOff => self.cancel_or_stale(work),
                Fate::Stale | Fate::Kept => end_message(work, false),
            };
            self.outgoing.say(body).await?;
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
    let mut landed: Vec<Landed> = Vec::with_capacity(batch.len());
    let mut reports = Vec::with_capacity(batch.len());
    for reported in batch {
        let work = reported.work();
        let owns = owns(&shared, &agent, work).await;
        match (owns, reported) {
            (Ok(true), Reported::Report(report)) => reports.push(report),
            (owns, reported) => {
                landed.extend(apply(&shared, &mut reports, &landed).await?);
                let (fate, ended) = match (owns, reported) {
                    (Ok(true), Reported::Unintelligible(_, error)) => {
                        refuse(&shared, work, &error).await?
                    }
                    (Err(error), _) => (unreadable(&error)?, None),
                    (Ok(_), _) => (Fate::Stale, None),
                };
                landed.push(Landed { work, fate, ended });
            }
        }
    }
    landed.extend(apply(&shared, &mut reports, &landed).await?);
    find_called_off(&shared, &agent, &mut landed).await;
    Ok(landed)
}

/// Tells reports on attempts that were called off from those that are stale for another reason. The
/// last report of an attempt is stale either way: there is nothing to call off any more.
async fn find_called_off(shared: &Shared, agent: &AgentId, landed: &mut [Landed]) {
    let stale = |it: &Landed| it.fate == Fate::Stale && it.ended.is_none();
    let works: BTreeSet<_> = landed
        .iter()
        .filter(|it| stale(it))
        .map(|it| it.work)
        .collect();
    let works: Vec<_> = works.into_iter().collect();
    let called_off = shared.store.called_off(agent, &works).await;
    let called_off = called_off.unwrap_or_else(|error| {
        tracing::warn!(%error, "can't see which attempts were called off");
        BTreeSet::new()
    });
    for landed in landed.iter_mut().filter(|it| stale(it)) {
        if called_off.contains(&landed.work) {
            landed.fate = Fate::CalledOff;
        }
    }
}

/// True when the attempt is or was this agent's; ended ones are left to the store, which
/// knows a report that was said twice from one that comes too late.
async fn owns(shared: &Shared, agent: &AgentId, work: Work) -> StoreResult<bool> {
    if shared.registry.holds(agent, work) {
        return Ok(true);
    }
    let holder = shared.store.holder(work).await?;
    Ok(holder.is_some_and(|holder| holder == *agent))
}

/// What becomes of reports that the store refused: they are kept when what is stored of their task
/// can't be decoded; otherwise the stream ends.
fn unreadable(error: &StoreError) -> Result<Fate, Status> {
    match error {
        StoreError::Corrupt(_) => {
            tracing::error!(%error, "reports are left to their agent until their task can be read");
            Ok(Fate::Kept)
        }
        StoreError::Unavailable(_) | StoreError::Contended(_) => Err(unavailable(error)),
    }
}

/// Applies the reports, and takes them out; but for those on attempts of which one is kept.
async fn apply(
    shared: &Shared,
    reports: &mut Vec<Report>,
    landed: &[Landed],
) -> Result<Vec<Landed>, Status> {
    let is_kept = |work| {
        let mut kept = landed.iter().filter(|it| it.fate == Fate::Kept);
        kept.any(|it| it.work == work)
    };
    reports.retain(|report| !is_kept(report.work));
    let reports = std::mem::take(reports);
    match persistently(shared, &reports).await {
        Ok(fates) => Ok(land(&reports, fates)),
        // One of them spoils no other.
        Err(_) => apply_apart(shared, &reports).await,
    }
}

/// Applies the reports on each task by themselves.
async fn apply_apart(shared: &Shared, reports: &[Report]) -> Result<Vec<Landed>, Status> {
    let mut by_task: BTreeMap<TaskId, Vec<Report>> = BTreeMap::new();
    for report in reports {
        let task = by_task.entry(report.work.task).or_default();
        task.push(report.clone());
    }
    let mut landed = Vec::with_capacity(reports.len());
    for reports in by_task.values() {
        let fates = match persistently(shared, reports).await {
            Ok(fates) => fates,
            Err(error) => vec![unreadable(&error)?; reports.len()],
        };
        landed.extend(land(reports, fates));
    }
    Ok(landed)
}

/// Applies reports in one transaction; tries until the store is there.
async fn persistently(shared: &Shared, reports: &[Report]) -> StoreResult<Vec<Fate>> {
    let mut pause = PAUSES.0;
    loop {
        match shared.store.report_all(reports).await {
            Ok(applied) => {
                let fate = |(report, applied): (&Report, Cas)| match applied {
                    Cas::Applied(()) => Fate::Applied(report.seq),
                    Cas::Stale => Fate::Stale,
                };
                return Ok(reports.iter().zip(applied).map(fate).collect());
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Contended(_))) => {
                tracing::warn!(%error, count = reports.len(), ?pause, "reports wait for the store");
            }
            Err(error @ StoreError::Corrupt(_)) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn land(reports: &[Report], fates: Vec<Fate>) -> Vec<Landed> {
    let landed = |(report, fate): (&Report, Fate)| Landed {
        work: report.work,
        fate,
        ended: ended(&report.event),
    };
    reports.iter().zip(fates).map(landed).collect()
}

/// A report of its own attempt that nobody can understand: said again it would be no better, so
/// the attempt ends here instead of hanging.
async fn refuse(
    shared: &Shared,
    work: Work,
    error: &InvalidMessage,
) -> Result<(Fate, Option<Ended>), Status> {
    tracing::error!(%work, %error, "a report can't be understood; the attempt is given up");
    let why = format!("the agent reported something that can't be understood: {error}");
    match shared.store.lose(work, &why).await {
        Ok(_) => Ok((Fate::Stale, Some(Ended::Finished { succeeded: false }))),
        Err(error) => Ok((unreadable(&error)?, None)),
    }
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
