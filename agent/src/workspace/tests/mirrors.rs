//! Mirrors that break, that are shared, and that others clean.

use super::*;

fn versions(bench: &Bench) -> Vec<std::path::PathBuf> {
    let mirror = bench.agent().join("shared/cache/acme/orders.git");
    let names = listing(&mirror).into_iter();
    names.map(|name| mirror.join(name)).collect()
}

#[tokio::test]
async fn a_corrupt_mirror_is_superseded_and_goes_with_its_last_borrower() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let checkout = bench.checkout(TaskId::new(), 1);
    let borrower = bench.prepare(&checkout).await.unwrap();
    let alternates = borrower
        .layout
        .object_store()
        .join("objects/info/alternates");
    let breakages: [&dyn Fn(&Path); 2] = [
        &|mirror| std::fs::remove_dir_all(mirror.join("objects")).unwrap(),
        &|mirror| std::fs::remove_file(mirror.join("HEAD")).unwrap(),
    ];
    for breakage in breakages {
        let before = versions(&bench);
        breakage(before.last().unwrap());
        let checkout = bench.checkout(TaskId::new(), 1);
        let workspace = bench.prepare(&checkout).await.unwrap();
        assert!(workspace.layout.repo_clone().join("a").exists());
        assert_eq!(versions(&bench).len(), before.len() + 1);
        assert!(before.iter().all(|version| version.exists()));
    }
    assert_eq!(listing(&bench.agent().join("shared/cache")), ["acme"]);

    // The first version has a borrower, the next one loses its own.
    let all = versions(&bench);
    assert_eq!(
        text(&alternates).trim_end(),
        all[0].join("objects").to_str().unwrap()
    );
    let live = BTreeSet::from([borrower.work.task]);
    let later = chrono::Utc::now() + TimeDelta::days(8);
    let swept = bench
        .workspaces
        .sweep(later, &live, &|| false)
        .await
        .unwrap();
    assert_eq!((swept.removed.len(), swept.mirrors), (2, 1));
    assert_eq!(versions(&bench), [all[0].clone(), all[2].clone()]);
    drop(borrower);
    let swept = bench
        .workspaces
        .sweep(later, &BTreeSet::new(), &|| false)
        .await;
    assert_eq!(swept.unwrap().mirrors, 1);
    assert_eq!(versions(&bench), [all[2].clone()], "the current one stays");
}

#[tokio::test]
async fn a_mirror_that_lost_its_objects_is_filled_again() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let checkout = bench.checkout(TaskId::new(), 1);
    drop(bench.prepare(&checkout).await.unwrap());
    let objects = versions(&bench)[0].join("objects");
    for folder in listing(&objects) {
        std::fs::remove_dir_all(objects.join(folder)).unwrap();
    }
    let workspace = bench.prepare(&checkout).await.unwrap();
    assert!(workspace.layout.repo_clone().join("a").exists());
}

#[tokio::test]
async fn a_mirror_that_is_sound_is_not_cloned_anew_for_a_fault_of_the_host() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let checkout = bench.checkout(TaskId::new(), 1);
    drop(bench.prepare(&checkout).await.unwrap());
    let before = versions(&bench);
    // What a killed git left is unlocked.
    for lock in ["packed-refs.lock", "refs/heads/main.lock", "shallow.lock"] {
        std::fs::write(before[0].join(lock), "").unwrap();
    }
    bench.origin.advance(&[("a", "2\n")]).await;
    drop(bench.prepare(&checkout).await.unwrap());
    assert_eq!(versions(&bench), before);
    // A ref can't be written, but everything that is there can be read.
    bench
        .origin
        .git(&["push", "-q", "origin", "main:refs/heads/x/y"])
        .await;
    std::fs::create_dir_all(before[0].join("refs/heads/x/y")).unwrap();
    std::fs::write(before[0].join("refs/heads/x/y/.hidden"), "").unwrap();
    let failure = bench.prepare(&checkout).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::HostFault, true)
    );
    assert_eq!(versions(&bench), before);
}

