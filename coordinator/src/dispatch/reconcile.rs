//! After a registration: which attempts go on, which are sent again, which are lost. Pure.

use patchfleet_domain::{TaskState, Work};

use crate::store::LiveAttempt;

/// What becomes of the attempts that the store or the agent knows of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reconciled {
    /// The agent works on them and they are its own.
    pub(super) keep: Vec<Work>,
    /// The agent works on them, but they are not its own any more.
    pub(super) drop: Vec<Work>,
    /// Taken out of those: the ones whose task was called off, of which the agent hears `Cancel`.
    pub(super) cancel: Vec<Work>,
    /// Assigned, but the agent does not know: the assignment was lost on the way.
    pub(super) again: Vec<Work>,
    /// Accepted, but the process does not work on them: another one did, which is gone. (Its own
    /// attempts an agent names until their end is acknowledged.)
    pub(super) lose: Vec<Work>,
}

/// Compares what the store says is live with what the agent says it is working on.
pub(super) fn reconcile(live: &[LiveAttempt], resume: &[Work]) -> Reconciled {
    let mut result = Reconciled::default();
    for attempt in live {
        let work = attempt.work;
        let list = match attempt.state {
            _ if resume.contains(&work) => &mut result.keep,
            Some(TaskState::Assigned) => &mut result.again,
            Some(_) => &mut result.lose,
            // Nobody can say what is to become of it.
            None => continue,
        };
        list.push(work);
    }
    let is_live = |work: &Work| live.iter().any(|attempt| attempt.work == *work);
    result.drop = resume
        .iter()
        .copied()
        .filter(|work| !is_live(work))
        .collect();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchfleet_domain::{AttemptNumber, TaskId};

    fn live(state: TaskState) -> LiveAttempt {
        let work = Work {
            task: TaskId::new(),
            attempt: AttemptNumber(1),
        };
        LiveAttempt {
            work,
            state: Some(state),
        }
    }

    #[test]
    fn a_reconnecting_agent_keeps_what_is_its_own() {
        let (running, gone) = (live(TaskState::Testing), live(TaskState::InProgress));
        let resume = [running.work, gone.work];
        let result = reconcile(std::slice::from_ref(&running), &resume);
        assert_eq!(result.keep, [running.work]);
        assert_eq!(result.drop, [gone.work]);
    }

    #[test]
    fn an_attempt_of_a_task_in_an_unknown_state_is_kept_and_not_lost() {
        let unknown = LiveAttempt {
            state: None,
            ..live(TaskState::InProgress)
        };
        let all = std::slice::from_ref(&unknown);
        assert_eq!(reconcile(all, &[unknown.work]).keep, [unknown.work]);
        assert_eq!(reconcile(all, &[]), Reconciled::default());
    }

    #[test]
    fn a_new_process_loses_what_it_had_accepted_and_gets_the_rest_again() {
        let (accepted, assigned) = (live(TaskState::InProgress), live(TaskState::Assigned));
        let result = reconcile(&[accepted.clone(), assigned.clone()], &[]);
        assert_eq!(result.lose, [accepted.work]);
        assert_eq!(result.again, [assigned.work]);
    }
}
