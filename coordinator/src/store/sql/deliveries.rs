//! Deliveries: recorded once, with everything they lead to, in one transaction.

use patchfleet_domain::outcome::PullRequestRef;
use patchfleet_domain::{IssueNumber, RepositoryName, TaskId, TaskState};

use super::SqlStore;
use super::rows::{to_json, word};
use super::tasks::{cancel_locked, retry_locked};
use super::transaction::Tx;
use crate::store::rules::{self, Closed, Course};
use crate::store::{Act, Acted, Commanded, Delivery, Effect, NewTask, Recorded, StoreResult};

pub(super) async fn seen(store: &SqlStore, id: &str) -> StoreResult<bool> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM deliveries WHERE id = $1")
        .bind(id)
        .fetch_one(&store.readers)
        .await?;
    Ok(count > 0)
}

pub(super) async fn record(
    store: &SqlStore,
    delivery: &Delivery,
    acts: &[Act],
) -> StoreResult<Recorded> {
    let mut tx = Tx::begin(store).await?;
    let now = tx.now;
    let inserted = sqlx::query(
        "INSERT INTO deliveries (id, event, action, repository, received_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT DO NOTHING",
    )
    .bind(delivery.id.as_str())
    .bind(delivery.event.as_str())
    .bind(delivery.action.as_deref())
    .bind(delivery.repository.as_ref().map(RepositoryName::as_str))
    .bind(now)
    .execute(&mut *tx.sql)
    .await?;
    if inserted.rows_affected() == 0 {
        return Ok(Recorded::Duplicate);
    }
    let mut acted = Vec::with_capacity(acts.len());
    for act in acts {
        acted.push(do_act(&mut tx, act).await?);
    }
    tx.commit().await?;
    Ok(Recorded::New(acted))
}

async fn do_act(tx: &mut Tx<'_>, act: &Act) -> StoreResult<Acted> {
    match act {
        Act::Create(new) => create(tx, new).await,
        Act::CancelIssue {
            repository,
            issue,
            actor,
        } => {
            let Some(id) = newest(tx, repository, *issue).await? else {
                return Ok(Acted::Nothing);
            };
            Ok(acted(id, cancel_locked(tx, id, actor).await?))
        }
        Act::RetryIssue {
            repository,
            issue,
            actor,
        } => {
            let Some(id) = newest(tx, repository, *issue).await? else {
                return Ok(Acted::Nothing);
            };
            Ok(acted(id, retry_locked(tx, id, actor).await?))
        }
        Act::PullRequestClosed {
            repository,
            number,
            head,
            merged,
            actor,
        } => {
            let closed = if *merged {
                Closed::Merged
            } else {
                Closed::Unmerged
            };
            let pull = ClosedPull {
                repository,
                number: *number,
                head,
                closed,
                actor,
            };
            close_pull_request(tx, &pull).await
        }
        Act::Reply {
            repository,
            issue,
            reply,
        } => {
            tx.enqueue(
                (repository.as_str(), issue.0),
                None,
                &Effect::Reply(reply.clone()),
            )
            .await?;
            Ok(Acted::Replied)
        }
    }
}

fn acted(id: TaskId, commanded: Commanded) -> Acted {
    match commanded {
        Commanded::Done(state) => Acted::Changed(id, state),
        Commanded::Conflict(other) => Acted::Exists(other),
        Commanded::NotFound | Commanded::NotAllowed(_) => Acted::Nothing,
    }
}

