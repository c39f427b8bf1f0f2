//! One transaction: a locked task, its change of state, its history and its outbox entry.

use patchfleet_domain::{IssueNumber, RepositoryName, Task, TaskId, TaskState};
use patchfleet_telemetry::Metrics;
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use super::rows::{self, to_json, to_json_or_none};
use super::{Dialect, SqlStore};
use crate::store::rules::{Closed, Course};
use crate::store::{Effect, StoreError, StoreResult};

/// A transaction of the store. Rolled back when dropped.
pub(super) struct Tx<'a> {
    pub(super) sql: Transaction<'a, Any>,
    pub(super) dialect: Dialect,
    /// The database's clock when the transaction began.
    pub(super) now: i64,
    store: &'a SqlStore,
    wakes: bool,
    /// The changes of state, to be counted once they are durable.
    moves: Vec<Task>,
}

/// A task that nobody else changes until the transaction ends.
pub(super) struct Locked {
    pub(super) task: Task,
    /// A pull request on the task's branch was closed before the task reported it.
    pub(super) closed: Option<ClosedEarly>,
}

/// What is remembered of such a pull request.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClosedEarly {
    /// Its number.
    pub(super) number: Option<u64>,
    /// How it ended.
    pub(super) how: Closed,
}

impl ClosedEarly {
    fn of(row: &AnyRow) -> StoreResult<Option<Self>> {
        let how: Option<String> = row.try_get("pull_closed")?;
        let number: Option<i64> = row.try_get("pull_closed_number")?;
        Ok(how.as_deref().and_then(Closed::parse).map(|how| Self {
            number: number.and_then(|number| u64::try_from(number).ok()),
            how,
        }))
    }

    /// How the pull request `number` ended, if it is the one: an earlier attempt may have opened
    /// another one on the same branch.
    pub(super) fn of_pull(self, number: u64) -> Option<Closed> {
        let same = self.number.is_none_or(|closed| closed == number);
        same.then_some(self.how)
    }
}

/// A row of history besides the changes of state.
pub(super) struct Note<'a> {
    pub(super) kind: &'a str,
    pub(super) actor: &'a str,
    pub(super) detail: &'a str,
}

impl<'a> Tx<'a> {
    pub(super) async fn begin(store: &'a SqlStore) -> StoreResult<Self> {
        let mut sql = store.pool.begin_with(store.dialect.begin()).await?;
        let dialect = store.dialect;
        let now = sqlx::query_scalar(dialect.now())
            .fetch_one(&mut *sql)
            .await?;
        Ok(Self {
            sql,
            dialect,
            now,
            store,
            wakes: false,
            moves: Vec::new(),
        })
    }

    /// Makes everything durable, then wakes the loops of this process if there is work for them.
    pub(super) async fn commit(self) -> StoreResult<()> {
        self.sql.commit().await?;
        for task in &self.moves {
            count(&self.store.metrics, task);
        }
        if self.wakes {
            self.store.wake();
        }
        Ok(())
    }

    /// The loops of this process are to look at what this transaction did.
    pub(super) const fn wake(&mut self) {
        self.wakes = true;
    }

