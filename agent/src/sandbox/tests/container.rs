//! Runs in containers, where this host has Podman, with an image of the host's own files.

use std::os::unix::fs::PermissionsExt;

use patchfleet_testkit::container::{containers_of, image, podman};

use super::*;

pub(super) fn config(image: &str) -> SandboxConfig {
    SandboxConfig {
        backend: Backend::Container,
        container: ContainerConfig {
            image: image.to_owned(),
            memory_mib: 128,
            cpus: 1.0,
            ..ContainerConfig::default()
        },
        ..SandboxConfig::default()
    }
}

/// A sandbox of containers; says so where there can be none. With the host's programs, or with
/// those of the image alone.
async fn containers(has_host: bool) -> Option<Sandbox> {
    let image = match image() {
        Ok(image) => image,
        Err(why) => {
            let has_podman = crate::process::find_program("podman").is_some();
            assert!(!has_podman || !nix::unistd::geteuid().is_root(), "{why}");
            println!("can't run here: {why}");
            return None;
        }
    };
    let mut config = config(&image);
    if has_host {
        config.read_only.push("/usr".into());
    }
    let sandbox = Sandbox::new(&config, []);
    match sandbox.check().await {
        Ok(()) => Some(sandbox),
        // A plain user's Podman needs more than a package.
        Err(why) if !nix::unistd::geteuid().is_root() => {
            println!("can't run here: {why}");
            None
        }
        Err(why) => panic!("{why}"),
    }
}

/// What the kit's Podman still has of this process.
fn left() -> Vec<String> {
    containers_of(std::process::id()).unwrap()
}

/// Control groups of containers with these ids.
fn groups_of(ids: &[String]) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![PathBuf::from("/sys/fs/cgroup")], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if ids.iter().any(|id| name.contains(id)) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn a_container_has_the_images_programs_and_the_work_tree_and_nothing_else_of_the_host() {
    let Some(sandbox) = containers(false).await else {
        return;
    };
    let place = Place::new();
    std::fs::write(place.tree().join("given"), "x").unwrap();
    let script = "pwd; echo $HOME; ls; ls /usr/bin; touch written /tmp/x /dev/shm/x; touch /usr/x /etc/x /run/x; cat /etc/hosts";
    let ran = place.run(&sandbox, &["sh", "-c", script]).await.unwrap();
    let said = ran.finished.stdout_text();
    let programs = "cat\nenv\nid\nls\nmkdir\nsh\nsleep\ntouch\ntrue\n";
    let hosts = "127.0.0.1 localhost sandbox\n::1 localhost\n";
    let all = format!("/workspace\n/home/sandbox\ngiven\n{programs}{hosts}");
    assert_eq!(said, all, "{ran:?}");
    let refused = ran
        .finished
        .stderr_text()
        .matches("Read-only file system")
        .count();
    assert_eq!(refused, 3, "{ran:?}");
    assert_eq!(ran.backend, Backend::Container);
    assert!(place.tree().join("written").is_file());
    assert_eq!(left(), [""; 0]);
    let mut own = files(&place.private());
    own.sort_unstable();
    assert_eq!(own, ["home", "tmp"]);
}

#[tokio::test]
async fn the_end_of_a_command_in_a_container_is_told_as_it_was() {
    let Some(sandbox) = containers(false).await else {
        return;
    };
    let place = Place::new();
    for (script, returncode, signal) in [
        ("echo out; echo err >&2; exit 3", Some(3), None),
        // An engine means faults of its own by these.
        ("exit 125", Some(125), None),
        ("exit 127", Some(127), None),
        ("kill -TERM $$", None, Some(15)),
        // Whoever is left without a parent is no end of the command.
        ("(sh -c 'kill -9 $$' &); sleep 0.2; exit 4", Some(4), None),
    ] {
        let ran = place.run(&sandbox, &["sh", "-c", script]).await.unwrap();
        let finished = ran.finished;
        assert_eq!((finished.returncode, finished.signal), (returncode, signal));
    }
    let missing = place.run(&sandbox, &["no-such-program"]).await.unwrap_err();
    let found = matches!(&missing, SandboxError::NotRun(SpawnError::NotFound { .. }));
    assert!(found, "{missing}");
}

