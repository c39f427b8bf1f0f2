//! How much a draft may change, and what of it is kept.

use super::*;

/// What a reviewer does not have to read counts for nothing.
#[tokio::test]
async fn a_limit_counts_lines_that_come_and_go_and_files() {
    let line = format!("{}\n", "x".repeat(99));
    let long = line.repeat(20_000);
    let rig = Rig::with(&[("long", &long), ("other", "1\n")]).await;
    let limits = ChangeConfig {
        max_files: 1,
        max_kib: 1,
    };
    let marked = |mark: &str, text: &str| {
        let lines: Vec<_> = text.lines().map(|line| format!("{mark}{line}\n")).collect();
        lines.concat()
    };
    let some = line.repeat(20);
    let (deleted, removed) = (marked("-", &long), marked("-", &some));
    let one_line = format!("{}+2\n", marked(" ", &some));
    let hunk = |head: &str, lines: &str| format!("--- a/long\n+++ b/long\n{head}\n{lines}");
    for (diff, said) in [
        (
            format!("--- a/long\n+++ /dev/null\n@@ -1,20000 +0,0 @@\n{deleted}"),
            None,
        ),
        (hunk("@@ -1,20 +1,21 @@", &one_line), None),
        (
            "diff --git a/long b/moved\nrename from long\nrename to moved\n".to_owned(),
            None,
        ),
        (
            hunk("@@ -1,20 +0,0 @@", &removed),
            Some("`long` 2 KiB; at most 1 KiB"),
        ),
        (
            format!("{}{}", adding("a", "x"), adding("dir/b", "x")),
            Some("2 files, 1 of them"),
        ),
    ] {
        let mut deps = rig.deps(rig.workspace(1).await).await.unwrap();
        deps.change = limits;
        let error = patched(deps, &diff).await.err().map(|error| error.message);
        match said {
            None => assert_eq!(error, None),
            Some(said) => assert!(
                error.as_ref().is_some_and(|it| it.contains(said)),
                "{error:?}"
            ),
        }
    }
}

/// What is kept follows the change, however long its files are: catalogues of translations, files of
/// tens of languages, lock files, minified scripts, tables, and text in an old encoding.
#[tokio::test]
async fn a_small_change_of_large_files_is_a_small_checkpoint() {
    let long = "yes $(head -c 9000 /dev/zero | tr '\\0' x)";
    for (count, make, edit) in [
        (
            18,
            format!("{long} | head -c 900000 > f$n.json"),
            "echo >> f$n.json",
        ),
        (
            45,
            format!("{long} | head -c 300000 > f$n.js"),
            "sed -i 30d f$n.js",
        ),
        (
            5,
            format!("{long} | head -c 3000000 > f$n.csv"),
            "sed -i 1d f$n.csv",
        ),
        (
            9,
            format!("{long} | sed 's/^x/\\xfc/' | head -c 1500000 > f$n.txt"),
            "echo >> f$n.txt",
        ),
        (
            5,
            format!("{long} | head -c 6000000 > f$n.lock"),
            "rm f$n.lock; echo $n > x",
        ),
    ] {
        let files = format!("for n in $(seq {count}); do {make}; done");
        let edit = format!("for n in $(seq {count}); do {edit}; done");
        let (files, edit) = (files.as_str(), edit.as_str());
        let (delta, made, expected) = tree_after(files, edit).await;
        let delta = delta.unwrap_or_else(|error| panic!("{edit}: {}", error.message));
        assert_eq!(made, expected, "{edit}");
        let kept = bytes_in_message(&delta);
        assert!(kept < 6 << 20, "{edit}: {kept} bytes are kept");
    }
}

#[test]
fn a_diff_of_long_lines_is_measured_as_it_travels() {
    assert_eq!(too_long(&"x\n".repeat(1000), ChangeConfig::default()), None);
    let reason = too_long(&"\u{1}".repeat(3 << 20), ChangeConfig::default()).unwrap();
    assert!(reason.starts_with("its diff has 19 MiB"), "{reason}");
    let id = "1".repeat(40);
    let line = format!("z{}\n", "0".repeat(65));
    let picture = format!(
        "diff --git a/p.png b/p.png\nindex {id}..{id} 100644\nGIT binary patch\nliteral 9000000\n{}\n",
        line.repeat(200_000)
    );
    let reason = too_long(&picture, ChangeConfig::default()).unwrap();
    assert!(
        reason.contains("most of all in `p.png` 8790 KiB"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_refused_draft_of_thousands_of_files_names_some() {
    let rig = Rig::with(&[("a", "1\n")]).await;
    let mut deps = rig.deps(rig.workspace(1).await).await.unwrap();
    deps.change.max_files = 3000;
    let globs: Vec<_> = (0..500)
        .map(|n| format!("  - only/here/{n}/**\n"))
        .collect();
    let config = format!("allowed_paths:\n{}", globs.concat());
    deps.config = RepositoryConfig::parse(&config).unwrap();
    let diff: String = (0..2000).map(|n| adding(&format!("f{n}"), "x")).collect();
    let error = patched(deps, &diff).await.unwrap_err();
    assert!(error.message.contains("`f0` is refused") && error.message.contains("480 more"));
    assert!(
        error
            .message
            .ends_with("1980 more of its files are refused")
    );
    assert!(bytes_in_message(&error) < 256 * 1024);
}
