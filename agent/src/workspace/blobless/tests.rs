use patchfleet_domain::{FailureKind, TaskId};
use patchfleet_repository::Author;

use crate::git::tests::Origin;
use crate::git::{Change, EntryKind, ObjectId};
use crate::workspace::tests::Bench;
use crate::workspace::{Checkout, CloneMode, Workspace};

/// An origin with an old content, whose server sends a history without contents when it is asked to.
async fn bench() -> (Bench, ObjectId) {
    let bench = Bench::with(&[("a", "old\n"), ("b", "1\n2\n3\n")]).await;
    let old = bench.origin.git(&["rev-parse", "HEAD:a"]).await;
    bench
        .origin
        .advance(&[("a", "new\n"), ("dir/c", "c\n")])
        .await;
    bench
        .origin
        .ask(&["config", "uploadpack.allowFilter", "true"])
        .await;
    (bench, old.parse().unwrap())
}

fn blobless(bench: &Bench) -> Checkout {
    Checkout {
        clone: CloneMode::Blobless,
        ..bench.checkout(TaskId::new(), 1)
    }
}

fn author() -> Author {
    Author {
        name: "Mona".to_owned(),
        email: "mona@example.com".to_owned(),
    }
}

/// A commit on the base that gives `b` a new content.
async fn changed(workspace: &Workspace, content: &str) -> ObjectId {
    std::fs::write(workspace.layout.repo_clone().join("b"), content).unwrap();
    let snapshot = workspace.repository.snapshot().await.unwrap();
    let (repository, author) = (&workspace.repository, author());
    let commit = repository.commit_tree(&snapshot.tree, &workspace.base, "b", &author);
    commit.await.unwrap()
}

#[tokio::test]
async fn a_blobless_workspace_has_the_history_and_the_contents_of_its_base_alone() {
    let (bench, old) = bench().await;
    let workspace = bench.prepare(&blobless(&bench)).await.unwrap();
    let root = workspace.layout.repo_clone();
    for (path, content) in [("a", "new\n"), ("b", "1\n2\n3\n"), ("dir/c", "c\n")] {
        assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), content);
    }
    assert!(workspace.repository.blobs(&[old]).await.is_err());
    let log = Origin::git_in(&root, &["log", "--format=%s", "--name-only", "-1"]).await;
    assert_eq!(log, "more\n\na\ndir/c");
    let count = Origin::git_in(&root, &["rev-list", "--count", "HEAD"]).await;
    assert_eq!(count, "2");
    assert_eq!(Origin::git_in(&root, &["status", "--porcelain"]).await, "");
    let borrowed = workspace.borrowed_objects().await;
    let own = workspace.layout.root();
    assert!(
        borrowed.iter().all(|it| it.starts_with(own) && it.is_dir()) && borrowed.len() == 1,
        "{borrowed:?}"
    );
    assert!(bench.workspaces.warm_repositories().await.is_empty());
}

#[tokio::test]
async fn the_tests_of_a_blobless_repository_see_a_committed_tree() {
    let (bench, _) = bench().await;
    let workspace = bench.prepare(&blobless(&bench)).await.unwrap();
    let root = workspace.layout.repo_clone();
    let change = Change {
        path: "dir/new".to_owned(),
        content: Some(b"new\n".to_vec()),
        kind: EntryKind::File,
    };
    let changes = [change];
    let tree = workspace.repository.write_tree(&workspace.base, &changes);
    let tree = tree.await.unwrap();
    workspace.check_out_committed(&tree).await.unwrap();
    assert_eq!(Origin::git_in(&root, &["status", "--porcelain"]).await, "");
    let names = Origin::git_in(&root, &["show", "--format=", "--name-only"]).await;
    assert_eq!(names, "dir/new");
}

#[tokio::test]
async fn a_change_to_a_blobless_repository_is_merged_with_a_newer_base_and_pushed() {
    let (bench, old) = bench().await;
    let checkout = blobless(&bench);
    let workspace = bench.prepare(&checkout).await.unwrap();
    let repository = &workspace.repository;
    let commit = changed(&workspace, "1\n2\n3 changed\n").await;
    // The server believes that who has the history has this content.
    let base = bench
        .origin
        .advance(&[("a", "old\n"), ("b", "1 moved\n2\n3\n")])
        .await;
    let refspec = ["+refs/heads/main:refs/patchfleet/base"];
    let remote = &checkout.remote;
    repository.fetch(remote, &refspec, false).await.unwrap();
    repository
        .complete_for_merge(remote, (&base, &workspace.base))
        .await
        .unwrap();
    assert_eq!(repository.blobs(&[old]).await.unwrap(), [b"old\n"]);
    let tree = repository.merge(&base, &commit).await.unwrap();
    let author = author();
    let merged = repository.commit_tree(&tree, &base, "merged", &author);
    let merged = merged.await.unwrap();
    repository
        .push(remote, &merged, "patchfleet/1-x", None)
        .await
        .unwrap();
    let content = bench.origin.ask(&["show", "patchfleet/1-x:b"]).await;
    assert_eq!(content, "1 moved\n2\n3 changed");
    assert_eq!(bench.origin.ask(&["show", "patchfleet/1-x:a"]).await, "old");
}

#[tokio::test]
async fn a_server_that_knows_no_filters_sends_all_and_the_work_goes_on() {
    let (bench, old) = bench().await;
    bench
        .origin
        .ask(&["config", "uploadpack.allowFilter", "false"])
        .await;
    let workspace = bench.prepare(&blobless(&bench)).await.unwrap();
    assert!(workspace.repository.blobs(&[old]).await.is_ok());
    changed(&workspace, "4\n").await;
}

#[tokio::test]
async fn a_blobless_workspace_that_can_not_be_made_leaves_nothing() {
    let (bench, _) = bench().await;
    let base = "1".repeat(40).parse().unwrap();
    let gone = Checkout {
        pinned_base: Some(base),
        ..blobless(&bench)
    };
    let failure = bench.prepare(&gone).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::BaseMoved, "{failure:?}");
    let unborn = ["symbolic-ref", "HEAD", "refs/heads/unborn"];
    bench.origin.ask(&unborn).await;
    let absent = Checkout {
        default_branch: "absent".to_owned(),
        ..blobless(&bench)
    };
    let failure = bench.prepare(&absent).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CloneFailed, "{failure:?}");
    let tasks = bench.root.path().join("backend-1/tasks");
    assert_eq!(std::fs::read_dir(tasks).unwrap().count(), 0);
}
