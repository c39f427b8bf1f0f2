//! A publisher that dies in the middle, and the one that comes after it.

use anyhow::Result;
use patchfleet_testkit::github::Matcher;

use crate::scene::{PATIENCE, Scene};

#[tokio::test]
async fn dying_between_the_effect_and_the_store_doubles_nothing() -> Result<()> {
    let scene = Scene::start().await?;
    let (told, tracked) = (scene.open()?, scene.open()?);
    scene.tell(told, "once").await?;
    let task = scene.create(tracked).await?;
    let gate = scene
        .simulator
        .hold_after(Matcher::containing("POST", "/comments"));
    let first = scene.publisher()?;
    // The gate is behind the effect: once both are held, both comments are there.
    let both_held = async {
        while gate.arrivals() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, both_held).await?;
    assert_eq!(
        (scene.comments(told).len(), scene.comments(tracked).len()),
        (1, 1)
    );
    // GitHub has the comments, but the publisher never hears of it.
    drop(first);
    gate.release();
    assert_eq!(scene.store.status_comment(task).await?, None);

    let second = scene.publisher()?;
    scene.emptied().await?;
    assert_eq!(scene.texts(told), ["once"]);
    let comments = scene.comments(tracked);
    assert_eq!(comments.len(), 1);
    assert_eq!(
        scene.store.status_comment(task).await?,
        Some(comments[0].id)
    );
    assert_eq!(scene.labels(tracked), ["bug", "patchfleet:queued"]);
    second.stop().await;
    Ok(())
}

#[tokio::test]
async fn two_publishers_do_not_write_the_same() -> Result<()> {
    let scene = Scene::start().await?;
    let publishers = [scene.publisher()?, scene.publisher()?];
    let mut issues = Vec::new();
    for _ in 0..5 {
        let issue = scene.open()?;
        scene.create(issue).await?;
        scene.tell(issue, "once").await?;
        issues.push(issue);
    }
    scene.emptied().await?;
    for issue in issues {
        assert_eq!(scene.comments(issue).len(), 2);
        assert_eq!(scene.texts(issue)[1], "once");
    }
    for publisher in publishers {
        publisher.stop().await;
    }
    Ok(())
}
