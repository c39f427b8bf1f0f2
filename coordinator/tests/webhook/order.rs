//! Issues that depend on each other, triggered together.

use anyhow::Result;
use patchfleet_coordinator::analysis::{AnalysisPolicy, Configuration, analyze, awaited};
use patchfleet_domain::TaskState;
use patchfleet_github::Credentials;
use patchfleet_testkit::github::Order;

use crate::scene::{REPOSITORY, Scene, github_as};

/// Analyzes what came in, as the loop does.
async fn analyzed(scene: &Scene) -> Result<()> {
    let policy = AnalysisPolicy::default();
    for task in scene.store.unanalyzed(10).await? {
        let _ = scene
            .store
            .analyzed(task.id, &analyze(&task, &policy, &Configuration::default()))
            .await?;
    }
    let token = scene.simulator.bot_token();
    let github = github_as(&scene.simulator, Credentials::Token(token.into()))?;
    Ok(awaited::look(scene.store.as_ref(), &github).await?)
}

async fn states<const N: usize>(scene: &Scene, issues: [u64; N]) -> Result<[TaskState; N]> {
    let mut states = [TaskState::Pending; N];
    for (state, issue) in states.iter_mut().zip(issues) {
        *state = scene.task(issue).await?.state;
    }
    Ok(states)
}

#[tokio::test]
async fn two_issues_that_are_labelled_together_come_in_their_order_whichever_is_heard_of_first()
-> Result<()> {
    use TaskState::{Queued, Waiting};
    for order in [Order::InOrder, Order::Reversed] {
        let scene = Scene::start().await?;
        scene.connect();
        scene.settled().await?;
        scene.simulator.hold_deliveries();
        let open = |body: &str| {
            let labels = ["patchfleet"];
            scene
                .simulator
                .open_issue(REPOSITORY, "mona", "Part", body, &labels)
        };
        let (first, second) = (open("The base.")?, open("depends on #1")?);
        assert_eq!((first, second), (1, 2));
        scene.simulator.release_deliveries(order);
        scene.settled().await?;
        // Each delivery is analyzed on its own: the second issue's first, when it came first.
        analyzed(&scene).await?;
        assert_eq!(
            states(&scene, [1, 2]).await?,
            [Queued, Waiting],
            "{order:?}"
        );
    }
    Ok(())
}

/// Nobody has triggered the other issue yet.
#[tokio::test]
async fn an_issue_waits_for_another_that_is_triggered_later_or_done_by_hand() -> Result<()> {
    use TaskState::{Cancelled, Queued, Waiting};
    let scene = Scene::start().await?;
    scene.connect();
    let open = |body: &str, labels: &[&str]| {
        scene
            .simulator
            .open_issue(REPOSITORY, "mona", "Part", body, labels)
    };
    for body in ["one", "two", "three", "four"] {
        open(body, &[])?;
    }
    for body in [
        "depends on #1",
        "**Blocked by:** #2",
        "Depends on #3",
        "Depends on GH-4",
    ] {
        open(body, &["patchfleet"])?;
    }
    open("depends on #99", &["patchfleet"])?;
    scene.settled().await?;
    scene.simulator.close_issue(REPOSITORY, "mona", 2)?;
    scene.simulator.give_up_issue(REPOSITORY, "mona", 3)?;
    scene.simulator.delete_issue(REPOSITORY, "acme", 4)?;
    analyzed(&scene).await?;
    let found = states(&scene, [5, 6, 7, 8, 9]).await?;
    assert_eq!(found, [Waiting, Queued, Cancelled, Queued, Queued]);
    scene
        .simulator
        .add_label(REPOSITORY, "mona", 1, "patchfleet")?;
    scene.settled().await?;
    analyzed(&scene).await?;
    assert_eq!(states(&scene, [1, 5]).await?, [Queued, Waiting]);
    let first = scene.task(1).await?.id;
    let _ = scene.store.cancel(first, "mona").await?;
    assert_eq!(states(&scene, [5]).await?, [Cancelled]);
    Ok(())
}
