//! A repository says which agents its tasks are for, and is told when it says what can't be.

use patchfleet_domain::{FailureKind, TaskState};

use crate::world::{Plan, World};

/// Who had the task's only attempt.
async fn agent_of(world: &World) -> String {
    let task = world.tasks().await.remove(0);
    let detail = world
        .get(&format!("api/v1/tasks/{}", task.id))
        .await
        .unwrap();
    let attempts = detail["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{detail}");
    attempts[0]["agent"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_repository_chooses_who_does_the_work_also_of_a_type_of_its_fleets_own() {
    for agent_type in ["database", "gpu"] {
        let file = match agent_type {
            "gpu" => "agent_type: gpu\ntest: python3 -m unittest -v\n",
            _ => "agent_type: database\ntest: python3 -m unittest -v\n",
        };
        let mut world = World::with(Plan {
            repository_config: Some(file),
            ..Plan::default()
        })
        .await;
        world.start_specialist(agent_type).await;
        let issue = world.open();
        world.label(issue);
        world.merge_and_check(issue).await;
        assert_eq!(agent_of(&world).await, format!("{agent_type}-1"));
    }
}

#[tokio::test]
async fn a_type_that_nobody_has_is_told_with_its_place_before_anything_is_paid() {
    let world = World::with(Plan {
        repository_config: Some("test: python3 -m unittest -v\nagent_type: gpu\n"),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let task = world.task_in(TaskState::Failed).await;
    let failure = task.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::BadRepositoryConfiguration);
    let told = world
        .status_says(issue, "line 2, column 13: agent_type")
        .await;
    assert!(told.contains("no agents of the type"), "{told}");
    assert_eq!((task.attempt.0, world.drafts()), (0, 0));
}
