//! Claims: what waits, and giving it to agents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::agent::Requirement;
use patchfleet_domain::{AttemptNumber, Priority, Returns, TaskId, TaskState, Work};
use serde::Deserialize;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::batch::each;
use super::rows::{json, json_present, moment, number, to_json, word};
use super::unit::{Busy, Unit};
use super::unreadable::{CHECKPOINTS, LeftOut, bind_left_out};
use super::{Database, Dialect, lanes};
use crate::store::held::Held;
use crate::store::work::rests;
use crate::store::{
    Assignment, Cas, Checkpoint, Claim, Look, QueuedTask, Room, StoreError, StoreResult,
};

/// The order of a lane. A task gains one point of priority for each ten minutes it waits, so that
/// nothing starves; as all of them gain alike, their order does not change with time, and an
/// index keeps it.
const RANK: &str = "queued_at - priority * 600000000";

/// `$2` tasks of each lane at most, `$3` in all, which may be claimed at `$1`; one of each lane
/// whose type is not among `$5`, unless `$4` is empty. PostgreSQL goes from
/// lane to lane and from task to task by the index, however many more there are; SQLite, whose
/// queues are those of one machine, looks at all that are queued.
fn heads(dialect: Dialect, left_out: &LeftOut) -> String {
    let readable = left_out.condition(dialect, "id", 6);
    let task = "id, attempt, priority, repository, analysis, returns, queued_at";
    match dialect {
        Dialect::Postgres => format!(
            "WITH RECURSIVE lanes AS (\
                (SELECT agent_type, repository FROM tasks WHERE state = 'queued' \
                 ORDER BY agent_type, repository LIMIT 1) \
                UNION ALL \
                SELECT n.agent_type, n.repository FROM lanes l CROSS JOIN LATERAL (\
                    SELECT agent_type, repository FROM tasks WHERE state = 'queued' \
                    AND (agent_type, repository) > (l.agent_type, l.repository) \
                    ORDER BY agent_type, repository LIMIT 1) AS n) \
             SELECT {task} FROM (SELECT agent_type AS lane, repository AS of FROM lanes) AS l \
             CROSS JOIN LATERAL (\
                SELECT {task} FROM tasks WHERE state = 'queued' AND agent_type = l.lane \
                AND repository = l.of AND not_before <= $1{readable} ORDER BY {RANK}, id \
                LIMIT CASE WHEN $4 = '' OR l.lane = ANY (ARRAY(\
                    SELECT json_array_elements_text($5::json))) THEN $2 ELSE 1 END) AS head \
             LIMIT $3"
        ),
        Dialect::Sqlite => format!(
            "SELECT {task} FROM (\
                SELECT {task}, agent_type, ROW_NUMBER() OVER (\
                    PARTITION BY agent_type, repository ORDER BY {RANK}, id) AS place \
                FROM tasks WHERE state = 'queued' AND not_before <= $1{readable}) \
             WHERE place <= CASE WHEN $4 = '' OR agent_type IN (SELECT value FROM json_each($5)) \
                THEN $2 ELSE 1 END LIMIT $3"
        ),
    }
}

/// What the planner wants to know of an analysis.
#[derive(Debug, Deserialize)]
struct Wanted {
    requirement: Requirement,
}

pub(super) async fn queued(database: &Database, look: &Look) -> StoreResult<Vec<QueuedTask>> {
    let now = database.now().await?;
    let types = to_json(&look.types.as_deref().unwrap_or_default())?;
    let chosen = if look.types.is_some() { "chosen" } else { "" };
    let fetch = async |left_out: LeftOut| {
        let query = sqlx::query(sqlx::AssertSqlSafe(heads(database.dialect, &left_out)))
            .bind(now)
            .bind(i64::from(look.each))
            .bind(i64::from(look.most))
            .bind(chosen)
            .bind(types.as_str());
        let query = bind_left_out!(query, left_out);
        Ok(query.fetch_all(&database.readers).await?)
    };
    database
        .tasks_around(fetch, |row| queued_task(row, now))
        .await
}

fn queued_task(row: &AnyRow, now: i64) -> StoreResult<QueuedTask> {
    let priority: u8 = number(row, "priority")?;
    let queued_at: i64 = row.try_get("queued_at")?;
    let returns: Option<Returns> = json(row, "returns")?;
    Ok(QueuedTask {
        id: word(row, "id")?,
        attempt: AttemptNumber(number(row, "attempt")?),
        priority: Priority::try_from(priority)
            .map_err(|error| StoreError::Corrupt(error.to_string()))?,
        repository: word(row, "repository")?,
        requirement: Arc::new(json_present::<Wanted>(row, "analysis")?.requirement),
        waited: Duration::from_micros(u64::try_from(now.saturating_sub(queued_at)).unwrap_or(0)),
        rests: rests(&returns.unwrap_or_default(), moment(now)?),
    })
}

