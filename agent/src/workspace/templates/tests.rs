use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use patchfleet_domain::TaskId;

use super::*;
use crate::workspace::tests::{Bench, listing};
use crate::workspace::{Retention, Workspace};

const FILES: &[(&str, &str)] = &[("a", "1\n"), ("dir/b", "2\n"), ("dir/c", "3\n")];

impl Bench {
    /// An agent whose work trees lie over templates.
    async fn laid(retention: Retention) -> Self {
        let mut bench = Self::keeping(FILES, retention).await;
        bench.workspaces.is_layered = true;
        bench
    }

    async fn workspace(&self) -> Workspace {
        let checkout = self.checkout(TaskId::new(), 1);
        self.prepare(&checkout).await.unwrap()
    }

    fn templates(&self) -> PathBuf {
        self.root.path().join("backend-1/shared/templates")
    }

    async fn sweep(&self, now: Timestamp) -> usize {
        let live = BTreeSet::new();
        let swept = self.workspaces.sweep(now, &live, &|| false).await;
        swept.unwrap().templates
    }
}

/// The folder of what a workspace lies over.
fn place(workspace: &Workspace) -> PathBuf {
    workspace.layers()[0].parent().unwrap().to_owned()
}

#[tokio::test]
async fn tasks_at_one_commit_share_a_check_out_and_have_nothing_but_git_of_their_own() {
    let bench = Bench::laid(Retention::default()).await;
    let all: Vec<_> = (0..20).map(|_| bench.checkout(TaskId::new(), 1)).collect();
    let made = futures::future::join_all(all.iter().map(|it| bench.prepare(it))).await;
    let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
    let place = place(&made[0]);
    let name = format!("acme/orders.git/{}", made[0].base);
    assert_eq!(place, bench.templates().join(name));
    for workspace in &made {
        assert_eq!(listing(&workspace.layout.repo_clone()), [".git"]);
        assert_eq!(workspace.layers(), ["tree", "git"].map(|it| place.join(it)));
        let snapshot = workspace.repository.snapshot().await.unwrap();
        let base = format!("{}^{{tree}}", workspace.base);
        let base = workspace.repository.resolve(&base).await.unwrap();
        assert_eq!(Some(snapshot.tree), base);
    }
    assert_eq!(listing(&bench.templates()), [LOCKS, "acme"]);
    assert_eq!(listing(&place), ["git", NOTE, "tree"]);
    for (path, content) in FILES {
        let found = fs::read_to_string(place.join("tree").join(path)).unwrap();
        assert_eq!(found, *content);
    }
    let note = crate::workspace::Metadata::read(&made[0].layout.metadata()).await;
    assert_eq!(note.unwrap().template, Some(place.join("tree")));
}

/// Something that happens to a template.
type Damage = fn(&Path);

const DAMAGES: &[Damage] = &[
    |place| fs::remove_file(place.join("tree/dir/b")).unwrap(),
    |place| fs::remove_dir_all(place.join("tree/dir")).unwrap(),
    |place| fs::write(place.join("tree/a"), "changed\n").unwrap(),
    |place| fs::write(place.join("tree/dir/new"), "").unwrap(),
    |place| fs::create_dir(place.join("tree/empty")).unwrap(),
    |place| {
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.join("tree/a"), executable).unwrap();
    },
    |place| {
        fs::remove_file(place.join("tree/a")).unwrap();
        std::os::unix::fs::symlink("dir/b", place.join("tree/a")).unwrap();
    },
    |place| fs::write(place.join("git/.git/index"), "DIRC").unwrap(),
    |place| fs::remove_file(place.join("git/.git/index")).unwrap(),
    |place| fs::remove_file(place.join(NOTE)).unwrap(),
    // As after the host's next start, when what was written last may be missing.
    |place| {
        let note = fs::read_to_string(place.join(NOTE)).unwrap();
        fs::write(place.join(NOTE), note.replace(boot().trim(), "another")).unwrap();
    },
    |place| {
        let note = fs::read_to_string(place.join(NOTE)).unwrap();
        let other = note.replace("\"owner\":null", "\"owner\":[7,7]");
        assert_ne!(note, other);
        fs::write(place.join(NOTE), other).unwrap();
    },
];

#[tokio::test]
async fn a_template_that_is_not_as_it_was_made_is_made_anew() {
    let bench = Bench::laid(Retention::default()).await;
    let place = place(&bench.workspace().await);
    for (number, damage) in DAMAGES.iter().enumerate() {
        let before = fs::metadata(place.join("tree"))
            .unwrap()
            .modified()
            .unwrap();
        damage(&place);
        let again = bench.workspace().await;
        assert_eq!(again.layers()[0], place.join("tree"), "{number}");
        for (path, content) in FILES {
            let found = fs::read_to_string(place.join("tree").join(path)).unwrap();
            assert_eq!(found, *content, "{number}");
        }
        let after = fs::metadata(place.join("tree"))
            .unwrap()
            .modified()
            .unwrap();
        assert!(after > before, "{number} was not noticed");
        assert_eq!(listing(&place), ["git", NOTE, "tree"], "{number}");
    }
}

#[tokio::test]
async fn a_damaged_template_in_use_stays_and_others_get_a_check_out_of_their_own() {
    let bench = Bench::laid(Retention::default()).await;
    let user = bench.workspace().await;
    fs::remove_file(place(&user).join("tree/dir/b")).unwrap();
    let other = bench.workspace().await;
    assert!(other.layers().is_empty());
    let clone = other.layout.repo_clone();
    assert_eq!(listing(&clone), [".git", "a", "dir"]);
    assert!(place(&user).join("tree/a").exists());
    drop(user);
    assert!(!bench.workspace().await.layers().is_empty());
}

#[tokio::test]
async fn a_template_goes_when_it_was_not_used_for_long_and_never_under_a_user() {
    let bench = Bench::laid(Retention::default()).await;
    let now = chrono::Utc::now();
    let user = bench.workspace().await;
    let place = place(&user);
    assert_eq!(bench.sweep(now + TimeDelta::days(8)).await, 0);
    assert!(place.exists());
    drop(user);
    assert_eq!(bench.sweep(now + TimeDelta::days(6)).await, 0);
    assert_eq!(bench.sweep(now + TimeDelta::days(8)).await, 1);
    assert_eq!(listing(&bench.templates()), [LOCKS]);
}

#[tokio::test]
async fn the_disk_limit_takes_templates_that_nobody_uses_and_counts_all() {
    let limited = Retention {
        disk_limit: Some(1),
        ..Retention::default()
    };
    let bench = Bench::laid(limited).await;
    let now = chrono::Utc::now();
    drop(bench.workspace().await);
    bench.origin.advance(&[("a", "2\n")]).await;
    let user = bench.workspace().await;
    assert_eq!(bench.sweep(now).await, 1, "that of the older commit");
    assert!(place(&user).exists());
    drop(user);
    assert_eq!(bench.sweep(now).await, 1);
    let live = BTreeSet::new();
    let swept = bench.workspaces.sweep(now, &live, &|| false).await.unwrap();
    assert_eq!(swept.bytes, Some(0));
}

#[tokio::test]
async fn a_template_that_a_killed_agent_half_made_is_swept_and_never_used() {
    let bench = Bench::laid(Retention::default()).await;
    let half = bench.templates().join(".unfinished-x/tree");
    fs::create_dir_all(&half).unwrap();
    bench.workspace().await;
    assert_eq!(bench.sweep(chrono::Utc::now()).await, 0);
    assert_eq!(listing(&bench.templates()), [LOCKS, "acme"]);
}
