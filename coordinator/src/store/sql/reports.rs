//! Reports of agents: each applied once, in order, by its live attempt only.

use patchfleet_domain::outcome::{Failure, Outcome, TestVerdict};
use patchfleet_domain::{FailureKind, Phase, Task, TaskState, Work};

use super::SqlStore;
use super::attempts::{Turn, end_attempt, take_turn};
use super::claims::{discard_checkpoints, keep_checkpoint};
use super::rows::{to_json, to_json_or_none};
use super::transaction::{Locked, Note, Tx};
use crate::store::rules::{self, Closed, Course};
use crate::store::{Cas, Report, StoreResult, WorkEvent};

pub(super) async fn apply(store: &SqlStore, report: &Report) -> StoreResult<Cas> {
    let mut tx = Tx::begin(store).await?;
    let Some(locked) = tx.lock(report.work.task).await? else {
        return Ok(Cas::Stale);
    };
    match take_turn(&mut tx, report.work, report.seq).await? {
        Turn::Repeated => return Ok(Cas::Applied(())),
        Turn::Late => return Ok(Cas::Stale),
        Turn::Next => {}
    }
    if locked.task.attempt != report.work.attempt || !locked.task.state.has_live_attempt() {
        return Ok(Cas::Stale);
    }
    let actor = agent(&mut tx, report.work).await?;
    let applied = apply_event(&mut tx, locked, &report.event, &actor).await?;
    if applied == Cas::Applied(()) {
        tx.commit().await?;
    }
    Ok(applied)
}

/// A line for people in the history of a task whose attempt is live.
pub(super) async fn note(store: &SqlStore, work: Work, text: &str) -> StoreResult<Cas> {
    let mut tx = Tx::begin(store).await?;
    let Some(locked) = tx.lock(work.task).await? else {
        return Ok(Cas::Stale);
    };
    if locked.task.attempt != work.attempt || !locked.task.state.has_live_attempt() {
        return Ok(Cas::Stale);
    }
    tx.note(
        &locked.task,
        Note {
            kind: "note",
            actor: "coordinator",
            detail: text,
        },
    )
    .await?;
    tx.commit().await?;
    Ok(Cas::Applied(()))
}

async fn agent(tx: &mut Tx<'_>, work: Work) -> StoreResult<String> {
    let agent = sqlx::query_scalar("SELECT agent FROM attempts WHERE task = $1 AND number = $2")
        .bind(work.task.to_string())
        .bind(i64::from(work.attempt.0))
        .fetch_one(&mut *tx.sql)
        .await?;
    Ok(agent)
}

async fn apply_event(
    tx: &mut Tx<'_>,
    locked: Locked,
    event: &WorkEvent,
    actor: &str,
) -> StoreResult<Cas> {
    let mut task = locked.task.clone();
    // An assignment is accepted or refused, once, before anything else is said about it.
    let answers = matches!(event, WorkEvent::Accepted | WorkEvent::Refused { .. });
    if answers != (task.state == TaskState::Assigned) {
        return Ok(Cas::Stale);
    }
    match event {
        WorkEvent::Accepted => {
            move_to(tx, &mut task, TaskState::InProgress, (actor, "accepted")).await?;
        }
        WorkEvent::Refused { reason } => {
            end_attempt(tx, &task, ("refused", None)).await?;
            let detail = format!("refused: {reason}");
            move_to(tx, &mut task, TaskState::Queued, (actor, &detail)).await?;
        }
        WorkEvent::Progress { phase, detail } => {
            progress(tx, &mut task, *phase, (actor, detail)).await?;
        }
        WorkEvent::Log { lines, dropped } => log(tx, &task, lines, *dropped).await?,
        WorkEvent::Checkpoint(checkpoint) => {
            keep_checkpoint(tx, &task, checkpoint).await?;
            let detail = format!("{} visit {}", checkpoint.node, checkpoint.visit);
            tx.note(
                &task,
                Note {
                    kind: "checkpoint",
                    actor,
                    detail: &detail,
                },
            )
            .await?;
        }
        WorkEvent::Usage(usage) => {
            tx.note(
                &task,
                Note {
                    kind: "usage",
                    actor,
                    detail: &to_json(usage)?,
                },
            )
            .await?;
        }
        WorkEvent::Finished(outcome) => finish(tx, locked, outcome, actor).await?,
    }
    Ok(Cas::Applied(()))
}

