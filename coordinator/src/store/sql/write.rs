//! The difference between what tasks became and what is stored of them, written as sets: one
//! statement for each kind of row, however many tasks there are.

use std::collections::BTreeSet;

use patchfleet_domain::{TaskId, TaskState, WaitReason};

use super::rows::{to_json, to_json_or_none, word};
use super::rowset::{self, Column, Row as _, big, plain, row};
use super::unit::{Standing, Stored};
use super::{Dialect, Sql};
use crate::store::held::{Attempt, Changes, Held};
use crate::store::{Effect, StoreError, StoreResult};

row! {
    /// What may change of a task, found by the state and attempt that were read.
    TaskRow {
        id: TaskId => "text",
        was: &'static str => "text",
        was_attempt: u32 => "bigint",
        state: &'static str => "text",
        wait_reason: Option<&'static str> => "text",
        attempt: u32 => "bigint",
        failures: u32 => "bigint",
        priority: u8 => "bigint",
        updated_at: i64 => "bigint",
        queued_at: Option<i64> => "bigint",
        not_before: Option<i64> => "bigint",
        analysis: Option<String> => "text",
        agent_type: Option<String> => "text",
        pull_request: Option<String> => "text",
        pull_number: Option<i64> => "bigint",
        pull_closed: Option<&'static str> => "text",
        pull_closed_number: Option<i64> => "bigint",
        failure: Option<String> => "text",
        summary: Option<String> => "text",
    }
}

/// The first columns of a task, those that a change is found by.
const FOUND_BY: usize = 3;
/// The first columns of a task, those that change with its state. The others are long and change
/// once or twice in its life.
const STANDING: usize = 11;
/// Columns that keep what they have when nothing is told of them.
const KEPT: [&str; 2] = ["queued_at", "not_before"];

row! {
    NewAttempt {
        task: TaskId => "text",
        number: u32 => "bigint",
        agent: String => "text",
        lease_until: i64 => "bigint",
        assigned_at: i64 => "bigint",
    }
}

row! {
    ChangedAttempt {
        task: TaskId => "text",
        number: u32 => "bigint",
        last_seq: i64 => "bigint",
        ended_at: Option<i64> => "bigint",
        outcome: Option<String> => "text",
        failure: Option<String> => "text",
        tests_before: Option<String> => "text",
        tests_after: Option<String> => "text",
    }
}

row! {
    EventRow {
        task: TaskId => "text",
        attempt: u32 => "bigint",
        at: i64 => "bigint",
        kind: &'static str => "text",
        from_state: Option<&'static str> => "text",
        to_state: Option<&'static str> => "text",
        actor: String => "text",
        detail: String => "text",
    }
}

row! {
    LogRow {
        task: TaskId => "text",
        attempt: u32 => "bigint",
        line: String => "text",
    }
}

row! {
    CheckpointRow {
        task: TaskId => "text",
        node: String => "text",
        visit: u32 => "bigint",
        output: String => "text",
    }
}

row! {
    DependencyRow {
        task: TaskId => "text",
        depends_on: TaskId => "text",
    }
}

row! {
    StatusRow {
        repository: String => "text",
        issue: i64 => "bigint",
        task: TaskId => "text",
        effect: String => "text",
    }
}

/// All that a transaction writes of its tasks.
#[derive(Debug, Default)]
pub(super) struct Set {
    standings: Vec<TaskRow>,
    findings: Vec<TaskRow>,
    new_attempts: Vec<NewAttempt>,
    attempts: Vec<ChangedAttempt>,
    events: Vec<EventRow>,
    logs: Vec<LogRow>,
    discards: Vec<TaskId>,
    checkpoints: Vec<CheckpointRow>,
    dependencies: Vec<DependencyRow>,
    /// Of tasks that may have one that nobody has taken yet.
    statuses: Vec<StatusRow>,
    /// Of tasks that are new.
    first_statuses: Vec<StatusRow>,
}

