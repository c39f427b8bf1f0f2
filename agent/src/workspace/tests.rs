use chrono::TimeDelta;
use patchfleet_domain::{AttemptNumber, TaskId};
use tempfile::TempDir;

use super::*;
use crate::git::tests::Origin;

/// An agent's folders in a temporary root.
pub(crate) struct Bench {
    pub(crate) root: TempDir,
    pub(crate) workspaces: Workspaces,
    pub(crate) origin: Origin,
}

impl Bench {
    pub(crate) async fn with(files: &[(&str, &str)]) -> Self {
        Self::keeping(files, Retention::default()).await
    }

    pub(crate) async fn keeping(files: &[(&str, &str)], retention: Retention) -> Self {
        let root = tempfile::tempdir().unwrap();
        let agent = "backend-1".parse().unwrap();
        let workspaces = Workspaces::open(root.path(), &agent, retention)
            .await
            .unwrap();
        Self {
            root,
            workspaces,
            origin: Origin::with(files).await,
        }
    }

    pub(crate) fn checkout(&self, task: TaskId, attempt: u32) -> Checkout {
        Checkout {
            work: Work {
                task,
                attempt: AttemptNumber(attempt),
            },
            repository: "acme/orders".parse().unwrap(),
            remote: self.origin.remote(),
            default_branch: "main".to_owned(),
            branch: "patchfleet/1-x".to_owned(),
            pinned_base: None,
            clone: CloneMode::Mirror,
            has_contents: false,
        }
    }

    pub(crate) async fn prepare(&self, checkout: &Checkout) -> Result<Workspace, Failure> {
        let cancel = CancellationToken::new();
        self.workspaces.prepare(checkout, &cancel).await
    }

    /// Has work trees lie over templates from now on; false where runs can't have overlays.
    pub(crate) async fn lay(&mut self, sandbox: &Sandbox) -> bool {
        self.workspaces = self.workspaces.clone().over_templates(sandbox).await;
        self.workspaces.is_layered
    }

    fn agent(&self) -> std::path::PathBuf {
        self.root.path().join("backend-1")
    }
}

pub(crate) fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_layout_is_as_documented() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let task = TaskId::new();
    let workspace = bench.prepare(&bench.checkout(task, 1)).await.unwrap();
    assert_eq!(listing(&bench.agent()), ["logs", "shared", "tasks"]);
    assert_eq!(
        listing(&bench.agent().join("shared")),
        ["cache", "setups", "templates", "tools"]
    );
    assert_eq!(
        listing(&bench.agent().join("tasks")),
        [format!("task-{task}")]
    );
    let parts = ["implementation", "metadata.json", "repo-clone", "tests"];
    assert_eq!(listing(workspace.layout.root()), parts);
    let metadata = Metadata::read(&workspace.layout.metadata()).await.unwrap();
    assert_eq!((metadata.task, metadata.attempt), (task, 1));
    assert_eq!(metadata.base_sha, workspace.base);
    assert_eq!(metadata.finished_at, None);
    bench.workspaces.logs().append(
        LogFile::TaskExecution,
        "t",
        "token=ghp_0123456789abcdefghijABCDEFGHIJ012345",
    );
    let log = std::fs::read_to_string(bench.agent().join("logs/task-execution.log")).unwrap();
    assert!(
        log.ends_with('\n') && !log.contains("ghp_0123456789"),
        "{log}"
    );
    let warm = bench.workspaces.warm_repositories().await;
    assert_eq!(warm, BTreeSet::from(["acme/orders".parse().unwrap()]));
}