#[tokio::test]
async fn memory_that_a_container_used_up_is_told_though_the_command_ends_well() {
    let Some(sandbox) = containers(true).await else {
        return;
    };
    let place = Place::new();
    let eats = "import os\n\
        if os.fork() == 0:\n    all = []\n    while True: all.append(bytearray(b'x') * (1 << 20))\n\
        print(os.waitstatus_to_exitcode(os.wait()[1]))";
    let command = ["/usr/bin/python3", "-c", eats];
    let ran = place.run(&sandbox, &command).await.unwrap();
    if ran.limits_not_enforced.contains(&"memory") {
        println!("can't run here: the engine limits no memory");
        return;
    }
    assert_eq!(ran.finished.stdout_text(), "-9\n", "{ran:?}");
    assert_eq!(ran.finished.returncode, Some(0));
    assert_eq!(ran.usage.oom_kills, Some(1), "{ran:?}");
    assert!(ran.usage.peak_memory_bytes > Some(100 << 20), "{ran:?}");
    let exceeded = ran.exceeded.unwrap();
    assert!(exceeded.voids_result(), "{exceeded}");
}

#[tokio::test]
async fn a_container_whose_time_is_over_or_that_is_called_off_leaves_nothing() {
    let Some(sandbox) = containers(false).await else {
        return;
    };
    let place = Place::new();
    let (tree, private) = (place.tree(), place.private());
    let command = [
        "sh",
        "-c",
        "echo begun; trap '' TERM; sleep 600 & sleep 600",
    ];
    let command = command.map(str::to_owned);
    let ids = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&ids);
    let run = Run {
        timeout: Duration::from_secs(4),
        on_line: Some(Arc::new(move |_: &str| seen.lock().unwrap().extend(left()))),
        ..Run::new(&command, &tree, &private)
    };
    let never = CancellationToken::new();
    let ran = sandbox.run_trusted(run, &never).await.unwrap();
    assert!(ran.finished.timed_out, "{ran:?}");
    assert_eq!(ran.finished.stdout_text(), "begun\n", "{ran:?}");
    assert_eq!(left(), [""; 0]);

    let stop = CancellationToken::new();
    let (begun, seen) = (stop.clone(), Arc::clone(&ids));
    let run = Run {
        on_line: Some(Arc::new(move |_: &str| {
            seen.lock().unwrap().extend(left());
            begun.cancel();
        })),
        ..Run::new(&command, &tree, &private)
    };
    let error = sandbox.run_trusted(run, &stop).await.unwrap_err();
    let is_cancelled = matches!(error, SandboxError::NotRun(SpawnError::Cancelled));
    assert!(is_cancelled, "{error}");
    assert_eq!(left(), [""; 0]);
    assert_eq!(files(&private).len(), 2, "{:?}", files(&private));
    let ids = ids.lock().unwrap();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_eq!(groups_of(&ids), Vec::<PathBuf>::new(), "{ids:?}");
}

#[tokio::test]
async fn a_container_that_nobody_waits_for_any_more_is_removed() {
    let Some(sandbox) = containers(false).await else {
        return;
    };
    let place = Place::new();
    let (tree, private) = (place.tree(), place.private());
    let command = ["sh", "-c", "echo begun; sleep 600"].map(str::to_owned);
    let begun = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&begun);
    let run = Run {
        on_line: Some(Arc::new(move |_: &str| told.notify_one())),
        ..Run::new(&command, &tree, &private)
    };
    let never = CancellationToken::new();
    tokio::select! {
        ran = sandbox.run_trusted(run, &never) => panic!("{ran:?}"),
        () = begun.notified() => {}
    }
    for _ in 0..600 {
        if left().is_empty() && files(&private).len() == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?} {:?}", left(), files(&private));
}