impl Set {
    /// Adds what differs of one task.
    pub(super) fn add(
        &mut self,
        held: &Held,
        stored: &Stored,
        changes: Changes,
    ) -> StoreResult<()> {
        let now = held.now.timestamp_micros();
        self.add_task(held, stored)?;
        if held.attempt != stored.attempt
            && let Some(attempt) = &held.attempt
        {
            self.add_attempt(held, (attempt, stored.attempt.as_ref()))?;
        }
        let task = held.task.id;
        self.add_status(held, &changes)?;
        if changes.discards_checkpoints {
            self.discards.push(task);
        }
        let edge = |depends_on| DependencyRow { task, depends_on };
        self.dependencies
            .extend(changes.waits_for.into_iter().map(edge));
        self.events
            .extend(changes.events.into_iter().map(|event| EventRow {
                task,
                attempt: event.attempt.0,
                at: now,
                kind: event.kind,
                from_state: event.from.map(TaskState::as_str),
                to_state: event.to.map(TaskState::as_str),
                actor: plain(&event.actor),
                detail: plain(&event.detail),
            }));
        let log = |(attempt, line): (patchfleet_domain::AttemptNumber, String)| LogRow {
            task,
            attempt: attempt.0,
            line: plain(&line),
        };
        self.logs.extend(changes.logs.into_iter().map(log));
        for checkpoint in &changes.checkpoints {
            self.checkpoints.push(CheckpointRow {
                task,
                node: plain(&checkpoint.node),
                visit: checkpoint.visit,
                output: to_json(&checkpoint.output)?,
            });
        }
        Ok(())
    }

    fn add_task(&mut self, held: &Held, stored: &Stored) -> StoreResult<()> {
        let (task, was) = (&held.task, &stored.standing);
        let same_findings = stored.findings.are_of(held);
        if same_findings && Standing::of(held) == *was {
            return Ok(());
        }
        let mut row = TaskRow {
            id: task.id,
            was: was.state.as_str(),
            was_attempt: was.attempt.0,
            state: task.state.as_str(),
            wait_reason: task.wait_reason.map(WaitReason::as_str),
            attempt: task.attempt.0,
            failures: task.failures,
            priority: task.priority.get(),
            updated_at: task.updated_at.timestamp_micros(),
            queued_at: held.not_before.map(|_| held.now.timestamp_micros()),
            not_before: held.not_before.map(|at| at.timestamp_micros()),
            analysis: None,
            agent_type: None,
            pull_request: None,
            pull_number: None,
            pull_closed: None,
            pull_closed_number: None,
            failure: None,
            summary: None,
        };
        if same_findings {
            self.standings.push(row);
            return Ok(());
        }
        let analysis = task.analysis.as_ref();
        row.analysis = to_json_or_none(analysis)?;
        row.agent_type = analysis.map(|it| it.requirement.agent_type.to_string());
        row.pull_request = to_json_or_none(task.pull_request.as_ref())?;
        row.pull_number = task.pull_request.as_ref().map(|it| big(it.number));
        row.pull_closed = held.closed.map(|closed| closed.how.as_str());
        row.pull_closed_number = held.closed.and_then(|closed| closed.number).map(big);
        row.failure = to_json_or_none(task.failure.as_ref())?;
        row.summary = task.summary.as_deref().map(plain);
        self.findings.push(row);
        Ok(())
    }

    fn add_attempt(
        &mut self,
        held: &Held,
        (attempt, was): (&Attempt, Option<&Attempt>),
    ) -> StoreResult<()> {
        let (task, number) = (held.task.id, attempt.number.0);
        let now = held.now.timestamp_micros();
        if was.is_none_or(|was| was.number != attempt.number) {
            self.new_attempts.push(NewAttempt {
                task,
                number,
                agent: attempt.agent.to_string(),
                lease_until: attempt.lease_until.timestamp_micros(),
                assigned_at: now,
            });
            return Ok(());
        }
        let end = attempt.end.as_ref();
        self.attempts.push(ChangedAttempt {
            task,
            number,
            last_seq: big(attempt.last_seq),
            ended_at: end.map(|_| now),
            outcome: end.map(|end| end.outcome.clone()),
            failure: to_json_or_none(end.and_then(|end| end.failure.as_ref()))?,
            tests_before: to_json_or_none(attempt.tests_before.as_ref())?,
            tests_after: to_json_or_none(attempt.tests_after.as_ref())?,
        });
        Ok(())
    }

