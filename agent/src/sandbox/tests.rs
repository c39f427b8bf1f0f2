//! Rules of isolation that need no table; the ways out are in `tests/escape`.

use std::os::unix::fs::symlink;

use super::*;
use crate::process::{SpawnError, find_program};

mod container;
mod engine;
mod limits;
pub(crate) mod overlay;
mod proxy;

#[test]
fn only_listed_programs_and_files_of_the_repository_are_allowed() {
    let sandbox = Sandbox::default().allow(["/opt/tool".to_owned()]);
    for program in ["python3", "./run-tests.sh", "scripts/test", "/opt/tool"] {
        assert!(sandbox.allows(program), "{program} is refused");
    }
    for program in [
        "",
        "sh",
        "bash",
        "curl",
        "/bin/sh",
        "../x",
        "./../x",
        "a/../../x",
        "x",
    ] {
        assert!(!sandbox.allows(program), "{program} is allowed");
    }
}

#[tokio::test]
async fn a_child_has_a_home_of_its_own_and_none_of_the_agents_variables() {
    let private = tempfile::tempdir().unwrap();
    let command = [
        "python3",
        "-c",
        "import os; print(sorted(os.environ), os.environ['HOME'])",
    ];
    let command = command.map(str::to_owned);
    let run = Run {
        env: vec![("EXTRA".to_owned(), "1".to_owned())],
        ..Run::new(&command, private.path(), private.path())
    };
    let sandbox = Sandbox::default();
    let ran = sandbox.run(run, &CancellationToken::new()).await.unwrap();
    let output = ran.finished.stdout_text();
    for name in ["EXTRA", "PATH", "LANG", "TMPDIR", "HOME"] {
        assert!(output.contains(name), "{output}");
    }
    for name in ["CARGO", "USER", "NEXTEST"] {
        assert!(!output.contains(&format!("'{name}'")), "{output}");
    }
    let home = private.path().join("home");
    assert!(output.contains(home.to_str().unwrap()), "{output}");
}

/// A work tree, and a place for the run's own folders.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.tree()).unwrap();
        place
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    fn private(&self) -> PathBuf {
        self.0.path().join("private")
    }

    async fn run(&self, sandbox: &Sandbox, command: &[&str]) -> Result<Ran, SandboxError> {
        let command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
        let (tree, private) = (self.tree(), self.private());
        let run = Run::new(&command, &tree, &private);
        sandbox.run_trusted(run, &CancellationToken::new()).await
    }
}

/// A sandbox that isolates; nothing, said aloud, on a host that can't.
pub(crate) async fn isolating(config: SandboxConfig) -> Option<Sandbox> {
    let sandbox = Sandbox::new(&config, []);
    let Err(why) = sandbox.check().await else {
        return Some(sandbox);
    };
    let lacks = matches!(
        why,
        CantIsolate::NoLandlock { .. } | CantIsolate::OldBubblewrap { .. }
    );
    assert!(lacks || !bubblewrap_works().await, "{why}");
    println!("can't run here: {why}");
    None
}

/// Whether the host lets a plain user have namespaces at all.
async fn bubblewrap_works() -> bool {
    let bubblewrap =
        "bwrap --unshare-user --unshare-all --ro-bind / / --proc /proc --dev /dev true";
    let drop = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let line = if nix::unistd::geteuid().is_root() {
        format!("{drop} {bubblewrap}")
    } else {
        bubblewrap.to_owned()
    };
    let (program, args) = line.split_once(' ').unwrap();
    let spawn = Spawn::new(program, "/").args(args.split(' '));
    let ran = spawn.run(&CancellationToken::new()).await;
    ran.is_ok_and(|finished| finished.succeeded())
}