#[tokio::test]
async fn a_workspace_copies_no_history() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let workspace = bench
        .prepare(&bench.checkout(TaskId::new(), 1))
        .await
        .unwrap();
    let clone = workspace.layout.repo_clone();
    assert_eq!(std::fs::read_to_string(clone.join("a")).unwrap(), "1\n");
    for objects in [
        clone.join(".git/objects"),
        workspace.layout.object_store().join("objects"),
    ] {
        let own = listing(&objects).into_iter().filter(|name| name.len() == 2);
        assert_eq!(
            own.count(),
            0,
            "{} has objects of its own",
            objects.display()
        );
    }
    assert_eq!(
        workspace.repository.snapshot().await.unwrap().tree,
        workspace
            .repository
            .resolve(&format!("{}^{{tree}}", workspace.base))
            .await
            .unwrap()
            .unwrap()
    );
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn whatever_was_left_in_a_work_tree_a_check_out_makes_it_known_again() {
    let files = [("a", "1\n"), ("dir/b", "2\n"), ("deep/down/c", "3\n")];
    let bench = Bench::with(&files).await;
    bench.origin.submodule("vendor/lib").await;
    let checkout = bench.checkout(TaskId::new(), 1);
    let workspace = bench.prepare(&checkout).await.unwrap();
    let root = workspace.layout.repo_clone();
    let config = text(&root.join(".git/config"));
    let outside = bench.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("b"), "outside\n").unwrap();

    let write = |path: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "planted\n").unwrap();
    };
    for path in [
        ".git/config",
        ".git/hooks/pre-commit",
        ".git/info/attributes",
        ".gitignore",
        "ignored/x",
        "deep/.git/config",
        "deep/down/.GIT/config",
        "vendor/lib/.git/config",
        "vendor/lib/src/file",
        "readonly/x",
    ] {
        write(path);
    }
    std::fs::remove_file(root.join("a")).unwrap();
    write("a/inner");
    std::fs::remove_dir_all(root.join("dir")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("dir")).unwrap();
    std::fs::remove_file(root.join("deep/down/c")).unwrap();
    let fifo = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&root.join("deep/down/c"), fifo).unwrap();
    for folder in ["readonly", "deep/down"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
        std::fs::set_permissions(root.join(folder), mode).unwrap();
    }

    workspace.check_out(&workspace.base).await.unwrap();
    assert_eq!(listing(&root), [".git", "a", "deep", "dir", "vendor"]);
    for (path, content) in files {
        assert_eq!(text(&root.join(path)), content);
    }
    assert_eq!(listing(&root.join("deep")), ["down"]);
    assert_eq!(listing(&root.join("deep/down")), ["c"]);
    assert_eq!(listing(&root.join("vendor/lib")), [""; 0]);
    assert_eq!(text(&outside.join("b")), "outside\n", "a link was followed");
    assert_eq!(text(&root.join(".git/config")), config);
    assert!(!root.join(".git/hooks").exists() && !root.join(".git/info").exists());
    let status = Origin::git_in(&root, &["status", "--porcelain"]).await;
    assert_eq!(status, "", "the clone's own index fits");
}

#[tokio::test]
async fn a_snapshot_enters_no_repository_that_lies_in_the_work_tree() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    bench.origin.submodule("vendor/lib").await;
    let checkout = bench.checkout(TaskId::new(), 1);
    let workspace = bench.prepare(&checkout).await.unwrap();
    let pwned = bench.root.path().join("pwned");
    let nested = workspace.layout.repo_clone().join("vendor/lib");
    Origin::git_in(&nested, &["init", "-q", "."]).await;
    std::fs::write(nested.join("file"), "1\n").unwrap();
    Origin::git_in(&nested, &["add", "."]).await;
    Origin::git_in(&nested, &["commit", "-q", "-m", "x"]).await;
    let filter = format!("touch {}; cat", pwned.display());
    Origin::git_in(&nested, &["config", "filter.x.clean", &filter]).await;
    std::fs::write(nested.join(".git/info/attributes"), "* filter=x\n").unwrap();
    std::fs::write(nested.join("file"), "2\n").unwrap();
    std::fs::write(workspace.layout.repo_clone().join("a"), "2\n").unwrap();

    let base = format!("{}^{{tree}}", workspace.base);
    let base = workspace.repository.resolve(&base).await.unwrap().unwrap();
    let tree = workspace.repository.snapshot().await.unwrap().tree;
    assert!(!pwned.exists(), "the nested repository's filter was run");
    let diff = workspace.repository.diff(&base, &tree).await.unwrap();
    let diff = String::from_utf8(diff).unwrap();
    assert!(diff.contains("+2") && !diff.contains("vendor"), "{diff}");
    std::fs::remove_dir_all(&nested).unwrap();
    let again = workspace.repository.snapshot().await.unwrap().tree;
    assert_eq!(
        again, tree,
        "a submodule's folder that is gone changes nothing"
    );
}

