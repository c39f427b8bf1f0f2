//! What can't be done is told on the issue with what to do about it; nothing hangs, and the
//! workspace stays for a look.

use patchfleet_domain::{FailureKind, Task, TaskState};
use patchfleet_testkit::github::{Fault, Matcher, sign};
use reqwest::StatusCode;

use crate::world::{Plan, REPOSITORY, World};

/// Waits for the failure and for what the issue tells of it.
async fn failed(world: &World, issue: u64, kind: FailureKind) -> Task {
    let task = world.task_in(TaskState::Failed).await;
    let failure = task.failure.clone().unwrap();
    assert_eq!(failure.kind, kind, "{}", failure.message);
    let told = world.status_says(issue, kind.as_str()).await;
    assert!(told.contains(kind.advice()), "{told}");
    assert_eq!(world.github.pulls(REPOSITORY).unwrap().len(), 0);
    world.idle_agent().await;
    task
}

fn workspace_is_kept(world: &World, task: &Task) {
    let place = format!("workspaces/general-1/tasks/task-{}", task.id);
    assert!(world.folder().join(place).join("repo-clone").is_dir());
}

#[tokio::test]
async fn a_repository_that_can_not_be_cloned() {
    let world = World::new().await;
    let git = Matcher::containing("*", "git-upload-pack");
    world.github.fault(git, Fault::Status(404), 1000);
    let issue = world.open();
    world.label(issue);
    failed(&world, issue, FailureKind::CloneFailed).await;
}

#[tokio::test]
async fn a_diff_that_does_not_apply() {
    let diff = "--- a/orders/money.py\n+++ b/orders/money.py\n@@ -1,2 +1,2 @@\n-not there\n\
                +neither\n context\n";
    let world = World::with(Plan {
        answers: vec![diff.to_owned(); 3],
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let task = failed(&world, issue, FailureKind::DiffRejected).await;
    workspace_is_kept(&world, &task);
}

#[tokio::test]
async fn a_test_command_that_does_not_exist() {
    let world = World::with(Plan {
        repository_config: Some("test: no-such-program --verbose\n"),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let task = failed(&world, issue, FailureKind::TestCommandInvalid).await;
    assert!(
        task.failure
            .as_ref()
            .unwrap()
            .message
            .contains("no-such-program")
    );
    workspace_is_kept(&world, &task);
}

#[tokio::test]
async fn a_repository_configuration_that_can_not_be_read() {
    let world = World::with(Plan {
        repository_config: Some("tests: python3 -m unittest\n"),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let task = failed(&world, issue, FailureKind::BadRepositoryConfiguration).await;
    let message = task.failure.unwrap().message;
    assert!(
        message.contains("line 1") && message.contains("tests"),
        "{message}"
    );
}

#[tokio::test]
async fn a_push_that_is_refused_until_a_person_allows_it() {
    let world = World::new().await;
    world
        .github
        .refuse_pushes(REPOSITORY, Some("protected by a rule"))
        .unwrap();
    let issue = world.open();
    world.label(issue);
    let task = failed(&world, issue, FailureKind::PushRefused).await;
    assert!(
        task.failure
            .as_ref()
            .unwrap()
            .message
            .contains("protected by a rule")
    );
    workspace_is_kept(&world, &task);
    world.github.refuse_pushes(REPOSITORY, None).unwrap();
    world.say(issue, "/patchfleet retry");
    world.merge_and_check(issue).await;
    assert_eq!(world.drafts(), 1, "the draft is not paid for again");
}

#[tokio::test]
async fn a_github_that_stumbles_only_delays() {
    let world = World::new().await;
    for (method, part) in [
        ("GET", "/collaborators/"),
        ("POST", "/pulls"),
        ("POST", "/comments"),
        ("*", "git-upload-pack"),
        ("POST", "git-receive-pack"),
    ] {
        world
            .github
            .fault(Matcher::containing(method, part), Fault::Status(502), 1);
    }
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;
}

/// Deliveries that are not what they should be: an answer that says so, and no task.
#[tokio::test]
async fn deliveries_that_are_refused() {
    let world = World::new().await;
    let issue = r#"{"action":"labeled","label":{"name":"patchfleet"},"issue":{"number":1},"#;
    let unknown = format!(r#"{issue}"repository":{{"full_name":"nobody/nothing"}}}}"#);
    let good = |body: &str| Some(sign(&world.keys.webhook, body.as_bytes()));
    let bad = Some(sign("a guess", b"{}"));
    let large = "x".repeat(25 * 1024 * 1024 + 1);
    for (body, signature, expected) in [
        ("{}", None, StatusCode::UNAUTHORIZED),
        ("{}", bad, StatusCode::UNAUTHORIZED),
        (large.as_str(), good(&large), StatusCode::PAYLOAD_TOO_LARGE),
        (
            "{\"action\":",
            good("{\"action\":"),
            StatusCode::BAD_REQUEST,
        ),
        (unknown.as_str(), good(&unknown), StatusCode::ACCEPTED),
    ] {
        let client = reqwest::Client::new();
        let mut request = client
            .post(world.webhook_url())
            .header("x-github-event", "issues")
            .header("x-github-delivery", expected.as_u16().to_string())
            .body(body.to_owned());
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), expected);
    }
    assert_eq!(world.tasks().await.len(), 0);
    let metrics = world.metrics().await;
    for outcome in ["bad_signature", "too_large", "bad_request"] {
        let counted = metrics.lines().any(|line| {
            line.starts_with("patchfleet_webhook_deliveries") && line.contains(outcome)
        });
        assert!(counted, "{outcome} is not counted: {metrics}");
    }
}
