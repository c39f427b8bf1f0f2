use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::workspace::tests::Bench;
use crate::workspace::{Retention, Swept};

const KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const OTHER: &str = "ff00000000000000000000000000000000000000000000000000000000000000";

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Something that happens to an entry, and its name.
type Damage = (&'static str, fn(&Path));

fn now() -> Timestamp {
    "2026-11-26T01:00:00Z".parse().unwrap()
}

/// A cache, and the folder of a task beside it.
struct Host {
    root: TempDir,
    cache: SetupCache,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let cache = SetupCache::new(root.path().join("setups"), TimeDelta::days(7));
        Self { root, cache }
    }

    fn place(&self, key: &str) -> PathBuf {
        self.root.path().join("setups").join(key)
    }

    /// What a task installed.
    fn installed(&self) -> (PathBuf, Dependencies) {
        let folder = self.root.path().join("task");
        write(&folder.join("home/.cache/tool"), "x");
        write(&folder.join("tree/vendor/three.py"), "three = 3");
        // So that what is written later has another time, however coarse the clock is.
        let file = File::options()
            .write(true)
            .open(folder.join("tree/vendor/three.py"));
        file.unwrap().set_modified(now().into()).unwrap();
        write(&folder.join("tree/vendor/read-only/file"), "x");
        write(&folder.join("tmp/left"), "x");
        std::os::unix::fs::symlink("three.py", folder.join("tree/vendor/link")).unwrap();
        let read_only = fs::Permissions::from_mode(0o555);
        fs::set_permissions(folder.join("tree/vendor/read-only"), read_only).unwrap();
        let paths = vec![PathBuf::from("vendor")];
        let dependencies = Dependencies::at(&folder, paths, None);
        (folder, dependencies)
    }

    async fn store(&self, key: &str) -> Dependencies {
        let (_, dependencies) = self.installed();
        let noted = (json!({"steps": 1}), now());
        self.cache.store(key, dependencies, noted).await
    }

    async fn find(&self, key: &str) -> Option<CachedSetup> {
        self.cache.find(key, now()).await
    }
}

#[tokio::test]
async fn what_was_stored_is_found_as_it_was_and_runs_get_copies() {
    let host = Host::new();
    assert!(host.find(KEY).await.is_none());
    let stored = host.store(KEY).await;
    assert!(!host.root.path().join("task").exists(), "it was moved");
    for round in 0..3 {
        let found = host.find(KEY).await.unwrap();
        assert_eq!((found.report, found.made_at), (json!({"steps": 1}), now()));
        let dependencies = if round == 0 {
            &stored
        } else {
            &found.dependencies
        };
        let tree = host.root.path().join(format!("tree{round}"));
        fs::create_dir(&tree).unwrap();
        let home = host.root.path().join(format!("home{round}"));
        let put = dependencies.put(&tree, &home).unwrap();
        assert_eq!(put.paths, BTreeSet::from(["vendor".into()]));
        let mode = fs::metadata(tree.join("vendor/read-only")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o555, "{round}");
        let text = fs::read_to_string(tree.join("vendor/three.py")).unwrap();
        assert_eq!(text, "three = 3");
        fs::write(tree.join("vendor/three.py"), "spoiled").unwrap();
        fs::write(home.join(".cache/tool"), "spoiled").unwrap();
    }
    assert!(host.find(OTHER).await.is_none());
}

