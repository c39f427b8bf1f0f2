use std::path::Path;

use patchfleet_domain::FailureKind;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::apply::apply;
use super::parse::parse;
use super::*;
use crate::nodes::tests::Rig;
use crate::process::Spawn;

mod binary;
mod round_trip;
mod size;

/// Texts that are apt to confuse: few different lines, so that hunks fit in many places, and
/// lines that look like parts of a diff.
fn text() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "",
        "a",
        "b",
        "c",
        "-- x",
        "++ y",
        "--- a/x",
        "+++ b/x",
        "@@ -1 +1 @@",
        " d",
        "\\ e",
        "ü",
        "f\r",
    ]);
    (prop::collection::vec(line, 0..40), any::<bool>()).prop_map(|(lines, ends)| {
        let mut text = lines.join("\n");
        if ends && !text.is_empty() {
            text.push('\n');
        }
        text
    })
}

proptest! {
    #[test]
    fn applying_a_difference_gives_the_other_side(a in text(), b in text()) {
        prop_assume!(a != b);
        let diff = diffy::create_patch(&a, &b).to_string();
        let files = parse(&diff.replacen("--- original\n+++ modified\n", "--- a/x\n+++ b/x\n", 1)).unwrap();
        prop_assert_eq!(files.len(), 1);
        prop_assert_eq!(apply(&a, &files[0].hunks).unwrap(), b);
    }

    #[test]
    fn a_difference_never_fits_where_a_removed_line_is_gone(a in text(), b in text()) {
        let diff = diffy::create_patch(&a, &b).to_string();
        prop_assume!(diff.lines().skip(2).any(|line| line.starts_with('-')));
        let files = parse(&diff.replacen("--- original\n+++ modified\n", "--- a/x\n+++ b/x\n", 1)).unwrap();
        prop_assert!(apply("something else\n", &files[0].hunks).is_err());
    }

    #[test]
    fn nothing_that_a_model_may_write_breaks_the_reader(text in ".{0,200}", lines in text()) {
        for noise in [text.clone(), format!("diff --git a/x b/x\n{text}"), format!("--- a/x\n+++ b/x\n@@ -1,3 +1,2 @@\n{lines}")] {
            if let Ok(files) = parse(&noise) {
                for file in files {
                    let _ = apply(&lines, &file.hunks);
                }
            }
        }
    }

    #[test]
    fn no_hostile_path_passes_in_any_disguise(
        before in "[a-z/.]{0,8}",
        hostile in prop::sample::select(vec!["../", "/../", ".git/", "/.GIT/", ".git./", "//", "\\"]),
        after in "[a-z]{1,8}",
    ) {
        let path = format!("{before}/{hostile}{after}");
        let diff = format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n");
        let limits = ChangeConfig::default();
        prop_assert!(read(&diff, (&RepositoryConfig::default(), limits)).is_err(), "{} passed", path);
    }
}

#[test]
fn hunks_that_have_moved_are_found() {
    let lines: Vec<_> = (1..=40).map(|n| format!("line {n}\n")).collect();
    let original = lines.concat();
    let diff = "--- a/x\n+++ b/x\n@@ -10,3 +10,3 @@\n line 30\n-line 31\n+line 31!\n line 32\n";
    let patched = apply(&original, &parse(diff).unwrap()[0].hunks).unwrap();
    assert_eq!(patched, original.replace("line 31\n", "line 31!\n"));
}

#[test]
fn what_a_hunk_says_of_its_length_has_to_hold() {
    let cases = [
        ("@@ -1,3 +1,3 @@\n a\n-b\n+c\n", "shorter than it says"),
        ("@@ -1,1 +1,1 @@\n a\n-b\n+c\n", "longer than it says"),
        ("@@ nonsense\n a\n", "is not a hunk's head"),
    ];
    for (hunk, said) in cases {
        let error = parse(&format!("--- a/x\n+++ b/x\n{hunk}")).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = parse("@@ -1 +1 @@\n-a\n+b\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 1 of the diff: a hunk before any file"
    );
}

#[test]
fn a_file_that_is_nowhere_before_and_after_is_refused() {
    for text in [
        "--- /dev/null\n+++ /dev/null\n@@ -0,0 +1 @@\n+x\n",
        "diff --git a/x b/x\n--- /dev/null\n+++ /dev/null\n@@ -0,0 +1 @@\n+x\n",
        "diff --git a/x b/x\nnew file mode 100644\ndeleted file mode 100644\n",
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("not named"), "{error}");
    }
}