    fn add_status(&mut self, held: &Held, changes: &Changes) -> StoreResult<()> {
        let (true, Some(issue)) = (changes.tells, held.task.issue) else {
            return Ok(());
        };
        let task = held.task.id;
        let row = StatusRow {
            repository: held.task.repository.to_string(),
            issue: big(issue.0),
            task,
            effect: to_json(&Effect::Status { task })?,
        };
        let rows = if changes.is_new {
            &mut self.first_statuses
        } else {
            &mut self.statuses
        };
        rows.push(row);
        Ok(())
    }

    /// Writes everything that was added.
    pub(super) async fn write(self, sql: &mut Sql, dialect: Dialect) -> StoreResult<()> {
        let standing = &TaskRow::COLUMNS[..STANDING];
        update_tasks(sql, (dialect, standing), &self.standings).await?;
        update_tasks(sql, (dialect, TaskRow::COLUMNS), &self.findings).await?;
        // What ended first: a task has one live attempt at most.
        update_attempts(sql, dialect, &self.attempts).await?;
        rowset::insert(sql, (dialect, "attempts"), &self.new_attempts).await?;
        rowset::insert(sql, (dialect, "task_events"), &self.events).await?;
        rowset::insert(sql, (dialect, "task_logs"), &self.logs).await?;
        if !self.discards.is_empty() {
            let text = format!("DELETE FROM checkpoints WHERE task {}", dialect.among());
            rowset::execute(sql, &text, &self.discards).await?;
        }
        rowset::insert(sql, (dialect, "checkpoints"), &self.checkpoints).await?;
        rowset::insert(sql, (dialect, "task_dependencies"), &self.dependencies).await?;
        let statuses = untold(sql, dialect, self.statuses).await?;
        rowset::insert(sql, (dialect, "outbox"), &statuses).await?;
        rowset::insert(sql, (dialect, "outbox"), &self.first_statuses).await
    }
}

/// Compare-and-set of every task on the state and attempt that were read.
async fn update_tasks(
    sql: &mut Sql,
    (dialect, columns): (Dialect, &[Column]),
    rows: &[TaskRow],
) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let changes = rowset::joined(&columns[FOUND_BY..], |(name, _)| {
        if KEPT.contains(name) {
            format!("{name} = COALESCE(r.{name}, tasks.{name})")
        } else {
            format!("{name} = r.{name}")
        }
    });
    let text = format!(
        "UPDATE tasks SET {changes} FROM {} \
         WHERE tasks.id = r.id AND tasks.state = r.was AND tasks.attempt = r.was_attempt",
        rowset::table(dialect, columns)
    );
    let done = rowset::execute(sql, &text, &rows).await?;
    if usize::try_from(done) == Ok(rows.len()) {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!(
        "{} of {} tasks changed under their lock",
        rows.len() - usize::try_from(done).unwrap_or_default().min(rows.len()),
        rows.len()
    )))
}

async fn update_attempts(
    sql: &mut Sql,
    dialect: Dialect,
    rows: &[ChangedAttempt],
) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = ChangedAttempt::COLUMNS;
    let changes = rowset::joined(&columns[2..], |(name, _)| format!("{name} = r.{name}"));
    let text = format!(
        "UPDATE attempts SET {changes} FROM {} \
         WHERE attempts.task = r.task AND attempts.number = r.number",
        rowset::table(dialect, columns)
    );
    rowset::execute(sql, &text, &rows).await?;
    Ok(())
}

/// Those that have no entry yet which nobody has taken: such a one will tell the latest when it
/// is sent, so one of them is enough. It is locked, so that nobody takes it and tells the state
/// before this transaction.
async fn untold(
    sql: &mut Sql,
    dialect: Dialect,
    mut statuses: Vec<StatusRow>,
) -> StoreResult<Vec<StatusRow>> {
    if statuses.is_empty() {
        return Ok(statuses);
    }
    let text = format!(
        "SELECT task FROM outbox WHERE task {} AND done_at IS NULL AND taken_at IS NULL \
         ORDER BY id{}",
        dialect.among(),
        dialect.lock()
    );
    let tasks: Vec<_> = statuses.iter().map(|status| status.task).collect();
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(to_json(&tasks)?)
        .fetch_all(sql)
        .await?;
    let waiting: BTreeSet<TaskId> = found
        .iter()
        .map(|row| word(row, "task"))
        .collect::<StoreResult<_>>()?;
    statuses.retain(|status| !waiting.contains(&status.task));
    Ok(statuses)
}