#[tokio::test]
async fn a_damaged_or_half_entry_is_removed_and_not_used() {
    let damages: [Damage; 9] = [
        ("no note", |it| fs::remove_file(it.join(ENTRY)).unwrap()),
        ("half a note", |it| fs::write(it.join(ENTRY), "{").unwrap()),
        ("no home", |it| fs::remove_dir_all(it.join("home")).unwrap()),
        ("a file is gone", |it| {
            fs::remove_file(it.join("tree/vendor/three.py")).unwrap();
        }),
        ("a file is empty", |it| {
            fs::write(it.join("tree/vendor/three.py"), "").unwrap();
        }),
        ("a file was written again", |it| {
            fs::write(it.join("tree/vendor/three.py"), "three = 4").unwrap();
        }),
        ("a file was added", |it| {
            fs::write(it.join("home/new"), "").unwrap();
        }),
        ("a link leads elsewhere", |it| {
            fs::remove_file(it.join("tree/vendor/link")).unwrap();
            std::os::unix::fs::symlink("/", it.join("tree/vendor/link")).unwrap();
        }),
        ("a file can be run", |it| {
            let all = fs::Permissions::from_mode(0o777);
            fs::set_permissions(it.join("tree/vendor/three.py"), all).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let host = Host::new();
        drop(host.store(KEY).await);
        damage(&host.place(KEY));
        assert!(host.find(KEY).await.is_none(), "{what}");
        assert!(!host.place(KEY).exists(), "{what}");
        drop(host.store(KEY).await);
        assert!(host.find(KEY).await.is_some(), "{what}: stored again");
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_while_it_stores_leaves_no_entry() {
    let host = Host::new();
    // All is written but the last step, by which an entry comes to its place.
    let (folder, dependencies) = host.installed();
    fs::create_dir_all(host.place(KEY).parent().unwrap()).unwrap();
    fs::write(host.place(KEY), "in the way").unwrap();
    let noted = (json!({}), now());
    let kept = host.cache.store(KEY, dependencies, noted).await;
    assert!(folder.join(ENTRY).exists());
    fs::remove_file(host.place(KEY)).unwrap();
    assert!(host.find(KEY).await.is_none());
    // Who could not store goes on with what it has.
    let (tree, home) = (host.root.path().join("tree"), host.root.path().join("home"));
    fs::create_dir(&tree).unwrap();
    kept.put(&tree, &home).unwrap();
    assert!(tree.join("vendor/three.py").exists() && home.join(".cache/tool").exists());
    disk::remove_all(&folder).unwrap();
    drop(host.store(KEY).await);
    assert!(host.find(KEY).await.is_some());
}

#[tokio::test]
async fn an_entry_that_is_used_is_not_deleted_and_one_that_is_too_old_is_not_used() {
    let host = Host::new();
    let stored = host.store(KEY).await;
    let found = host.find(KEY).await.unwrap();
    drop(stored);
    assert!(!host.cache.delete(&host.place(KEY)).await);
    drop(found);
    assert!(host.cache.delete(&host.place(KEY)).await);
    assert!(!host.place(KEY).exists());
    drop(host.store(KEY).await);
    let later = now() + TimeDelta::days(8);
    assert!(host.cache.entries(later).await[0].is_over);
    assert!(host.cache.find(KEY, later).await.is_none());
    assert!(!host.place(KEY).exists());
}

#[tokio::test(start_paused = true)]
async fn of_those_who_install_the_same_one_goes_first_and_the_others_can_give_up() {
    let host = Host::new();
    let first = host.cache.lock(KEY).await.unwrap();
    host.cache.lock(OTHER).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_mins(1), host.cache.lock(KEY));
    assert!(waiting.await.is_err());
    drop(first);
    host.cache.lock(KEY).await.unwrap();
}

async fn sweep(bench: &Bench, now: Timestamp) -> Swept {
    let live = BTreeSet::new();
    let swept = bench.workspaces.sweep(now, &live, &|| false).await;
    swept.unwrap()
}

#[tokio::test]
async fn the_disk_limit_takes_the_result_that_was_not_used_longest_and_none_in_use() {
    let retention = Retention {
        disk_limit: Some(0),
        ..Retention::default()
    };
    let bench = Bench::keeping(&[("a", "1\n")], retention).await;
    let host = Host {
        root: tempfile::tempdir_in(bench.root.path()).unwrap(),
        cache: bench.workspaces.setups().clone(),
    };
    let now = chrono::Utc::now();
    for key in [KEY, OTHER] {
        let (_, dependencies) = host.installed();
        drop(host.cache.store(key, dependencies, (json!({}), now)).await);
    }
    let used = host.cache.find(OTHER, now).await.unwrap();
    let swept = sweep(&bench, now).await;
    assert_eq!(swept.setups, 1);
    assert!(swept.bytes > Some(0), "what is used counts: {swept:?}");
    let left: Vec<_> = host.cache.entries(now).await;
    assert_eq!(left.len(), 1);
    assert!(left[0].path.ends_with(OTHER));
    drop(used);
    assert_eq!(sweep(&bench, now).await.setups, 1);
    assert!(host.cache.entries(now).await.is_empty());
}

#[tokio::test]
async fn a_result_that_is_too_old_goes_with_the_next_sweep() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let host = Host {
        root: tempfile::tempdir_in(bench.root.path()).unwrap(),
        cache: bench.workspaces.setups().clone(),
    };
    let now = chrono::Utc::now();
    let (_, dependencies) = host.installed();
    drop(host.cache.store(KEY, dependencies, (json!({}), now)).await);
    assert_eq!(sweep(&bench, now + TimeDelta::days(6)).await.setups, 0);
    assert_eq!(sweep(&bench, now + TimeDelta::days(8)).await.setups, 1);
}

/// What was written last may be missing in one.
#[tokio::test]
async fn an_entry_of_before_the_hosts_last_start_is_not_used() {
    let host = Host::new();
    drop(host.store(KEY).await);
    let entry = host.place(KEY).join(ENTRY);
    let note = fs::read_to_string(&entry).unwrap();
    assert!(host.find(KEY).await.is_some());
    fs::write(&entry, note.replace(boot().trim(), "another")).unwrap();
    assert!(host.find(KEY).await.is_none());
    assert!(!host.place(KEY).exists());
}