#[test]
fn text_around_the_diff_is_skipped() {
    let diff = "Here is the change:\n```diff\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n```\nDone.\n";
    assert_eq!(parse(diff).unwrap()[0].hunks.len(), 1);
    let signed = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n-- \n2.47.3\n";
    assert_eq!(parse(signed).unwrap().len(), 1);
}

async fn git(folder: &Path, args: &[&str]) -> Vec<u8> {
    let finished = Spawn::new("git", folder).args(args.iter().copied());
    let finished = finished.run(&CancellationToken::new()).await.unwrap();
    assert!(
        finished.stderr.is_empty(),
        "{args:?}: {}",
        finished.stderr_text()
    );
    finished.stdout
}

const BEFORE: &[(&str, &str)] = &[
    ("changed.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n"),
    ("deleted.txt", "gone\n"),
    ("renamed.txt", "one\ntwo\nthree\nfour\nfive\n"),
    ("no-end.txt", "a\nb"),
    ("end-added.txt", "a\nb"),
    ("script.sh", "#!/bin/sh\n"),
    ("dir/ünï \"q\".txt", "x\n"),
    ("empty-deleted", ""),
    ("crlf.txt", "a\r\nb\r\n"),
];

/// A change of every sort, as git tells it.
async fn change_of_every_sort() -> (Vec<u8>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (path, text) in BEFORE {
        write(path, text);
    }
    git(root, &["init", "-q", "."]).await;
    git(root, &["add", "-A"]).await;
    let tree = git(root, &["write-tree"]).await;
    write("changed.txt", "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\nten\n11\n12\n");
    write("new/file.txt", "--- a/x\n+++ b/x\n");
    write("new/empty", "");
    write("no-end.txt", "a\nc");
    write("end-added.txt", "a\nb\n");
    write("dir/ünï \"q\".txt", "y\n");
    write("crlf.txt", "a\r\nc\r\n");
    for gone in ["deleted.txt", "empty-deleted", "renamed.txt"] {
        std::fs::remove_file(root.join(gone)).unwrap();
    }
    write("moved/renamed.txt", "one\ntwo\nthree\nfour\n5\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.join("script.sh"), mode).unwrap();
    git(root, &["add", "-A"]).await;
    let tree = String::from_utf8(tree).unwrap();
    let diff = git(root, &["diff", "--cached", "-M40%", tree.trim()]).await;
    (diff, folder)
}

#[tokio::test]
async fn what_git_tells_becomes_the_tree_that_git_has() {
    let (diff, folder) = change_of_every_sort().await;
    let diff = String::from_utf8(diff).unwrap();
    for part in [
        "rename from",
        "new mode 100755",
        "No newline",
        "deleted file",
        "\\303",
    ] {
        assert!(diff.contains(part), "{part} is not in\n{diff}");
    }
    let rig = Rig::with(BEFORE).await;
    let deps = rig.deps(rig.workspace(1).await).await.unwrap();
    let (repository, base) = (
        deps.workspace.repository.clone(),
        deps.workspace.base.clone(),
    );
    let (delta, changes) = patched_and_accepted(deps, &diff).await;
    delta.unwrap();
    let tree = repository.write_tree(&base, &changes).await.unwrap();
    let expected = git(folder.path(), &["write-tree"]).await;
    assert_eq!(tree.as_str(), String::from_utf8(expected).unwrap().trim());
}

async fn patched(deps: NodeDeps, diff: &str) -> Result<Value, NodeError> {
    let ctx = patchfleet_flow::Context::new(json!({ "diff": { "proposed": diff } }));
    let call = NodeCall {
        node: "patch",
        visit: 1,
        ctx: &ctx,
        with: Value::Null,
        cancel: CancellationToken::new(),
    };
    Patch(Arc::new(deps)).run(call).await
}

/// What the node gives, and the change that a later node makes of it.
async fn patched_and_accepted(
    deps: NodeDeps,
    diff: &str,
) -> (Result<Value, NodeError>, Vec<Change>) {
    let deps = Arc::new(deps);
    let mut ctx = Context::new(json!({ "diff": { "proposed": diff } }));
    let call = NodeCall {
        node: "patch",
        visit: 1,
        ctx: &ctx,
        with: Value::Null,
        cancel: CancellationToken::new(),
    };
    let delta = Patch(Arc::clone(&deps)).run(call).await;
    let Ok(output) = &delta else {
        return (delta, Vec::new());
    };
    ctx.merge(output);
    // A round later, and refused: what was accepted stays.
    ctx.merge(&json!({ "diff": { "proposed": "another" } }));
    let changes = accepted(&deps, &ctx).await.unwrap();
    (delta, changes)
}

fn adding(path: &str, text: &str) -> String {
    format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{text}\n")
}

#[tokio::test]
async fn refused_drafts_say_why() {
    let rig = Rig::with(&[("a", "1\n"), ("dir/b", "1\n"), ("latin", "x\n")]).await;
    rig.bench.origin.link("link", "/etc").await;
    let deps = async || rig.deps(rig.workspace(1).await).await.unwrap();
    let change = |path: &str| format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-1\n+2\n");
    let many: String = (0..101)
        .map(|n| adding(&format!("new/f{n}"), "x"))
        .collect();
    let cases = [
        (String::new(), "it changes nothing"),
        ("no diff at all".to_owned(), "it changes nothing"),
        (adding("../x", "y"), "leaves the repository"),
        (adding("/etc/x", "y"), "absolute"),
        (adding(".git/hooks/x", "y"), "git's own"),
        (adding("AGENTS.md", "y"), "protected"),
        (adding("link/x", "y"), "`link` is no folder"),
        (adding("a/x", "y"), "`a` is no folder"),
        (adding("dir", "y"), "there is a folder of that name"),
        (adding("a", "y"), "there already"),
        (change("link"), "symbolic link"),
        (change("absent"), "no such file"),
        (change("latin"), "at `@@ -1 +1 @@`"),
        (format!("{}{}", change("a"), change("a")), "twice"),
        (format!("{}{}", adding("new", "x"), adding("new/x", "y")), "as a file"),
        (adding("big", &"x".repeat(1 << 20)), "most of all in `big` 1025 KiB; at most 1024 KiB"),
        (many, "101 files, 101 of them in `new/`; at most 100"),
        (adding("s", "token = ghp_0123456789abcdefghijABCDEFGHIJ012345"), "a secret"),
        ("diff --git a/i b/i\nnew file mode 100644\nBinary files /dev/null and b/i differ\n".to_owned(), "does not have its content"),
        ("diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n\\ No newline at end of file\n".to_owned(), "symbolic links"),
        ("diff --git a/a b/AGENTS.md\nrename from a\nrename to AGENTS.md\n".to_owned(), "protected"),
        ("diff --git a/a b/a\ndeleted file mode 100644\n--- a/a\n+++ /dev/null\n".to_owned(), "not all of it"),
    ];
    for (diff, said) in cases {
        let error = patched(deps().await, &diff).await.unwrap_err();
        assert_eq!(error.code, FailureKind::DiffRejected.as_str());
        assert!(
            error.message.contains(said),
            "{said:?} is not in {:?}",
            error.message
        );
        let findings: Vec<Finding> =
            serde_json::from_value(error.delta["findings"].clone()).unwrap();
        assert!(
            findings
                .iter()
                .any(|finding| finding.message.contains(said))
        );
    }
}

/// Git itself makes the same of a diff, but of one that leaves out what a deleted file had.
async fn git_applies(root: &Path, (before, after): (&str, &str), diff: &[u8]) {
    if encoding::to_text(diff).contains("\nBinary files ") {
        return;
    }
    std::fs::write(root.join(".git/change"), diff).unwrap();
    let script = format!(
        "git read-tree {before}; git apply --cached .git/change; test $(git write-tree) = {after}"
    );
    let spawn = Spawn::new("sh", root).args(["-ec", &script]);
    let spawn = spawn.env("GIT_INDEX_FILE", root.join(".git/again"));
    let finished = spawn.run(&CancellationToken::new()).await.unwrap();
    assert!(finished.succeeded(), "{}", finished.stderr_text());
}

/// What becomes of a draft that git tells as a change of this repository.
async fn tree_after(script: &str, edit: &str) -> (Result<Value, NodeError>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let run = async |script: &str| {
        let spawn = crate::process::Spawn::new("sh", root).args(["-ec", script]);
        let finished = spawn.run(&CancellationToken::new()).await.unwrap();
        assert!(finished.succeeded(), "{}", finished.stderr_text());
    };
    run(&format!("git init -q .; {script}; git add -A")).await;
    let rig = Rig::with(&[]).await;
    let mut deps = rig.deps(rig.workspace(1).await).await.unwrap();
    let store = deps.workspace.repository.clone();
    let alternates = store.dir().join("objects/info/alternates");
    std::fs::write(alternates, format!("{}/.git/objects\n", root.display())).unwrap();
    let tree = async || String::from_utf8(git(root, &["write-tree"]).await).unwrap();
    let before = tree().await.trim().to_owned();
    run(&format!("{edit}; git add -A")).await;
    let after = tree().await.trim().to_owned();
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
    let args = [&identity[..], &["commit-tree", &before, "-m", "x"]].concat();
    let base = String::from_utf8(git(root, &args).await).unwrap();
    deps.workspace.base = base.trim().parse().unwrap();
    let (from, to) = (before.parse().unwrap(), after.parse().unwrap());
    let diff = store.change(&from, &to).await.unwrap().patch;
    git_applies(root, (&before, &after), &diff).await;
    let diff = encoding::to_text(&diff).into_owned();
    let (delta, changes) = patched_and_accepted(deps, &diff).await;
    let made = store.write_tree(&from, &changes).await.unwrap();
    (delta, made.to_string(), after)
}

#[tokio::test]
async fn files_folders_and_links_may_take_each_others_places() {
    for (script, edit) in [
        (
            "echo hi > tools",
            "rm tools; mkdir tools; echo hi > tools/run.sh",
        ),
        (
            "mkdir d; echo 1 > d/a; echo 2 > d/b",
            "rm -r d; echo new > d",
        ),
        ("ln -s x l; echo 1 > x", "rm l; mkdir l; echo 1 > l/file"),
        ("ln -s x l; echo 1 > x", "rm l; echo 1 > l"),
        ("ln -s x l; echo 1 > x", "rm l"),
        (
            "printf 'a\\0b' > picture; echo 1 > x",
            "rm picture; echo 2 > x",
        ),
        (
            "mkdir old; for n in $(seq 90); do echo $n > old/$n; done",
            "mv old new",
        ),
        (
            "printf 'package-lock.json -diff\n*.lock binary\n*.svg diff=none -text\n' > .gitattributes
             echo 1 > package-lock.json; echo 1 > a.lock; echo 1 > b.svg",
            "echo 2 > package-lock.json; echo 2 > a.lock; echo 2 > b.svg",
        ),
        (
            "seq 100000 > long; seq 200000 > longer",
            "echo 1 >> long; rm longer",
        ),
        (
            "mkdir -p 'a \"b\" ü'; seq 200000 > 'a \"b\" ü/long'",
            "rm 'a \"b\" ü/long'; echo 1 > x",
        ),
    ] {
        let (delta, made, expected) = tree_after(script, edit).await;
        delta.unwrap_or_else(|error| panic!("{edit}: {}", error.message));
        assert_eq!(made, expected, "{edit}");
    }
}

#[tokio::test]
async fn a_draft_applies_whole_or_not_at_all() {
    let rig = Rig::with(&[("a", "1\n"), ("b", "1\n")]).await;
    let deps = rig.deps(rig.workspace(1).await).await.unwrap();
    let diff = "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+2\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-0\n+2\n";
    let error = patched(deps, diff).await.unwrap_err();
    assert_eq!(error.delta["diff"]["applied"]["applied"], json!(["a"]));
    let rejected = &error.delta["diff"]["applied"]["rejected"][0];
    assert_eq!(rejected["path"], "b");
    assert_eq!(rejected["hunk"], "@@ -1 +1 @@");
    assert_eq!(error.delta.get("workspace"), None);
}

#[test]
fn hunks_that_lie_about_their_places_cost_no_more_than_the_text_is_long() {
    // Each hunk stands right after the one before, and says that it is at the other end.
    let lines = 150_000;
    let text: Vec<_> = (0..lines).map(|at| format!("{at}\n")).collect();
    let text = text.concat();
    let hunk = |at: usize| format!("@@ -{0},1 +{0},1 @@\n-{at}\n+x\n", (at + 1) * lines);
    let hunks: Vec<_> = (0..30_000).map(hunk).collect();
    let files = parse(&format!("--- a/x\n+++ b/x\n{}", hunks.concat())).unwrap();
    let misfit = apply(&text, &files[0].hunks).unwrap_err();
    assert!(misfit.reason.contains("too far"), "{misfit:?}");
    // Many hunks that fit, one after the other, in a text of one long run.
    let text = "a\n".repeat(200_000);
    let hunks: Vec<_> = (0..50_000)
        .map(|at| format!("@@ -{0},1 +{0},1 @@\n-a\n+b\n", at * 2 + 1))
        .collect();
    let files = parse(&format!("--- a/x\n+++ b/x\n{}", hunks.concat())).unwrap();
    let patched = apply(&text, &files[0].hunks).unwrap();
    assert!(patched.starts_with("b\na\nb\na\n"));
}
