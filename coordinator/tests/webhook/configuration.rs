//! What a repository says in `.patchfleet.yaml`, and which agent its tasks are for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use patchfleet_coordinator::analysis::{self, AnalysisPolicy, Configurations};
use patchfleet_coordinator::cache::Cache;
use patchfleet_coordinator::store::Commanded;
use patchfleet_domain::{FailureKind, Task, TaskState};
use patchfleet_testkit::github::{Fault, Matcher, git};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::scene::{REPOSITORY, Scene, github};

const PATIENCE: Duration = Duration::from_secs(20);

/// A scene whose tasks are analyzed.
async fn analyzing() -> Result<(Scene, JoinSet<()>)> {
    let scene = Scene::start().await?;
    scene.connect();
    let kept = Arc::new(Cache::default());
    let configurations = Configurations::new(github(&scene.simulator)?.kept_by(kept));
    let mut running = JoinSet::new();
    running.spawn(analysis::run(
        scene.store.clone(),
        AnalysisPolicy::default(),
        Some(configurations),
        CancellationToken::new(),
    ));
    Ok((scene, running))
}

/// Makes a commit on the default branch, by a script in its work tree.
async fn commit(scene: &Scene, script: &'static str) -> Result<()> {
    let token = scene.simulator.bot_token();
    let address = scene.simulator.clone_url(REPOSITORY);
    let address = address.replace("http://", &format!("http://x-access-token:{token}@"));
    // Off the runtime's threads, which serve the other side.
    tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir()?;
        let git = |args: &[&str]| git::run(folder.path(), args);
        git(&["clone", "--quiet", &address, "."])?;
        git(&["-c", &format!("alias.edit=!{script}"), "edit"])?;
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--message=configuration"])?;
        git(&["push", "--quiet", "origin", "HEAD:main"])
    })
    .await??;
    Ok(())
}

/// A new issue's task when it has been analyzed.
async fn analyzed(scene: &Scene, labels: &[&str]) -> Result<Task> {
    let issue = scene.open("mona", labels)?;
    scene.settled().await?;
    let task = scene.task(issue).await?;
    left(scene, &task, &[TaskState::Pending, TaskState::Analyzing]).await
}

/// The task when it is in none of these states any more.
async fn left(scene: &Scene, task: &Task, states: &[TaskState]) -> Result<Task> {
    let mut changed = scene.store.changed();
    let leaving = async {
        loop {
            let found = scene.store.task(task.id).await?.expect("it is there");
            if !states.contains(&found.state) {
                return anyhow::Ok(found);
            }
            changed.changed().await?;
        }
    };
    tokio::time::timeout(PATIENCE, leaving).await?
}

fn agent_type(task: &Task) -> &str {
    let analysis = task.analysis.as_ref().expect("it was analyzed");
    analysis.requirement.agent_type.as_str()
}

