//! Mirrors that are fetched into for weeks.

use super::*;

async fn count(repository: &Repository) -> BTreeMap<String, u64> {
    let told = Origin::git_in(repository.dir(), &["count-objects", "-v"]).await;
    let line = |line: &str| {
        let (name, number) = line.split_once(": ").unwrap();
        (name.to_owned(), number.trim().parse().unwrap_or_default())
    };
    told.lines().map(line).collect()
}

#[tokio::test]
async fn what_is_fetched_for_weeks_stays_in_few_files_and_nothing_of_it_goes() {
    let origin = Origin::with(&[("a.txt", "1")]).await;
    let (_folder, mirror, _) = cloned(&origin).await;
    let refresh = async || {
        let refspecs = ["+refs/heads/*:refs/heads/*"];
        mirror.refresh(&origin.remote(), &refspecs).await.unwrap();
    };
    let lost = origin
        .advance(&[("lost.txt", "of a branch that was pushed over")])
        .await;
    refresh().await;
    origin.git(&["reset", "-q", "--hard", "HEAD~1"]).await;
    origin
        .git(&["push", "-q", "--force", "origin", "main"])
        .await;
    refresh().await;
    let before = count(&mirror).await;
    assert!(before["count"] > 0, "few objects stay loose: {before:?}");

    let blobs: Vec<_> = (0..600).map(|number| format!("loose {number}\n")).collect();
    for folder in 0..=0xff_u8 {
        std::fs::create_dir_all(mirror.dir().join(format!("objects/{folder:02x}"))).unwrap();
    }
    for blob in &blobs {
        let repository = git2::Repository::open_bare(mirror.dir()).unwrap();
        repository.blob(blob.as_bytes()).unwrap();
    }
    // What a killed git leaves.
    let half = [
        "objects/pack/tmp_pack_half",
        "objects/pack/.tmp-17-pack-half.pack",
        "objects/ab/tmp_obj_half",
        "objects/pack/multi-pack-index.lock",
        "objects/info/commit-graph.lock",
    ];
    let half = half.map(|path| mirror.dir().join(path));
    for path in &half {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "written").unwrap();
    }
    refresh().await;
    let after = count(&mirror).await;
    assert_eq!(after["count"], 0, "{after:?}");
    assert!(after["in-pack"] >= 600 && after["packs"] <= 3, "{after:?}");
    assert!(
        mirror.has_commit(&lost).await.unwrap(),
        "others may borrow it"
    );
    for path in half {
        assert!(!path.exists(), "{}", path.display());
    }
}

#[tokio::test]
async fn a_commit_is_kept_whatever_a_killed_process_left_and_whoever_cleans_up_beside_it() {
    let origin = Origin::with(&[("a", "1\n")]).await;
    let (_folder, mirror, _) = cloned(&origin).await;
    let head = mirror.resolve("refs/heads/main").await.unwrap().unwrap();
    // One of another task, which is being written at this moment.
    let other = mirror.dir().join("refs/patchfleet-other.lock");
    std::fs::write(&other, "").unwrap();
    let refspecs = ["+refs/heads/*:refs/heads/*"];
    mirror.refresh(&origin.remote(), &refspecs).await.unwrap();
    assert!(other.exists());
    // One of this task, which nobody else writes.
    std::fs::write(mirror.dir().join("refs/patchfleet-task.lock"), "").unwrap();
    mirror.keep("task", &head).await.unwrap();
    assert_eq!(mirror.kept().await.unwrap(), ["task"]);
    std::fs::write(mirror.dir().join("refs/patchfleet-task.lock"), "").unwrap();
    mirror.forget("task").await.unwrap();
    assert_eq!(mirror.kept().await.unwrap(), [""; 0]);
}