#[tokio::test]
async fn what_no_commit_can_hold_is_named_unless_it_is_ignored() {
    let bench = Bench::with(&[("a", "1\n"), ("dir/b", "1\n")]).await;
    let checkout = bench.checkout(TaskId::new(), 1);
    let workspace = bench.prepare(&checkout).await.unwrap();
    let root = workspace.layout.repo_clone();
    let (write, fifo) = (
        |path: &str, content: &str| std::fs::write(root.join(path), content).unwrap(),
        |path: &str| {
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
            nix::unistd::mkfifo(&root.join(path), mode).unwrap();
        },
    );
    let plants: [(&str, &dyn Fn()); 6] = [
        ("dir/.GIT", &|| write("dir/.GIT", "x")),
        ("git~1", &|| write("git~1", "x")),
        ("dir/b", &|| {
            std::fs::remove_file(root.join("dir/b")).unwrap();
            fifo("dir/b");
        }),
        ("pipe", &|| fifo("pipe")),
        ("sub/.git", &|| {
            std::fs::create_dir_all(root.join("sub/.git/objects")).unwrap();
            write("sub/.git/HEAD", "ref: refs/heads/main\n");
        }),
        ("a", &|| {
            write(".gitattributes", "a working-tree-encoding=UTF-16\n");
            write("a", "changed\n");
        }),
    ];
    for (path, plant) in plants {
        workspace.check_out(&workspace.base).await.unwrap();
        plant();
        let error = workspace.repository.snapshot().await.unwrap_err();
        assert!(
            matches!(&error, GitError::Unfit { .. }),
            "{path}: {error:?}"
        );
        assert!(error.to_string().contains(path), "{error}");
        let failure = error.into_failure();
        assert_eq!(failure.kind, FailureKind::DraftFailed);
        assert!(!failure.retryable);
    }
    workspace.check_out(&workspace.base).await.unwrap();
    write(".gitignore", "pipe\nvenv/\n");
    std::fs::create_dir_all(root.join("venv/src/module/.git")).unwrap();
    fifo("pipe");
    workspace.repository.snapshot().await.unwrap();
}

#[tokio::test]
async fn tests_see_a_committed_change_and_the_repositorys_tags() {
    let bench = Bench::with(&[("a", "1\n"), ("dir/b", "2\n")]).await;
    bench.origin.git(&["tag", "-a", "-m", "x", "v1.0.0"]).await;
    bench.origin.git(&["push", "-q", "origin", "v1.0.0"]).await;
    bench.origin.advance(&[("a", "2\n")]).await;
    let checkout = bench.checkout(TaskId::new(), 1);
    let workspace = bench.prepare(&checkout).await.unwrap();
    let root = workspace.layout.repo_clone();
    let git = async |args: &[&str]| Origin::git_in(&root, args).await;
    assert!(git(&["describe", "--tags"]).await.starts_with("v1.0.0-1-g"));
    let change = crate::git::Change {
        path: "new".to_owned(),
        content: Some(b"3\n".to_vec()),
        kind: crate::git::EntryKind::File,
    };
    let tree = workspace
        .repository
        .write_tree(&workspace.base, &[change])
        .await;
    workspace.check_out_committed(&tree.unwrap()).await.unwrap();
    assert_eq!(git(&["status", "--porcelain"]).await, "");
    assert_eq!(git(&["ls-files"]).await, "a\ndir/b\nnew");
    assert_eq!(git(&["rev-parse", "HEAD^"]).await, workspace.base.as_str());
    git(&["fsck", "--connectivity-only"]).await;
    // The next round begins at the base again.
    git(&["checkout", "-q", "-b", "mine"]).await;
    workspace.check_out(&workspace.base).await.unwrap();
    assert_eq!(git(&["rev-parse", "HEAD"]).await, workspace.base.as_str());
    assert_eq!(git(&["branch", "--list", "mine"]).await, "");
    assert_eq!(git(&["status", "--porcelain"]).await, "");
}

#[tokio::test]
async fn line_ends_are_as_the_attributes_say() {
    let bench = Bench::with(&[("a.bat", "one\r\n")]).await;
    let attributes = [(".gitattributes", "*.bat text eol=crlf\n"), ("b", "x\n")];
    bench.origin.advance(&attributes).await;
    bench.origin.git(&["add", "--renormalize", "."]).await;
    bench.origin.advance(&[("b", "y\n")]).await;
    let checkout = bench.checkout(TaskId::new(), 1);
    let workspace = bench.prepare(&checkout).await.unwrap();
    let file = workspace.layout.repo_clone().join("a.bat");
    assert_eq!(text(&file), "one\r\n");
    std::fs::write(&file, "one\r\ntwo\r\n").unwrap();
    let tree = workspace.repository.snapshot().await.unwrap().tree;
    let diff = workspace.repository.diff(&workspace.base, &tree).await;
    let diff = String::from_utf8(diff.unwrap()).unwrap();
    assert!(diff.ends_with(" one\n+two\n"), "{diff}");
}

