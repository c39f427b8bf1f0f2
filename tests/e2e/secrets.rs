//! No key is found anywhere that is kept or shown.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

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

/// The agent's token goes to git; a key in the arguments is seen by everybody on the host, one in
/// the variables by every process of the same user, such as the tests of another task.
#[tokio::test]
async fn no_key_is_in_the_arguments_or_variables_of_a_process() {
    let world = World::new().await;
    for (method, path) in [
        ("POST", "git-upload-pack"),
        ("POST", "git-receive-pack"),
        ("GET", "service=git-upload-pack"),
    ] {
        // The first issue's clone and push, and the second one's fetch.
        let call = patchfleet_testkit::github::Matcher::containing(method, path);
        let gate = world.github.hold(call);
        if path != "git-receive-pack" {
            let issue = world.open();
            world.label(issue);
        }
        gate.reached().await;
        assert!(keyless_gits(&world) > 0, "{method} {path} is under way");
        gate.release();
        if path == "git-receive-pack" {
            world.pull_request().await;
        }
    }
}

/// Looks at every process but Patchfleet's own, which are given keys by whoever starts them;
/// gives how many were git's.
fn keyless_gits(world: &World) -> usize {
    let ours = Path::new(env!("CARGO_BIN_EXE_patchfleet"));
    let mut git = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let line = read("cmdline");
        git += usize::from(contains(&line, b"git\0"));
        let exe = std::fs::read_link(entry.path().join("exe"));
        let environment = match exe {
            Ok(exe) if exe == ours => Vec::new(),
            _ => read("environ"),
        };
        for key in [&world.keys.github, &world.keys.fleet] {
            let basic = BASE64_STANDARD.encode(format!("x-access-token:{key}"));
            for form in [key.as_bytes(), basic.as_bytes()] {
                assert!(
                    !contains(&line, form) && !contains(&environment, form),
                    "{}",
                    String::from_utf8_lossy(&line)
                );
            }
        }
    }
    git
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