#[tokio::test]
async fn the_end_of_a_command_is_told_as_it_was() {
    let Some(sandbox) = isolating(SandboxConfig::default()).await else {
        return;
    };
    let place = Place::new();
    for (script, returncode, signal) in [
        ("echo out; echo err >&2; exit 3", Some(3), None),
        ("exit 1", Some(1), None),
        ("kill -TERM $$", None, Some(15)),
    ] {
        let ran = place.run(&sandbox, &["sh", "-c", script]).await.unwrap();
        assert_eq!(ran.backend, Backend::Namespace);
        let finished = ran.finished;
        assert_eq!((finished.returncode, finished.signal), (returncode, signal));
    }
    let missing = place.run(&sandbox, &["no-such-program"]).await.unwrap_err();
    let found = matches!(&missing, SandboxError::NotRun(SpawnError::NotFound { .. }));
    assert!(found, "{missing}");
}

#[tokio::test]
async fn a_run_that_bubblewrap_says_nothing_of_has_no_verdict() {
    let Some(sandbox) = isolating(SandboxConfig::default()).await else {
        return;
    };
    // A program in the place of bubblewrap that ends well and reports nothing.
    let mut namespace = Namespace::new(&SandboxConfig::default(), &[]);
    namespace.replace_bubblewrap("/bin/true");
    let silent = Sandbox {
        backend: Isolating::Namespace(Arc::new(namespace)),
        ..sandbox
    };
    let error = Place::new().run(&silent, &["true"]).await.unwrap_err();
    assert!(matches!(error, SandboxError::Broken { .. }), "{error}");
    let cause = silent.check().await.unwrap_err();
    assert!(cause.to_string().contains("without a word"), "{cause}");
}

#[tokio::test]
async fn a_host_without_bubblewrap_and_a_root_that_stays_root_are_refused() {
    let mut namespace = Namespace::new(&SandboxConfig::default(), &[]);
    namespace.replace_bubblewrap("/nonexistent/bwrap");
    let cause = fitness::check(&namespace).await.unwrap_err();
    assert_eq!(cause, CantIsolate::NoBubblewrap);
    assert!(cause.mend().contains("apt-get install bubblewrap"));
    if nix::unistd::geteuid().is_root() {
        let config = SandboxConfig {
            uid: 0,
            ..SandboxConfig::default()
        };
        let error = Sandbox::new(&config, []).check().await.unwrap_err();
        assert!(error.to_string().contains("no other user"), "{error}");
    }
}

#[tokio::test]
async fn a_bubblewrap_that_is_setuid_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bubblewrap = folder.path().join("bwrap");
    std::fs::write(&bubblewrap, "#!/bin/sh\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(&bubblewrap, mode).unwrap();
    let mut namespace = Namespace::new(&SandboxConfig::default(), &[]);
    namespace.replace_bubblewrap(bubblewrap.to_str().unwrap());
    let cause = fitness::check(&namespace).await.unwrap_err();
    assert_eq!(
        cause,
        CantIsolate::SetuidBubblewrap { path: bubblewrap },
        "{}",
        cause.mend()
    );
}

#[tokio::test]
async fn whatever_left_the_group_and_the_parent_ends_with_the_command() {
    let Some(sandbox) = isolating(SandboxConfig::default()).await else {
        return;
    };
    let place = Place::new();
    // The second lives long enough to write if nothing ended it.
    let script = "(setsid sh -c 'sleep 1; touch late' >/dev/null 2>&1 &) ; exit 0";
    let ran = place.run(&sandbox, &["sh", "-c", script]).await.unwrap();
    assert!(ran.finished.succeeded() && ran.finished.duration < Duration::from_secs(1));
    let ran = place.run(&sandbox, &["sleep", "1.2"]).await.unwrap();
    assert!(ran.finished.succeeded());
    assert!(!place.tree().join("late").exists(), "it outlived the run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_outlives_the_thread_that_started_it() {
    let Some(sandbox) = isolating(SandboxConfig::default()).await else {
        return;
    };
    let place = Place::new();
    let command = ["sh", "-c", "sleep 0.5; exit 4"].map(str::to_owned);
    let (tree, private) = (place.tree(), place.private());
    let (cancel, handle) = (CancellationToken::new(), tokio::runtime::Handle::current());
    let run = Run::new(&command, &tree, &private);
    let mut running = Box::pin(sandbox.run_trusted(run, &cancel));
    let polled = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _entered = handle.enter();
            // Long enough to have begun; the thread ends before the command does.
            handle.block_on(tokio::time::timeout(
                Duration::from_millis(250),
                &mut running,
            ))
        });
        thread.join().unwrap()
    });
    assert!(polled.is_err(), "it ended before its thread did");
    let ran = running.await.unwrap();
    assert_eq!(ran.finished.returncode, Some(4));
}

