//! The attempts that a stub assigned, by the rules that every coordinator has: whose an attempt is,
//! which report counts, and what a registration keeps.

use std::collections::BTreeSet;

use patchfleet_domain::{Report, Work, WorkEvent};
use patchfleet_proto::v1;

/// An attempt that was assigned.
#[derive(Debug)]
struct Attempt {
    work: Work,
    agent: String,
    assign: v1::Assign,
    accepted: bool,
    ended: bool,
    /// The number of the newest report that counted.
    last_seq: u64,
}

/// What becomes of an agent's attempts with its registration.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    pub(super) keep: Vec<v1::Work>,
    pub(super) drop: Vec<v1::Work>,
    /// Assignments that were never answered and that the agent does not know.
    pub(super) again: Vec<v1::Assign>,
}

/// All attempts of a stub.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    all: Vec<Attempt>,
    /// Attempts that their agent was told to stop since it registered.
    stopped: BTreeSet<Work>,
}

impl Attempts {
    /// Notes an assignment; one that is said again changes nothing.
    pub(super) fn assign(&mut self, agent: &str, assign: &v1::Assign) {
        let Some(work) = domain(assign.work.as_ref()) else {
            return;
        };
        if self.of(agent, work).is_none() {
            self.all.push(Attempt {
                work,
                agent: agent.to_owned(),
                assign: assign.clone(),
                accepted: false,
                ended: false,
                last_seq: 0,
            });
        }
    }

    /// Ends an attempt, whoever has it: nothing that is said of it from now on counts.
    pub(super) fn end(&mut self, work: Option<&v1::Work>) {
        let work = domain(work);
        let its = self.all.iter_mut().filter(|it| Some(it.work) == work);
        its.for_each(|it| it.ended = true);
    }

    /// Ends an attempt that its agent is being told to stop; it is told once.
    pub(super) fn stop(&mut self, work: Option<&v1::Work>) {
        self.end(work);
        self.stopped.extend(domain(work));
    }

    /// Ends all attempts of an agent that leaves.
    pub(super) fn give_up(&mut self, agent: &str) {
        let its = self.all.iter_mut().filter(|it| it.agent == agent);
        its.for_each(|it| it.ended = true);
    }

    /// True while the attempt is that agent's.
    pub(super) fn is_live(&self, agent: &str, work: Option<&v1::Work>) -> bool {
        let attempt = domain(work).and_then(|work| self.position(agent, work));
        attempt.is_some_and(|at| !self.all[at].ended)
    }

    /// Applies a report; false when it does not count. One that was applied before is as good as
    /// applied, and an assignment is answered once, before anything else is said of it.
    pub(super) fn report(&mut self, agent: &str, report: v1::Report) -> bool {
        let Some(work) = domain(report.work.as_ref()) else {
            return false;
        };
        let Some(attempt) = self.of(agent, work) else {
            return false;
        };
        let Ok(report) = Report::try_from(report) else {
            // Said again it would be no better: the attempt is lost.
            attempt.ended = true;
            return false;
        };
        if report.seq <= attempt.last_seq {
            return true;
        }
        let answers = matches!(
            report.event,
            WorkEvent::Accepted | WorkEvent::Refused { .. }
        );
        if attempt.ended || answers == attempt.accepted {
            return false;
        }
        attempt.last_seq = report.seq;
        attempt.accepted = true;
        attempt.ended = matches!(
            report.event,
            WorkEvent::Refused { .. } | WorkEvent::Finished(_)
        );
        true
    }

    /// Of what an agent says it works on: the attempts whose leases a heartbeat renews, and those
    /// that it is to stop and was not told to yet.
    pub(super) fn heartbeat(
        &mut self,
        agent: &str,
        current: &[v1::Work],
    ) -> (Vec<v1::Work>, Vec<v1::Work>) {
        let (its, strange): (Vec<_>, Vec<_>) = current
            .iter()
            .cloned()
            .partition(|work| self.is_live(agent, Some(work)));
        let is_new = |work: &v1::Work| domain(Some(work)).is_some_and(|it| self.stopped.insert(it));
        (its, strange.into_iter().filter(is_new).collect())
    }

    /// Compares what is live with what a registering agent works on.
    pub(super) fn reconcile(&mut self, agent: &str, resume: Vec<v1::Work>) -> Reconciled {
        self.stopped.clear();
        let mut result = Reconciled::default();
        for attempt in &mut self.all {
            let known = resume.contains(&attempt.work.into());
            if attempt.agent != agent || attempt.ended || known {
                continue;
            }
            if attempt.accepted {
                // Another process worked on it, which is gone.
                attempt.ended = true;
            } else {
                result.again.push(attempt.assign.clone());
            }
        }
        let is_live = |work: &v1::Work| self.is_live(agent, Some(work));
        (result.keep, result.drop) = resume.into_iter().partition(is_live);
        result
    }

    fn position(&self, agent: &str, work: Work) -> Option<usize> {
        let mut all = self.all.iter();
        all.position(|it| it.work == work && it.agent == agent)
    }

    fn of(&mut self, agent: &str, work: Work) -> Option<&mut Attempt> {
        let at = self.position(agent, work)?;
        self.all.get_mut(at)
    }
}

fn domain(work: Option<&v1::Work>) -> Option<Work> {
    work.cloned()?.try_into().ok()
}
