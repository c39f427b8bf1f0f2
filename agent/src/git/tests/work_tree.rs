//! Single cases of check-outs and snapshots.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::snapshot::make_room;
use super::*;

/// A work tree of a commit with these files, made by `make` with plain git.
async fn checked_out(script: &str) -> (TempDir, Repository, ObjectId) {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("origin");
    fs::create_dir(&origin).unwrap();
    Origin::git_in(&origin, &["init", "-q", "-b", "main", "."]).await;
    let finished = Spawn::new("sh", &origin)
        .args(["-ec", script])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .run(&CancellationToken::new())
        .await
        .unwrap();
    assert!(finished.succeeded(), "{}", finished.stderr_text());
    let identity = ["commit", "-q", "--allow-empty", "-m", "x"];
    Origin::git_in(&origin, &identity).await;
    let store = Git::new().repository(origin.join(".git"));
    let store = store.with_work_tree(folder.path().join("work"));
    let head = store.resolve("HEAD^{tree}").await.unwrap().unwrap();
    store.check_out(&head).await.unwrap();
    (folder, store, head)
}

async fn changed(store: &Repository, head: &ObjectId) -> Vec<String> {
    let tree = store.snapshot().await.unwrap().tree;
    let before = store.entries(head).await.unwrap();
    let after = store.entries(&tree).await.unwrap();
    let differs = |one: &[Entry], other: &[Entry]| {
        let only = one.iter().filter(|entry| !other.contains(entry));
        only.map(|entry| entry.path.clone())
            .collect::<BTreeSet<_>>()
    };
    let mut paths = differs(&before, &after);
    paths.extend(differs(&after, &before));
    paths.into_iter().collect()
}

#[tokio::test]
async fn files_that_nobody_changed_do_not_appear_whatever_the_attributes_say_of_their_line_ends() {
    let script = r"mkdir docs; for n in 1 2 3; do printf 'one\r\ntwo\r\n' > docs/$n.txt; done
        echo x > app.py; git add -A; git -c user.name=a -c user.email=b commit -qm first
        echo '*.txt text' > .gitattributes; git add .gitattributes";
    let (folder, store, head) = checked_out(script).await;
    let root = folder.path().join("work");
    store.work_tree.as_ref().unwrap().forget_stamps();
    fs::write(root.join("docs/1.txt"), "one\r\ntwo\r\n").unwrap();
    assert_eq!(changed(&store, &head).await, [""; 0]);
    fs::write(root.join("app.py"), "y\n").unwrap();
    fs::write(root.join("docs/2.txt"), "one\r\nthree\r\n").unwrap();
    assert_eq!(changed(&store, &head).await, ["app.py", "docs/2.txt"]);
}

/// Git knows a file's macros on each of its lines, also above their own.
#[tokio::test]
async fn a_macro_counts_above_its_definition() {
    let script = r"printf 'e.bat dos\n[attr]dos text eol=crlf' > .gitattributes; git add -A";
    let (folder, store, head) = checked_out(script).await;
    fs::write(folder.path().join("work/e.bat"), "two\r\n").unwrap();
    assert_eq!(changed(&store, &head).await, ["e.bat"]);
    let tree = store.snapshot().await.unwrap().tree;
    let entries = store.entries(&tree).await.unwrap();
    let new = entries.into_iter().find(|entry| entry.path == "e.bat");
    let content = store.blobs(&[new.unwrap().id]).await.unwrap();
    assert_eq!(content, [b"two\n"]);
}

/// Git would convert both of them.
#[tokio::test]
async fn attributes_that_come_along_convert_no_file_whose_content_is_as_it_was() {
    let script = r"printf 'one\r\n' > same.txt; printf 'two\r\n' > mode.txt; git add -A";
    let (folder, store, head) = checked_out(script).await;
    let root = folder.path().join("work");
    fs::write(root.join("same.txt"), "one\r\n").unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.join("mode.txt"), executable).unwrap();
    fs::write(root.join(".gitattributes"), "*.txt eol=lf\n").unwrap();
    assert_eq!(changed(&store, &head).await, [".gitattributes", "mode.txt"]);
    let tree = store.snapshot().await.unwrap().tree;
    let entries = [&head, &tree].map(|tree| store.entries(tree));
    let [before, after] = entries;
    let id = |entries: Vec<Entry>| {
        let entry = entries.into_iter().find(|entry| entry.path == "mode.txt");
        entry.unwrap().id
    };
    assert_eq!(id(before.await.unwrap()), id(after.await.unwrap()));
}