#[tokio::test]
async fn the_next_attempt_replaces_the_workspace_and_may_keep_the_base() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let task = TaskId::new();
    let first = bench.prepare(&bench.checkout(task, 1)).await.unwrap();
    std::fs::write(first.layout.repo_clone().join("leftover"), "x").unwrap();
    let newer = bench.origin.advance(&[("a", "2\n")]).await;

    let mut checkout = bench.checkout(task, 2);
    checkout.pinned_base = Some(first.base.clone());
    drop(first);
    let pinned = bench.prepare(&checkout).await.unwrap();
    assert_eq!(Some(&pinned.base), checkout.pinned_base.as_ref());
    assert!(!pinned.layout.repo_clone().join("leftover").exists());
    drop(pinned);
    let current = bench.prepare(&bench.checkout(task, 3)).await.unwrap();
    assert_eq!(current.base, newer);
    assert_eq!(
        std::fs::read_to_string(current.layout.repo_clone().join("a")).unwrap(),
        "2\n"
    );
    // What was replaced is deleted while the attempt goes on.
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(1));
    while listing(&bench.agent().join("tasks")).len() > 1 {
        looks.tick().await;
    }
}

#[tokio::test]
async fn a_base_that_is_gone_makes_checkpoints_useless() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let mut checkout = bench.checkout(TaskId::new(), 2);
    checkout.pinned_base = Some("1".repeat(40).parse().unwrap());
    let failure = bench.prepare(&checkout).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::BaseMoved);
    assert!(failure.retryable && failure.discard_checkpoints);
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_a_typed_failure() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let mut checkout = bench.checkout(TaskId::new(), 1);
    checkout.default_branch = "trunk".to_owned();
    let failure = bench.prepare(&checkout).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CloneFailed);
    assert!(failure.message.contains("no branch `trunk`"), "{failure:?}");
    checkout.remote = Remote::new("/nowhere", None).unwrap();
    let failure = bench.prepare(&checkout).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::CloneFailed, false)
    );
    assert_eq!(listing(&bench.agent().join("tasks")), Vec::<String>::new());
}

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
        (FailureKind::Internal, true)
    );
    assert_eq!(versions(&bench), before);
}

#[tokio::test]
async fn a_second_attempt_waits_until_the_first_has_left_the_folder() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let task = TaskId::new();
    let first = bench.prepare(&bench.checkout(task, 1)).await.unwrap();
    let marker = first.layout.repo_clone().join("marker");
    std::fs::write(&marker, "").unwrap();
    let checkout = bench.checkout(task, 2);
    let mut second = std::pin::pin!(bench.prepare(&checkout));
    // Another task is not kept waiting, and is done long after the second could have been.
    let other = bench.checkout(TaskId::new(), 1);
    tokio::select! {
        biased;
        _ = &mut second => panic!("two attempts share a folder"),
        other = bench.prepare(&other) => drop(other.unwrap()),
    }
    assert!(marker.exists());
    let later = chrono::Utc::now() + TimeDelta::days(8);
    let swept = bench
        .workspaces
        .sweep(later, &BTreeSet::new(), &|| true)
        .await;
    assert!(
        !swept.unwrap().removed.contains(&task),
        "the sweep spares it"
    );
    drop(first);
    let second = second.await.unwrap();
    assert!(!marker.exists());
    assert_eq!(second.work.attempt, AttemptNumber(2));
}

#[tokio::test]
async fn workspaces_of_one_repository_are_made_side_by_side() {
    let bench = Bench::with(&[("a", "1\n")]).await;
    let checkouts: Vec<_> = (0..4).map(|_| bench.checkout(TaskId::new(), 1)).collect();
    let made = futures::future::join_all(checkouts.iter().map(|checkout| bench.prepare(checkout)));
    for workspace in made.await {
        assert!(workspace.unwrap().layout.repo_clone().join("a").exists());
    }
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
