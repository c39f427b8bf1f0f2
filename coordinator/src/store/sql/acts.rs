//! What deliveries lead to, done in the transaction that records them.

use std::collections::BTreeSet;

use patchfleet_domain::task::branch_issue;
use patchfleet_domain::{IssueNumber, RepositoryName, TaskId, TaskState};
use sqlx::any::AnyRow;

use super::deliveries::{insert_new, keep};
use super::rows::{to_json, word};
use super::rowset::{big, plain, row};
use super::tasks::{active_beside, cancel_in, newest, retry_in};
use super::unit::{Busy, Unit};
use super::{follow_ups, spending};
use crate::store::held::{ClosedPull, Held, may_reopen};
use crate::store::rules::Closed;
use crate::store::{
    Act, Acted, Commanded, Delivery, Effect, NewTask, Reply, SemanticKey, StoreResult, command_id,
};

/// Who does what nobody asked for.
const COORDINATOR: &str = "coordinator";

row! {
    NewTaskRow {
        id: TaskId => "text",
        kind: &'static str => "text",
        state: &'static str => "text",
        max_attempts: u32 => "bigint",
        priority: u8 => "bigint",
        repository: String => "text",
        issue: Option<i64> => "bigint",
        trigger_kind: String => "text",
        trigger_object: String => "text",
        branch: String => "text",
        request: String => "text",
        traceparent: Option<String> => "text",
        created_at: i64 => "bigint",
        updated_at: i64 => "bigint",
    }
}

row! {
    TriggerRow {
        repository: String => "text",
        issue: i64 => "bigint",
        kind: String => "text",
        object: String => "text",
        task: TaskId => "text",
    }
}

/// Does acts in their order; creations that follow each other are done together.
pub(super) async fn do_all(unit: &mut Unit<'_>, acts: &[&Act]) -> StoreResult<Vec<Acted>> {
    let mut acted = Vec::with_capacity(acts.len());
    for run in acts.chunk_by(|a, b| creation(a).is_some() && creation(b).is_some()) {
        let new: Vec<_> = run.iter().filter_map(|act| creation(act)).collect();
        if new.is_empty() {
            for act in run {
                acted.push(do_act(unit, act).await?);
            }
        } else {
            acted.extend(create_all(unit, &new).await?);
        }
    }
    Ok(acted)
}

fn creation(act: &Act) -> Option<&NewTask> {
    match act {
        Act::Create(new) => Some(new),
        _ => None,
    }
}

async fn do_act(unit: &mut Unit<'_>, act: &Act) -> StoreResult<Acted> {
    match act {
        Act::Create(new) => create(unit, new).await,
        Act::CancelIssue {
            repository,
            issue,
            actor,
        } => {
            let Some(id) = newest(unit, repository, *issue).await? else {
                return Ok(Acted::Nothing);
            };
            Ok(acted(id, cancel_in(unit, id, actor).await?))
        }
        Act::IssueGone { repository, issue } => issue_gone(unit, repository, *issue).await,
        Act::RetryIssue {
            repository,
            issue,
            actor,
        } => {
            let Some(id) = newest(unit, repository, *issue).await? else {
                return Ok(Acted::Nothing);
            };
            Ok(acted(id, retry_in(unit, id, actor).await?))
        }
        Act::AllowSpending {
            repository,
            issue,
            actor,
            more,
        } => {
            let Some(id) = newest(unit, repository, *issue).await? else {
                return Ok(Acted::Nothing);
            };
            Ok(acted(id, spending::allow_in(unit, id, *more, actor).await?))
        }
        Act::PullRequestClosed {
            repository,
            number,
            head,
            merged,
            actor,
        } => {
            let how = if *merged {
                Closed::Merged
            } else {
                Closed::Unmerged
            };
            let pull = ClosedPull {
                repository,
                number: *number,
                head,
                how,
                actor,
            };
            close_pull_request(unit, &pull).await
        }
        Act::PullRequestReopened {
            repository,
            number,
            head,
            actor,
        } => reopen_pull_request(unit, (repository, *number, head), actor).await,
        Act::CancelRepository {
            repository,
            actor,
            why,
        } => cancel_repository(unit, repository, (actor, why)).await,
        Act::Command {
            repository,
            comment,
            act,
            otherwise,
        } => command(unit, (repository, *comment), (act, otherwise.as_deref())).await,
        Act::FollowUp {
            repository,
            issue,
            follow_up,
        } => match newest(unit, repository, *issue).await? {
            Some(id) => follow_ups::add(unit, id, follow_up).await,
            None => Ok(Acted::Nothing),
        },
        Act::Reply {
            repository,
            issue,
            reply,
        } => enqueue_reply(unit, (repository, *issue), reply).await,
    }
}

