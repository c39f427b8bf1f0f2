//! What a mock agent does with an assignment.

use std::sync::Arc;

use patchfleet_domain::{AgentState, Outcome, PullRequestRef, Work, WorkEvent};
use patchfleet_proto::v1;
use tokio_util::sync::CancellationToken;

use super::{Shared, State};

/// What is done with an assignment.
#[derive(Debug, Clone, PartialEq)]
pub enum Conduct {
    /// It is accepted, reported on and finished.
    Finish {
        /// What is reported between, in order.
        events: Vec<WorkEvent>,
        /// How it ends.
        outcome: Outcome,
    },
    /// It is accepted, reported on and then held; the test reports the rest.
    Hold {
        /// What is reported first, in order.
        events: Vec<WorkEvent>,
    },
    /// It is refused.
    Refuse {
        /// Why.
        reason: String,
    },
    /// It is neither accepted nor refused.
    Ignore,
}

impl Conduct {
    /// Accepts, and finishes with a pull request of that number.
    pub fn pull_request(number: u64) -> Self {
        Self::Finish {
            events: Vec::new(),
            outcome: sample_pull_request(number),
        }
    }
}

/// The outcome of an attempt that opened that pull request of `acme/orders`.
pub fn sample_pull_request(number: u64) -> Outcome {
    Outcome::PullRequest {
        pull_request: Box::new(PullRequestRef {
            number,
            url: format!("http://127.0.0.1/acme/orders/pull/{number}"),
            head: format!("patchfleet/{number}-change"),
            head_sha: format!("{number:040x}"),
            base: "main".to_owned(),
            draft: true,
            merged: false,
        }),
        summary: "Changed what was asked for.".to_owned(),
        tests_before: None,
        tests_after: None,
    }
}

/// Takes an assignment; one that is worked on already changes nothing.
pub(super) fn take(shared: &Arc<Shared>, assign: v1::Assign) {
    let Some(work) = assign.work.clone().and_then(|it| Work::try_from(it).ok()) else {
        return;
    };
    let mut job = None;
    shared.state.send_modify(|state| {
        job = begin(state, work, shared.profile.slots);
    });
    if let Some(cancel) = job {
        let shared_job = shared.clone();
        shared.tasks.spawn(async move {
            let acting = act(&shared_job, work, &assign);
            cancel.run_until_cancelled(acting).await;
        });
    }
}

fn begin(state: &mut State, work: Work, slots: u32) -> Option<CancellationToken> {
    if state.jobs.contains_key(&work) {
        return None;
    }
    if state.says == Some(AgentState::Maintenance) {
        let reason = "the agent is draining".to_owned();
        state.report(work, WorkEvent::Refused { reason });
        return None;
    }
    if state.jobs.len() >= slots as usize {
        state.seen.overbooked += 1;
        let reason = "no free slot".to_owned();
        state.report(work, WorkEvent::Refused { reason });
        return None;
    }
    let cancel = CancellationToken::new();
    state.begin(work, cancel.clone());
    Some(cancel)
}

async fn act(shared: &Shared, work: Work, assign: &v1::Assign) {
    if !shared.profile.response_delay.is_zero() {
        tokio::time::sleep(shared.profile.response_delay).await;
    }
    let (events, end) = match (shared.script)(assign) {
        Conduct::Ignore => return,
        Conduct::Refuse { reason } => (vec![], Some(WorkEvent::Refused { reason })),
        Conduct::Hold { events } => (accepted(events), None),
        Conduct::Finish { events, outcome } => {
            (accepted(events), Some(WorkEvent::Finished(outcome)))
        }
    };
    shared.state.send_modify(|state| {
        if !state.jobs.contains_key(&work) {
            return;
        }
        for event in events {
            state.report(work, event);
        }
        if let Some(end) = end {
            state.report(work, end);
        }
    });
}

fn accepted(mut events: Vec<WorkEvent>) -> Vec<WorkEvent> {
    events.insert(0, WorkEvent::Accepted);
    events
}

/// Calls a job off; it ends as cancelled.
pub(super) fn cancel(state: &mut State, work: Work) {
    if let Some(job) = state.end(work) {
        job.cancel();
        state.report(
            work,
            WorkEvent::Finished(Outcome::Cancelled { by_operator: false }),
        );
    }
}
