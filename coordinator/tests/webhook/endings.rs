//! How tasks end from GitHub's side: closed issues, closed and merged pull requests.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use patchfleet_coordinator::store::{Cas, Look, Report, WorkEvent};
use patchfleet_domain::agent::Requirement;
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{
    AgentType, Complexity, FailureKind, FailurePolicy, Outcome, Phase, Priority, PullRequestRef,
    SecurityLevel, Task, TaskAnalysis, TaskState, Work,
};
use patchfleet_github::{Credentials, NewPullRequest};
use patchfleet_testkit::github::git;
use serde_json::{Value, json};

use crate::scene::{REPOSITORY, Scene, github_as};

fn analysis() -> TaskAnalysis {
    TaskAnalysis {
        requirement: Requirement {
            agent_type: AgentType::general(),
            capabilities: BTreeSet::new(),
            security_level: SecurityLevel::Public,
        },
        complexity: Complexity::Simple,
        estimated_tokens: 1,
        priority: Priority::NORMAL,
        target_files: Vec::new(),
        depends_on: Vec::new(),
        on_dependency_failure: FailurePolicy::Cancel,
        reasons: Vec::new(),
    }
}

/// Has an agent accept the issue's task.
pub(crate) async fn accept(scene: &Scene, issue: u64) -> Result<Work> {
    let task = scene.task(issue).await?;
    assert_eq!(
        scene.store.analyzed(task.id, &analysis()).await?,
        Cas::Applied(())
    );
    let queued = scene.store.queued(&Look::all(10, 10)).await?;
    let queued = queued
        .iter()
        .find(|one| one.id == task.id)
        .context("not in the queue")?;
    let agent = "backend-1".parse()?;
    let lease = Duration::from_mins(1);
    let Cas::Applied(assignment) = scene.store.claim(queued, &agent, lease).await? else {
        anyhow::bail!("the claim was stale");
    };
    report(scene, assignment.work, 1, WorkEvent::Accepted).await?;
    Ok(assignment.work)
}

async fn report(scene: &Scene, work: Work, seq: u64, event: WorkEvent) -> Result<()> {
    let applied = scene.store.report(&Report { work, seq, event }).await?;
    assert_eq!(applied, Cas::Applied(()));
    Ok(())
}

/// Has the issue's task wait because no agent is fit to take it.
pub(crate) async fn set_aside(scene: &Scene, issue: u64) -> Result<()> {
    let work = accept(scene, issue).await?;
    let stopped = Outcome::Cancelled { by_operator: false };
    report(scene, work, 2, WorkEvent::Finished(stopped)).await?;
    let unfit = [("backend-1".parse()?, "git is not installed".to_owned())];
    let done = scene
        .store
        .set_aside(work.task, work.attempt, &unfit)
        .await?;
    assert_eq!(done, Cas::Applied(()));
    Ok(())
}

/// Fails the issue's task for good.
pub(crate) async fn fail(scene: &Scene, issue: u64) -> Result<()> {
    let work = accept(scene, issue).await?;
    let failed = Outcome::Failed(Failure {
        kind: FailureKind::CloneFailed,
        message: "no such repository".to_owned(),
        retryable: false,
        discard_checkpoints: false,
    });
    report(scene, work, 2, WorkEvent::Finished(failed)).await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Failed);
    Ok(())
}

/// Brings the issue's task into review with pull request 77.
async fn review(scene: &Scene, issue: u64) -> Result<()> {
    review_of(scene, issue, 77).await
}

/// Brings the issue's task into review with that pull request.
pub(crate) async fn review_of(scene: &Scene, issue: u64, number: u64) -> Result<()> {
    let work = accept(scene, issue).await?;
    let testing = WorkEvent::Progress {
        phase: Phase::Test,
        detail: String::new(),
    };
    report(scene, work, 2, testing).await?;
    let head = scene.task(issue).await?.branch;
    let outcome = Outcome::PullRequest {
        pull_request: Box::new(PullRequestRef {
            number,
            url: format!("https://github.com/acme/orders/pull/{number}"),
            head,
            head_sha: "0".repeat(40),
            base: "main".to_owned(),
            draft: true,
            merged: false,
        }),
        summary: "Fixed.".to_owned(),
        tests_before: None,
        tests_after: None,
    };
    report(scene, work, 3, WorkEvent::Finished(outcome)).await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Review);
    Ok(())
}

fn closed(head: &str, number: u64, merged: bool) -> Value {
    let repository = json!({
        "full_name": REPOSITORY, "clone_url": "http://x/acme/orders.git", "default_branch": "main",
    });
    json!({
        "action": "closed",
        "pull_request": {
            "number": number,
            "merged": merged,
            "head": { "ref": head, "repo": { "full_name": REPOSITORY } },
        },
        "repository": repository,
        "sender": { "login": "mona" },
    })
}

