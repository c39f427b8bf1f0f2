//! Tasks and the queue, in every situation that has words of its own.

use patchfleet_domain::TaskState;

use super::Transcript;
use crate::world::{MAINTAINER, REPOSITORY, World};

/// Opens and labels an issue with few words.
fn ask(world: &World, title: &str) {
    let opened = world
        .github
        .open_issue(REPOSITORY, MAINTAINER, title, "Mend it.", &[]);
    world.label(opened.unwrap());
}

#[tokio::test]
async fn nothing_is_there_yet() {
    let world = World::new().await;
    let mut shell = Transcript::of_operator(&world);
    shell.run(&["task", "list"]).await;
    shell.run(&["task", "list", "--json"]).await;
    shell.run(&["queue", "show"]).await;
    shell.run(&["queue", "show", "--json"]).await;
    shell.matches("nothing_is_there");
}

#[tokio::test]
async fn a_task_at_work_is_shown_and_called_off() {
    let world = World::new().await;
    let gate = world.draft_gate();
    ask(&world, "Wrong \u{1b}[31mtotals\u{202e}\nforged");
    world.drafting().await;
    let task = world.task_in(TaskState::InProgress).await;
    let id = task.id.to_string();
    let mut shell = Transcript::of_operator(&world);
    shell.run(&["task", "list"]).await;
    shell.run(&["task", "list", "--json"]).await;
    shell.run(&["queue", "show"]).await;
    shell.run(&["queue", "show", "--json"]).await;
    shell.run(&["task", "retry", &id]).await;
    shell.run(&["task", "cancel", &id]).await;
    shell.run(&["task", "list", "--state", "in_progress"]).await;
    shell.run(&["task", "cancel", &id]).await;
    shell.run(&["task", "cancel", &id, "--json"]).await;
    shell.matches("task_at_work");
    gate.open();
}

#[tokio::test]
async fn a_pull_request_in_review_and_a_failure_are_shown_with_their_history() {
    let world = World::new().await;
    ask(&world, "Wrong totals");
    world.pull_request().await;
    world.github.refuse_pushes(REPOSITORY, Some("no")).unwrap();
    ask(&world, "More wrong totals");
    let failed = world.task_in(TaskState::Failed).await;
    world.idle_agent().await;
    let review = world.tasks().await[1].id.to_string();
    let failed = failed.id.to_string();
    let mut shell = Transcript::of_operator(&world);
    shell.run(&["task", "list"]).await;
    shell.run(&["task", "list", "--limit", "1", "--json"]).await;
    shell.run(&["task", "show", &review]).await;
    shell.run(&["task", "show", &failed]).await;
    shell.run(&["task", "show", &failed, "--json"]).await;
    world.github.refuse_pushes(REPOSITORY, None).unwrap();
    shell.run(&["task", "retry", &failed]).await;
    shell.matches("review_and_failure");
}

#[tokio::test]
async fn pauses_are_made_shown_and_ended() {
    let world = World::new().await;
    let mut shell = Transcript::of_operator(&world);
    let repository = ["--repository", REPOSITORY];
    let of_repository = |word: &'static str| [&["queue", word], &repository[..]].concat();
    let reason = [&of_repository("pause")[..], &["--reason", "a freeze"]].concat();
    shell.run(&reason).await;
    shell.run(&of_repository("pause")).await;
    let of_type = ["queue", "pause", "--agent-type", "backend"];
    shell.run(&of_type).await;
    shell.run(&["queue", "show"]).await;
    shell.run(&["queue", "show", "--json"]).await;
    shell.run(&of_repository("resume")).await;
    shell.run(&of_repository("resume")).await;
    let json = [&of_repository("resume")[..], &["--json"]].concat();
    shell.run(&json).await;
    shell.matches("pauses");
}
