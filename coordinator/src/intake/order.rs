//! Carrying out a command, or saying why it can't be.

use chrono::TimeDelta;
use patchfleet_domain::{Task, TaskState, Timestamp};

use super::command::Command;
use super::request::Asked;
use super::{Decision, IntakePolicy, key};
use crate::store::{Act, Reply};
use crate::webhook::event::CommentEvent;

/// How far GitHub's clock and the database's may be apart.
const SKEW: TimeDelta = TimeDelta::seconds(30);
const REPEATED: &str = "the comment was acted on before";
const NO_TASK: &str = "There is no task for this issue. Comment `/patchfleet run` to start one.";

pub(super) fn reply(event: &CommentEvent, reply: Reply) -> Act {
    Act::Reply {
        repository: event.repository.name.clone(),
        issue: event.issue.number,
        reply,
    }
}

/// What a command leads to, given the issue's newest task. The store has the last word; what is
/// decided here is which answer a person gets.
pub(super) fn decide(
    policy: &IntakePolicy,
    event: &CommentEvent,
    command: Command,
    newest: Option<&Task>,
) -> Decision {
    let repository = event.repository.name.clone();
    let (issue, actor) = (event.issue.number, event.sender.clone());
    let refusal = match &command {
        Command::Run { .. } => refuse_run(event, newest),
        Command::Cancel => refuse_cancel(event, newest),
        Command::Retry => refuse_retry(event, newest),
        Command::Status => Ok(()),
    };
    match (refusal, command) {
        (Err(refusal), _) => refusal,
        (Ok(()), Command::Status) => Decision::one(reply(event, Reply::Status)),
        (Ok(()), Command::Cancel) => Decision::one(Act::CancelIssue {
            repository,
            issue,
            actor,
        }),
        (Ok(()), Command::Retry) => Decision::one(Act::RetryIssue {
            repository,
            issue,
            actor,
        }),
        (Ok(()), Command::Run { agent, priority }) => {
            let asked = Asked {
                issue: &event.issue,
                repository: &event.repository,
                sender: &event.sender,
                key: key::of_comment(&event.comment),
            };
            let task = asked.task_with(policy, agent, priority);
            Decision::one(Act::Create(Box::new(task)))
        }
    }
}

fn refuse_run(event: &CommentEvent, newest: Option<&Task>) -> Result<(), Decision> {
    if !event.issue.is_open {
        let closed = "The issue is closed. Open it again, then comment `/patchfleet run`.";
        return Err(problem(event, closed));
    }
    match newest.filter(|task| task.state.is_active()) {
        None => Ok(()),
        Some(active) if led_to(event, active.created_at) => Err(Decision::Ignore(REPEATED)),
        Some(active) => Err(problem(
            event,
            format!(
                "A task is at work on this issue already; it is `{}`. Comment `/patchfleet cancel` to call it off.",
                active.state
            ),
        )),
    }
}

fn refuse_cancel(event: &CommentEvent, newest: Option<&Task>) -> Result<(), Decision> {
    let Some(task) = newest else {
        return Err(problem(event, NO_TASK));
    };
    match task.state {
        state if state.is_active() => Ok(()),
        TaskState::Cancelled if led_to(event, task.updated_at) => Err(Decision::Ignore(REPEATED)),
        state => Err(problem(
            event,
            format!("There is nothing to call off: the task is `{state}` already."),
        )),
    }
}

fn refuse_retry(event: &CommentEvent, newest: Option<&Task>) -> Result<(), Decision> {
    let message = match newest.map(|task| task.state) {
        Some(TaskState::Failed) => return Ok(()),
        Some(state) if state.is_active() => format!(
            "The task has not failed; it is `{state}`. Comment `/patchfleet cancel` to call it off."
        ),
        Some(state) => format!(
            "The task is `{state}`, which is final. Comment `/patchfleet run` for a new one."
        ),
        None => NO_TASK.to_owned(),
    };
    Err(problem(event, message))
}

fn problem(event: &CommentEvent, message: impl Into<String>) -> Decision {
    let message = message.into();
    Decision::one(reply(event, Reply::Problem { message }))
}

/// True when the comment itself led to what happened then: this is a second delivery of it (two
/// webhooks for one repository), and there is nothing to complain about.
fn led_to(event: &CommentEvent, happened: Timestamp) -> bool {
    happened + SKEW >= event.comment.created_at
}
