//! Repositories and drafts with what nobody expects: a fault of theirs is typed, names the place and
//! is not tried again.

use super::*;

/// Puts an entry into the tree that no file system could hold as it is.
async fn add_entry(rig: &Rig, mode: &str, content: &str, path: &str) {
    let origin = &rig.bench.origin;
    let file = origin.dir().join("content");
    std::fs::write(&file, content).unwrap();
    let blob = origin
        .git(&["hash-object", "-w", file.to_str().unwrap()])
        .await;
    let info = format!("{mode},{blob},{path}");
    origin
        .git(&["update-index", "--add", "--cacheinfo", &info])
        .await;
    origin.git(&["commit", "-q", "-m", "odd"]).await;
    origin.git(&["push", "-q", "origin", "main"]).await;
}

/// How the work begins, up to the first draft.
async fn begins(rig: &Rig) -> Result<(), patchfleet_domain::outcome::Failure> {
    let workspace = rig.prepare(1).await?;
    let deps = rig.deps(workspace).await?;
    let run = rig.run_with(deps, Vec::new()).await;
    run.map(drop).map_err(|error| failure(&error).unwrap())
}

#[tokio::test]
async fn a_tree_that_no_work_tree_can_hold_is_a_fault_of_the_repository_that_names_the_place() {
    let deep = format!("{}file", "d/".repeat(250));
    let long_path = format!("{}/file", vec!["p".repeat(250); 20].join("/"));
    for (mode, content, path, said) in [
        ("100644", "x", deep, "lies too deep"),
        (
            "100644",
            "x",
            "n".repeat(300),
            "a name of more than 255 bytes",
        ),
        ("100644", "x", long_path, "a path of more than 4000 bytes"),
        (
            "120000",
            &"t".repeat(5000),
            "link".to_owned(),
            "`link` can't be written",
        ),
        (
            "120000",
            "",
            "empty-link".to_owned(),
            "`empty-link` is a symbolic link that",
        ),
    ] {
        let rig = Rig::answering(REPOSITORY, &[FIX]).await;
        add_entry(&rig, mode, content, &path).await;
        let failure = begins(&rig).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::RepositoryUnusable, "{failure:?}");
        assert!(failure.message.contains(said), "{failure:?}");
        assert!(
            !failure.retryable && failure.message.len() < 1000,
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn whatever_is_in_the_place_of_the_configuration_is_told() {
    type Case<'a> = (&'a dyn Fn(&Rig), &'a str);

    let bytes = |path: &'static str, content: &'static [u8]| {
        move |rig: &Rig| {
            std::fs::write(rig.bench.origin.work().join(path), content).unwrap();
        }
    };
    let long = [b"#".repeat(300 << 10), b"\n".to_vec()].concat();
    let long: &'static [u8] = Box::leak(long.into_boxed_slice());
    let link = |rig: &Rig| {
        let path = rig.bench.origin.work().join(".patchfleet.yml");
        std::os::unix::fs::symlink("settings.yml", path).unwrap();
    };
    let folder = |rig: &Rig| {
        let folder = rig.bench.origin.work().join(".patchfleet.yaml");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("x"), "").unwrap();
    };
    let cases: [Case<'_>; 5] = [
        (&folder, ".patchfleet.yaml: it is a folder"),
        (&link, ".patchfleet.yml: it is a symbolic link"),
        (
            &bytes(".patchfleet.yml", b"test: make\n# caf\xe9\n"),
            ".patchfleet.yml, line 2, column 6: it is not UTF-8",
        ),
        (&bytes(".patchfleet.yaml", long), "at most 262144 are read"),
        (&bytes(".patchfleet.yaml", b"\0\0"), ".patchfleet.yaml"),
    ];
    for (make, said) in cases {
        let rig = Rig::answering(REPOSITORY, &[FIX]).await;
        make(&rig);
        rig.bench.origin.advance(&[]).await;
        let failure = begins(&rig).await.unwrap_err();
        assert_eq!(
            failure.kind,
            FailureKind::BadRepositoryConfiguration,
            "{said}: {failure:?}"
        );
        assert!(failure.message.contains(said), "{failure:?}");
        assert!(!failure.retryable);
    }
    let rig = Rig::answering(REPOSITORY, &[FIX]).await;
    rig.bench.origin.submodule(".patchfleet.yml").await;
    let failure = begins(&rig).await.unwrap_err();
    assert!(failure.message.contains("it is a submodule"), "{failure:?}");
}

#[tokio::test]
async fn odd_things_that_are_in_nobodys_way_stop_nothing() {
    let rig = Rig::answering(REPOSITORY, &[FIX]).await;
    rig.bench.origin.link("AGENTS.md", "absent.md").await;
    rig.bench.origin.link("loop", "loop").await;
    rig.bench.origin.submodule("lib").await;
    for name in ["a\nb.py", "-rf", "ünï \"q\".txt", "test_$(x).md"] {
        add_entry(&rig, "100644", "x = 1\n", name).await;
    }
    add_entry(&rig, "100644", "\0\u{1}", "zero.py").await;
    begins(&rig).await.unwrap();

    let added = "--- /dev/null\n+++ b/first.txt\n@@ -0,0 +1 @@\n+x\n";
    let rig = Rig::answering(&[], &[added]).await;
    begins(&rig).await.unwrap();
    assert_eq!(rig.on_branch("first.txt").await, "x");
}

#[tokio::test]
async fn what_a_draft_leaves_that_no_commit_holds_is_named_and_not_paid_again() {
    for (script, said) in [
        (
            "mkfifo pipe",
            "`pipe` is neither a file nor a folder nor a link",
        ),
        (
            "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('s')\"",
            "`s` is neither",
        ),
        (
            "for n in $(seq 210); do mkdir d; cd d; done; echo x > f",
            "lies too deep",
        ),
        (
            "git init -q scratch && echo x > scratch/a",
            "`scratch/.git`",
        ),
    ] {
        let rig = Rig::commanding(REPOSITORY, script).await;
        let failure = rig.fails().await;
        assert_ne!(failure.kind, FailureKind::Internal, "{failure:?}");
        assert!(failure.message.contains(said), "{failure:?}");
        assert!(!failure.retryable, "{failure:?}");
    }
}