#[tokio::test]
async fn a_change_that_sets_length_and_time_back_is_seen() {
    let (folder, store, head) = checked_out("echo one > a; git add a").await;
    let path = folder.path().join("work/a");
    let time = path.metadata().unwrap().modified().unwrap();
    fs::write(&path, "two\n").unwrap();
    let file = fs::File::options().append(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(changed(&store, &head).await, ["a"]);
    store.check_out(&head).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
}

#[tokio::test]
async fn a_change_of_the_same_length_and_time_is_seen_long_after_the_check_out() {
    let (folder, store, head) = checked_out("echo one > a; echo one > b; git add a b").await;
    store.work_tree.as_ref().unwrap().age_stamps();
    let path = folder.path().join("work/a");
    let time = path.metadata().unwrap().modified().unwrap();
    fs::write(&path, "two\n").unwrap();
    let file = fs::File::options().append(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(changed(&store, &head).await, ["a"]);
}

#[tokio::test]
async fn a_change_in_the_tick_of_the_check_out_is_seen() {
    let (folder, store, head) = checked_out("echo one > a; git add a").await;
    let path = folder.path().join("work/a");
    for _ in 0..40 {
        store.check_out(&head).await.unwrap();
        fs::write(&path, "two\n").unwrap();
        assert_eq!(changed(&store, &head).await, ["a"]);
    }
}

/// Whoever is still there swaps a folder for a link and back, as fast as that goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_swapped_for_a_link_meanwhile_shows_nothing_of_the_host() {
    let script = "mkdir dir; echo one > dir/a; echo two > dir/b; git add -A";
    let (folder, store, head) = checked_out(script).await;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("outside")).unwrap();
    fs::write(at("outside/a"), "secret\n").unwrap();
    fs::write(at("outside/c"), "secret\n").unwrap();
    std::os::unix::fs::symlink(at("outside"), at("link")).unwrap();
    let (dir, link, aside) = (at("work/dir"), at("link"), at("aside"));
    let (done, mut taken) = (CancellationToken::new(), BTreeSet::new());
    let swaps = tokio::task::spawn_blocking({
        let done = done.clone();
        move || {
            let mut swaps = 0_usize;
            while !done.is_cancelled() {
                // A check-out may have put its own folder in the place of either.
                let _ = fs::rename(&dir, &aside);
                let _ = fs::rename(&link, &dir);
                let _ = fs::rename(&dir, &link);
                let _ = fs::rename(&aside, &dir);
                swaps += 1;
            }
            swaps
        }
    });
    for round in 0..200 {
        if round % 10 == 9 {
            let _ = store.check_out(&head).await;
        }
        let Ok(snapshot) = store.snapshot().await else {
            continue;
        };
        let entries = store.entries(&snapshot.tree).await.unwrap();
        let files = entries.into_iter().filter(|it| it.kind == EntryKind::File);
        taken.extend(files.map(|entry| entry.id));
    }
    done.cancel();
    assert!(swaps.await.unwrap() > 200);
    let ids: Vec<_> = taken.into_iter().collect();
    for content in store.blobs(&ids).await.unwrap() {
        assert_ne!(String::from_utf8_lossy(&content), "secret\n");
    }
    for name in ["outside/a", "outside/c"] {
        assert_eq!(fs::read_to_string(at(name)).unwrap(), "secret\n", "{name}");
    }
    let names = fs::read_dir(at("outside")).unwrap().count();
    assert_eq!(names, 2, "a check-out wrote outside of the work tree");
}

#[tokio::test]
async fn files_that_nobody_touched_are_not_read() {
    let script = "mkdir dir; echo one > dir/a; echo two > dir/b; echo '*.x text' > .gitattributes
        git add -A";
    let (folder, store, head) = checked_out(script).await;
    store.work_tree.as_ref().unwrap().age_stamps();
    // Whoever reads such a file looks for what it was before.
    let before = store.resolve("HEAD:dir/a").await.unwrap().unwrap();
    let (start, rest) = before.as_str().split_at(2);
    let object = store.dir().join("objects").join(start).join(rest);
    fs::remove_file(&object).unwrap();
    assert_eq!(store.snapshot().await.unwrap().tree, head);
    fs::write(folder.path().join("work/dir/b"), "changed\n").unwrap();
    assert_ne!(store.snapshot().await.unwrap().tree, head);
    fs::write(folder.path().join("work/dir/a"), "changed\n").unwrap();
    store.snapshot().await.unwrap_err();
}

#[tokio::test]
async fn what_root_checks_out_belongs_to_whom_the_work_tree_belongs_to() {
    use std::os::unix::fs::MetadataExt as _;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let script = "mkdir dir; echo x > dir/a; ln -s dir/a link; echo y > b; git add -A";
    let (folder, store, head) = checked_out(script).await;
    let root = folder.path().join("work");
    std::os::unix::fs::chown(&root, Some(65534), Some(65534)).unwrap();
    for path in ["", "dir", "dir/a", "link", "b"] {
        store.check_out(&head).await.unwrap();
        let found = root.join(path).symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (65534, 65534), "{path}");
        crate::disk::remove_all(&root.join("dir")).unwrap();
    }
    // A first check-out empties the folder, and leaves it to its owner.
    let again = store.with_work_tree(&root);
    again.check_out(&head).await.unwrap();
    assert_eq!(root.join("b").metadata().unwrap().uid(), 65534);
}

