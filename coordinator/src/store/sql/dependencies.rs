//! Tasks that wait for others: held back when they are analyzed, released by the transaction that
//! ends the last one.
//!
//! Nobody is forgotten, whoever is faster: an edge is drawn while the other task is held, so its
//! end sees the edge or the drawing sees its end; an end removes its edges before it holds who
//! waits, so of two ends at once the later one sees that nothing is left. No edge closes a cycle:
//! edges are drawn by one transaction at a time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use patchfleet_domain::{FailurePolicy, IssueNumber, RepositoryName, Task, TaskAnalysis, TaskId};
use sqlx::any::AnyRow;

use super::rows::{number, to_json, word};
use super::tasks::newest;
use super::unit::{Busy, Unit};
use super::unreadable::{DEPENDENCIES, TASKS, bind_left_out};
use crate::store::held::{Ended, Prerequisite, Standing, may_reopen, name};
use crate::store::{Cas, StoreResult};

/// Has transactions that draw edges come one after the other. To be called before anything is
/// held, so that nobody who waits here is waited for.
pub(super) async fn one_at_a_time(unit: &mut Unit<'_>) -> StoreResult<()> {
    if let Some(lock) = unit.dialect.lock_dependencies() {
        sqlx::query(lock).execute(unit.sql().await?).await?;
    }
    Ok(())
}

/// Stores the analysis of a task that is held and names issues that have to be done first.
pub(super) async fn analyzed(
    unit: &mut Unit<'_>,
    task: TaskId,
    analysis: &TaskAnalysis,
) -> StoreResult<Cas> {
    let Some(held) = unit.held(task) else {
        return Ok(Cas::Stale);
    };
    let repository = held.task.repository.clone();
    let first = prerequisites(unit, &repository, &analysis.depends_on).await?;
    let cycle = cycle(unit, task, &first).await?;
    let Some(held) = unit.held(task) else {
        return Ok(Cas::Stale);
    };
    let applied = held.analyzed(analysis, &first, cycle.as_deref())?;
    // The next one in this transaction has to see the edges.
    unit.flush().await?;
    Ok(applied)
}

async fn prerequisites(
    unit: &mut Unit<'_>,
    repository: &RepositoryName,
    issues: &[u64],
) -> StoreResult<Vec<Prerequisite>> {
    let mut newest_of = Vec::with_capacity(issues.len());
    for &issue in issues {
        newest_of.push((issue, newest(unit, repository, IssueNumber(issue)).await?));
    }
    unit.hold(newest_of.iter().filter_map(|(_, task)| *task), Busy::Wait)
        .await?;
    for id in newest_of.iter().filter_map(|(_, task)| *task) {
        // Nobody knows whether it is done.
        unit.readable(id)?;
    }
    let all = newest_of.into_iter().map(|(issue, task)| {
        let held = task.and_then(|id| unit.held(id));
        Prerequisite {
            issue,
            standing: Standing::of(held.map(|held| &held.task)),
        }
    });
    Ok(all.collect())
}

/// The way from the task to itself, if one of those that it is to wait for waits for it.
pub(super) async fn cycle(
    unit: &mut Unit<'_>,
    task: TaskId,
    first: &[Prerequisite],
) -> StoreResult<Option<String>> {
    // Each with the one that waits for it.
    let mut reached: BTreeMap<TaskId, TaskId> = BTreeMap::new();
    let mut fringe: BTreeSet<TaskId> = first.iter().filter_map(Prerequisite::active).collect();
    reached.extend(fringe.iter().map(|id| (*id, task)));
    while !fringe.is_empty() {
        let edges = edges(unit, "task", &fringe).await?;
        fringe.clear();
        for (waiting, waited_for) in edges {
            if waited_for == task {
                return way(unit, task, waiting, &reached).await.map(Some);
            }
            if let Entry::Vacant(unknown) = reached.entry(waited_for) {
                unknown.insert(waiting);
                fringe.insert(waited_for);
            }
        }
    }
    Ok(None)
}

/// The names of the tasks from `task` by way of `last` back to itself.
async fn way(
    unit: &mut Unit<'_>,
    task: TaskId,
    last: TaskId,
    reached: &BTreeMap<TaskId, TaskId>,
) -> StoreResult<String> {
    let back = std::iter::successors(Some(last), |id| reached.get(id).copied());
    let mut ids: Vec<_> = back.take_while(|id| *id != task).collect();
    ids.push(task);
    ids.reverse();
    ids.push(task);
    unit.hold(ids.iter().copied(), Busy::Wait).await?;
    let names = ids
        .into_iter()
        .filter_map(|id| unit.held(id).map(|held| name(&held.task)));
    Ok(names.collect::<Vec<_>>().join(" → "))
}

/// Edges at one end of which are those tasks: who waits, and for whom.
async fn edges(
    unit: &mut Unit<'_>,
    end: &str,
    tasks: &BTreeSet<TaskId>,
) -> StoreResult<Vec<(TaskId, TaskId)>> {
    let among = unit.dialect.among();
    let text = format!("SELECT task, depends_on FROM task_dependencies WHERE {end} {among}");
    fetch(unit, text, tasks).await
}

async fn fetch(
    unit: &mut Unit<'_>,
    text: String,
    tasks: &BTreeSet<TaskId>,
) -> StoreResult<Vec<(TaskId, TaskId)>> {
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(to_json(tasks)?)
        .fetch_all(unit.sql().await?)
        .await?;
    Ok(unit.database().readable(DEPENDENCIES, &found, edge))
}

