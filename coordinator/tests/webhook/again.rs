//! Issues that are triggered again while a task of them is active, or just after it was over.

use anyhow::Result;
use patchfleet_coordinator::store::{Commanded, Effect, Sent};
use patchfleet_domain::{Task, TaskState};

use crate::endings::{open_pull, review_of};
use crate::scene::{REPOSITORY, Scene};
use crate::sweep::{ALWAYS, scene, sweep};

/// A scene whose webhooks come, with an issue that has a task.
async fn at_work() -> Result<(Scene, patchfleet_coordinator::intake::sweep::Sweeper, Task)> {
    let (scene, sweeper) = scene().await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    let task = scene.task(issue).await?;
    scene.later();
    Ok((scene, sweeper, task))
}

fn issue(task: &Task) -> u64 {
    task.issue.map_or(0, |issue| issue.0)
}

/// Takes the label off and puts it on; a minute passes.
fn relabel(scene: &Scene, task: &Task) -> Result<()> {
    let (simulator, issue) = (&scene.simulator, issue(task));
    simulator.remove_label(REPOSITORY, "mona", issue, "patchfleet")?;
    simulator.add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    scene.later();
    Ok(())
}

/// Opens the task's pull request, labels its issue again and then closes the pull request, of which
/// the webhooks of the last two are lost.
async fn lose_label_and_closing(scene: &Scene, task: &Task) -> Result<()> {
    let number = open_pull(scene, task).await?;
    review_of(scene, issue(task), number).await?;
    scene.settled().await?;
    scene.simulator.lose_next(3);
    relabel(scene, task)?;
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    scene.later();
    scene.settled().await
}

async fn end(scene: &Scene, task: &Task) -> Result<()> {
    let ended = scene.store.cancel(task.id, "operator").await?;
    assert!(matches!(ended, Commanded::Done(_)), "{ended:?}");
    Ok(())
}

