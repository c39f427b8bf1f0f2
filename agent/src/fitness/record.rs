//! The circuit breaker: what the last attempts say about the host. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_domain::outcome::{Failure, FailureKind};

use super::Attempted;
use crate::session::reporter::NO_TOKEN;

/// So many early failures in a row that are alike are the host's fault.
const MOST_ALIKE: usize = 3;
/// The first pause before the self-test is repeated, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The same where the self-test sees nothing wrong, so that a task or a model's answer has to show it.
const TRIAL_PAUSES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(10));

/// A failure before anything was drafted, as far as it may be the host's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Early {
    kind: FailureKind,
    /// The message without what differs from task to task.
    class: String,
    /// The message as people read it, in a line.
    message: String,
    /// What the failure may be about if it is not about the host: a task, or a repository.
    about: String,
}

/// What the last attempts say.
#[derive(Debug, Default)]
pub(super) struct Record {
    fault: Option<Fault>,
    /// The last early failures, all alike.
    alike: Vec<Early>,
    /// It recovered from a fault that the self-test did not see.
    on_trial: bool,
    /// Faults since it last worked.
    faults: u32,
}

#[derive(Debug)]
struct Fault {
    why: String,
    by: By,
}

/// The source that showed a fault, which also has to show that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The agent's self-test failed, so that one which passes ends the fault.
    SelfTest,
    /// Attempts failed alike while the self-test passed, so that the next attempt has to show the end.
    Attempts,
    /// The provider of a model refused a call, so that an answer of its ends the fault.
    Provider,
}

impl Early {
    /// `None` when a failure of this kind says nothing about the host.
    pub(super) fn of(failure: &Failure, attempted: &Attempted) -> Option<Self> {
        let about = match failure.kind {
            // A repository that is gone or closed to us is no fault of the host, nor is a token that
            // the coordinator does not give.
            FailureKind::CloneFailed => attempted.repository.clone(),
            FailureKind::RemoteUnavailable if failure.message.starts_with(NO_TOKEN) => {
                attempted.repository.clone()
            }
            FailureKind::DraftFailed
            | FailureKind::HostFault
            | FailureKind::Internal
            | FailureKind::RemoteUnavailable => attempted.task.to_string(),
            _ => return None,
        };
        let mut lines = failure
            .message
            .lines()
            .filter(|line| !line.trim().is_empty());
        let first = lines.next().unwrap_or_default();
        let last = lines.next_back().unwrap_or_default();
        Some(Self {
            kind: failure.kind,
            class: format!("{}\n{}", class(first), class(last)),
            message: format!("{first} {last}").trim().chars().take(300).collect(),
            about,
        })
    }
}