    /// Fetches a task and keeps others from changing it.
    pub(super) async fn lock(&mut self, id: TaskId) -> StoreResult<Option<Locked>> {
        let text = format!(
            "SELECT {} FROM tasks WHERE id = $1{}",
            rows::TASK,
            self.dialect.lock()
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(id.to_string())
            .fetch_optional(&mut *self.sql)
            .await?;
        row.map(|row| {
            Ok(Locked {
                task: rows::task(&row)?,
                closed: ClosedEarly::of(&row)?,
            })
        })
        .transpose()
    }

    /// Keeps others from making a task of the issue active until the transaction ends, so that
    /// whoever looks for an active one may rely on the answer.
    pub(super) async fn lock_issue(
        &mut self,
        repository: &RepositoryName,
        issue: Option<IssueNumber>,
    ) -> StoreResult<()> {
        if let (Some(lock), Some(issue)) = (self.dialect.lock_issue(), issue) {
            sqlx::query(lock)
                .bind(format!("{repository}#{issue}"))
                .execute(&mut *self.sql)
                .await?;
        }
        Ok(())
    }

    /// Sends a task along a course: every step is checked against the table of transitions,
    /// written by compare-and-set and told in the history.
    pub(super) async fn follow(
        &mut self,
        task: &mut Task,
        course: &Course,
        (actor, detail): (&str, &str),
    ) -> StoreResult<()> {
        let pause = i64::try_from(course.pause.as_micros()).unwrap_or(i64::MAX);
        for &to in &course.states {
            let from = task.state;
            task.state = from
                .transition(to)
                .map_err(|error| StoreError::Corrupt(format!("task {}: {error}", task.id)))?;
            self.save(task, from, pause).await?;
            self.state_event(task, Some(from), (actor, detail)).await?;
        }
        self.enqueue_status(task).await
    }

    /// Writes everything of a task that may change, if it is still in the state it was locked in.
    pub(super) async fn save(
        &mut self,
        task: &mut Task,
        from: TaskState,
        pause: i64,
    ) -> StoreResult<()> {
        task.updated_at = rows::moment(self.now)?;
        let queued = task.state == TaskState::Queued && from != TaskState::Queued;
        let pull_number = task
            .pull_request
            .as_ref()
            .and_then(|it| i64::try_from(it.number).ok());
        let saved = sqlx::query(
            "UPDATE tasks SET state = $1, wait_reason = $2, attempt = $3, failures = $4, priority = $5, \
             analysis = $6, pull_request = $7, pull_number = $8, failure = $9, summary = $10, updated_at = $11, \
             queued_at = CASE WHEN $12 = 1 THEN $13 ELSE queued_at END, \
             not_before = CASE WHEN $14 = 1 THEN $15 ELSE not_before END \
             WHERE id = $16 AND state = $17 AND attempt <= $18",
        )
        .bind(task.state.as_str())
        .bind(task.wait_reason.map(patchfleet_domain::WaitReason::as_str))
        .bind(i64::from(task.attempt.0))
        .bind(i64::from(task.failures))
        .bind(i64::from(task.priority.get()))
        .bind(to_json_or_none(task.analysis.as_ref())?)
        .bind(to_json_or_none(task.pull_request.as_ref())?)
        .bind(pull_number)
        .bind(to_json_or_none(task.failure.as_ref())?)
        .bind(task.summary.as_deref())
        .bind(self.now)
        .bind(i64::from(queued))
        .bind(self.now)
        .bind(i64::from(queued))
        .bind(self.now.saturating_add(pause))
        .bind(task.id.to_string())
        .bind(from.as_str())
        .bind(i64::from(task.attempt.0))
        .execute(&mut *self.sql)
        .await?;
        if saved.rows_affected() == 1 {
            self.wakes = true;
            return Ok(());
        }
        Err(StoreError::Corrupt(format!(
            "task {} changed under its lock",
            task.id
        )))
    }

    /// Writes a change of state to the history.
    pub(super) async fn state_event(
        &mut self,
        task: &Task,
        from: Option<TaskState>,
        (actor, detail): (&str, &str),
    ) -> StoreResult<()> {
        let kind = if from.is_some() { "state" } else { "created" };
        self.moves.push(task.clone());
        self.event(
            task,
            (from, Some(task.state)),
            Note {
                kind,
                actor,
                detail,
            },
        )
        .await
    }

    /// Writes something else to the history.
    pub(super) async fn note(&mut self, task: &Task, note: Note<'_>) -> StoreResult<()> {
        self.event(task, (None, None), note).await
    }

    async fn event(
        &mut self,
        task: &Task,
        (from, to): (Option<TaskState>, Option<TaskState>),
        note: Note<'_>,
    ) -> StoreResult<()> {
        sqlx::query(
            "INSERT INTO task_events (task, attempt, at, kind, from_state, to_state, actor, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(task.id.to_string())
        .bind(i64::from(task.attempt.0))
        .bind(self.now)
        .bind(note.kind)
        .bind(from.map(TaskState::as_str))
        .bind(to.map(TaskState::as_str))
        .bind(note.actor)
        .bind(note.detail)
        .execute(&mut *self.sql)
        .await?;
        Ok(())
    }

    /// Has the task's status comment and labels brought up to date. An entry that nobody has
    /// taken yet will tell the latest when it is sent, so one of them is enough; it is locked, so
    /// that nobody takes it and tells the state before this transaction.
    pub(super) async fn enqueue_status(&mut self, task: &Task) -> StoreResult<()> {
        let Some(issue) = task.issue else {
            return Ok(());
        };
        let text = format!(
            "SELECT id FROM outbox WHERE task = $1 AND repository = $2 AND issue = $3 \
             AND done_at IS NULL AND taken_at IS NULL LIMIT 1{}",
            self.dialect.lock()
        );
        let waiting: Option<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
            .bind(task.id.to_string())
            .bind(task.repository.as_str())
            .bind(i64::try_from(issue.0).unwrap_or(i64::MAX))
            .fetch_optional(&mut *self.sql)
            .await?;
        if waiting.is_some() {
            return Ok(());
        }
        let effect = Effect::Status { task: task.id };
        self.enqueue((task.repository.as_str(), issue.0), Some(task.id), &effect)
            .await
    }

    /// Has something written to GitHub.
    pub(super) async fn enqueue(
        &mut self,
        (repository, issue): (&str, u64),
        task: Option<TaskId>,
        effect: &Effect,
    ) -> StoreResult<()> {
        self.wakes = true;
        sqlx::query("INSERT INTO outbox (repository, issue, task, effect) VALUES ($1, $2, $3, $4)")
            .bind(repository)
            .bind(i64::try_from(issue).unwrap_or(i64::MAX))
            .bind(task.map(|id| id.to_string()))
            .bind(to_json(effect)?)
            .execute(&mut *self.sql)
            .await?;
        Ok(())
    }
}

/// Counts that a task came into its state, and how long it took when that is its end.
fn count(metrics: &Metrics, task: &Task) {
    let agent_type = task
        .analysis
        .as_ref()
        .map(|it| it.requirement.agent_type.as_str());
    let labels = [task.state.as_str(), agent_type.unwrap_or("none")];
    metrics.tasks.with_label_values(&labels).inc();
    if !task.state.is_active() {
        let took = (task.updated_at - task.created_at).as_seconds_f64();
        let kind = task.kind.as_str();
        metrics
            .task_duration
            .with_label_values(&[kind])
            .observe(took);
    }
}
