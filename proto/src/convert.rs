//! Wire ↔ domain, the only place. What comes from the wire is checked here and nowhere else.

mod follow_up;
mod outcome;
mod spending;

use std::str::FromStr;

use patchfleet_domain::agent::{Agent, AgentState, Capability};
use patchfleet_domain::report::{Checkpoint, Report, Usage, WorkEvent};
use patchfleet_domain::{AttemptNumber, Money, Phase, RepositoryName, Work};

use crate::v1;

pub use follow_up::follow_up;
pub use spending::reservation_request;

/// A message that can't be what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// A field that has to be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field's value is not acceptable.
    #[error("field `{field}`: {reason}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

/// Parses a field, naming it when it can't be.
fn parse<T>(field: &'static str, text: &str) -> Result<T, InvalidMessage>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| InvalidMessage::Invalid {
            field,
            reason: error.to_string(),
        })
}

fn present<T>(field: &'static str, value: Option<T>) -> Result<T, InvalidMessage> {
    value.ok_or(InvalidMessage::Missing(field))
}

impl From<Work> for v1::Work {
    fn from(work: Work) -> Self {
        Self {
            task_id: work.task.to_string(),
            attempt: work.attempt.0,
        }
    }
}

impl TryFrom<v1::Work> for Work {
    type Error = InvalidMessage;

    fn try_from(work: v1::Work) -> Result<Self, InvalidMessage> {
        Ok(Self {
            task: parse("work.task_id", &work.task_id)?,
            attempt: AttemptNumber(work.attempt),
        })
    }
}

/// A list of attempts from the wire.
///
/// # Errors
/// The first one that is not valid.
pub fn works(works: Vec<v1::Work>) -> Result<Vec<Work>, InvalidMessage> {
    works.into_iter().map(Work::try_from).collect()
}

/// A reason from the wire; one line that is not too long, or none.
pub fn reason(text: &str) -> Option<String> {
    const LONGEST: usize = 500;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then(|| line.chars().take(LONGEST).collect())
}

/// Repositories from the wire; names that can't be are left out, since they are only hints.
pub fn repositories(names: &[String]) -> std::collections::BTreeSet<RepositoryName> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

impl TryFrom<&v1::Register> for Agent {
    type Error = InvalidMessage;

    fn try_from(register: &v1::Register) -> Result<Self, InvalidMessage> {
        let slots = match register.slots {
            slots @ 1..=1024 => slots,
            other => {
                let reason = format!("{other} is not between 1 and 1024");
                return Err(InvalidMessage::Invalid {
                    field: "register.slots",
                    reason,
                });
            }
        };
        let running = u32::try_from(register.resume.len()).unwrap_or(u32::MAX);
        Ok(Self {
            id: parse("register.agent_id", &register.agent_id)?,
            agent_type: parse("register.agent_type", &register.agent_type)?,
            capabilities: register
                .capabilities
                .iter()
                .map(|text| Capability::from(text.as_str()))
                .collect(),
            clearance: parse("register.clearance", &register.clearance)?,
            slots,
            free_slots: slots.saturating_sub(running),
            state: match register.state.as_str() {
                "" if running == 0 => AgentState::Idle,
                "" => AgentState::Busy,
                word => parse("register.state", word)?,
            },
            reason: reason(&register.reason),
            load: 0.0,
            warm_repositories: std::collections::BTreeSet::new(),
            version: register.version.clone(),
        })
    }
}