/// What the container says to the model's socket, and what everybody may know of it meanwhile.
#[tokio::test]
async fn a_container_with_a_way_out_reaches_its_socket_and_its_variables_are_nobodys_to_read() {
    let Some(sandbox) = containers(true).await else {
        return;
    };
    let place = Place::new();
    let socket = place.0.path().join("model.sock");
    let listener = egress::listen(&socket).unwrap();
    let (tree, private) = (place.tree(), place.private());
    let asks = "import os, socket\n\
        port = socket.create_connection(('127.0.0.1', 3128))\n\
        port.sendall(b'hello')\nprint(port.recv(9), os.environ['KEPT'], input())";
    let command = ["/usr/bin/python3", "-c", asks, "an-argument-8412"].map(str::to_owned);
    let run = Run {
        reach: Reach::Model(&socket),
        env: vec![("KEPT".to_owned(), "a-secret-7133\nof two lines".to_owned())],
        input: b"a-token-2250".to_vec(),
        ..Run::new(&command, &tree, &private)
    };
    let answer = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        let known = podman(&["inspect", &left()[0]]).unwrap();
        for word in ["a-secret-7133", "an-argument-8412", "KEPT", "a-token-2250"] {
            assert!(!known.contains(word), "{word}");
        }
        stream.write_all(b"world").await.unwrap();
    };
    let never = CancellationToken::new();
    let (ran, ()) = tokio::join!(sandbox.run_trusted(run, &never), answer);
    let finished = ran.unwrap().finished;
    let expected = "b'world' a-secret-7133\nof two lines a-token-2250\n";
    assert_eq!(
        finished.stdout_text(),
        expected,
        "{}",
        finished.stderr_text()
    );
}

#[tokio::test]
async fn the_first_process_of_a_container_can_not_be_looked_into_or_ended() {
    let Some(sandbox) = containers(true).await else {
        return;
    };
    let place = Place::new();
    let tries = "import os, signal\n\
        def refused(what):\n    try:\n        what()\n    except OSError:\n        return True\n\
        print(open('/proc/1/cmdline').read().split('\\0')[-2], os.getuid() != 0, \
        refused(lambda: os.listdir('/proc/1/fd')), refused(lambda: open('/proc/1/mem')), \
        refused(lambda: open('/proc/1/environ').read()))\n\
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):\n    \
        refused(lambda: os.kill(1, number))\n\
        raise SystemExit(5)";
    let command = ["/usr/bin/python3", "-c", tries];
    let ran = place.run(&sandbox, &command).await.unwrap();
    let said = ran.finished.stdout_text();
    assert_eq!(said, "sandbox-contained True True True True\n", "{ran:?}");
    assert_eq!(ran.finished.returncode, Some(5));
}

#[tokio::test]
async fn containers_of_agents_that_are_dead_are_removed_at_the_next_start_and_others_are_not() {
    let Some(sandbox) = containers(false).await else {
        return;
    };
    let image = image().unwrap();
    let own = crate::process::new_mark().unwrap();
    let namespace = own.split(':').next().unwrap();
    // Process 1 started at another time than 1.
    let dead = format!("patchfleet.mark={namespace}:1:1:0");
    let alive = format!("patchfleet.mark={own}");
    let make = |label: &str| {
        podman(&[
            "create",
            "--label",
            label,
            "--network",
            "none",
            &image,
            "true",
        ])
        .unwrap()
    };
    let (dead, alive) = (make(&dead), make(&alive));
    // Another test may have swept it already.
    sandbox.remove_left_containers().await;
    assert!(podman(&["container", "exists", &dead]).is_err());
    podman(&["rm", &alive]).unwrap();
}

