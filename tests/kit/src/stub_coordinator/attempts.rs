//! The attempts that a stub assigned, by the rules that every coordinator has: whose an attempt is,
//! which report counts, and what a registration keeps.

use std::collections::BTreeSet;

use patchfleet_domain::{Report, Work, WorkEvent};
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;

/// An attempt that was assigned.
#[derive(Debug)]
struct Attempt {
    work: Work,
    agent: String,
    assign: v1::Assign,
    accepted: bool,
    ended: bool,
    /// Why its task was called off, if it was.
    called_off: Option<String>,
    /// The number of the newest report that counted.
    last_seq: u64,
}

/// What becomes of an agent's attempts with its registration.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    pub(super) keep: Vec<v1::Work>,
    pub(super) drop: Vec<v1::Work>,
    /// Those whose task was called off.
    pub(super) cancel: Vec<v1::Cancel>,
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
                called_off: None,
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

    /// Ends an attempt whose task is called off, of which its agent hears now or when it registers;
    /// false when it was never assigned.
    pub(super) fn call_off(&mut self, cancel: &v1::Cancel) -> bool {
        self.stop(cancel.work.as_ref());
        let work = domain(cancel.work.as_ref());
        let attempt = self.all.iter_mut().find(|it| Some(it.work) == work);
        attempt
            .map(|it| it.called_off = Some(cancel.reason.clone()))
            .is_some()
    }

    /// What an agent hears of an attempt that is not its own any more.
    fn end_message(&self, agent: &str, work: v1::Work) -> Body {
        let attempt = domain(Some(&work)).and_then(|work| self.position(agent, work));
        let reason = attempt.and_then(|at| self.all[at].called_off.clone());
        let work = Some(work);
        match reason {
            Some(reason) => Body::Cancel(v1::Cancel { work, reason }),
            None => Body::Stale(v1::Stale { work }),
        }
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

    /// The attempts whose leases a heartbeat renews, which are all that the agent accepted, and of
    /// what it says it works on those that it is to stop and was not told to yet.
    pub(super) fn heartbeat(
        &mut self,
        agent: &str,
        current: &[v1::Work],
    ) -> (Vec<v1::Work>, Vec<Body>) {
        let its = self.all.iter().filter(|it| it.agent == agent);
        let renewed = its.filter(|it| it.accepted && !it.ended);
        let renewed = renewed.map(|it| it.work.into()).collect();
        let strange = current.iter().cloned();
        let mut strange: Vec<_> = strange
            .filter(|work| !self.is_live(agent, Some(work)))
            .collect();
        strange.retain(|work| domain(Some(work)).is_some_and(|it| self.stopped.insert(it)));
        let ends = strange.into_iter();
        let ends = ends.map(|work| self.end_message(agent, work)).collect();
        (renewed, ends)
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
        let ends = result.drop.into_iter();
        let ends: Vec<_> = ends.map(|work| self.end_message(agent, work)).collect();
        result.drop = Vec::new();
        for end in ends {
            match end {
                Body::Cancel(cancel) => {
                    self.stopped.extend(domain(cancel.work.as_ref()));
                    result.cancel.push(cancel);
                }
                Body::Stale(stale) => result.drop.extend(stale.work),
                _ => {}
            }
        }
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