impl From<Report> for v1::Report {
    fn from(report: Report) -> Self {
        Self {
            work: Some(report.work.into()),
            seq: report.seq,
            event: Some(report.event.into()),
        }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = InvalidMessage;

    fn try_from(report: v1::Report) -> Result<Self, InvalidMessage> {
        Ok(Self {
            work: present("report.work", report.work)?.try_into()?,
            seq: report.seq,
            event: present("report.event", report.event)?.try_into()?,
        })
    }
}

impl From<WorkEvent> for v1::report::Event {
    fn from(event: WorkEvent) -> Self {
        match event {
            WorkEvent::Accepted => Self::Accept(v1::Accept {}),
            WorkEvent::Refused { reason } => Self::Refuse(v1::Refuse { reason }),
            WorkEvent::Progress { phase, detail } => Self::Progress(v1::Progress {
                phase: phase.to_string(),
                detail,
            }),
            WorkEvent::Log { lines, dropped } => Self::Log(v1::Log { lines, dropped }),
            WorkEvent::Checkpoint(checkpoint) => Self::Checkpoint(checkpoint.into()),
            WorkEvent::Usage(usage) => Self::Usage(v1::Usage {
                provider: usage.provider,
                model: usage.model,
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                cost_micros: usage.cost.map(|cost| cost.0),
                call: usage.call,
                cache_read_tokens: usage.cache_read_tokens,
                cache_write_tokens: usage.cache_write_tokens,
                reasoning_tokens: usage.reasoning_tokens,
                estimated: usage.estimated,
            }),
            WorkEvent::Finished(outcome) => Self::Finished(v1::Finished {
                outcome: Some(outcome.into()),
            }),
        }
    }
}

impl TryFrom<v1::report::Event> for WorkEvent {
    type Error = InvalidMessage;

    fn try_from(event: v1::report::Event) -> Result<Self, InvalidMessage> {
        use v1::report::Event;
        Ok(match event {
            Event::Accept(v1::Accept {}) => Self::Accepted,
            Event::Refuse(refuse) => Self::Refused {
                reason: refuse.reason,
            },
            Event::Progress(progress) => Self::Progress {
                phase: Phase::read(&progress.phase),
                detail: progress.detail,
            },
            Event::Log(log) => Self::Log {
                lines: log.lines,
                dropped: log.dropped,
            },
            Event::Checkpoint(checkpoint) => Self::Checkpoint(checkpoint.try_into()?),
            Event::Usage(usage) => Self::Usage(Usage {
                call: usage.call,
                provider: usage.provider,
                model: usage.model,
                input_tokens: usage.input_tokens,
                cache_read_tokens: usage.cache_read_tokens,
                cache_write_tokens: usage.cache_write_tokens,
                output_tokens: usage.output_tokens,
                reasoning_tokens: usage.reasoning_tokens,
                estimated: usage.estimated,
                cost: usage.cost_micros.map(Money),
            }),
            Event::Finished(finished) => {
                Self::Finished(present("finished.outcome", finished.outcome)?.try_into()?)
            }
        })
    }
}

impl From<Checkpoint> for v1::Checkpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            node: checkpoint.node,
            visit: checkpoint.visit,
            output: checkpoint.output.to_string(),
        }
    }
}

impl TryFrom<v1::Checkpoint> for Checkpoint {
    type Error = InvalidMessage;

    fn try_from(checkpoint: v1::Checkpoint) -> Result<Self, InvalidMessage> {
        Ok(Self {
            node: checkpoint.node,
            visit: checkpoint.visit,
            output: parse("checkpoint.output", &checkpoint.output)?,
        })
    }
}