/// Lets go on, or stops, what waited for tasks that ended in this transaction; what that ends in
/// turn too. To be called when the ends are written, and so held; true when anything waited for
/// them, which is to be written then.
pub(super) async fn release(unit: &mut Unit<'_>) -> StoreResult<bool> {
    let mut released = BTreeSet::new();
    let mut any = false;
    loop {
        let ended: BTreeMap<TaskId, Task> = unit.ended(&released);
        if ended.is_empty() {
            return Ok(any);
        }
        released.extend(ended.keys().copied());
        let ids = ended.keys().copied().collect();
        let among = unit.dialect.among();
        let text = format!(
            "DELETE FROM task_dependencies WHERE depends_on {among} RETURNING task, depends_on"
        );
        let mut waited: BTreeMap<TaskId, Vec<Task>> = BTreeMap::new();
        for (waiting, waited_for) in fetch(unit, text, &ids).await? {
            let ended = ended.get(&waited_for).cloned();
            waited.entry(waiting).or_default().extend(ended);
        }
        if !waited.is_empty() && !any {
            unit.settle();
            any = true;
        }
        release_all(unit, waited).await?;
    }
}

async fn release_all(unit: &mut Unit<'_>, waited: BTreeMap<TaskId, Vec<Task>>) -> StoreResult<()> {
    if waited.is_empty() {
        return Ok(());
    }
    unit.hold(waited.keys().copied(), Busy::Wait).await?;
    // Asked only now: whoever removed others of these edges held the tasks until it was done.
    let waiting: BTreeSet<_> = waited.keys().copied().collect();
    let left = count(unit, &waiting).await?;
    for (id, ended) in waited {
        let left = left.get(&id).copied().unwrap_or(0);
        if unit.readable(id).is_err() {
            draw_again(unit, id, &ended).await?;
        } else if let Some(held) = unit.held(id) {
            let waits = held.on_dependency_failure() == FailurePolicy::Cancel;
            let (closed, over): (Vec<_>, Vec<_>) = ended
                .iter()
                .partition(|task| waits && may_reopen(task) && task.issue.is_some());
            for task in &closed {
                held.waits_for_issue(task);
            }
            let over: Vec<_> = over.into_iter().map(Ended::of).collect();
            if !over.is_empty() {
                held.released(&over, left + closed.len())?;
            }
        }
    }
    Ok(())
}

/// How many others each of the tasks waits for; also those whose ids can't be decoded, and issues.
pub(super) async fn count(
    unit: &mut Unit<'_>,
    waiting: &BTreeSet<TaskId>,
) -> StoreResult<BTreeMap<TaskId, usize>> {
    let mut counts = BTreeMap::new();
    for table in ["task_dependencies", "issue_dependencies"] {
        let text = format!(
            "SELECT task, COUNT(*) AS n FROM {table} WHERE task {} GROUP BY task",
            unit.dialect.among()
        );
        let found = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(to_json(waiting)?)
            .fetch_all(unit.sql().await?)
            .await?;
        for row in &found {
            let count: usize = number(row, "n")?;
            *counts.entry(word(row, "task")?).or_default() += count;
        }
    }
    Ok(counts)
}

/// Keeps the edges of a task that can't be decoded now, for [`release_late`].
async fn draw_again(unit: &mut Unit<'_>, waiting: TaskId, ended: &[Task]) -> StoreResult<()> {
    for ended in ended {
        sqlx::query(
            "INSERT INTO task_dependencies (task, depends_on) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(waiting.to_string())
        .bind(ended.id.to_string())
        .execute(unit.sql().await?)
        .await?;
    }
    Ok(())
}

/// Most edges that are looked at together.
const LATE: u32 = 200;

/// Lets go on what could not be decoded when the last task before it ended, and can be now.
pub(super) async fn release_late(unit: &mut Unit<'_>) -> StoreResult<()> {
    let left_out = unit.database().left_out(&[TASKS])?;
    let text = format!(
        "SELECT d.task, d.depends_on FROM task_dependencies d JOIN tasks t ON t.id = d.depends_on \
         WHERE t.state IN ('completed', 'failed', 'cancelled'){} ORDER BY d.task LIMIT {LATE}",
        left_out.condition(unit.dialect, "d.task", 1)
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text));
    let found = bind_left_out!(query, left_out)
        .fetch_all(unit.sql().await?)
        .await?;
    let late = unit.database().readable(DEPENDENCIES, &found, edge);
    let both = late.iter().flat_map(|(waiting, ended)| [*waiting, *ended]);
    unit.hold(both.collect::<BTreeSet<_>>(), Busy::Skip).await?;
    let mut waited: BTreeMap<TaskId, Vec<Task>> = BTreeMap::new();
    for (waiting, ended) in late {
        if unit.held(waiting).is_none() {
            continue;
        }
        let Some(ended) = unit.held(ended).map(|held| held.task.clone()) else {
            continue;
        };
        sqlx::query("DELETE FROM task_dependencies WHERE task = $1 AND depends_on = $2")
            .bind(waiting.to_string())
            .bind(ended.id.to_string())
            .execute(unit.sql().await?)
            .await?;
        waited.entry(waiting).or_default().push(ended);
    }
    release_all(unit, waited).await
}

fn edge(row: &AnyRow) -> StoreResult<(TaskId, TaskId)> {
    Ok((word(row, "task")?, word(row, "depends_on")?))
}