/// A line without the words that differ from task to task: numbers, ids, paths and addresses.
fn class(line: &str) -> String {
    let differs = |word: &str| word.contains(|c: char| c.is_ascii_digit() || c == '/');
    let words = line.split_whitespace();
    let words = words.map(|word| if differs(word) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

impl Record {
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_ref().map(|fault| fault.why.as_str())
    }

    pub(super) const fn is_on_trial(&self) -> bool {
        self.on_trial
    }

    /// The self-test failed.
    pub(super) fn broken(&mut self, why: String) {
        self.fail(why, By::SelfTest);
    }

    /// An attempt failed in a way that only the host can be blamed for.
    pub(super) fn suspected(&mut self, why: String) {
        self.fail(why, By::Attempts);
    }

    /// The provider of a model refuses what the agent asks.
    pub(super) fn refused(&mut self, why: String) {
        self.fail(why, By::Provider);
    }

    /// True while the provider of a model is known to refuse.
    pub(super) fn is_refused(&self) -> bool {
        self.fault.as_ref().is_some_and(|it| it.by == By::Provider)
    }

    fn fail(&mut self, why: String, by: By) {
        self.faults = self.faults.saturating_add(1);
        self.fault = Some(Fault { why, by });
    }

    /// Takes in an early failure; tells the fault when there were too many alike in a row, which
    /// were not all about one thing. On trial the next one is enough.
    pub(super) fn early(&mut self, early: Early) -> Option<String> {
        let is_alike = |it: &Early| (it.kind, &it.class) == (early.kind, &early.class);
        if !self.alike.last().is_none_or(is_alike) {
            self.alike.clear();
            self.on_trial = false;
        }
        self.alike.push(early);
        let spare = self.alike.len().saturating_sub(MOST_ALIKE);
        self.alike.drain(..spare);
        let about: BTreeSet<_> = self.alike.iter().map(|it| &it.about).collect();
        let last = self.alike.last()?;
        let blames_host = last.kind == FailureKind::HostFault;
        let is_one_thing = about.len() == 1 && !blames_host && !self.on_trial;
        let is_host = self.alike.len() >= MOST_ALIKE && !is_one_thing;
        is_host.then(|| {
            format!(
                "{MOST_ALIKE} attempts in a row ended alike before anything was drafted (`{}`): {}",
                last.kind, last.message
            )
        })
    }

    /// An attempt came as far as a draft.
    pub(super) fn works(&mut self) {
        self.alike.clear();
        self.on_trial = false;
        if self.fault.is_none() {
            self.faults = 0;
        }
    }

    /// How long to wait before the self-test is repeated; `None` without a fault.
    pub(super) fn pause(&self) -> Option<Duration> {
        let fault = self.fault.as_ref()?;
        let (first, longest) = match fault.by {
            By::SelfTest => PAUSES,
            By::Attempts | By::Provider => TRIAL_PAUSES,
        };
        let doubled = first.saturating_mul(1 << self.faults.saturating_sub(1).min(10));
        Some(doubled.min(longest))
    }

    /// The self-test passed after the pause.
    pub(super) fn recovered(&mut self) {
        if let Some(fault) = self.fault.take() {
            self.on_trial |= fault.by == By::Attempts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchfleet_domain::TaskId;

    fn early(kind: FailureKind, message: &str, repository: &str) -> Early {
        let failure = Failure {
            kind,
            message: message.to_owned(),
            retryable: true,
            discard_checkpoints: false,
        };
        let attempted = Attempted {
            task: TaskId::new(),
            repository: repository.to_owned(),
            drafted: false,
        };
        Early::of(&failure, &attempted).unwrap()
    }

    fn draft(message: &str) -> Early {
        early(FailureKind::DraftFailed, message, "acme/calc")
    }

    #[test]
    fn three_early_failures_alike_are_the_hosts_fault() {
        let mut record = Record::default();
        let message = |n| {
            format!(
                "the draft command failed with exit code 1; it said last:\nat {n}\nnot logged in ({n})"
            )
        };
        assert_eq!(record.early(draft(&message(17))), None);
        assert_eq!(record.early(draft(&message(4))), None);
        let fault = record.early(draft(&message(9))).unwrap();
        assert!(fault.contains("not logged in"), "{fault}");
        // Any draft between them shows that the host works.
        let mut record = Record::default();
        for _ in 0..5 {
            assert_eq!(record.early(draft(&message(1))), None);
            assert_eq!(record.early(draft(&message(2))), None);
            record.works();
        }
        // So does another failure.
        for _ in 0..5 {
            assert_eq!(record.early(draft("one thing")), None);
            assert_eq!(record.early(draft("another thing")), None);
        }
    }

    #[test]
    fn one_task_or_repository_that_always_fails_is_not_the_hosts_fault() {
        let mut record = Record::default();
        let same = draft("no");
        for _ in 0..5 {
            assert_eq!(record.early(same.clone()), None);
        }
        let mut record = Record::default();
        let clone = |of| early(FailureKind::CloneFailed, "it is not there", of);
        for _ in 0..5 {
            assert_eq!(record.early(clone("acme/gone")), None);
        }
        assert!(record.early(clone("acme/other")).is_some());
    }

    #[test]
    fn a_network_that_is_away_is_the_hosts_fault_and_a_token_that_is_refused_is_not() {
        let mut record = Record::default();
        let away = |message| early(FailureKind::RemoteUnavailable, message, "acme/calc");
        let refused = format!("{NO_TOKEN}: the App is not installed");
        for _ in 0..5 {
            assert_eq!(record.early(away(&refused)), None);
        }
        let unknown = "git fetch: could not resolve host";
        assert_eq!(record.early(away(unknown)), None);
        assert_eq!(record.early(away(unknown)), None);
        assert!(record.early(away(unknown)).is_some());
    }

    #[test]
    fn a_tool_that_says_thrice_that_it_is_not_logged_in_stops_the_agent_also_for_one_task() {
        let mut record = Record::default();
        let no_login = early(FailureKind::HostFault, "it is not logged in", "acme/calc");
        assert_eq!(record.early(no_login.clone()), None);
        assert_eq!(record.early(no_login.clone()), None);
        assert!(record.early(no_login).is_some());
    }

    #[test]
    fn failures_of_a_task_say_nothing_about_the_host() {
        let attempted = Attempted {
            task: TaskId::new(),
            repository: "acme/calc".to_owned(),
            drafted: false,
        };
        for kind in [
            FailureKind::BadRepositoryConfiguration,
            FailureKind::DiffRejected,
            FailureKind::TestsFailed,
            FailureKind::BaseMoved,
            FailureKind::Interrupted,
        ] {
            let failure = Failure {
                kind,
                message: String::new(),
                retryable: false,
                discard_checkpoints: false,
            };
            assert_eq!(Early::of(&failure, &attempted), None, "{kind}");
        }
    }

    #[test]
    fn on_trial_one_more_is_enough_and_the_pauses_grow() {
        let mut record = Record::default();
        for expected in [30, 60, 120, 240, 480, 600, 600] {
            let fault = loop {
                if let Some(fault) = record.early(draft("no model")) {
                    break fault;
                }
                assert_eq!(expected, 30, "on trial one is enough");
            };
            record.suspected(fault);
            assert_eq!(record.pause(), Some(Duration::from_secs(expected)));
            record.recovered();
            assert!(record.fault().is_none() && record.is_on_trial());
            assert_eq!(record.pause(), None);
        }
        record.works();
        assert!(!record.is_on_trial());
        assert_eq!(record.early(draft("no model")), None);
    }

    #[test]
    fn what_the_self_test_sees_is_over_when_it_passes() {
        let mut record = Record::default();
        record.broken("git does not work".to_owned());
        assert_eq!(record.pause(), Some(Duration::from_secs(1)));
        record.broken("git does not work".to_owned());
        assert_eq!(record.pause(), Some(Duration::from_secs(2)));
        record.recovered();
        assert!(record.fault().is_none() && !record.is_on_trial());
    }

    #[test]
    fn a_provider_that_refuses_is_over_when_it_answers_and_the_pauses_grow() {
        let mut record = Record::default();
        for expected in [30, 60, 120] {
            record.refused("the provider does not accept the key".to_owned());
            assert!(record.is_refused());
            assert_eq!(record.pause(), Some(Duration::from_secs(expected)));
        }
        record.recovered();
        assert!(record.fault().is_none() && !record.is_refused());
        assert!(!record.is_on_trial(), "its answer was the trial");
    }
}
