use chrono::TimeDelta;
use patchfleet_domain::{AttemptNumber, FailureKind, TaskId};
use tempfile::TempDir;

use super::*;
use crate::git::tests::Origin;

mod mirrors;
mod sweep;

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
    // Nor is there another one to go by.
    let unborn = ["symbolic-ref", "HEAD", "refs/heads/unborn"];
    bench.origin.ask(&unborn).await;
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
