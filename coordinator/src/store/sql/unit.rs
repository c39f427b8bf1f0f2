//! One transaction: tasks held together, changed in memory, written as sets when it commits.
//!
//! Tasks are locked in the order of their ids, so that two transactions never wait for each other
//! on them. A change is compare-and-set on the state and attempt that were read.

use std::collections::{BTreeMap, BTreeSet};

use patchfleet_domain::outcome::{Failure, PullRequestRef};
use patchfleet_domain::{
    AttemptNumber, Priority, Task, TaskAnalysis, TaskId, TaskState, Timestamp, WaitReason,
};
use patchfleet_telemetry::Metrics;
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use super::rows::{self, number, to_json, word};
use super::{Database, Dialect, dependencies, write};
use crate::store::held::{Attempt, ClosedEarly, End, Held, Move};
use crate::store::rules::Closed;
use crate::store::{Caps, StoreResult};

/// A transaction of the store. Rolled back when dropped.
pub(super) struct Unit<'a> {
    pub(super) sql: Transaction<'a, Any>,
    pub(super) dialect: Dialect,
    /// The database's clock when the transaction began.
    pub(super) now: Timestamp,
    database: &'a Database,
    held: BTreeMap<TaskId, (Held, Stored)>,
    wakes: bool,
    /// Changes of state, to be counted once they are durable.
    moves: Vec<Move>,
}

/// What of a held task is in the store, as far as it may change: the difference is written.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) standing: Standing,
    pub(super) findings: Findings,
    pub(super) attempt: Option<Attempt>,
    /// The task was active when this transaction held it first.
    was_active: bool,
}

/// What changes of a task with its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: TaskState,
    pub(super) attempt: AttemptNumber,
    wait_reason: Option<WaitReason>,
    failures: u32,
    priority: Priority,
    updated_at: Timestamp,
}

/// What is long and changes once or twice in a task's life.
#[derive(Debug, PartialEq)]
pub(super) struct Findings {
    analysis: Option<TaskAnalysis>,
    pull_request: Option<PullRequestRef>,
    failure: Option<Failure>,
    summary: Option<String>,
    closed: Option<ClosedEarly>,
}

impl Standing {
    pub(super) fn of(held: &Held) -> Self {
        let task = &held.task;
        Self {
            state: task.state,
            attempt: task.attempt,
            wait_reason: task.wait_reason,
            failures: task.failures,
            priority: task.priority,
            updated_at: task.updated_at,
        }
    }
}

impl Findings {
    fn of(held: &Held) -> Self {
        let task = &held.task;
        Self {
            analysis: task.analysis.clone(),
            pull_request: task.pull_request.clone(),
            failure: task.failure.clone(),
            summary: task.summary.clone(),
            closed: held.closed,
        }
    }

    /// True when the task still has the same.
    pub(super) fn are_of(&self, held: &Held) -> bool {
        let task = &held.task;
        self.analysis == task.analysis
            && self.pull_request == task.pull_request
            && self.failure == task.failure
            && self.summary == task.summary
            && self.closed == held.closed
    }
}

impl Stored {
    fn of(held: &Held) -> Self {
        Self {
            standing: Standing::of(held),
            findings: Findings::of(held),
            attempt: held.attempt.clone(),
            was_active: held.task.state.is_active(),
        }
    }
}

/// What becomes of tasks that somebody else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    /// They are waited for.
    Wait,
    /// They are left out.
    Skip,
    /// They are left out, and so is what is paused.
    SkipPaused,
}

/// True of tasks of which neither the repository nor the type of agent is paused.
const NOT_PAUSED: &str = " AND NOT EXISTS (SELECT 1 FROM pauses \
     WHERE scope = 'repository' AND name = tasks.repository) \
     AND NOT EXISTS (SELECT 1 FROM pauses WHERE scope = 'agent_type' AND name = tasks.agent_type)";

impl<'a> Unit<'a> {
    pub(super) async fn begin(database: &'a Database) -> StoreResult<Self> {
        let dialect = database.dialect;
        let mut sql = database.pool.begin_with(dialect.begin()).await?;
        let now = sqlx::query_scalar(dialect.now())
            .fetch_one(&mut *sql)
            .await?;
        Ok(Self {
            sql,
            dialect,
            now: rows::moment(now)?,
            database,
            held: BTreeMap::new(),
            wakes: false,
            moves: Vec::new(),
        })
    }