#[tokio::test]
async fn closing_the_issue_calls_its_task_off() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    accept(&scene, issue).await?;
    scene.simulator.close_issue(REPOSITORY, "mona", issue)?;
    scene.settled().await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Cancelled);
    Ok(())
}

#[tokio::test]
async fn an_issue_that_is_deleted_or_moved_away_calls_its_task_off() -> Result<()> {
    for action in ["deleted", "transferred"] {
        let scene = Scene::start().await?;
        scene.connect();
        let issue = scene.open("mona", &["patchfleet"])?;
        scene.settled().await?;
        accept(&scene, issue).await?;
        scene.later();
        scene
            .simulator
            .add_label(REPOSITORY, "mona", issue, "bug")?;
        scene.settled().await?;
        let delivery = scene.simulator.deliveries().into_iter().next_back();
        let mut payload = delivery.unwrap().payload();
        payload["action"] = json!(action);
        let (status, _) = scene.deliver("d-gone", "issues", &payload).await?;
        assert_eq!(status, 202);
        assert_eq!(
            scene.task(issue).await?.state,
            TaskState::Cancelled,
            "{action}"
        );
    }
    Ok(())
}

/// Has the task's pull request opened, with its branch and its mark, as an agent does.
pub(crate) async fn open_pull(scene: &Scene, task: &Task) -> Result<u64> {
    let token = scene.simulator.bot_token();
    let address = scene.simulator.clone_url(REPOSITORY);
    let address = address.replace("http://", &format!("http://x-access-token:{token}@"));
    let branch = task.branch.clone();
    // Off the runtime's threads, which serve the other side.
    tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir()?;
        let git = |args: &[&str]| git::run(folder.path(), args);
        git(&["clone", "--quiet", &address, "."])?;
        git(&["commit", "--quiet", "--allow-empty", "--message=change"])?;
        git(&["push", "--quiet", "origin", &format!("HEAD:{branch}")])
    })
    .await??;
    let github = github_as(&scene.simulator, Credentials::Token(token.into()))?;
    let new = NewPullRequest {
        title: "Change".to_owned(),
        body: format!("Fixes #1\n\n<!-- patchfleet:task:{} -->", task.id),
        head: task.branch.clone(),
        base: "main".to_owned(),
        draft: false,
    };
    let opened = github.create_pull_request(&task.repository, &new).await?;
    Ok(opened.number)
}

/// A fast person merges before the agent reports: that must not call the task off. What an earlier
/// task merged says nothing about a later one.
#[tokio::test(flavor = "multi_thread")]
async fn closing_stops_a_second_task_although_the_first_ones_pull_request_was_merged() -> Result<()>
{
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    accept(&scene, issue).await?;
    let first = scene.task(issue).await?;
    let number = open_pull(&scene, &first).await?;
    scene.simulator.merge_pull(REPOSITORY, "mona", number)?;
    scene.settled().await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::InProgress);

    let _ = scene.store.cancel(first.id, "mona").await?;
    scene.later();
    scene.simulator.reopen_issue(REPOSITORY, "mona", issue)?;
    scene.settled().await?;
    let second = scene.task(issue).await?;
    assert_ne!(second.id, first.id);
    accept(&scene, issue).await?;
    scene.simulator.close_issue(REPOSITORY, "mona", issue)?;
    scene.settled().await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Cancelled);
    Ok(())
}

#[tokio::test]
async fn in_review_the_pull_request_decides() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    review(&scene, issue).await?;
    let branch = scene.task(issue).await?.branch;
    // A merge closes the issue as well, and GitHub may tell that first.
    scene.simulator.close_issue(REPOSITORY, "mona", issue)?;
    scene.settled().await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Review);

    let mut fork = closed(&branch, 78, false);
    fork["pull_request"]["head"]["repo"]["full_name"] = json!("fork/orders");
    let (_, body) = scene.deliver("d-fork", "pull_request", &fork).await?;
    assert_eq!(body["reason"], "a pull request of others");
    let (_, body) = scene
        .deliver("d-other", "pull_request", &closed("fix", 79, true))
        .await?;
    assert_eq!(body["reason"], "a pull request of others");
    assert_eq!(scene.task(issue).await?.state, TaskState::Review);

    let (_, body) = scene
        .deliver("d-merged", "pull_request", &closed(&branch, 77, true))
        .await?;
    assert_eq!(body["outcome"], "acted");
    let task = scene.task(issue).await?;
    assert_eq!(body["tasks"], json!([task.id]));
    assert_eq!(task.state, TaskState::Completed);
    Ok(())
}

#[tokio::test]
async fn closing_the_pull_request_fails_the_task() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    review(&scene, issue).await?;
    let branch = scene.task(issue).await?.branch;
    scene
        .deliver("d-closed", "pull_request", &closed(&branch, 77, false))
        .await?;
    let task = scene.task(issue).await?;
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(
        task.failure.map(|failure| failure.kind),
        Some(FailureKind::PullRequestClosed)
    );
    Ok(())
}