#[tokio::test]
async fn folders_in_memory_have_a_size() {
    let config = SandboxConfig {
        memory_mib: 64,
        ..SandboxConfig::default()
    };
    let Some(sandbox) = isolating(config).await else {
        return;
    };
    for folder in ["/tmp", "/dev/shm"] {
        let script = format!("head -c 64M /dev/zero > {folder}/big");
        let ran = Place::new().run(&sandbox, &["sh", "-c", &script]).await;
        let said = ran.unwrap().finished.stderr_text();
        assert!(said.contains("No space left"), "{folder}: {said}");
    }
}

#[tokio::test]
async fn a_work_tree_that_is_a_link_is_not_followed() {
    let Some(sandbox) = isolating(SandboxConfig::default()).await else {
        return;
    };
    let place = Place::new();
    std::fs::remove_dir(place.tree()).unwrap();
    let secret = tempfile::tempdir().unwrap();
    symlink(secret.path(), place.tree()).unwrap();
    let error = place.run(&sandbox, &["true"]).await.unwrap_err();
    assert!(error.to_string().contains("can't be shown"), "{error}");
}

#[tokio::test]
async fn a_toolchain_in_a_home_works_without_the_home() {
    let Some(_) = isolating(SandboxConfig::default()).await else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let version = home.path().join(".nvm/versions/tool/v1");
    std::fs::create_dir_all(version.join("bin")).unwrap();
    std::fs::create_dir_all(version.join("lib")).unwrap();
    std::fs::write(home.path().join(".netrc"), "password").unwrap();
    std::fs::write(version.join("lib/part"), "all of it").unwrap();
    let script = "#!/bin/sh\ncat \"$(dirname \"$0\")/../lib/part\"\n";
    std::fs::write(version.join("bin/tool"), script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(version.join("bin/tool"), mode).unwrap();
    let tool = version.join("bin/tool").display().to_string();
    let sandbox = Sandbox::new(&SandboxConfig::default(), [tool.clone()]);
    let ran = Place::new().run(&sandbox, &[&tool]).await.unwrap();
    assert_eq!(ran.finished.stdout_text(), "all of it");
    let netrc = home.path().join(".netrc").display().to_string();
    let ran = Place::new().run(&sandbox, &["cat", &netrc]).await.unwrap();
    assert!(!ran.finished.succeeded(), "the home is seen");
    let (tree, private) = (PathBuf::from("/x/tree"), PathBuf::from("/x/private"));
    let explained = sandbox.explain(&Run::new(&[], &tree, &private)).unwrap();
    let nvm = home.path().join(".nvm").display().to_string();
    let fact = explained.facts.iter().find(|fact| fact.what == nvm);
    assert!(
        fact.is_some_and(|it| it.why.contains("tool")),
        "{explained:?}"
    );
}

#[tokio::test]
async fn many_runs_at_once_do_not_meet() {
    let Some(sandbox) = isolating(SandboxConfig::default()).await else {
        return;
    };
    let places: Vec<_> = (0..8).map(|_| Place::new()).collect();
    let runs = places.iter().enumerate().map(|(number, place)| {
        let script = format!("echo {number} > mine; cat mine; ls /proc | grep -c '^[0-9]'");
        let sandbox = sandbox.clone();
        async move {
            let ran = place.run(&sandbox, &["sh", "-c", &script]).await.unwrap();
            ran.finished.stdout_text()
        }
    });
    for (number, said) in futures::future::join_all(runs).await.iter().enumerate() {
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[0], number.to_string());
        assert!(lines[1].parse::<u32>().unwrap() < 10, "{said}");
    }
}