/// Calls the issue's task off because there is no such issue any more.
async fn issue_gone(
    unit: &mut Unit<'_>,
    repository: &RepositoryName,
    issue: IssueNumber,
) -> StoreResult<Acted> {
    let Some(id) = newest(unit, repository, issue).await? else {
        return Ok(Acted::Nothing);
    };
    let held = unit.one(id).await?;
    if let Some(held) = held.filter(|held| held.task.state.is_active()) {
        let told = "the issue was deleted or moved to another repository";
        held.note("note", (COORDINATOR, told));
    }
    Ok(acted(id, cancel_in(unit, id, COORDINATOR).await?))
}

/// Does a command unless its comment was acted on before.
async fn command(
    unit: &mut Unit<'_>,
    (repository, comment): (&RepositoryName, u64),
    (act, otherwise): (&Act, Option<&Act>),
) -> StoreResult<Acted> {
    let delivery = Delivery {
        id: command_id(comment),
        event: "issue_comment".to_owned(),
        action: Some("command".to_owned()),
        repository: Some(repository.clone()),
        issue: None,
    };
    if !keep(unit, &delivery).await? {
        return Ok(Acted::Nothing);
    }
    let acted = Box::pin(do_act(unit, act)).await?;
    match (&acted, otherwise) {
        (Acted::Nothing | Acted::Exists(_), Some(otherwise)) => {
            Box::pin(do_act(unit, otherwise)).await
        }
        _ => Ok(acted),
    }
}

/// Has a comment answered, after what was enqueued for its issue before.
async fn enqueue_reply(
    unit: &mut Unit<'_>,
    (repository, issue): (&RepositoryName, IssueNumber),
    reply: &Reply,
) -> StoreResult<Acted> {
    unit.flush().await?;
    sqlx::query("INSERT INTO outbox (repository, issue, effect) VALUES ($1, $2, $3)")
        .bind(repository.as_str())
        .bind(big(issue.0))
        .bind(to_json(&Effect::Reply(reply.clone()))?)
        .execute(unit.sql().await?)
        .await?;
    unit.wake();
    Ok(Acted::Replied)
}

fn acted(id: TaskId, commanded: Commanded) -> Acted {
    match commanded {
        Commanded::Done(state) => Acted::Changed(id, state),
        Commanded::Conflict(other) => Acted::Exists(other),
        Commanded::NotFound | Commanded::NotAllowed(_) => Acted::Nothing,
    }
}

/// Makes tasks, or finds those that their triggers or issues have already.
async fn create_all(unit: &mut Unit<'_>, new: &[&NewTask]) -> StoreResult<Vec<Acted>> {
    // What was done before may have made room for them.
    unit.flush().await?;
    let created = insert_tasks(unit, new).await?;
    let mut acted = Vec::with_capacity(new.len());
    for new in new {
        acted.push(if created.contains(&new.id) {
            Acted::Created(new.id)
        } else {
            create(unit, new).await?
        });
    }
    Ok(acted)
}

