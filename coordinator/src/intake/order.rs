//! Carrying out a command, or saying why it can't be.

use patchfleet_domain::{Task, TaskState, WaitReason};

use super::command::Command;
use super::request::Asked;
use super::{IntakePolicy, key};
use crate::store::{Act, Reply};
use crate::webhook::event::CommentEvent;

const NO_TASK: &str = "There is no task for this issue. Comment `/patchfleet run` to start one.";
/// Said when something else happened to the task while the command was on its way.
const TOO_LATE: &str = "The task changed at the same moment, so this was not done. Comment `/patchfleet status` to see where it stands.";

/// The act of a comment, which counts once.
pub(super) fn once(event: &CommentEvent, act: Act) -> Act {
    let otherwise = (!matches!(act, Act::Reply { .. })).then(|| problem(event, TOO_LATE).into());
    Act::Command {
        repository: event.repository.name.clone(),
        comment: event.comment.id,
        act: act.into(),
        otherwise,
    }
}

/// The answer to a command that can't be done, and why.
pub(super) fn problem(event: &CommentEvent, message: impl Into<String>) -> Act {
    let message = message.into();
    reply(event, Reply::Problem { message })
}

fn reply(event: &CommentEvent, reply: Reply) -> Act {
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
) -> Act {
    let refusal = match &command {
        Command::Run { .. } => refuse_run(event, newest),
        Command::Cancel => refuse_cancel(newest),
        Command::Retry => refuse_retry(newest),
        Command::Approve { .. } => refuse_approve(newest),
        Command::Status => None,
    };
    if let Some(refusal) = refusal {
        return problem(event, refusal);
    }
    let repository = event.repository.name.clone();
    let (issue, actor) = (event.issue.number, event.sender.clone());
    match command {
        Command::Status => reply(event, Reply::Status),
        Command::Cancel => Act::CancelIssue {
            repository,
            issue,
            actor,
        },
        Command::Retry => Act::RetryIssue {
            repository,
            issue,
            actor,
        },
        Command::Approve { more } => Act::AllowSpending {
            repository,
            issue,
            actor,
            more,
        },
        Command::Run { agent, priority } => {
            let asked = Asked {
                issue: &event.issue,
                repository: &event.repository,
                sender: &event.sender,
                key: key::of_comment(&event.comment),
            };
            Act::Create(Box::new(asked.task_with(policy, agent, priority)))
        }
    }
}

fn refuse_run(event: &CommentEvent, newest: Option<&Task>) -> Option<String> {
    if !event.issue.is_open {
        let closed = "The issue is closed. Open it again, then comment `/patchfleet run`.";
        return Some(closed.to_owned());
    }
    let active = newest.filter(|task| task.state.is_active())?;
    Some(format!(
        "A task is at work on this issue already; it is `{}`. Comment `/patchfleet cancel` to call it off.",
        active.state
    ))
}

fn refuse_cancel(newest: Option<&Task>) -> Option<String> {
    match newest.map(|task| task.state) {
        None => Some(NO_TASK.to_owned()),
        Some(state) if state.is_active() => None,
        Some(state) => Some(format!(
            "There is nothing to call off: the task is `{state}` already."
        )),
    }
}

fn refuse_approve(newest: Option<&Task>) -> Option<String> {
    match newest.map(|task| task.state) {
        None => Some(NO_TASK.to_owned()),
        Some(state) if state.is_active() => None,
        Some(state) => Some(format!(
            "The task is `{state}` and spends nothing any more. Comment `/patchfleet run` for a new one."
        )),
    }
}

fn refuse_retry(newest: Option<&Task>) -> Option<String> {
    let waits = |task: &Task| {
        matches!(
            task.wait_reason,
            Some(WaitReason::Agent | WaitReason::Budget)
        )
    };
    match newest.map(|task| task.state) {
        None => Some(NO_TASK.to_owned()),
        Some(TaskState::Failed) => None,
        Some(TaskState::Waiting) if newest.is_some_and(waits) => None,
        Some(state) if state.is_active() => Some(format!(
            "The task has not failed; it is `{state}`. Comment `/patchfleet cancel` to call it off."
        )),
        Some(state) => Some(format!(
            "The task is `{state}`, which is final. Comment `/patchfleet run` for a new one."
        )),
    }
}
