//! What is swept, and what is not.

use super::*;

#[tokio::test]
async fn only_ended_workspaces_past_their_time_are_swept() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let now = chrono::Utc::now();
    let [old, live, young] = [TaskId::new(), TaskId::new(), TaskId::new()];
    for (task, days) in [(old, 8), (live, 8), (young, 6)] {
        let workspace = bench.prepare(&bench.checkout(task, 1)).await.unwrap();
        let end = now - TimeDelta::days(days);
        bench
            .workspaces
            .finish(&workspace, "failed", end)
            .await
            .unwrap();
    }
    let live = BTreeSet::from([live]);
    let swept = bench.workspaces.sweep(now, &live, &|| false).await.unwrap();
    assert_eq!(swept.removed, [old]);
    assert_eq!(listing(&bench.agent().join("tasks")).len(), 2);
    let later = now + TimeDelta::days(2);
    let swept = bench
        .workspaces
        .sweep(later, &live, &|| false)
        .await
        .unwrap();
    assert_eq!(swept.removed, [young]);
}

#[tokio::test]
async fn the_disk_limit_takes_what_was_not_used_longest_and_nothing_in_use() {
    let retention = Retention {
        disk_limit: Some(1),
        ..Retention::default()
    };
    let bench = Bench::keeping(&[("a", "1\n")], retention).await;
    let now = chrono::Utc::now();
    let [newer, older, live, working] = std::array::from_fn(|_| TaskId::new());
    for (task, hours) in [(newer, 1), (older, 2), (live, 3)] {
        let workspace = bench.prepare(&bench.checkout(task, 1)).await.unwrap();
        let end = now - TimeDelta::hours(hours);
        bench
            .workspaces
            .finish(&workspace, "pull_request", end)
            .await
            .unwrap();
    }
    let checkout = bench.checkout(working, 1);
    let working = bench.prepare(&checkout).await.unwrap();
    let lives = BTreeSet::from([live]);
    let swept = bench
        .workspaces
        .sweep(now, &lives, &|| false)
        .await
        .unwrap();
    assert_eq!((swept.removed, swept.mirrors), (vec![older, newer], 0));
    assert!(swept.bytes.is_some_and(|bytes| bytes > 1));
    assert_eq!(listing(&bench.agent().join("tasks")).len(), 2);
    // The mirror counts too, and goes when nobody borrows from it any more.
    drop(working);
    let none = BTreeSet::new();
    let swept = bench.workspaces.sweep(now, &none, &|| false).await.unwrap();
    assert_eq!((swept.removed.len(), swept.mirrors), (2, 1));
    assert_eq!(swept.bytes, Some(0));
    assert_eq!(bench.workspaces.warm_repositories().await, BTreeSet::new());
}

#[tokio::test]
async fn a_full_disk_is_swept_until_it_is_not_full() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let now = chrono::Utc::now();
    let [oldest, without_note, newest] = std::array::from_fn(|_| TaskId::new());
    for (task, hours) in [(newest, 1), (oldest, 2)] {
        let workspace = bench.prepare(&bench.checkout(task, 1)).await.unwrap();
        let end = now - TimeDelta::hours(hours);
        let finished = bench.workspaces.finish(&workspace, "failed", end);
        finished.await.unwrap();
    }
    // A disk that is full takes no note of an end, and may leave half of one.
    let workspace = bench
        .prepare(&bench.checkout(without_note, 1))
        .await
        .unwrap();
    std::fs::write(workspace.layout.metadata(), "{").unwrap();
    let root = workspace.layout.root().to_owned();
    drop(workspace);
    let none = BTreeSet::new();
    let is_full = || listing(&bench.agent().join("tasks")).len() > 2;
    let swept = bench.workspaces.sweep(now, &none, &is_full).await.unwrap();
    assert_eq!(swept.removed, [oldest], "no more than needed");
    assert!(root.exists());
    let swept = bench.workspaces.sweep(now, &none, &|| true).await.unwrap();
    assert_eq!(
        (swept.removed, swept.mirrors),
        (vec![newest, without_note], 1)
    );
}

#[tokio::test]
async fn what_a_crash_left_half_built_or_half_deleted_is_cleared() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let agent = bench.agent();
    for leftover in [
        "tasks/.unfinished-x/repo-clone",
        "tasks/.doomed-x/repo-clone",
        "shared/cache/.unfinished-x/objects",
        "shared/cache/.doomed-x/objects",
    ] {
        std::fs::create_dir_all(agent.join(leftover)).unwrap();
    }
    // A mirror as it was kept before there were versions.
    let unversioned = agent.join("shared/cache/acme/orders.git");
    std::fs::create_dir_all(unversioned.join("objects")).unwrap();
    std::fs::write(unversioned.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    let id = "backend-1".parse().unwrap();
    let again = Workspaces::open(bench.root.path(), &id, Retention::default());
    let again = again.await.unwrap();
    // Nobody waits for the deletion, and nothing half-built looks like more.
    assert!(!listing(&agent.join("tasks")).is_empty());
    assert_eq!(again.warm_repositories().await, BTreeSet::new());
    let now = chrono::Utc::now();
    again.sweep(now, &BTreeSet::new(), &|| false).await.unwrap();
    assert_eq!(listing(&agent.join("tasks")), [""; 0]);
    assert_eq!(listing(&agent.join("shared/cache")), ["acme"]);
    // What can't be deleted at once is tried again by each sweep.
    std::fs::create_dir_all(agent.join("tasks/.doomed-y/module")).unwrap();
    again.sweep(now, &BTreeSet::new(), &|| false).await.unwrap();
    assert_eq!(listing(&agent.join("tasks")), [""; 0]);
}

#[tokio::test]
async fn what_was_half_built_when_the_attempt_was_called_off_goes_with_the_next_sweep() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let tasks = bench.agent().join("tasks");
    let checkout = bench.checkout(TaskId::new(), 1);
    let begun = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(1));
        while listing(&tasks).is_empty() {
            looks.tick().await;
        }
    };
    tokio::select! {
        biased;
        () = begun => {}
        _ = bench.prepare(&checkout) => {}
    }
    assert!(!listing(&tasks).is_empty(), "it was begun");
    let late = chrono::Utc::now() + TimeDelta::days(8);
    let none = BTreeSet::new();
    // What a thread writes when the attempt is cancelled goes on, and so is swept later.
    while !listing(&tasks).is_empty() {
        let swept = bench.workspaces.sweep(late, &none, &|| false).await;
        swept.unwrap();
    }
}

#[tokio::test]
async fn what_is_being_built_is_not_swept_and_goes_once_nobody_builds_it() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let (now, none) = (chrono::Utc::now(), BTreeSet::new());
    let parents = ["tasks", "shared/cache"].map(|name| bench.agent().join(name));
    let staging = &bench.workspaces.staging;
    let building = parents.each_ref().map(|it| staging.begin(it, "x"));
    let folders = building.each_ref().map(|it| it.folder.clone());
    for folder in &folders {
        std::fs::create_dir_all(folder.join("objects")).unwrap();
    }
    let sweep = || bench.workspaces.sweep(now, &none, &|| false);
    sweep().await.unwrap();
    assert!(folders.iter().all(|folder| folder.exists()));
    drop(building);
    for _ in 0..2 {
        sweep().await.unwrap();
        assert!(!folders.iter().any(|folder| folder.exists()));
        // As a thread does that was writing when the attempt was cancelled.
        for folder in &folders {
            std::fs::create_dir(folder).unwrap();
        }
    }
}