/// Has all that GitHub said delivered once more, under other ids.
async fn deliver_again(scene: &Scene) -> Result<()> {
    for delivery in scene.simulator.deliveries() {
        let id = format!("again-{}", delivery.id);
        scene
            .deliver(&id, &delivery.event, &delivery.payload())
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_label_that_an_active_task_handled_is_no_new_trigger_when_that_is_over() -> Result<()> {
    let (scene, sweeper, task) = at_work().await?;
    for _ in 0..2 {
        relabel(&scene, &task)?;
        scene.settled().await?;
    }
    assert_eq!(scene.tasks().await?.len(), 1, "one active task per issue");
    end(&scene, &task).await?;
    assert_eq!(sweep(&sweeper).await?, 0);
    deliver_again(&scene).await?;
    assert_eq!(scene.tasks().await?.len(), 1);
    // What comes after the end is for the next task, whether it is delivered or not.
    scene.simulator.lose_next(2);
    relabel(&scene, &task)?;
    scene.settled().await?;
    assert_eq!(sweep(&sweeper).await?, 1);
    let second = scene.task(issue(&task)).await?;
    assert_ne!(second.id, task.id);
    end(&scene, &second).await?;
    relabel(&scene, &task)?;
    scene.settled().await?;
    assert_eq!(scene.tasks().await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_lost_label_is_handled_by_the_task_that_is_active_when_it_is_found() -> Result<()> {
    let (scene, sweeper, task) = at_work().await?;
    scene.simulator.lose_next(2);
    relabel(&scene, &task)?;
    scene.settled().await?;
    assert_eq!(sweep(&sweeper).await?, 1);
    assert_eq!(sweep(&sweeper).await?, 0);
    end(&scene, &task).await?;
    assert_eq!(sweep(&sweeper).await?, 0);
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

/// The maintainer closed the pull request before, and GitHub's word of that is lost or late.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_after_the_pull_request_was_closed_is_for_the_next_task() -> Result<()> {
    for (end_lost, label_lost) in [(true, false), (true, true), (false, true)] {
        let (scene, sweeper, task) = at_work().await?;
        let number = open_pull(&scene, &task).await?;
        review_of(&scene, issue(&task), number).await?;
        scene.settled().await?;
        if end_lost {
            scene.simulator.lose_next(1);
        }
        scene.simulator.close_pull(REPOSITORY, "mona", number)?;
        scene.settled().await?;
        scene.later();
        if label_lost {
            scene.simulator.lose_next(2);
        }
        relabel(&scene, &task)?;
        scene.settled().await?;
        for _ in 0..2 {
            sweep(&sweeper).await?;
        }
        let first = scene.store.task(task.id).await?.map(|task| task.state);
        assert_eq!(first, Some(TaskState::Failed));
        let second = scene.task(issue(&task)).await?;
        assert_ne!(
            second.id, task.id,
            "lost: end {end_lost}, label {label_lost}"
        );
        assert!(second.state.is_active());
        deliver_again(&scene).await?;
        assert_eq!(scene.tasks().await?.len(), 2);
        assert!(scene.task(issue(&task)).await?.state.is_active());
    }
    Ok(())
}

/// So is one after the issue was closed and opened again, of which GitHub tells last that it was closed.
#[tokio::test]
async fn a_label_after_the_issue_was_closed_is_for_the_next_task() -> Result<()> {
    let (scene, sweeper, task) = at_work().await?;
    let (simulator, number) = (&scene.simulator, issue(&task));
    simulator.remove_label(REPOSITORY, "mona", number, "patchfleet")?;
    scene.settled().await?;
    simulator.lose_next(2);
    simulator.close_issue(REPOSITORY, "mona", number)?;
    scene.later();
    simulator.reopen_issue(REPOSITORY, "mona", number)?;
    scene.settled().await?;
    simulator.add_label(REPOSITORY, "mona", number, "patchfleet")?;
    scene.settled().await?;
    let second = scene.task(number).await?;
    assert_ne!(second.id, task.id);
    let first = scene.store.task(task.id).await?.map(|task| task.state);
    assert_eq!(first, Some(TaskState::Cancelled));
    // The closing is of the first task, also when it is heard of now.
    deliver_again(&scene).await?;
    assert_eq!(sweep(&sweeper).await?, 0);
    assert_eq!(scene.tasks().await?.len(), 2);
    assert!(scene.task(number).await?.state.is_active());
    Ok(())
}

/// One from before the end is the ended task's, however late it is delivered.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_from_before_the_pull_request_was_closed_makes_no_second_task() -> Result<()> {
    let (scene, _, task) = at_work().await?;
    lose_label_and_closing(&scene, &task).await?;
    deliver_again(&scene).await?;
    assert_eq!(scene.tasks().await?.len(), 1);
    let state = scene.store.task(task.id).await?.map(|task| task.state);
    assert_eq!(state, Some(TaskState::Failed));
    Ok(())
}

/// So it is when nothing of both is delivered, and a sweep finds them together.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_label_from_before_a_lost_closing_makes_no_second_task() -> Result<()> {
    let (scene, sweeper, task) = at_work().await?;
    lose_label_and_closing(&scene, &task).await?;
    assert_eq!(sweep(&sweeper).await?, 2, "the label and the closing");
    let state = scene.store.task(task.id).await?.map(|task| task.state);
    assert_eq!(state, Some(TaskState::Failed));
    assert_eq!(sweep(&sweeper).await?, 0);
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

/// A label whose issue an outsider may have changed since is asked for again, unless it was handled.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_label_in_doubt_is_asked_for_again_unless_a_task_was_active() -> Result<()> {
    for is_closed_before in [false, true] {
        let (scene, sweeper) = scene().await?;
        scene.connect();
        let number = scene.open("octocat", &[])?;
        let simulator = &scene.simulator;
        simulator.add_label(REPOSITORY, "mona", number, "patchfleet")?;
        scene.settled().await?;
        let task = scene.task(number).await?;
        let pull = open_pull(&scene, &task).await?;
        review_of(&scene, number, pull).await?;
        scene.later();
        scene.settled().await?;
        if is_closed_before {
            simulator.lose_next(1);
            simulator.close_pull(REPOSITORY, "mona", pull)?;
            scene.later();
        }
        simulator.lose_next(3);
        relabel(&scene, &task)?;
        simulator.comment(REPOSITORY, "octocat", number, "one more thing")?;
        scene.settled().await?;
        sweep(&sweeper).await?;
        assert_eq!(asked_again(&scene).await?, is_closed_before);
        if !is_closed_before {
            end(&scene, &task).await?;
        }
        assert_eq!(sweep(&sweeper).await?, 0);
        assert!(!asked_again(&scene).await?, "nothing more is said");
        assert_eq!(scene.tasks().await?.len(), 1);
    }
    Ok(())
}

/// True when somebody is told of a problem; takes all that was to be said.
async fn asked_again(scene: &Scene) -> Result<bool> {
    let mut found = false;
    while let Some(entry) = scene.store.take_outbox(1, ALWAYS).await?.pop() {
        found |= matches!(entry.effect, Effect::Reply { .. });
        let sent = Sent::Done { comment: None };
        scene.store.settle_outbox(&entry, &sent).await?;
    }
    Ok(found)
}
