//! One transaction: tasks held together, changed in memory, written as sets when it commits.
//!
//! Tasks that are read are locked in the order of their ids, so that two transactions never wait for
//! each other on them. A change is compare-and-set on the state and attempt that were read.
//!
//! What is queued here is mostly given away here, and what an agent at work reports comes to the
//! coordinator that gave it the task: that one knows how it left the task. It does not ask again
//! ([`Unit::recall`]): if somebody else was at the task, its row has another version, the change
//! finds nothing to change, and the transaction is tried anew with what is stored. Where nothing was
//! asked, the one statement that writes everything is a transaction by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Instant;

use patchfleet_domain::{AttemptNumber, Task, TaskId, TaskState, Timestamp, Usage, Work};
use patchfleet_telemetry::Metrics;
use sqlx::any::AnyRow;
use sqlx::{Any, Connection as _, Row as _, Transaction};

use super::errors::is_lost;
use super::rows::{self, number, to_json, word};
use super::stored::{Stored, Version};
use super::unreadable::{ATTEMPTS, TASKS, Table, named};
use super::{Database, Dialect, Sql, dependencies, write};
use crate::store::held::{Attempt, ClosedEarly, End, Held, Move};
use crate::store::rules::Closed;
use crate::store::{Caps, StoreError, StoreResult};

/// A transaction of the store. Rolled back when dropped.
pub(super) struct Unit<'a> {
    /// Begun by whoever needs it first.
    transaction: Option<Transaction<'static, Any>>,
    pub(super) dialect: Dialect,
    /// The database's clock, as soon as somebody asked for it.
    now: Option<Timestamp>,
    database: &'a Database,
    held: BTreeMap<TaskId, (Held, Stored)>,
    /// Tasks that can't be decoded: nothing is done to them.
    unreadable: BTreeMap<TaskId, StoreError>,
    wakes: bool,
    /// Changes of state, to be counted once they are durable.
    moves: Vec<Move>,
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
pub(super) const NOT_PAUSED: &str = "NOT EXISTS (SELECT 1 FROM pauses \
     WHERE scope = 'repository' AND name = tasks.repository) \
     AND NOT EXISTS (SELECT 1 FROM pauses WHERE scope = 'agent_type' AND name = tasks.agent_type)";

impl<'a> Unit<'a> {
    /// One that has not begun.
    pub(super) const fn of(database: &'a Database) -> Self {
        Self {
            transaction: None,
            dialect: database.dialect,
            now: None,
            database,
            held: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            wakes: false,
            moves: Vec::new(),
        }
    }