    /// How many tasks may be at work at once.
    pub(super) const fn caps(&self) -> &'a Caps {
        &self.database.caps
    }

    /// The loops of this process are to look at what this transaction did.
    pub(super) const fn wake(&mut self) {
        self.wakes = true;
    }

    /// Holds the tasks until the transaction ends.
    pub(super) async fn hold(
        &mut self,
        ids: impl IntoIterator<Item = TaskId>,
        busy: Busy,
    ) -> StoreResult<()> {
        let ids: BTreeSet<_> = ids.into_iter().collect();
        let ids: Vec<_> = ids
            .into_iter()
            .filter(|id| !self.held.contains_key(id))
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let tasks = self.lock_tasks(&ids, busy).await?;
        let begun: Vec<_> = tasks
            .iter()
            .filter(|held| held.task.attempt.0 > 0)
            .map(|held| held.task.id)
            .collect();
        let mut attempts = self.lock_attempts(&begun).await?;
        for mut held in tasks {
            let id = held.task.id;
            held.attempt = attempts.remove(&id);
            let stored = Stored::of(&held);
            self.held.insert(id, (held, stored));
        }
        Ok(())
    }

    /// Holds one task, if there is such.
    pub(super) async fn one(&mut self, id: TaskId) -> StoreResult<Option<&mut Held>> {
        self.hold([id], Busy::Wait).await?;
        Ok(self.held(id))
    }

    /// A task that is held.
    pub(super) fn held(&mut self, id: TaskId) -> Option<&mut Held> {
        self.held.get_mut(&id).map(|(held, _)| held)
    }

    /// Holds tasks that this transaction inserted.
    pub(super) fn adopt(&mut self, held: Held) {
        let stored = Stored::of(&held);
        self.held.insert(held.task.id, (held, stored));
    }

    /// Tasks that were active when this transaction held them and are no more, but for `known`.
    pub(super) fn ended(&self, known: &BTreeSet<TaskId>) -> BTreeMap<TaskId, Task> {
        let ended = self.held.iter().filter(|(id, (held, stored))| {
            stored.was_active && !held.task.state.is_active() && !known.contains(id)
        });
        ended
            .map(|(id, (held, _))| (*id, held.task.clone()))
            .collect()
    }

    async fn lock_tasks(&mut self, ids: &[TaskId], busy: Busy) -> StoreResult<Vec<Held>> {
        let (only, lock) = match busy {
            Busy::Wait => ("", self.dialect.lock()),
            Busy::Skip => ("", self.dialect.lock_free()),
            Busy::SkipPaused => (NOT_PAUSED, self.dialect.lock_free()),
        };
        let text = format!(
            "SELECT {} FROM tasks WHERE id {}{only} ORDER BY id{lock}",
            rows::TASK,
            self.dialect.among(),
        );
        let found = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(to_json(&ids)?)
            .fetch_all(&mut *self.sql)
            .await?;
        let now = self.now;
        let held = |row: &AnyRow| Ok(Held::new(rows::task(row)?, closed_early(row)?, now));
        found.iter().map(held).collect()
    }

    /// The newest attempts. In a statement of its own: only one that begins after the tasks are
    /// locked is sure to see what whoever held them before has written.
    async fn lock_attempts(&mut self, ids: &[TaskId]) -> StoreResult<BTreeMap<TaskId, Attempt>> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let text = format!(
            "SELECT task, number, agent, lease_until, last_seq, ended_at FROM attempts a \
             WHERE task {} AND number = (SELECT attempt FROM tasks WHERE id = a.task) ORDER BY task{}",
            self.dialect.among(),
            self.dialect.lock(),
        );
        let found = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(to_json(&ids)?)
            .fetch_all(&mut *self.sql)
            .await?;
        found
            .iter()
            .map(|row| Ok((word(row, "task")?, attempt(row)?)))
            .collect()
    }

    /// Writes what has changed so far, for statements of this transaction that have to see it.
    pub(super) async fn flush(&mut self) -> StoreResult<()> {
        self.write().await?;
        for (held, stored) in self.held.values_mut() {
            *stored = Stored {
                was_active: stored.was_active,
                ..Stored::of(held)
            };
        }
        Ok(())
    }

    async fn write(&mut self) -> StoreResult<()> {
        let mut set = write::Set::default();
        for (held, stored) in self.held.values_mut() {
            let mut changes = held.take_changes();
            self.wakes |= changes.tells;
            self.moves.append(&mut changes.moves);
            set.add(held, stored, changes)?;
        }
        set.write(&mut self.sql, self.dialect).await
    }

    /// Makes everything durable, then wakes the loops of this process if there is work for them.
    pub(super) async fn commit(mut self) -> StoreResult<()> {
        dependencies::release(&mut self).await?;
        self.write().await?;
        self.sql.commit().await?;
        for (held, _) in self.held.values() {
            if let Some(task) = held.claimable() {
                // Without a scheduler there is nobody to hear it.
                let _ = self.database.queued.send(task);
            }
        }
        for it in &self.moves {
            count(&self.database.metrics, it);
        }
        if self.wakes {
            self.database.wake();
        }
        Ok(())
    }
}

fn closed_early(row: &AnyRow) -> StoreResult<Option<ClosedEarly>> {
    let how: Option<String> = row.try_get("pull_closed")?;
    let number: Option<i64> = row.try_get("pull_closed_number")?;
    Ok(how
        .as_deref()
        .and_then(Closed::parse)
        .map(|how| ClosedEarly {
            number: number.and_then(|number| u64::try_from(number).ok()),
            how,
        }))
}

fn attempt(row: &AnyRow) -> StoreResult<Attempt> {
    let ended: Option<i64> = row.try_get("ended_at")?;
    Ok(Attempt {
        number: AttemptNumber(number(row, "number")?),
        agent: word(row, "agent")?,
        lease_until: rows::moment_of(row, "lease_until")?,
        last_seq: number(row, "last_seq")?,
        end: ended.map(|_| End::default()),
        tests_before: None,
        tests_after: None,
    })
}

/// Counts that a task came into its state, and how long it took when that is its end.
fn count(metrics: &Metrics, it: &Move) {
    let agent_type = it.agent_type.as_ref().map_or("none", |it| it.as_str());
    let labels = [it.to.as_str(), agent_type];
    metrics.tasks.with_label_values(&labels).inc();
    if !it.to.is_active() {
        let kind = [it.kind.as_str()];
        let took = it.after.as_seconds_f64();
        metrics.task_duration.with_label_values(&kind).observe(took);
    }
}