/// Makes a task for which there seemed to be no room, if there is some.
async fn create(unit: &mut Unit<'_>, new: &NewTask) -> StoreResult<Acted> {
    // What is in the way may end before it is found; then there is room.
    for _ in 0..3 {
        if let Some(id) = existing(unit, new).await? {
            keep_trigger(unit, new, id).await?;
            return Ok(Acted::Exists(id));
        }
        if insert_tasks(unit, &[new]).await?.contains(&new.id) {
            return Ok(Acted::Created(new.id));
        }
    }
    Ok(Acted::Nothing)
}

/// Returns those that were inserted: of the others, the trigger or the issue has a task already.
async fn insert_tasks(unit: &mut Unit<'_>, new: &[&NewTask]) -> StoreResult<BTreeSet<TaskId>> {
    let triggers: Vec<_> = new.iter().map(|new| trigger_of(new)).collect();
    let into = ("task_triggers", "task");
    let found = insert_new(unit, into, &triggers).await?;
    let triggered = ids(&found, "task")?;
    let now = unit.now().await?;
    let rows: Vec<_> = new
        .iter()
        .filter(|new| triggered.contains(&new.id))
        .map(|new| row_of(new, now.timestamp_micros()))
        .collect::<StoreResult<_>>()?;
    let found = insert_new(unit, ("tasks", "id"), &rows).await?;
    let inserted = ids(&found, "id")?;
    for new in new.iter().filter(|new| triggered.contains(&new.id)) {
        if inserted.contains(&new.id) {
            unit.adopt(Held::created(new, now));
        } else {
            // It is the other task's, or may come again when the issue is free.
            forget_trigger(unit, new).await?;
        }
    }
    Ok(inserted)
}

fn ids(found: &[AnyRow], column: &str) -> StoreResult<BTreeSet<TaskId>> {
    found.iter().map(|row| word(row, column)).collect()
}

async fn forget_trigger(unit: &mut Unit<'_>, new: &NewTask) -> StoreResult<()> {
    sqlx::query("DELETE FROM task_triggers WHERE repository = $1 AND task = $2")
        .bind(new.repository.as_str())
        .bind(new.id.to_string())
        .execute(unit.sql().await?)
        .await?;
    Ok(())
}

/// Keeps a trigger as one that the issue's active task handled, so that it is no new one when that is
/// over. Only acts on the issue: the answer to a comment says whether to give it again.
async fn keep_trigger(unit: &mut Unit<'_>, new: &NewTask, task: TaskId) -> StoreResult<()> {
    if SemanticKey::moment_in(&new.key.object).is_some() {
        let row = TriggerRow {
            task,
            ..trigger_of(new)
        };
        insert_new(unit, ("task_triggers", "task"), &[row]).await?;
    }
    Ok(())
}

fn trigger_of(new: &NewTask) -> TriggerRow {
    TriggerRow {
        repository: new.repository.to_string(),
        issue: new.issue.map_or(-1, |issue| big(issue.0)),
        kind: plain(&new.key.trigger),
        object: plain(&new.key.object),
        task: new.id,
    }
}

fn row_of(new: &NewTask, now: i64) -> StoreResult<NewTaskRow> {
    Ok(NewTaskRow {
        id: new.id,
        kind: new.kind.as_str(),
        state: TaskState::Pending.as_str(),
        max_attempts: new.max_attempts,
        priority: new.priority.get(),
        repository: new.repository.to_string(),
        issue: new.issue.map(|issue| big(issue.0)),
        trigger_kind: plain(&new.key.trigger),
        trigger_object: plain(&new.key.object),
        branch: plain(&new.branch),
        request: to_json(&new.request)?,
        traceparent: new.traceparent.as_deref().map(plain),
        created_at: now,
        updated_at: now,
    })
}

