use super::*;

const ALLOWANCE: Allowance = Allowance {
    memory: 1 << 30,
    processes: 64,
    cpu_percent: 100,
};

/// A folder in the place of a tree of version 2, with these controllers handed down.
fn faked(controllers: &str) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    for file in ["cgroup.controllers", "cgroup.subtree_control"] {
        fs::write(base.path().join(file), controllers).unwrap();
    }
    base
}

fn tree(version: Version, base: &Path, controllers: &[&str]) -> Tree {
    Tree {
        version,
        root: base.to_owned(),
        own: base.to_owned(),
        controllers: controllers.iter().map(|&it| it.to_owned()).collect(),
    }
}

#[test]
fn version_two_is_taken_where_it_hands_the_controller_down_and_version_one_else() {
    let (two, one) = (faked("memory hugetlb"), tempfile::tempdir().unwrap());
    let trees = [
        tree(Version::Two, two.path(), &[]),
        tree(Version::One, one.path(), &["pids", "cpu"]),
    ];
    let memory = place(&trees, "memory").unwrap();
    assert_eq!(memory, (two.path().to_owned(), Version::Two));
    let pids = place(&trees, "pids").unwrap();
    assert_eq!(pids, (one.path().to_owned(), Version::One));
    let why = place(&trees, "io").unwrap_err();
    assert!(why.contains("`io`"), "{why}");
}

#[test]
fn an_agent_that_moved_to_a_leaf_makes_groups_beside_it() {
    let base = faked("memory");
    let leaf = base.path().join(LEAF);
    fs::create_dir(&leaf).unwrap();
    let trees = [tree(Version::Two, &leaf, &[])];
    let (folder, _) = place(&trees, "memory").unwrap();
    assert_eq!(folder, base.path());
}

#[test]
fn a_group_with_processes_of_others_is_left_alone() {
    let base = faked("memory");
    // Process 1 of a host is none of Patchfleet's, nor a test's.
    fs::write(base.path().join(MEMBERS), "1\n").unwrap();
    let error = move_to_leaf(base.path()).unwrap_err();
    assert!(error.to_string().contains("process 1 "), "{error}");
    assert!(!base.path().join(LEAF).exists());
}

#[test]
fn a_limit_whose_file_does_not_take_it_is_missing_with_the_reason() {
    let base = tempfile::tempdir().unwrap();
    let groups = Groups {
        places: vec![Place {
            folder: base.path().to_owned(),
            version: Version::Two,
            limits: vec![Limit::Memory],
        }],
        missing: BTreeMap::new(),
    };
    // An ordinary folder: there is no `memory.max` in it.
    let group = groups.make(ALLOWANCE).unwrap();
    assert_eq!(group.missing(), [Limit::Memory]);
    assert!(group.missing[&Limit::Memory].contains("memory.max"));
    assert_eq!(group.usage(), Usage::default());
}

#[test]
fn a_folder_that_is_read_only_makes_each_of_its_limits_missing() {
    let groups = Groups {
        places: vec![Place {
            folder: "/proc/self".into(),
            version: Version::One,
            limits: Limit::ALL.to_vec(),
        }],
        missing: BTreeMap::new(),
    };
    let mut probed = groups;
    probed.probe();
    assert_eq!(probed.missing.len(), Limit::ALL.len());
    assert!(probed.places.is_empty());
}

#[test]
fn a_run_joins_by_its_one_thread_where_a_process_would_wait_for_the_whole_host() {
    for (version, file) in [(Version::One, "tasks"), (Version::Two, "cgroup.procs")] {
        let base = tempfile::tempdir().unwrap();
        let groups = Groups {
            places: vec![Place {
                folder: base.path().to_owned(),
                version,
                limits: vec![Limit::Memory],
            }],
            missing: BTreeMap::new(),
        };
        let group = groups.make(ALLOWANCE).unwrap();
        let joins = group.joins();
        assert_eq!(joins[0].file_name().unwrap(), file);
    }
}

#[tokio::test]
async fn a_group_is_removed_with_its_run_and_those_of_the_dead_at_the_next_start() {
    let groups = Groups::find();
    if groups.places.is_empty() {
        println!("can't run here: {:?}", groups.missing());
        return;
    }
    let group = groups.make(ALLOWANCE).unwrap();
    let folders: Vec<_> = group.members.iter().map(|it| it.folder.clone()).collect();
    assert!(folders.iter().all(|it| it.is_dir()));
    group.end().await.unwrap();
    assert!(folders.iter().all(|it| !it.exists()));

    // As an agent leaves it that was killed: process 1 started at another time than 1.
    let mark = process::new_mark().unwrap();
    let namespace = mark.split(':').next().unwrap();
    let place = &groups.places[0];
    let left = place.folder.join(format!("{PREFIX}{namespace}:1:1:7"));
    let foreign = place
        .folder
        .join(format!("{PREFIX}0:1:1:{}", std::process::id()));
    let alive = place.folder.join(format!("{PREFIX}{mark}"));
    for folder in [&left, &foreign, &alive] {
        fs::create_dir(folder).unwrap();
    }
    assert!(sweep() >= 1);
    assert!(!left.exists(), "it was left behind");
    assert!(foreign.exists(), "it is another container's");
    assert!(alive.exists(), "its owner lives");
    for folder in [foreign, alive] {
        remove(&folder, place.version).unwrap();
    }
}

#[tokio::test]
async fn whoever_is_left_in_a_group_is_killed_in_both_versions() {
    // A tree of version 1 without these may want more before it takes a process.
    let is_used = |tree: &Tree| {
        let of_limits = Limit::ALL.map(texts::controller);
        tree.version == Version::Two
            || of_limits
                .iter()
                .any(|it| tree.controllers.contains(&(*it).to_owned()))
    };
    for tree in trees().unwrap().into_iter().filter(is_used) {
        let group = tree
            .root
            .join(format!("{PREFIX}{}", process::new_mark().unwrap()));
        if let Err(why) = fs::create_dir(&group) {
            println!("can't run here: {}: {why}", group.display());
            continue;
        }
        let join = format!(
            "echo $$ > {}; exec sleep 600",
            group.join(MEMBERS).display()
        );
        let spawn = process::Spawn::new("sh", "/").args(["-c", &join]);
        let cancel = tokio_util::sync::CancellationToken::new();
        let ended = async {
            while members(&group).unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            let (folder, version) = (group.clone(), tree.version);
            let removed = tokio::task::spawn_blocking(move || remove(&folder, version));
            removed.await.unwrap().unwrap();
        };
        let (finished, ()) = tokio::join!(spawn.run(&cancel), ended);
        assert_eq!(finished.unwrap().signal, Some(9));
        assert!(!group.exists());
    }
}

#[test]
fn a_group_is_empty_only_when_nobody_is_in_it_and_that_can_be_seen() {
    let base = tempfile::tempdir().unwrap();
    let group = base.path().join("group");
    assert!(is_empty(&group), "it is removed");
    fs::create_dir(&group).unwrap();
    // Whom this namespace does not know has no number here.
    for (members, empty) in [("", true), ("0\n", false), ("17\n", false)] {
        fs::write(group.join(MEMBERS), members).unwrap();
        assert_eq!(is_empty(&group), empty, "{members}");
    }
    fs::remove_file(group.join(MEMBERS)).unwrap();
    fs::create_dir(group.join(MEMBERS)).unwrap();
    assert!(!is_empty(&group), "it can't be read");
}