async fn move_to(
    tx: &mut Tx<'_>,
    task: &mut Task,
    to: TaskState,
    told: (&str, &str),
) -> StoreResult<()> {
    let course = Course::through(&[to]);
    tx.follow(task, &course, told).await
}

/// A phase begins: told in the history, and the state follows it.
async fn progress(
    tx: &mut Tx<'_>,
    task: &mut Task,
    phase: Phase,
    (actor, detail): (&str, &str),
) -> StoreResult<()> {
    let text = format!("{phase}: {detail}");
    let to = phase.task_state();
    if task.state != to && task.state.transition(to).is_ok() {
        move_to(tx, task, to, (actor, phase.as_str())).await?;
    }
    tx.note(
        task,
        Note {
            kind: "phase",
            actor,
            detail: &text,
        },
    )
    .await
}

async fn log(tx: &mut Tx<'_>, task: &Task, lines: &[String], dropped: u64) -> StoreResult<()> {
    let gap = (dropped > 0).then(|| format!("[{dropped} lines were dropped]"));
    for line in gap.iter().chain(lines) {
        sqlx::query("INSERT INTO task_logs (task, attempt, line) VALUES ($1, $2, $3)")
            .bind(task.id.to_string())
            .bind(i64::from(task.attempt.0))
            .bind(line.as_str())
            .execute(&mut *tx.sql)
            .await?;
    }
    Ok(())
}

async fn finish(
    tx: &mut Tx<'_>,
    locked: Locked,
    outcome: &Outcome,
    actor: &str,
) -> StoreResult<()> {
    let Locked { mut task, closed } = locked;
    let course = match outcome {
        Outcome::PullRequest {
            pull_request,
            summary,
            tests_before,
            tests_after,
        } => {
            let mut known = pull_request.as_ref().clone();
            let closed = closed.and_then(|closed| closed.of_pull(known.number));
            known.merged = closed == Some(Closed::Merged);
            task.failure = (closed == Some(Closed::Unmerged))
                .then(|| rules::closed_unmerged(known.number, "a person"));
            task.pull_request = Some(known);
            task.summary = Some(summary.clone());
            keep_verdicts(tx, &task, (tests_before.as_deref(), tests_after.as_deref())).await?;
            rules::after_success(&task, outcome, closed)
        }
        Outcome::Answer { summary } => {
            task.summary = Some(summary.clone());
            task.failure = None;
            rules::after_success(&task, outcome, None)
        }
        // The agent had to stop, which says nothing against the task: it goes on elsewhere.
        Outcome::Failed(Failure {
            kind: FailureKind::Interrupted,
            ..
        })
        | Outcome::Cancelled => Course::through(&[TaskState::Queued]),
        Outcome::Failed(failure) => fail(tx, &mut task, failure).await?,
    };
    let failure = match outcome {
        Outcome::Failed(failure) => Some(failure),
        Outcome::PullRequest { .. } | Outcome::Answer { .. } | Outcome::Cancelled => None,
    };
    end_attempt(tx, &task, (outcome.as_str(), failure)).await?;
    tx.follow(&mut task, &course, (actor, &told(outcome))).await
}

async fn fail(tx: &mut Tx<'_>, task: &mut Task, failure: &Failure) -> StoreResult<Course> {
    task.failures += 1;
    task.failure = Some(failure.clone());
    if failure.discard_checkpoints {
        discard_checkpoints(tx, task).await?;
    }
    Ok(rules::after_failure(
        task.failures,
        task.max_attempts,
        failure.retryable,
    ))
}

async fn keep_verdicts(
    tx: &mut Tx<'_>,
    task: &Task,
    (before, after): (Option<&TestVerdict>, Option<&TestVerdict>),
) -> StoreResult<()> {
    sqlx::query(
        "UPDATE attempts SET tests_before = $1, tests_after = $2 WHERE task = $3 AND number = $4",
    )
    .bind(to_json_or_none(before.as_ref())?)
    .bind(to_json_or_none(after.as_ref())?)
    .bind(task.id.to_string())
    .bind(i64::from(task.attempt.0))
    .execute(&mut *tx.sql)
    .await?;
    Ok(())
}

/// The outcome as a line of history.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::PullRequest { pull_request, .. } => {
            format!("pull request #{}", pull_request.number)
        }
        Outcome::Answer { .. } => "answered".to_owned(),
        Outcome::Failed(failure) => format!("{}: {}", failure.kind, failure.message),
        Outcome::Cancelled => "the agent stopped".to_owned(),
    }
}
