//! Files that nobody may read, left in the work tree by a draft or by another user, with an agent of root
//! and one of a plain user.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use patchfleet_domain::{FailureKind, TaskState};

use crate::world::{Plan, REPOSITORY, World};

/// A user without a name.
const PLAIN: u32 = 21_235;

const LEAVES: &str = "cd orders; echo mine > own.txt; mkdir closed; echo inside > closed/a.txt; \
                      chmod 000 own.txt closed/a.txt closed";

/// Root's agent and a plain user's, where both are to be had.
fn users() -> Vec<Option<u32>> {
    if nix::unistd::geteuid().is_root() {
        vec![None, Some(PLAIN)]
    } else {
        vec![None]
    }
}

/// The work tree of the only task.
fn work_tree(world: &World) -> PathBuf {
    let tasks = world.folder().join("workspaces/general-1/tasks");
    let tasks = std::fs::read_dir(tasks).unwrap().flatten();
    let mut trees = tasks.map(|task| task.path().join("repo-clone"));
    trees.find(|tree| tree.is_dir()).expect("a work tree")
}

#[tokio::test]
async fn what_a_draft_leaves_without_any_permission_is_its_own_and_is_published() {
    for user in users() {
        let world = World::with(Plan {
            afterwards: LEAVES,
            // A plain user may have no namespaces here.
            isolated: user.is_none(),
            agent_user: user,
            ..Plan::default()
        })
        .await;
        let issue = world.open();
        world.label(issue);
        world.merge_and_check(issue).await;
        for (path, content) in [
            ("orders/own.txt", "mine\n"),
            ("orders/closed/a.txt", "inside\n"),
        ] {
            let found = world.github.file(REPOSITORY, "main", path).unwrap();
            assert_eq!(found.as_deref(), Some(content.as_bytes()), "{user:?}");
        }
        assert_eq!(world.drafts(), 1);
    }
}

#[tokio::test]
async fn what_another_user_left_unreadable_is_named_and_paid_for_once() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::with(Plan {
        isolated: false,
        agent_user: Some(PLAIN),
        ..Plan::default()
    })
    .await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;
    let theirs = work_tree(&world).join("theirs.txt");
    std::fs::write(&theirs, "root's\n").unwrap();
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o000)).unwrap();
    gate.open();
    let task = world.task_in(TaskState::Failed).await;
    let failure = task.failure.unwrap();
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::DraftFailed, false),
        "{}",
        failure.message
    );
    let named = "`theirs.txt` is another user's and can't be read";
    assert!(failure.message.contains(named), "{}", failure.message);
    world.status_says(issue, "theirs.txt").await;
    assert_eq!((task.failures, world.drafts()), (1, 1));
    // The agent goes on with other work.
    let next = world.open();
    world.label(next);
    world.task_in(TaskState::Review).await;
}