/// Gives tasks to agents. Tasks that somebody else holds at the moment are stale: they are about to
/// change; so are those that can't be decoded.
pub(super) async fn claim_all(
    database: &Database,
    claims: &[Claim],
    lease: Duration,
) -> StoreResult<Vec<Cas<Assignment>>> {
    let together = |claims| claim_together(database, claims, lease);
    each(database, (claims, |claim| claim.task), together).await
}

async fn claim_together(
    database: &Database,
    claims: &[Claim],
    lease: Duration,
) -> StoreResult<Vec<Cas<Assignment>>> {
    let mut unit = Unit::of(database);
    let mut room = lanes::room_for_claims(&mut unit).await?;
    // Only a first attempt: a later one may have checkpoints, which are to be read.
    let first = claims.iter().filter(|claim| claim.attempt.0 == 0);
    let first: BTreeSet<_> = first.map(|claim| claim.task).collect();
    unit.recall(&first, |state| state == TaskState::Queued)
        .await?;
    unit.hold(claims.iter().map(|claim| claim.task), Busy::SkipPaused)
        .await?;
    let mut won = Vec::with_capacity(claims.len());
    for claim in claims {
        let held = unit.held(claim.task);
        won.push(match held.filter(|held| has_room(held, &mut room)) {
            Some(held) => claim_one(held, claim, lease)?,
            None => Cas::Stale,
        });
    }
    let again = won.iter().filter_map(|won| match won {
        Cas::Applied(work) if work.attempt > AttemptNumber(1) => Some(work.task),
        _ => None,
    });
    let again: Vec<_> = again.collect();
    let mut checkpoints = checkpoints(&mut unit, &again).await?;
    let assign = |won: Cas<Work>| match won {
        Cas::Applied(work) => unit.held(work.task).and_then(|held| {
            let known = checkpoints.remove(&work.task).unwrap_or_default();
            assignment_of(held, known)
        }),
        Cas::Stale => None,
    };
    let assigned: Vec<_> = won.into_iter().map(assign).collect();
    unit.commit().await?;
    let cas = |assignment: Option<Assignment>| assignment.map_or(Cas::Stale, Cas::Applied);
    Ok(assigned.into_iter().map(cas).collect())
}

fn has_room(held: &Held, room: &mut Room) -> bool {
    let task = &held.task;
    let analysis = task.analysis.as_ref();
    analysis.is_some_and(|it| room.take((&task.repository, &it.requirement.agent_type)))
}

fn claim_one(held: &mut Held, claim: &Claim, lease: Duration) -> StoreResult<Cas<Work>> {
    let won = held.claim(claim.attempt, &claim.agent, lease)?;
    if let (Cas::Applied(_), Some(note)) = (&won, &claim.note) {
        held.note("note", ("coordinator", note));
    }
    Ok(won)
}

fn assignment_of(held: &Held, checkpoints: Vec<Checkpoint>) -> Option<Assignment> {
    let attempt = held.attempt.as_ref()?;
    Some(Assignment {
        work: Work {
            task: held.task.id,
            attempt: attempt.number,
        },
        task: held.task.clone(),
        lease_until: attempt.lease_until,
        checkpoints,
    })
}

async fn checkpoints(
    unit: &mut Unit<'_>,
    tasks: &[TaskId],
) -> StoreResult<BTreeMap<TaskId, Vec<Checkpoint>>> {
    let mut checkpoints = BTreeMap::<_, Vec<_>>::new();
    if tasks.is_empty() {
        return Ok(checkpoints);
    }
    let text = format!(
        "SELECT task, node, visit, output FROM checkpoints WHERE task {} ORDER BY id",
        unit.dialect.among()
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(to_json(&tasks)?)
        .fetch_all(unit.sql().await?)
        .await?;
    // Of a task whose checkpoints can't all be decoded only those before the first such: an attempt
    // goes on from there as if its predecessor had ended then.
    let mut broken = BTreeSet::new();
    for row in &found {
        let task: TaskId = word(row, "task")?;
        match checkpoint(row) {
            Ok(_) if broken.contains(&task) => {}
            Ok(checkpoint) => checkpoints.entry(task).or_default().push(checkpoint),
            Err(error) => {
                unit.database().skip(CHECKPOINTS, &task.to_string(), &error);
                broken.insert(task);
            }
        }
    }
    Ok(checkpoints)
}

fn checkpoint(row: &AnyRow) -> StoreResult<Checkpoint> {
    Ok(Checkpoint {
        node: row.try_get("node")?,
        visit: number(row, "visit")?,
        output: json_present(row, "output")?,
    })
}

pub(super) async fn assignment(database: &Database, work: Work) -> StoreResult<Option<Assignment>> {
    let mut unit = Unit::of(database);
    let live = unit
        .one(work.task)
        .await?
        .is_some_and(|held| held.is_live(work));
    if !live {
        return Ok(None);
    }
    let mut checkpoints = checkpoints(&mut unit, &[work.task]).await?;
    let known = checkpoints.remove(&work.task).unwrap_or_default();
    Ok(unit
        .held(work.task)
        .and_then(|held| assignment_of(held, known)))
}