#[tokio::test]
async fn a_mirror_that_another_process_is_about_to_borrow_from_is_not_deleted() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let checkout = bench.checkout(TaskId::new(), 1);
    let (git, name) = (Git::new(), &checkout.repository);
    let mirrors = &bench.workspaces.mirrors;
    let in_use = mirrors.refresh(&git, name, &checkout.remote).await.unwrap();
    // Another process has no part in what is locked in the memory of this one.
    let id = "backend-1".parse().unwrap();
    let other = Workspaces::open(bench.root.path(), &id, Retention::default());
    let other = other.await.unwrap();
    let (now, none) = (chrono::Utc::now(), BTreeSet::new());
    other.sweep(now, &none, &|| true).await.unwrap();
    assert!(in_use.repository.dir().exists());
    drop(in_use);
    other.sweep(now, &none, &|| true).await.unwrap();
    assert_eq!(other.warm_repositories().await, BTreeSet::new());
}

#[tokio::test]
async fn a_mirror_that_another_process_fetches_into_is_waited_for() {
    use file_lock::{FileLock, Sharing};
    let bench = Bench::with(&[("a", "1\n")]).await;
    let checkout = bench.checkout(TaskId::new(), 1);
    let owner = bench.agent().join("shared/cache/acme");
    let (fetch, use_of) = (
        owner.join("orders.fetch.lock"),
        owner.join("orders.use.lock"),
    );
    let fetching = FileLock::try_take(&fetch, Sharing::Alone).unwrap();
    let preparing = bench.prepare(&checkout);
    let others = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(1));
        while FileLock::try_take(&use_of, Sharing::Alone)
            .unwrap()
            .is_some()
        {
            looks.tick().await;
        }
        assert!(
            !owner.join("orders.git").exists(),
            "nothing is cloned meanwhile"
        );
        drop(fetching);
    };
    let (prepared, ()) = tokio::join!(preparing, others);
    assert!(prepared.unwrap().layout.repo_clone().join("a").exists());
}

#[tokio::test]
async fn a_base_that_was_forced_away_stays_while_a_workspace_borrows_it() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let lost = bench.origin.advance(&[("a", "2\n")]).await;
    let workspace = bench
        .prepare(&bench.checkout(TaskId::new(), 1))
        .await
        .unwrap();
    assert_eq!(workspace.base, lost);
    bench.origin.git(&["reset", "-q", "--hard", "HEAD~1"]).await;
    let push = ["push", "-q", "--force", "origin", "main"];
    bench.origin.git(&push).await;
    let other = bench
        .prepare(&bench.checkout(TaskId::new(), 1))
        .await
        .unwrap();
    assert_ne!(other.base, lost);
    // As an operator may do it by hand.
    let mirror = &versions(&bench)[0];
    Origin::git_in(mirror, &["gc", "-q", "--prune=now"]).await;
    assert!(workspace.repository.has_commit(&lost).await.unwrap());
    workspace.check_out(&lost).await.unwrap();

    let mirror = Git::new().repository(mirror);
    assert_eq!(mirror.kept().await.unwrap().len(), 2);
    let task = workspace.work.task;
    drop((workspace, other));
    let folder = bench.workspaces.layout.task(task);
    std::fs::remove_dir_all(folder.root()).unwrap();
    let (now, none) = (chrono::Utc::now(), BTreeSet::new());
    bench.workspaces.sweep(now, &none, &|| false).await.unwrap();
    assert_eq!(mirror.kept().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_mirror_whose_clone_was_cancelled_leaves_nothing() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let cache = bench.agent().join("shared/cache");
    let checkout = bench.checkout(TaskId::new(), 1);
    let begun = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(1));
        while listing(&cache).is_empty() {
            looks.tick().await;
        }
    };
    tokio::select! {
        biased;
        () = begun => {}
        _ = bench.prepare(&checkout) => {}
    }
    let (now, none) = (chrono::Utc::now(), BTreeSet::new());
    let is_hidden = |name: &String| name.starts_with('.');
    while listing(&cache).iter().any(is_hidden) {
        let swept = bench.workspaces.sweep(now, &none, &|| false).await;
        swept.unwrap();
    }
}
