//! The difference between what tasks became and what is stored of them, written as sets: one
//! statement for each kind of row, however many tasks there are.

use std::collections::BTreeSet;

use patchfleet_domain::{TaskId, TaskState, WaitReason};

use super::rows::{to_json, to_json_or_none};
use super::rowset::{self, Column, Row as _, Statement, big, plain, row};
use super::stored::{Standing, Stored, Version};
use super::unit::NOT_PAUSED;
use super::{Dialect, Sql, logs};
use crate::store::held::{Attempt, Changes, Held, LogCut, LogLine};
use crate::store::{Effect, StoreError, StoreResult};

row! {
    /// What may change of a task, found by the state and attempt that were read.
    TaskRow {
        id: TaskId => "text",
        was: &'static str => "text",
        was_attempt: u32 => "bigint",
        was_version: Option<Version> => "text",
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
        returns: Option<String> => "text",
        spent: Option<String> => "text",
    }
}

/// The first columns of a task, those that a change is found by.
const FOUND_BY: usize = 4;
/// The first columns of a task, those that change with its state. The others are long and change
/// once or twice in its life.
const STANDING: usize = 12;
/// What every number of an attempt is, said for PostgreSQL's planner: it takes any list for a hundred
/// rows, and may then rather go through all of a table that is still small, with a plan that stays
/// when the table has grown. A range it takes for one row in two hundred, each of which it finds by its
/// key.
const FEW: &str = "BETWEEN 0 AND 4294967295";
/// Columns that keep what they have when nothing is told of them.
const KEPT: [&str; 2] = ["queued_at", "not_before"];

row! {
    NewAttempt {
        task: TaskId => "text",
        number: u32 => "bigint",
        agent: String => "text",
        lease_until: i64 => "bigint",
        history_volume: i64 => "bigint",
        assigned_at: i64 => "bigint",
    }
}