#[tokio::test]
async fn a_result_is_that_of_the_image_and_not_of_its_name() {
    if containers(false).await.is_none() {
        return;
    }
    let name = format!("localhost/patchfleet-moved:{}", std::process::id());
    let identity = async |image: &str| {
        podman(&["tag", image, &name]).unwrap();
        let sandbox = Sandbox::new(&config(&name), []);
        sandbox.check().await.unwrap();
        sandbox.identity(&[])
    };
    let first = image().unwrap();
    let place = Place::new();
    let made = place.0.path().join("Containerfile");
    std::fs::write(&made, format!("FROM {first}\nENV OTHER=1\n")).unwrap();
    let other = podman(&["build", "--quiet", "--file", made.to_str().unwrap()]);
    let other = other.unwrap();
    let (one, same, moved) = (
        identity(&first).await,
        identity(&first).await,
        identity(&other).await,
    );
    podman(&["rmi", &name, &other]).unwrap();
    assert_eq!(one, same);
    assert_ne!(one, moved);
    // One that nobody looked up is like no other.
    let unknown = Sandbox::new(&config(&name), []);
    assert_ne!(unknown.identity(&[]), unknown.identity(&[]));
}

#[tokio::test]
async fn an_engine_or_an_image_that_is_not_there_is_named_with_what_mends_it() {
    let refused = async |engine: &str| {
        let mut config = config("localhost/no-such-image:1");
        engine.clone_into(&mut config.container.engine);
        Sandbox::new(&config, []).check().await.unwrap_err()
    };
    let why = refused("no-such-engine").await;
    assert!(matches!(why, CantIsolate::NoEngine { .. }), "{why}");
    assert!(why.mend().contains("container.engine"), "{}", why.mend());
    if crate::process::find_program("podman").is_none() {
        println!("can't run here: there is no podman");
        return;
    }
    let why = refused("podman").await;
    assert!(matches!(why, CantIsolate::NoImage { .. }), "{why}");
    assert!(why.mend().contains("podman pull"), "{}", why.mend());
}

/// Docker's command line, with Podman's service as the daemon: its containers are none of the
/// processes below the agent.
#[tokio::test]
async fn a_daemons_container_is_directed_counted_and_ended_as_well() {
    let docker = crate::process::find_program("docker");
    let (Some(docker), Some(_)) = (docker, containers(false).await) else {
        println!("can't run here: there is no docker, or no podman");
        return;
    };
    let place = Place::new();
    let socket = place.0.path().join("daemon.sock");
    let address = format!("unix://{}", socket.display());
    let stop = CancellationToken::new();
    let service = Spawn::new("podman", "/")
        .args(["system", "service", "--time", "0", &address])
        .timeout(Duration::from_mins(5));
    let mut daemon = tokio::task::JoinSet::new();
    let until = stop.clone();
    daemon.spawn(async move { service.run(&until).await });
    let path = place.0.path().join("docker");
    let script = format!(
        "#!/bin/sh\nDOCKER_HOST={address} exec {} \"$@\"\n",
        docker.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let mut config = config(&image().unwrap());
    config.container.engine = path.display().to_string();
    let sandbox = Sandbox::new(&config, []);
    while !socket.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sandbox.check().await.unwrap();

    let meter = Meter::default();
    let (tree, private) = (place.tree(), place.private());
    let works = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; echo $i; sleep 600";
    let command = ["sh", "-c", works].map(str::to_owned);
    let counted = meter.clone();
    let used = Arc::new(std::sync::Mutex::new(Duration::ZERO));
    let seen = Arc::clone(&used);
    let run = Run {
        meter: Some(meter),
        timeout: Duration::from_secs(6),
        on_line: Some(Arc::new(move |_: &str| {
            *seen.lock().unwrap() = counted.processor_time();
        })),
        ..Run::new(&command, &tree, &private)
    };
    let ran = sandbox.run_trusted(run, &CancellationToken::new()).await;
    let ran = ran.unwrap();
    assert!(ran.finished.timed_out, "{ran:?}");
    assert_eq!(ran.finished.stdout_text(), "200000\n", "{ran:?}");
    assert!(
        *used.lock().unwrap() > Duration::from_millis(50),
        "{used:?}"
    );
    assert_eq!(left(), [""; 0]);
    let ran = place.run(&sandbox, &["sh", "-c", "exit 3"]).await.unwrap();
    assert_eq!(ran.finished.returncode, Some(3));
    assert!(ran.usage.peak_memory_bytes > Some(0), "{ran:?}");
    stop.cancel();
    daemon.join_next().await;
}