/// A tree of one entry, of whatever name.
fn tree_with(store: &Repository, name: &[u8], (mode, id): (&str, git2::Oid)) -> git2::Oid {
    let repository = git2::Repository::open_bare(store.dir()).unwrap();
    let head = [mode.as_bytes(), b" ", name, b"\0"].concat();
    let content = [head.as_slice(), id.as_bytes()].concat();
    let odb = repository.odb().unwrap();
    odb.write(git2::ObjectType::Tree, &content).unwrap()
}

#[tokio::test]
async fn a_tree_with_names_that_lead_elsewhere_is_not_checked_out() {
    let (folder, store, _) = checked_out("echo x > a; git add a").await;
    let blob = store.resolve("HEAD:a").await.unwrap().unwrap();
    let blob = blob.to_oid().unwrap();
    let inner = tree_with(&store, b"planted", ("100644", blob));
    for name in [
        "..", ".", ".git", ".GIT", "git~1", "../work2", "/", "a/../..",
    ] {
        let tree = tree_with(&store, name.as_bytes(), ("40000", inner));
        let fresh = store.with_work_tree(folder.path().join("work/fresh"));
        let error = fresh.check_out(&tree.into()).await.unwrap_err();
        assert!(
            error.to_string().contains("the tree has"),
            "{name}: {error}"
        );
        store.check_out(&tree.into()).await.unwrap_err();
    }
    for place in [
        "planted",
        "work/planted",
        "work2/planted",
        "work/.git/planted",
    ] {
        assert!(!folder.path().join(place).exists(), "{place}");
    }
}

#[tokio::test]
async fn what_tools_leave_for_themselves_is_left_out_unless_the_repository_has_it() {
    let script = "mkdir node_modules; echo x > node_modules/own.js; echo '!kept.pyc' > .gitignore
        git add -A";
    let (folder, store, head) = checked_out(script).await;
    let root = folder.path().join("work");
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n";
    for (path, content) in [
        ("__pycache__/app.cpython-311.pyc", "x"),
        ("pkg/__pycache__/app.cpython-311.pyc", "x"),
        ("node_modules/other/index.js", "x"),
        (".aider.chat.history.md", "x"),
        ("target/CACHEDIR.TAG", tag),
        ("target/debug/app", "x"),
        ("kept.pyc", "x"),
    ] {
        make_room(&root, path.as_bytes());
        fs::write(root.join(path), content).unwrap();
    }
    fs::write(root.join("node_modules/own.js"), "y\n").unwrap();
    let log = fs::File::create(root.join("huge.log")).unwrap();
    log.set_len(75 << 20).unwrap();
    assert_eq!(
        changed(&store, &head).await,
        ["kept.pyc", "node_modules/own.js"]
    );
    let left_out = store.snapshot().await.unwrap().left_out;
    assert_eq!(left_out, [("huge.log".to_owned(), 75 << 20)]);
}

#[tokio::test]
async fn a_file_that_would_go_through_a_program_is_a_fault_with_its_path() {
    let script = "echo '*.csv filter=lfs -text' > .gitattributes
        echo 'version https://git-lfs.github.com/spec/v1' > data.csv; git add -A";
    let (folder, store, head) = checked_out(script).await;
    let data = folder.path().join("work/data.csv");
    fs::write(&data, "version https://git-lfs.github.com/spec/v1\noid 7\n").unwrap();
    assert_eq!(changed(&store, &head).await, ["data.csv"]);
    fs::write(&data, "a,b\n").unwrap();
    let error = store.snapshot().await.unwrap_err().to_string();
    assert!(error.contains("`data.csv` belongs to Git LFS"), "{error}");
}

#[tokio::test]
async fn folders_that_lie_too_deep_are_a_fault_and_cleared_away() {
    let (folder, store, head) = checked_out("echo x > a; git add a").await;
    let mut inner = crate::disk::Folder::open(&folder.path().join("work")).unwrap();
    for _ in 0..3000 {
        inner = inner.make(OsStr::new("deep")).unwrap();
    }
    inner.write(OsStr::new("file"), b"x", 0o644, None).unwrap();
    let error = store.snapshot().await.unwrap_err();
    assert!(
        matches!(&error, GitError::Unfit { reason } if reason.contains("too deep")),
        "{error}"
    );
    store.check_out(&head).await.unwrap();
    assert!(!folder.path().join("work/deep").exists());
    assert_eq!(changed(&store, &head).await, [""; 0]);
}