row! {
    ChangedAttempt {
        task: TaskId => "text",
        number: u32 => "bigint",
        was_seq: i64 => "bigint",
        last_seq: i64 => "bigint",
        log_volume: i64 => "bigint",
        history_volume: i64 => "bigint",
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
        part: Option<i64> => "bigint",
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
    IssueDependencyRow {
        task: TaskId => "text",
        repository: String => "text",
        issue: i64 => "bigint",
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
#[derive(Debug, Default, PartialEq)]
pub(super) struct Set {
    standings: Vec<TaskRow>,
    findings: Vec<TaskRow>,
    new_attempts: Vec<NewAttempt>,
    attempts: Vec<ChangedAttempt>,
    events: Vec<EventRow>,
    logs: Vec<LogRow>,
    log_cuts: Vec<(TaskId, LogCut)>,
    discards: Vec<TaskId>,
    checkpoints: Vec<CheckpointRow>,
    dependencies: Vec<DependencyRow>,
    issue_dependencies: Vec<IssueDependencyRow>,
    statuses: Vec<StatusRow>,
    /// Of some tasks it is only assumed that they are as they were, or may be given to an agent.
    assumes: bool,
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
        self.assumes |= stored.is_assumed || held.task.state == TaskState::Assigned;
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
        let of_issue = |issue| IssueDependencyRow {
            task,
            repository: held.task.repository.to_string(),
            issue: big(issue),
        };
        self.issue_dependencies
            .extend(changes.waits_for_issues.into_iter().map(of_issue));
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
        let log = |line: LogLine| LogRow {
            task,
            attempt: line.attempt.0,
            line: plain(&line.text),
            part: line.part.map(big),
        };
        self.logs.extend(changes.logs.into_iter().map(log));
        self.log_cuts.extend(changes.log_cut.map(|cut| (task, cut)));
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
            was_version: stored.version.clone(),
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
            returns: None,
            spent: None,
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
        let returns = Some(&task.returns).filter(|it| !it.is_empty());
        row.returns = to_json_or_none(returns)?;
        let spent = Some(&task.spent).filter(|it| !it.is_nothing());
        row.spent = to_json_or_none(spent)?;
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
        let Some(was) = was.filter(|was| was.number == attempt.number) else {
            self.new_attempts.push(NewAttempt {
                task,
                number,
                agent: attempt.agent.to_string(),
                lease_until: attempt.lease_until.timestamp_micros(),
                history_volume: big(attempt.history_volume),
                assigned_at: now,
            });
            return Ok(());
        };
        let end = attempt.end.as_ref();
        self.attempts.push(ChangedAttempt {
            task,
            number,
            was_seq: big(was.last_seq),
            last_seq: big(attempt.last_seq),
            log_volume: big(attempt.log_volume),
            history_volume: big(attempt.history_volume),
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
        self.statuses.push(StatusRow {
            repository: held.task.repository.to_string(),
            issue: big(issue.0),
            task,
            effect: to_json(&Effect::Status { task })?,
        });
        Ok(())
    }

    /// True when there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        let nothing = Self {
            assumes: self.assumes,
            ..Self::default()
        };
        *self == nothing
    }

    /// True when one statement writes all of it.
    pub(super) fn is_one_statement(&self, dialect: Dialect) -> bool {
        dialect == Dialect::Postgres
            && self.discards.is_empty()
            && self.log_cuts.is_empty()
            && !self.is_empty()
    }

    /// The tasks whose rows will be written.
    pub(super) fn rewritten(&self) -> BTreeSet<TaskId> {
        let rows = self.standings.iter().chain(&self.findings);
        rows.map(|row| row.id).collect()
    }

    /// The tasks that are found by what is known of them: if that is not true, nothing is written.
    pub(super) fn checked(&self) -> BTreeSet<TaskId> {
        let attempts = self.attempts.iter().map(|row| row.task);
        self.rewritten().into_iter().chain(attempts).collect()
    }

    /// Writes everything that was added, most of it in one statement; the version that the tasks'
    /// rows have then.
    ///
    /// # Errors
    /// [`StoreError::Contended`] when a task is not as it was assumed to be.
    pub(super) async fn write(
        self,
        sql: &mut Sql,
        dialect: Dialect,
    ) -> StoreResult<Option<Version>> {
        if !self.discards.is_empty() {
            let text = format!("DELETE FROM checkpoints WHERE task {}", dialect.among());
            rowset::execute(sql, &text, &self.discards).await?;
        }
        let standing = &TaskRow::COLUMNS[..STANDING];
        let changes = [
            update_tasks((dialect, standing), &self.standings)?,
            update_tasks((dialect, TaskRow::COLUMNS), &self.findings)?,
            update_attempts(dialect, &self.attempts)?,
            rowset::insertion((dialect, "attempts"), &self.new_attempts)?,
            rowset::insertion((dialect, "task_events"), &self.events)?,
            rowset::insertion((dialect, "task_logs"), &self.logs)?,
            rowset::insertion((dialect, "checkpoints"), &self.checkpoints)?,
            rowset::insertion((dialect, "task_dependencies"), &self.dependencies)?,
            rowset::insertion((dialect, "issue_dependencies"), &self.issue_dependencies)?,
            announce(dialect, &self.statuses)?,
        ];
        let changes: Vec<_> = changes.into_iter().flatten().collect();
        let written = rowset::execute_all(sql, dialect, &changes).await?;
        let version = written.map_err(|why| {
            if self.assumes {
                StoreError::Contended(why)
            } else {
                StoreError::Corrupt(why)
            }
        })?;
        // Last, when the lines are there that may be among those to be removed.
        for (task, cut) in self.log_cuts {
            logs::cut(sql, task, cut).await?;
        }
        Ok(version)
    }
}

/// Compare-and-set of every task on the state, attempt and version that were read.
fn update_tasks(
    (dialect, columns): (Dialect, &[Column]),
    rows: &[TaskRow],
) -> StoreResult<Option<Statement>> {
    if rows.is_empty() {
        return Ok(None);
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
         WHERE tasks.id = r.id AND tasks.state = r.was AND tasks.attempt = r.was_attempt{} \
         AND r.was_attempt {FEW} AND (r.state <> 'assigned' OR ({NOT_PAUSED}{}))",
        rowset::table(dialect, columns),
        dialect.has_version("tasks", "r.was_version"),
        dialect.is_free(),
    );
    Statement::of_all(text, rows).map(Some)
}

/// Compare-and-set of every attempt on the report that was the last, and on being live. That is
/// not said as `IS NULL`: a plan might take it for a reason to go through all live attempts, of
/// which there are indexes.
fn update_attempts(dialect: Dialect, rows: &[ChangedAttempt]) -> StoreResult<Option<Statement>> {
    if rows.is_empty() {
        return Ok(None);
    }
    let columns = ChangedAttempt::COLUMNS;
    let changes = rowset::joined(&columns[3..], |(name, _)| format!("{name} = r.{name}"));
    let text = format!(
        "UPDATE attempts SET {changes} FROM {} \
         WHERE attempts.task = r.task AND attempts.number = r.number \
         AND attempts.last_seq = r.was_seq AND COALESCE(attempts.ended_at, 0) = 0 \
         AND r.number {FEW}",
        rowset::table(dialect, columns)
    );
    Statement::of_all(text, rows).map(Some)
}

/// An entry for every task that has none yet which nobody has taken: such a one will tell the
/// latest when it is sent, so one of them is enough. It is locked, so that nobody takes it and tells
/// the state before this transaction.
fn announce(dialect: Dialect, rows: &[StatusRow]) -> StoreResult<Option<Statement>> {
    let untold = format!(
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.task = r.task \
         AND done_at IS NULL AND taken_at IS NULL{})",
        dialect.lock()
    );
    rowset::insertion_where((dialect, "outbox"), &untold, rows)
}