impl From<&patchfleet_domain::Task> for v1::Task {
    fn from(task: &patchfleet_domain::Task) -> Self {
        let request = task.request.clone();
        let analysis = task.analysis.as_ref();
        Self {
            kind: task.kind.to_string(),
            repository: task.repository.to_string(),
            issue: task.issue.map(|issue| issue.0),
            branch: task.branch.clone(),
            title: request.title,
            body: request.body,
            labels: request.labels,
            author: request.author,
            triggered_by: request.triggered_by,
            clone_url: request.clone_url,
            default_branch: request.default_branch,
            agent_type: analysis
                .map_or_else(String::new, |it| it.requirement.agent_type.to_string()),
            priority: task.priority.get().into(),
            target_files: analysis.map_or_else(Vec::new, |it| it.target_files.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchfleet_domain::TaskId;
    use patchfleet_domain::outcome::{Failure, FailureKind, Outcome, PullRequestRef, TestVerdict};
    use proptest::prelude::*;

    fn verdict() -> impl Strategy<Value = TestVerdict> {
        (
            prop::collection::vec(".*", 0..3),
            any::<Option<i32>>(),
            any::<u64>(),
            any::<bool>(),
            "[0-9a-f]{40}",
            any::<bool>(),
        )
            .prop_map(
                |(command, returncode, duration_ms, timed_out, tree, ran_none)| TestVerdict {
                    command,
                    returncode,
                    duration_ms,
                    timed_out,
                    tree,
                    ran_none,
                },
            )
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        let failed = (
            prop::sample::select(FailureKind::ALL),
            ".*",
            any::<bool>(),
            any::<bool>(),
        );
        let opened = (
            any::<u64>(),
            ".*",
            prop::option::of(verdict()),
            prop::option::of(verdict()),
        );
        prop_oneof![
            ".*".prop_map(|summary| Outcome::Answer { summary }),
            any::<bool>().prop_map(|by_operator| Outcome::Cancelled { by_operator }),
            failed.prop_map(|(kind, message, retryable, discard_checkpoints)| {
                Outcome::Failed(Failure {
                    kind,
                    message,
                    retryable,
                    discard_checkpoints,
                })
            }),
            opened.prop_map(|(number, text, before, after)| Outcome::PullRequest {
                pull_request: Box::new(PullRequestRef {
                    number,
                    url: text.clone(),
                    head: text.clone(),
                    head_sha: text.clone(),
                    base: text.clone(),
                    draft: number % 2 == 0,
                    merged: false,
                }),
                summary: text,
                tests_before: before.map(Box::new),
                tests_after: after.map(Box::new),
            }),
        ]
    }

    fn event() -> impl Strategy<Value = WorkEvent> {
        prop_oneof![
            Just(WorkEvent::Accepted),
            ".*".prop_map(|reason| WorkEvent::Refused { reason }),
            (prop::sample::select(Phase::ALL), ".*")
                .prop_map(|(phase, detail)| WorkEvent::Progress { phase, detail }),
            (prop::collection::vec(".*", 0..4), any::<u64>())
                .prop_map(|(lines, dropped)| WorkEvent::Log { lines, dropped }),
            (".*", any::<u32>(), ".*").prop_map(|(node, visit, text)| {
                WorkEvent::Checkpoint(Checkpoint {
                    node,
                    visit,
                    output: serde_json::json!({ "k": [text] }),
                })
            }),
            outcome().prop_map(WorkEvent::Finished),
        ]
    }

    proptest! {
        #[test]
        fn reports_survive_the_wire(event in event(), seq in any::<u64>(), attempt in any::<u32>()) {
            let work = Work { task: TaskId::new(), attempt: AttemptNumber(attempt) };
            let report = Report { work, seq, event };
            let wire: v1::Report = report.clone().into();
            prop_assert_eq!(Report::try_from(wire), Ok(report));
        }
    }

    /// A newer agent may know phases and failures that this version does not.
    #[test]
    fn words_of_a_newer_agent_do_not_cost_its_attempt() {
        let event = v1::report::Event::Progress(v1::Progress {
            phase: "polish".to_owned(),
            detail: "shine".to_owned(),
        });
        let phase = Phase::Unknown;
        let detail = "shine".to_owned();
        assert_eq!(
            WorkEvent::try_from(event),
            Ok(WorkEvent::Progress { phase, detail })
        );
        let failed = v1::finished::Outcome::Failed(v1::Failed {
            kind: "moon_set".to_owned(),
            ..Default::default()
        });
        let Ok(Outcome::Failed(failure)) = Outcome::try_from(failed) else {
            panic!("it is a failure")
        };
        assert_eq!(failure.kind, FailureKind::Unknown);
    }

    #[test]
    fn a_bad_registration_names_the_field() {
        let register = v1::Register {
            agent_id: "a/b".to_owned(),
            slots: 1,
            ..Default::default()
        };
        let error = Agent::try_from(&register).unwrap_err().to_string();
        assert!(
            error.starts_with("field `register.agent_id`: `a/b` is not a valid agent id"),
            "{error}"
        );
    }
}
