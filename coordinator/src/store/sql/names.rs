//! Repositories that have another name now: what is stored of them follows.

use patchfleet_domain::{RepositoryName, TaskId, TaskRequest, TaskState};
use sqlx::any::AnyRow;

use super::Database;
use super::rows::{json_present, to_json, word};
use super::rowset::big;
use super::tasks::cancel_in;
use super::unit::{Busy, Unit};
use super::unreadable::{NAMES, TASKS};
use crate::store::{SeenRepository, StoreResult};

/// Who says what is said here.
const ACTOR: &str = "coordinator";

/// Notes by which name GitHub shows a repository, and has everything follow that is stored under an
/// earlier one; all names that are known of it, this one last.
pub(super) async fn seen(
    database: &Database,
    seen: &SeenRepository,
) -> StoreResult<Vec<RepositoryName>> {
    let mut names = match seen.id {
        Some(id) => known(database, id).await?,
        None => Vec::new(),
    };
    let is_news = names.last() != Some(&seen.name);
    names.extend(seen.was.clone());
    names.retain(|name| *name != seen.name);
    if is_news || seen.was.is_some() {
        for was in &names {
            cancel_doubles(database, was, &seen.name).await?;
        }
        let mut unit = Unit::of(database);
        for was in &names {
            rename(&mut unit, was, seen).await?;
        }
        note(&mut unit, seen).await?;
        unit.commit().await?;
    }
    names.push(seen.name.clone());
    Ok(names)
}

/// The names that a repository was seen by, the newest last.
pub(super) async fn known(database: &Database, id: u64) -> StoreResult<Vec<RepositoryName>> {
    let found =
        sqlx::query("SELECT name FROM repository_names WHERE id = $1 ORDER BY seen_at, name")
            .bind(big(id))
            .fetch_all(&database.readers)
            .await?;
    Ok(database.readable(NAMES, &found, |row| word(row, "name")))
}

async fn note(unit: &mut Unit<'_>, seen: &SeenRepository) -> StoreResult<()> {
    let Some(id) = seen.id else {
        return Ok(());
    };
    let now = unit.now().await?.timestamp_micros();
    let earlier = seen.was.iter().map(|name| (name, now - 1));
    for (name, at) in earlier.chain([(&seen.name, now)]) {
        // The name may be another repository's by now, whose tasks are not to follow this one.
        sqlx::query("DELETE FROM repository_names WHERE name = $1 AND id <> $2")
            .bind(name.as_str())
            .bind(big(id))
            .execute(unit.sql().await?)
            .await?;
        sqlx::query(
            "INSERT INTO repository_names (id, name, seen_at) VALUES ($1, $2, $3) \
             ON CONFLICT (id, name) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .bind(big(id))
        .bind(name.as_str())
        .bind(at)
        .execute(unit.sql().await?)
        .await?;
    }
    Ok(())
}

/// Calls off what is active under an earlier name and has a double under the new one: an issue has one
/// active task.
async fn cancel_doubles(
    database: &Database,
    was: &RepositoryName,
    name: &RepositoryName,
) -> StoreResult<()> {
    let mut unit = Unit::of(database);
    let found = sqlx::query(
        "SELECT old.id FROM tasks old JOIN tasks new ON new.issue = old.issue \
         WHERE old.repository = $1 AND new.repository = $2 \
         AND old.state NOT IN ('completed', 'failed', 'cancelled') \
         AND new.state NOT IN ('completed', 'failed', 'cancelled')",
    )
    .bind(was.as_str())
    .bind(name.as_str())
    .fetch_all(unit.sql().await?)
    .await?;
    for row in &found {
        cancel_in(&mut unit, word(row, "id")?, ACTOR).await?;
    }
    unit.commit().await
}

/// Puts what is stored under one name under another.
async fn rename(
    unit: &mut Unit<'_>,
    was: &RepositoryName,
    seen: &SeenRepository,
) -> StoreResult<()> {
    let tasks = tasks_of(unit, was).await?;
    for task in &tasks {
        let request = TaskRequest {
            clone_url: seen.clone_url.clone(),
            ..task.request.clone()
        };
        sqlx::query("UPDATE tasks SET repository = $1, request = $2 WHERE id = $3")
            .bind(seen.name.as_str())
            .bind(to_json(&request)?)
            .bind(task.id.to_string())
            .execute(unit.sql().await?)
            .await?;
    }
    for text in FOLLOW {
        sqlx::query(text)
            .bind(seen.name.as_str())
            .bind(was.as_str())
            .execute(unit.sql().await?)
            .await?;
    }
    let active = tasks.iter().filter(|it| it.is_active).map(|it| it.id);
    let active: Vec<_> = active.collect();
    unit.hold(active.iter().copied(), Busy::Wait).await?;
    for id in active {
        if let Some(held) = unit.held(id) {
            let told = format!("the repository {was} is {} now", seen.name);
            held.note("note", (ACTOR, &told));
        }
    }
    unit.wake();
    Ok(())
}

/// What else follows from the name `$2` to the name `$1`.
const FOLLOW: [&str; 7] = [
    "UPDATE task_triggers SET repository = $1 WHERE repository = $2 AND NOT EXISTS (\
        SELECT 1 FROM task_triggers other WHERE other.repository = $1 \
        AND other.issue = task_triggers.issue AND other.kind = task_triggers.kind \
        AND other.object = task_triggers.object)",
    "UPDATE outbox SET repository = $1 WHERE repository = $2 AND done_at IS NULL",
    "UPDATE deferred_deliveries SET repository = $1 WHERE repository = $2",
    "UPDATE model_calls SET repository = $1 WHERE repository = $2 AND settled_at IS NULL",
    "UPDATE spending SET name = $1 WHERE name = $2 AND scope = 'repository' AND NOT EXISTS (\
        SELECT 1 FROM spending other WHERE other.scope = 'repository' AND other.name = $1 \
        AND other.day = spending.day)",
    "UPDATE issue_dependencies SET repository = $1 WHERE repository = $2",
    "UPDATE pauses SET name = $1 WHERE name = $2 AND scope = 'repository' AND NOT EXISTS (\
        SELECT 1 FROM pauses other WHERE other.scope = 'repository' AND other.name = $1)",
];

struct Known {
    id: TaskId,
    is_active: bool,
    request: TaskRequest,
}

/// By the triggers, of which there is an index.
async fn tasks_of(unit: &mut Unit<'_>, name: &RepositoryName) -> StoreResult<Vec<Known>> {
    let found = sqlx::query(
        "SELECT id, state, request FROM tasks WHERE repository = $1 AND id IN (\
            SELECT task FROM task_triggers WHERE repository = $2) ORDER BY id",
    )
    .bind(name.as_str())
    .bind(name.as_str())
    .fetch_all(unit.sql().await?)
    .await?;
    let known = |row: &AnyRow| {
        let state: TaskState = word(row, "state")?;
        Ok(Known {
            id: word(row, "id")?,
            is_active: state.is_active(),
            request: json_present(row, "request")?,
        })
    };
    Ok(unit.database().readable(TASKS, &found, known))
}