async fn newest(
    tx: &mut Tx<'_>,
    repository: &RepositoryName,
    issue: IssueNumber,
) -> StoreResult<Option<TaskId>> {
    let row = sqlx::query(
        "SELECT id FROM tasks WHERE repository = $1 AND issue = $2 ORDER BY id DESC LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(i64::try_from(issue.0).unwrap_or(i64::MAX))
    .fetch_optional(&mut *tx.sql)
    .await?;
    row.map(|row| word(&row, "id")).transpose()
}

/// Makes a task, or finds the one that its trigger or its issue has already.
async fn create(tx: &mut Tx<'_>, new: &NewTask) -> StoreResult<Acted> {
    tx.lock_issue(&new.repository, new.issue).await?;
    // What was in the way may end before it is found; then there is room.
    for _ in 0..3 {
        if insert(tx, new).await? {
            return created(tx, new).await;
        }
        if let Some(id) = existing(tx, new).await? {
            return Ok(Acted::Exists(id));
        }
    }
    Ok(Acted::Nothing)
}

async fn created(tx: &mut Tx<'_>, new: &NewTask) -> StoreResult<Acted> {
    if let Some(locked) = tx.lock(new.id).await? {
        let detail = format!("{} by {}", new.key.trigger, new.request.triggered_by);
        tx.state_event(&locked.task, None, (&new.request.triggered_by, &detail))
            .await?;
        tx.enqueue_status(&locked.task).await?;
    }
    tx.wake();
    Ok(Acted::Created(new.id))
}

/// False when the trigger or the issue has a task already.
async fn insert(tx: &mut Tx<'_>, new: &NewTask) -> StoreResult<bool> {
    let now = tx.now;
    let issue = new.issue.and_then(|issue| i64::try_from(issue.0).ok());
    let inserted = sqlx::query(
        "INSERT INTO tasks (id, kind, state, max_attempts, priority, repository, issue, trigger_kind, \
         trigger_object, branch, request, created_at, updated_at) \
         VALUES ($1, $2, 'pending', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(new.id.to_string())
    .bind(new.kind.as_str())
    .bind(i64::from(new.max_attempts))
    .bind(i64::from(new.priority.get()))
    .bind(new.repository.as_str())
    .bind(issue)
    .bind(new.key.trigger.as_str())
    .bind(new.key.object.as_str())
    .bind(new.branch.as_str())
    .bind(to_json(&new.request)?)
    .bind(now)
    .bind(now)
    .execute(&mut *tx.sql)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

async fn existing(tx: &mut Tx<'_>, new: &NewTask) -> StoreResult<Option<TaskId>> {
    let issue = new.issue.and_then(|issue| i64::try_from(issue.0).ok());
    let row = sqlx::query(
        "SELECT id FROM tasks WHERE repository = $1 AND COALESCE(issue, -1) = COALESCE($2, -1) AND \
         ((trigger_kind = $3 AND trigger_object = $4) OR state NOT IN ('completed', 'failed', 'cancelled')) \
         ORDER BY id DESC LIMIT 1",
    )
    .bind(new.repository.as_str())
    .bind(issue)
    .bind(new.key.trigger.as_str())
    .bind(new.key.object.as_str())
    .fetch_optional(&mut *tx.sql)
    .await?;
    row.map(|row| word(&row, "id")).transpose()
}

/// A pull request that GitHub says is closed.
struct ClosedPull<'a> {
    repository: &'a RepositoryName,
    number: u64,
    head: &'a str,
    closed: Closed,
    actor: &'a str,
}

async fn close_pull_request(tx: &mut Tx<'_>, pull: &ClosedPull<'_>) -> StoreResult<Acted> {
    let row = sqlx::query(
        "SELECT id FROM tasks WHERE repository = $1 AND (pull_number = $2 OR (pull_number IS NULL AND branch = $3 \
         AND state NOT IN ('completed', 'failed', 'cancelled'))) ORDER BY id DESC LIMIT 1",
    )
    .bind(pull.repository.as_str())
    .bind(i64::try_from(pull.number).unwrap_or(i64::MAX))
    .bind(pull.head)
    .fetch_optional(&mut *tx.sql)
    .await?;
    let Some(row) = row else {
        return Ok(Acted::Nothing);
    };
    let id: TaskId = word(&row, "id")?;
    let Some(locked) = tx.lock(id).await? else {
        return Ok(Acted::Nothing);
    };
    let mut task = locked.task;
    let reported = task.pull_request.as_ref().map(|known| known.number);
    if reported.is_some_and(|number| number != pull.number) {
        return Ok(Acted::Nothing);
    }
    if task.state == TaskState::Review {
        let course = settle_review(&mut task, pull);
        let detail = format!("pull request #{} {}", pull.number, pull.closed.as_str());
        tx.follow(&mut task, &course, (pull.actor, &detail)).await?;
        return Ok(Acted::Changed(id, task.state));
    }
    if !task.state.has_live_attempt() && task.state != TaskState::Queued {
        return Ok(Acted::Nothing);
    }
    sqlx::query("UPDATE tasks SET pull_closed = $1, pull_closed_number = $2 WHERE id = $3")
        .bind(pull.closed.as_str())
        .bind(i64::try_from(pull.number).unwrap_or(i64::MAX))
        .bind(id.to_string())
        .execute(&mut *tx.sql)
        .await?;
    Ok(Acted::Changed(id, task.state))
}

fn settle_review(task: &mut patchfleet_domain::Task, pull: &ClosedPull<'_>) -> Course {
    let merged = pull.closed == Closed::Merged;
    if let Some(pull_request) = &mut task.pull_request {
        *pull_request = PullRequestRef {
            merged,
            ..pull_request.clone()
        };
    }
    let end = if merged {
        TaskState::Completed
    } else {
        task.failure = Some(rules::closed_unmerged(pull.number, pull.actor));
        TaskState::Failed
    };
    Course::through(&[end])
}
