//! Where what a repository brings runs, and what is installed for it before a draft is asked for.

use patchfleet_domain::{FailureKind, TaskState};

use crate::world::{Plan, REPOSITORY, World};

#[tokio::test]
async fn tests_find_what_was_installed_and_the_pull_request_says_by_what() {
    let world = World::with(Plan {
        repository_config: Some(
            "setup:\n  - python3 -c 'open(\"installed.py\", \"w\").write(\"three = 3\")'\n\
             test: python3 -c 'import installed, unittest; unittest.main(module=None, argv=[\"x\", \"discover\"])'\n",
        ),
        ..Plan::default()
    })
    .await;
    if !world.isolates {
        return;
    }
    let issue = world.open();
    world.label(issue);
    let pull_request = world.pull_request().await;
    let body = pull_request.body.clone().unwrap_or_default();
    assert!(
        body.contains("Dependencies were installed by `python3 -c open("),
        "{body}"
    );
    assert!(!body.contains("`installed.py`"), "{body}");
    world.merge_and_check(issue).await;
    world.idle_agent().await;
}

#[tokio::test]
async fn what_can_not_be_installed_ends_the_task_before_a_draft_is_asked_for() {
    let world = World::with(Plan {
        repository_config: Some("setup: [python3 -c 'print(\"no compiler\"); exit(3)']\n"),
        ..Plan::default()
    })
    .await;
    if !world.isolates {
        return;
    }
    let issue = world.open();
    world.label(issue);
    let task = world.task_in(TaskState::Failed).await;
    let failure = task.failure.unwrap();
    assert_eq!(
        failure.kind,
        FailureKind::SetupFailed,
        "{}",
        failure.message
    );
    let told = world.status_says(issue, "no compiler").await;
    assert!(told.contains(FailureKind::SetupFailed.advice()), "{told}");
    assert_eq!(
        (
            world.drafts(),
            world.github.pulls(REPOSITORY).unwrap().len()
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn an_agent_that_need_not_isolate_works_and_its_pull_request_says_so() {
    let world = World::with(Plan {
        isolated: false,
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let body = world.pull_request().await.body.unwrap_or_default();
    for what in ["The draft command", "The tests"] {
        let line = format!("{what} ran **without isolation** on the agent's host");
        assert!(body.contains(&line), "{body}");
    }
    world.merge_and_check(issue).await;
}