fn message(task: &Task) -> &str {
    let failure = task.failure.as_ref().expect("it failed");
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(failure.kind, FailureKind::BadRepositoryConfiguration);
    &failure.message
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_says_which_agent_its_tasks_are_for() -> Result<()> {
    let (scene, _running) = analyzing().await?;
    let task = analyzed(&scene, &["patchfleet"]).await?;
    assert_eq!(agent_type(&task), "general", "without a file");
    commit(&scene, "echo 'agent_type: database' > .patchfleet.yml").await?;
    let task = analyzed(&scene, &["patchfleet"]).await?;
    assert_eq!(agent_type(&task), "database");
    let task = analyzed(&scene, &["patchfleet", "area/frontend"]).await?;
    assert_eq!(agent_type(&task), "frontend", "as the label says");
    let issue = scene.open("mona", &[])?;
    scene.simulator.comment(
        REPOSITORY,
        "mona",
        issue,
        "/patchfleet run --agent security",
    )?;
    scene.settled().await?;
    let task = scene.task(issue).await?;
    let task = left(&scene, &task, &[TaskState::Pending, TaskState::Analyzing]).await?;
    assert_eq!(agent_type(&task), "security", "as the command says");
    commit(&scene, "echo 'agent_type: backend' > .patchfleet.yml").await?;
    let task = analyzed(&scene, &["patchfleet"]).await?;
    assert_eq!(agent_type(&task), "backend", "as it says by now");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_told_with_its_place_before_an_agent_is_asked_and_mended_by_a_retry()
-> Result<()> {
    let (scene, _running) = analyzing().await?;
    for (script, said) in [
        (
            "printf 'test: make\\nagent_type: datbase\\n' > .patchfleet.yaml",
            ".patchfleet.yaml, line 2, column 13: agent_type: this fleet has no agents of the type \
             `datbase`; there are: backend, ",
        ),
        (
            "printf 'test: make\\nagenttype: database\\n' > .patchfleet.yaml",
            ".patchfleet.yaml, line 2, column 1: unknown field `agenttype`",
        ),
        (
            "git mv .patchfleet.yaml .patchfleet.yml",
            ".patchfleet.yml, line 2, column 1: unknown field `agenttype`",
        ),
        (
            "head -c 300000 /dev/zero > .patchfleet.yml",
            ".patchfleet.yml: it has 300000 bytes; at most 262144 are read",
        ),
        (
            "printf 'agent_type: caf\\351' > .patchfleet.yml",
            ".patchfleet.yml, line 1, column 16: it is not UTF-8",
        ),
        (
            "rm .patchfleet.yml; mkdir .patchfleet.yaml; echo > .patchfleet.yaml/a",
            ".patchfleet.yaml: it is a folder",
        ),
        (
            "git rm -r -q .patchfleet.yaml; \
             git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),.patchfleet.yaml; \
             mkdir .patchfleet.yaml",
            ".patchfleet.yaml: it is a submodule",
        ),
    ] {
        commit(&scene, script).await?;
        let task = analyzed(&scene, &["patchfleet"]).await?;
        assert!(message(&task).starts_with(said), "{}", message(&task));
        assert_eq!(task.attempt.0, 0, "no agent was asked");
    }
    let task = analyzed(&scene, &["patchfleet"]).await?;
    let mend = "git rm -q --cached .patchfleet.yaml; rmdir .patchfleet.yaml; \
                echo 'agent_type: database' > .patchfleet.yml";
    commit(&scene, mend).await?;
    let retried = scene.store.retry(task.id, "mona").await?;
    assert_eq!(retried, Commanded::Done(TaskState::Analyzing));
    let task = left(&scene, &task, &[TaskState::Failed, TaskState::Analyzing]).await?;
    assert_eq!(
        (task.state, agent_type(&task)),
        (TaskState::Queued, "database")
    );
    assert_eq!(task.failure, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_that_does_not_say_it_holds_nobody_up() -> Result<()> {
    let (scene, _running) = analyzing().await?;
    commit(&scene, "echo 'agent_type: database' > .patchfleet.yml").await?;
    let contents = Matcher::containing("GET", "/contents/");
    scene.simulator.fault(contents, Fault::Status(403), 1000);
    let task = analyzed(&scene, &["patchfleet"]).await?;
    assert_eq!(
        (task.state, agent_type(&task)),
        (TaskState::Queued, "general")
    );
    let reasons = task.analysis.expect("it was analyzed").reasons.join("; ");
    assert!(
        reasons.contains("`.patchfleet.yaml` names an agent type could not be read"),
        "{reasons}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_costs_one_request_while_it_says_the_same() -> Result<()> {
    let (scene, _running) = analyzing().await?;
    // Those that count against the limit.
    let counted = || {
        let requests = scene.simulator.requests().into_iter();
        let requests = requests.filter(|it| it.path.contains("/contents"));
        requests.filter(|it| it.status != Some(304)).count()
    };
    for expected in [2, 2, 2] {
        analyzed(&scene, &["patchfleet"]).await?;
        assert_eq!(counted(), expected, "of one without a file");
    }
    commit(&scene, "echo 'agent_type: database' > .patchfleet.yaml").await?;
    for expected in [4, 4, 4] {
        analyzed(&scene, &["patchfleet"]).await?;
        assert_eq!(counted(), expected, "of one that has a file by now");
    }
    for (script, wanted, expected) in [
        (
            "echo 'agent_type: backend' > .patchfleet.yaml",
            "backend",
            5,
        ),
        (
            "echo 'agent_type: testing' > .patchfleet.yaml",
            "testing",
            6,
        ),
    ] {
        commit(&scene, script).await?;
        for _ in 0..2 {
            let task = analyzed(&scene, &["patchfleet"]).await?;
            assert_eq!((agent_type(&task), counted()), (wanted, expected));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_repository_with_a_file_costs_one_request() -> Result<()> {
    let (scene, _running) = analyzing().await?;
    commit(&scene, "echo 'agent_type: database' > .patchfleet.yaml").await?;
    analyzed(&scene, &["patchfleet"]).await?;
    assert_eq!(scene.simulator.request_count("GET", "/contents"), 1);
    Ok(())
}