    /// The store that it is a transaction of.
    pub(super) const fn database(&self) -> &'a Database {
        self.database
    }

    /// The connection, in the transaction.
    pub(super) async fn sql(&mut self) -> StoreResult<&mut Sql> {
        let transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => begin(self.database).await?,
        };
        Ok(self.transaction.insert(transaction))
    }

    /// Undoes everything, now.
    pub(super) async fn roll_back(mut self) {
        if let Some(transaction) = self.transaction.take() {
            // Where that fails the connection is lost, and the transaction with it.
            let _ = transaction.rollback().await;
        }
    }

    /// The database's clock: one moment for the whole transaction.
    pub(super) async fn now(&mut self) -> StoreResult<Timestamp> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let text = format!("SELECT {}", self.dialect.now());
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(text));
        let sql = self.sql().await?;
        let asked = Instant::now();
        let now = rows::moment(query.fetch_one(sql).await?)?;
        self.database.clock.set(now, asked);
        Ok(*self.now.insert(now))
    }

    /// How many tasks may be at work at once.
    pub(super) const fn caps(&self) -> &'a Caps {
        &self.database.caps
    }

    /// The loops of this process are to look at what this transaction did.
    pub(super) const fn wake(&mut self) {
        self.wakes = true;
    }

    /// Holds the tasks until the transaction ends. Those that can't be decoded are left out;
    /// [`Self::readable`] tells which.
    pub(super) async fn hold(
        &mut self,
        ids: impl IntoIterator<Item = TaskId>,
        busy: Busy,
    ) -> StoreResult<()> {
        let ids: BTreeSet<_> = ids.into_iter().collect();
        let ids: Vec<_> = ids
            .into_iter()
            .filter(|id| !self.held.contains_key(id) && !self.unreadable.contains_key(id))
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let tasks = self.lock_tasks(&ids, busy).await?;
        let begun: Vec<_> = tasks
            .iter()
            .filter(|(held, _)| held.task.attempt.0 > 0)
            .map(|(held, _)| held.task.id)
            .collect();
        let mut attempts = self.lock_attempts(&begun).await?;
        for (mut held, version) in tasks {
            let id = held.task.id;
            if self.unreadable.contains_key(&id) {
                continue;
            }
            held.attempt = attempts.remove(&id);
            let stored = Stored::of(&held, version);
            self.held.insert(id, (held, stored));
        }
        Ok(())
    }

    /// Holds those of the tasks that this process remembers in such a state, as it left them. What
    /// was decided on a memory is true only if it led to a change that is written: where nothing
    /// came of it, the transaction is tried anew with what is stored.
    pub(super) async fn recall(
        &mut self,
        ids: &BTreeSet<TaskId>,
        in_state: fn(TaskState) -> bool,
    ) -> StoreResult<()> {
        let known = self.database.memory.take(ids, in_state);
        if known.is_empty() {
            return Ok(());
        }
        let now = self.now_or_so(&known).await?;
        for (mut held, version) in known {
            (held.now, held.not_before) = (now, None);
            let stored = Stored {
                is_assumed: true,
                ..Stored::of(&held, Some(version))
            };
            self.held.insert(held.task.id, (held, stored));
        }
        Ok(())
    }

    /// The database's clock as well as it is known without asking, and not before anything that
    /// these tasks have been through.
    async fn now_or_so(&mut self, known: &[(Held, Version)]) -> StoreResult<Timestamp> {
        let (None, Some(now)) = (self.now, self.database.clock.now()) else {
            return self.now().await;
        };
        let last = known.iter().map(|(held, _)| held.task.updated_at).max();
        Ok(*self.now.insert(last.map_or(now, |last| last.max(now))))
    }

    /// Holds one task, if there is such; an error when it can't be decoded.
    pub(super) async fn one(&mut self, id: TaskId) -> StoreResult<Option<&mut Held>> {
        self.hold([id], Busy::Wait).await?;
        self.readable(id)?;
        Ok(self.held(id))
    }

    /// An error when the task was to be held and can't be decoded.
    pub(super) fn readable(&self, id: TaskId) -> StoreResult<()> {
        match self.unreadable.get(&id) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn leave_out(&mut self, table: Table, id: TaskId, error: StoreError) {
        self.database.skip(table, &id.to_string(), &error);
        self.unreadable
            .insert(id, named(table, &id.to_string(), error));
    }

    /// A task that is held.
    pub(super) fn held(&mut self, id: TaskId) -> Option<&mut Held> {
        self.held.get_mut(&id).map(|(held, _)| held)
    }

    /// What models used, as it was reported in this transaction; taken out, to be settled.
    pub(super) fn take_usages(&mut self) -> Vec<(Work, Usage)> {
        let held = self.held.values_mut().map(|(held, _)| held);
        held.flat_map(|held| mem::take(&mut held.changes.usages))
            .collect()
    }

    /// Holds tasks that this transaction inserted.
    pub(super) fn adopt(&mut self, held: Held) {
        let stored = Stored {
            is_new: true,
            ..Stored::of(&held, None)
        };
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

    async fn lock_tasks(
        &mut self,
        ids: &[TaskId],
        busy: Busy,
    ) -> StoreResult<Vec<(Held, Option<Version>)>> {
        let (only, lock) = match busy {
            Busy::Wait => ("1 = 1", self.dialect.lock()),
            Busy::Skip => ("1 = 1", self.dialect.lock_free()),
            Busy::SkipPaused => (NOT_PAUSED, self.dialect.lock_free()),
        };
        let text = format!(
            "SELECT {}, {}, {} AS clock FROM tasks WHERE id {} AND {only} ORDER BY id{lock}",
            rows::TASK,
            self.dialect.version(),
            self.dialect.now(),
            self.dialect.among(),
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(to_json(&ids)?);
        let sql = self.sql().await?;
        let asked = Instant::now();
        let found = query.fetch_all(sql).await?;
        // The clock comes with the rows; without any, nobody needs it.
        let Some(first) = found.first() else {
            return Ok(Vec::new());
        };
        let read = rows::moment_of(first, "clock")?;
        self.database.clock.set(read, asked);
        let now = *self.now.get_or_insert(read);
        let held = |row: &AnyRow| {
            let version: Option<String> = row.try_get("version")?;
            let held = Held::new(rows::task(row)?, closed_early(row)?, now);
            Ok((held, version.map(Version)))
        };
        let mut tasks = Vec::with_capacity(found.len());
        for row in &found {
            match held(row) {
                Ok(task) => tasks.push(task),
                Err(error) => self.leave_out(TASKS, word(row, "id")?, error),
            }
        }
        Ok(tasks)
    }

    /// The newest attempts. In a statement of its own: only one that begins after the tasks are
    /// locked is sure to see what whoever held them before has written.
    async fn lock_attempts(&mut self, ids: &[TaskId]) -> StoreResult<BTreeMap<TaskId, Attempt>> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let text = format!(
            "SELECT task, number, agent, lease_until, last_seq, log_volume, history_volume, \
             ended_at FROM attempts a WHERE task {} AND number = (SELECT attempt FROM tasks WHERE id = a.task) ORDER BY task{}",
            self.dialect.among(),
            self.dialect.lock(),
        );
        let found = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(to_json(&ids)?)
            .fetch_all(self.sql().await?)
            .await?;
        let mut attempts = BTreeMap::new();
        for row in &found {
            let task = word(row, "task")?;
            match attempt(row) {
                Ok(attempt) => {
                    attempts.insert(task, attempt);
                }
                Err(error) => self.leave_out(ATTEMPTS, task, error),
            }
        }
        Ok(attempts)
    }

    /// Writes what has changed so far, for statements of this transaction that have to see it.
    pub(super) async fn flush(&mut self) -> StoreResult<()> {
        self.write().await?;
        self.settle();
        Ok(())
    }

    /// Takes what is held for what is stored, after it was written.
    pub(super) fn settle(&mut self) {
        for (held, stored) in self.held.values_mut() {
            *stored = Stored {
                was_active: stored.was_active,
                is_new: stored.is_new,
                ..Stored::of(held, stored.version.take())
            };
        }
    }

    async fn write(&mut self) -> StoreResult<()> {
        let set = self.changed()?;
        self.write_set(set).await
    }

    async fn write_set(&mut self, set: write::Set) -> StoreResult<()> {
        if set.is_empty() {
            return Ok(());
        }
        let (rewritten, dialect) = (set.rewritten(), self.dialect);
        let version = set.write(self.sql().await?, dialect).await?;
        self.now_have(&rewritten, version.as_ref());
        Ok(())
    }

    /// Writes what is one statement, and thereby a transaction of its own.
    async fn write_alone(&mut self, set: write::Set) -> StoreResult<()> {
        let rewritten = set.rewritten();
        let mut connection = self.database.warm.acquire().await?;
        match set.write(connection.sql(), self.dialect).await {
            Ok(version) => {
                self.database.warm.keep(connection);
                self.now_have(&rewritten, version.as_ref());
                Ok(())
            }
            Err(error) => {
                // PostgreSQL tells of an error before it lets go of what the statement held
                // (`PostgresMain` in its tcop/postgres.c); the next try would find it held.
                let _ = connection.sql().ping().await;
                Err(match error {
                    // Whether it was done before the connection was lost, the next try sees.
                    StoreError::Unavailable(why) => StoreError::Contended(why),
                    other => other,
                })
            }
        }
    }

    /// What differs from what is stored.
    fn changed(&mut self) -> StoreResult<write::Set> {
        let mut set = write::Set::default();
        for (held, stored) in self.held.values_mut() {
            let mut changes = held.take_changes();
            self.wakes |= changes.tells || changes.wakes;
            self.moves.append(&mut changes.moves);
            set.add(held, stored, changes)?;
        }
        let checked = set.checked();
        let mut assumed = self.held.iter().filter(|(_, (_, known))| known.is_assumed);
        match assumed.find(|(id, _)| !checked.contains(id)) {
            Some((id, _)) => Err(StoreError::Contended(format!(
                "nothing is written that could show what is remembered of {id} to be old"
            ))),
            None => Ok(set),
        }
    }

    /// The rows that this transaction wrote have its version.
    fn now_have(&mut self, rewritten: &BTreeSet<TaskId>, version: Option<&Version>) {
        for (id, (_, stored)) in &mut self.held {
            if stored.is_new || rewritten.contains(id) {
                stored.version = version.cloned();
            }
        }
    }

    /// Makes everything durable, then wakes the loops of this process if there is work for them.
    pub(super) async fn commit(mut self) -> StoreResult<()> {
        if let Err(error) = self.make_durable().await {
            if let Some(transaction) = self.transaction.take() {
                // Now, and not when the connection is used again: the next try would find the
                // tasks held.
                let _ = transaction.rollback().await;
            }
            return Err(error);
        }
        self.tell();
        Ok(())
    }

    async fn make_durable(&mut self) -> StoreResult<()> {
        let set = self.changed()?;
        let ends_none = self.ended(&BTreeSet::new()).is_empty();
        if self.transaction.is_none() && ends_none && set.is_one_statement(self.dialect) {
            self.write_alone(set).await?;
        } else {
            // First: what was only recalled is held from then on.
            self.write_set(set).await?;
            if dependencies::release(self).await? {
                self.write().await?;
            }
        }
        if let Some(transaction) = self.transaction.take() {
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Tells this process what is durable now. It is remembered before anybody asks for it.
    fn tell(self) {
        let queued = self.held.values().filter_map(|(held, _)| held.claimable());
        let queued: Vec<_> = queued.collect();
        let left = self.held.into_values();
        let known = left.filter_map(|(held, stored)| Some((held, stored.version?)));
        self.database.memory.keep(known);
        for task in queued {
            // Without a scheduler there is nobody to hear it.
            let _ = self.database.queued.send(task);
        }
        for it in &self.moves {
            count(&self.database.metrics, it);
        }
        if self.wakes {
            self.database.wake();
        }
    }
}

/// Begins on a connection that is there: after a restart of the database those of the pool are not,
/// and as nothing was done yet, the next one may be tried.
async fn begin(database: &Database) -> StoreResult<Transaction<'static, Any>> {
    let mut left = database.pool.size();
    loop {
        match database.pool.begin_with(database.dialect.begin()).await {
            Err(error) if left > 0 && is_lost(&error) => left -= 1,
            begun => return Ok(begun?),
        }
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
        log_volume: number(row, "log_volume")?,
        history_volume: number(row, "history_volume")?,
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
