//! What an operator does: everything in one process, an orderly end, and the command line.

use std::process::Output;

use patchfleet_domain::TaskState;
use patchfleet_testkit::postgres::Database;
use serde_json::Value;

use crate::world::{Part, Plan, World};

async fn together() -> World {
    World::with(Plan {
        together: true,
        ..Plan::default()
    })
    .await
}

#[tokio::test]
async fn one_process_does_it_all_and_survives_a_kill() {
    let mut world = together().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;
    world.kill(Part::Coordinator).await;
    gate.open();
    world.start(Part::Coordinator).await;
    world.merge_and_check(issue).await;
    let metrics = world.metrics().await;
    let load = "patchfleet_agent_load{agent_id=\"general-1\"}";
    assert!(metrics.contains(load), "{metrics}");
}

#[tokio::test]
async fn an_orderly_end_costs_no_attempt() {
    let mut world = together().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;
    world.end(Part::Coordinator).await;
    gate.open();
    world.start(Part::Coordinator).await;
    world.merge_and_check(issue).await;
    assert_eq!(world.tasks().await[0].failures, 0);
}

/// Runs `patchfleet … --json` as the coordinator's user would.
pub(crate) async fn beside(world: &World, args: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the user's shell")]
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_patchfleet"));
    let config = world.folder().join("coordinator.toml");
    command.args(args).arg("--json").arg("--config").arg(config);
    command.envs(world.keys.for_coordinator(&world.database_url()));
    command.output().await.unwrap()
}

#[tokio::test]
async fn an_installation_is_backed_up_brought_back_and_grows_without_losing_a_task() {
    let mut world = World::new().await;
    let issue = world.open();
    world.label(issue);
    world.pull_request().await;
    let file = world.folder().join("tasks.backup");
    let file = file.to_str().unwrap();
    let made = said(&beside(&world, &["backup", "--to", file]).await);
    assert_eq!(made["tasks"], 1);
    let refused = beside(&world, &["restore", "--from", file]).await;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("stop the coordinator first"), "{told}");

    world.end(Part::Coordinator).await;
    let restored = said(&beside(&world, &["restore", "--from", file]).await);
    assert_eq!(restored["tasks"], 1);
    let kept = restored["kept"].as_array().unwrap();
    assert_eq!(
        kept.len(),
        1,
        "the store and all that lay beside it: {restored}"
    );
    let database = Database::create().await.unwrap();
    let moved = said(&beside(&world, &["migrate", "--to", database.url()]).await);
    let rows = moved["rows"].as_array().unwrap();
    assert!(rows.contains(&serde_json::json!(["tasks", 1])), "{moved}");
    world.move_to(database);
    world.start(Part::Coordinator).await;
    world.merge_and_check(issue).await;
}

/// Runs `patchfleet task … --json` with the API's key in the environment.
async fn task(world: &World, args: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the user's shell")]
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_patchfleet"));
    command.args(["task", "--json"]).args(args);
    command.env("PATCHFLEET_URL", world.api_url(""));
    command.env("PATCHFLEET_API_KEY", &world.keys.api);
    command.output().await.unwrap()
}

fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

#[tokio::test]
async fn tasks_are_listed_shown_called_off_and_refused_to_go_on() {
    let world = World::new().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;

    let listed = said(&task(&world, &["list", "--state", "in_progress"]).await);
    let id = listed["id"].as_str().unwrap();
    let shown = said(&task(&world, &["show", id]).await);
    assert_eq!(shown["task"]["repository"], "acme/orders");
    let cancelled = said(&task(&world, &["cancel", id]).await);
    assert_eq!(cancelled["state"], "cancelled");
    world.task_in(TaskState::Cancelled).await;
    let refused = task(&world, &["retry", id]).await;
    assert!(!refused.status.success());
    let why = String::from_utf8_lossy(&refused.stderr);
    let why = format!("{why}{}", String::from_utf8_lossy(&refused.stdout));
    assert!(why.contains("cancelled"), "{why}");
    gate.open();
}

#[tokio::test]
async fn a_failed_task_is_tried_again_from_the_command_line() {
    let world = World::new().await;
    world
        .github
        .refuse_pushes(crate::world::REPOSITORY, Some("no"))
        .unwrap();
    let issue = world.open();
    world.label(issue);
    let failed = world.task_in(TaskState::Failed).await;
    world
        .github
        .refuse_pushes(crate::world::REPOSITORY, None)
        .unwrap();
    let retried = said(&task(&world, &["retry", &failed.id.to_string()]).await);
    assert_eq!(retried["state"], "queued");
    world.merge_and_check(issue).await;
}