async fn existing(unit: &mut Unit<'_>, new: &NewTask) -> StoreResult<Option<TaskId>> {
    let row = sqlx::query(
        "SELECT id FROM (\
            SELECT task AS id FROM task_triggers WHERE repository = $1 AND issue = $2 \
            AND kind = $3 AND object = $4 \
            UNION ALL \
            SELECT id FROM tasks WHERE repository = $5 AND issue = $6 \
            AND state NOT IN ('completed', 'failed', 'cancelled')\
         ) AS found ORDER BY id DESC LIMIT 1",
    )
    .bind(new.repository.as_str())
    .bind(new.issue.map_or(-1, |issue| big(issue.0)))
    .bind(plain(&new.key.trigger))
    .bind(plain(&new.key.object))
    .bind(new.repository.as_str())
    .bind(new.issue.map_or(-1, |issue| big(issue.0)))
    .fetch_optional(unit.sql().await?)
    .await?;
    row.map(|row| word(&row, "id")).transpose()
}

async fn close_pull_request(unit: &mut Unit<'_>, pull: &ClosedPull<'_>) -> StoreResult<Acted> {
    let of = (pull.repository, pull.number, pull.head);
    let Some(id) = task_of_pull(unit, of).await? else {
        return Ok(Acted::Nothing);
    };
    match unit.one(id).await? {
        Some(held) => held.close_pull_request(pull),
        None => Ok(Acted::Nothing),
    }
}

async fn reopen_pull_request(
    unit: &mut Unit<'_>,
    of: (&RepositoryName, u64, &str),
    actor: &str,
) -> StoreResult<Acted> {
    let Some(id) = task_of_pull(unit, of).await? else {
        return Ok(Acted::Nothing);
    };
    let Some(held) = unit.one(id).await? else {
        return Ok(Acted::Nothing);
    };
    if may_reopen(&held.task) {
        let task = held.task.clone();
        if let Some(other) = active_beside(unit, &task).await? {
            return Ok(Acted::Exists(other));
        }
    }
    match unit.held(id) {
        Some(held) => held.reopen_pull_request(of.1, actor),
        None => Ok(Acted::Nothing),
    }
}

/// The task whose pull request that is.
async fn task_of_pull(
    unit: &mut Unit<'_>,
    (repository, number, head): (&RepositoryName, u64, &str),
) -> StoreResult<Option<TaskId>> {
    unit.flush().await?;
    // Either part has an index of its own; together they would have none.
    let row = sqlx::query(
        "SELECT id FROM (\
            SELECT id FROM tasks WHERE repository = $1 AND pull_number = $2 \
            UNION ALL \
            SELECT id FROM tasks WHERE repository = $3 AND issue = $4 AND pull_number IS NULL \
            AND branch = $5 AND state NOT IN ('completed', 'failed', 'cancelled')\
         ) AS found ORDER BY id DESC LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(big(number))
    .bind(repository.as_str())
    .bind(branch_issue(head).map_or(-1, |issue| big(issue.0)))
    .bind(head)
    .fetch_optional(unit.sql().await?)
    .await?;
    row.map(|row| word(&row, "id")).transpose()
}

async fn cancel_repository(
    unit: &mut Unit<'_>,
    repository: &RepositoryName,
    (actor, why): (&str, &str),
) -> StoreResult<Acted> {
    unit.flush().await?;
    let found = sqlx::query(
        "SELECT id FROM tasks WHERE repository = $1 AND issue IS NOT NULL \
         AND state NOT IN ('completed', 'failed', 'cancelled') ORDER BY id",
    )
    .bind(repository.as_str())
    .fetch_all(unit.sql().await?)
    .await?;
    let mut acted = Acted::Nothing;
    let active = ids(&found, "id")?;
    unit.hold(active.iter().copied(), Busy::Wait).await?;
    for id in active {
        if let Some(held) = unit.held(id) {
            held.note("note", (actor, why));
            held.cancel(actor)?;
            acted = Acted::Changed(id, TaskState::Cancelled);
        }
    }
    Ok(acted)
}
