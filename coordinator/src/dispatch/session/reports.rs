//! Reports: applied in order, acknowledged when durable, answered with `Stale` when they do not
//! count.

use std::time::Duration;

use patchfleet_domain::{Outcome, Report, Work, WorkEvent};
use patchfleet_proto::convert::InvalidMessage;
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tonic::Status;

use super::Session;
use super::registration::invalid;
use super::start::unavailable;
use crate::dispatch::registry::Ended;
use crate::store::{Cas, StoreError};

/// Pauses while the store is unavailable: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

impl Session {
    pub(super) async fn report(&mut self, report: v1::Report) -> Result<(), Status> {
        let missing = || invalid(&InvalidMessage::Missing("report.work"));
        let work = report.work.clone().ok_or_else(missing)?;
        let work = Work::try_from(work).map_err(|error| invalid(&error))?;
        if !self.owns(work).await? {
            return self.say_stale(work).await;
        }
        match Report::try_from(report) {
            Ok(report) => self.apply(report).await,
            Err(error) => self.refuse(work, &error).await,
        }
    }

    /// True when the attempt is or was this agent's; ended ones are left to the store, which
    /// knows a report that was said twice from one that comes too late.
    async fn owns(&self, work: Work) -> Result<bool, Status> {
        if self.shared.registry.holds(&self.agent, work) {
            return Ok(true);
        }
        let attempts = self.shared.store.attempts(work.task).await;
        let attempts = attempts.map_err(|error| unavailable(&error))?;
        let is_own = |attempt: &crate::store::AttemptRecord| {
            attempt.number == work.attempt && attempt.agent == self.agent
        };
        Ok(attempts.iter().any(is_own))
    }

    async fn apply(&mut self, report: Report) -> Result<(), Status> {
        let Report { work, seq, .. } = report;
        let applied = self.make_durable(&report).await?;
        if let Some(how) = ended(&report.event) {
            self.shared.registry.release(&self.agent, work, how);
        }
        match applied {
            Cas::Applied(()) => {
                let work = Some(work.into());
                let ack = v1::ReportAck { work, seq };
                self.outgoing.say(Body::ReportAck(ack)).await
            }
            Cas::Stale => self.say_stale(work).await,
        }
    }

    /// Tries until the store has it, or the agent is gone.
    async fn make_durable(&self, report: &Report) -> Result<Cas, Status> {
        let mut pause = PAUSES.0;
        loop {
            match self.shared.store.report(report).await {
                Ok(applied) => return Ok(applied),
                Err(StoreError::Unavailable(error)) => {
                    tracing::warn!(error, work = %report.work, ?pause, "a report waits for the store");
                }
                Err(error @ StoreError::Corrupt(_)) => return Err(unavailable(&error)),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                () = self.outgoing.gone() => return Err(Status::cancelled("the agent is gone")),
            }
        }
    }

    /// A report of its own attempt that nobody can understand: said again it would be no better,
    /// so the attempt ends here instead of hanging.
    async fn refuse(&mut self, work: Work, error: &InvalidMessage) -> Result<(), Status> {
        tracing::error!(%work, %error, "a report can't be understood; the attempt is given up");
        let why = format!("the agent reported something that can't be understood: {error}");
        let lost = self.shared.store.lose(work, &why).await;
        let _ = lost.map_err(|error| unavailable(&error))?;
        let stopped = Ended::Finished { succeeded: false };
        self.shared.registry.release(&self.agent, work, stopped);
        self.say_stale(work).await
    }

    async fn say_stale(&mut self, work: Work) -> Result<(), Status> {
        let work = Some(work.into());
        self.outgoing.say(Body::Stale(v1::Stale { work })).await
    }
}

/// How the attempt ends with that event, if it does.
const fn ended(event: &WorkEvent) -> Option<Ended> {
    match event {
        WorkEvent::Refused { .. } => Some(Ended::Refused),
        WorkEvent::Finished(outcome) => Some(match outcome {
            Outcome::PullRequest { .. } | Outcome::Answer { .. } => {
                Ended::Finished { succeeded: true }
            }
            Outcome::Failed(_) => Ended::Finished { succeeded: false },
            Outcome::Cancelled => Ended::Stopped,
        }),
        WorkEvent::Accepted
        | WorkEvent::Progress { .. }
        | WorkEvent::Log { .. }
        | WorkEvent::Checkpoint(_)
        | WorkEvent::Usage(_) => None,
    }
}
