//! No key is found anywhere that is kept or shown.

use std::path::Path;

use crate::world::{REPOSITORY, World};

#[tokio::test]
async fn no_key_is_on_disk_in_a_log_or_on_github() {
    let world = World::new().await;
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;
    let keys = [
        &world.keys.github,
        &world.keys.webhook,
        &world.keys.api,
        &world.keys.fleet,
    ];
    let mut looked_at = 0;
    search(world.folder(), &mut |path, content| {
        looked_at += 1;
        for key in keys {
            assert!(
                !contains(content, key.as_bytes()),
                "{} has a key",
                path.display()
            );
        }
    });
    assert!(
        looked_at > 20,
        "logs, database, workspace: {looked_at} files"
    );
    for shown in world.github.issues(REPOSITORY).unwrap() {
        let text = format!("{shown:?}");
        assert!(
            keys.iter().all(|key| !text.contains(key.as_str())),
            "{text}"
        );
    }
}

/// The agent's token goes to git; a key in the arguments would be seen by everybody on the host.
#[tokio::test]
async fn no_key_is_in_the_arguments_of_a_process() {
    let world = World::new().await;
    let push = patchfleet_testkit::github::Matcher::containing("POST", "git-receive-pack");
    let gate = world.github.hold(push);
    let issue = world.open();
    world.label(issue);
    gate.reached().await;
    let mut git = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        git += usize::from(contains(&line, b"git\0"));
        for key in [&world.keys.github, &world.keys.fleet] {
            assert!(
                !contains(&line, key.as_bytes()),
                "{}",
                String::from_utf8_lossy(&line)
            );
        }
    }
    assert!(git > 0, "a push is under way");
    gate.release();
    world.pull_request().await;
}

fn search(folder: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            search(&path, look);
        } else if path.is_file() {
            look(&path, &std::fs::read(&path).unwrap());
        }
    }
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}
