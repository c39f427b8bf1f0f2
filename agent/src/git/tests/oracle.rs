//! libgit2 beside the command line: the same trees, differences and merges.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::git::tree::EntryKind;

/// Runs a property on this many cases, or on as many as `PROPTEST_CASES` says.
pub(crate) fn check<S: Strategy>(
    cases: u32,
    strategy: &S,
    property: impl Fn(&tokio::runtime::Runtime, S::Value) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let checked = TestRunner::new(config).run(strategy, |value| property(&runtime, value));
    if let Err(error) = checked {
        panic!("{error}");
    }
}

fn path() -> impl Strategy<Value = String> {
    const NAMES: [&str; 7] = [
        "a",
        "b c",
        "dir",
        "ünï",
        "q\"uote",
        "tab\tbed",
        "back\\slash",
    ];
    let name = proptest::sample::select(&NAMES[..]);
    proptest::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"))
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "[a-c ]{0,3}\n",
        1 => Just("x\r\n".to_owned()),
        1 => Just("ünï\n".to_owned()),
        1 => Just("no end".to_owned()),
        1 => Just("nul\0\n".to_owned()),
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.concat().into_bytes())
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let kind = prop_oneof![
        4 => Just(EntryKind::File),
        1 => Just(EntryKind::Executable),
        1 => Just(EntryKind::Symlink),
    ];
    let change = (path(), proptest::option::weighted(0.7, content()), kind);
    let change = change.prop_map(|(path, content, kind)| Change {
        path,
        content,
        kind,
    });
    let all = proptest::collection::vec(change, 0..8);
    all.prop_map(|mut all| {
        // A file is not told twice, nor is one both file and folder.
        let mut seen: Vec<String> = Vec::new();
        all.retain(|change: &Change| {
            let below = |one: &str, other: &str| other.starts_with(&format!("{one}/"));
            let path = &change.path;
            let clash = |it: &String| it == path || below(it, path) || below(path, it);
            let fresh = !seen.iter().any(clash);
            seen.push(path.clone());
            fresh
        });
        all
    })
}

/// The tree that the command line makes of the same changes.
async fn by_command(store: &Repository, base: &str, changes: &[Change]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let index = scratch.path().join("index");
    let git = async |args: &[&str], input: &[u8]| {
        let finished = Spawn::new("git", store.dir())
            .args(args.iter().copied())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_INDEX_FILE", &index)
            .input(Input::Bytes(input.to_vec()))
            .run(&CancellationToken::new())
            .await
            .unwrap();
        assert!(finished.succeeded(), "{args:?}: {}", finished.stderr_text());
        finished.stdout_text().trim().to_owned()
    };
    git(&["read-tree", base], b"").await;
    let mut info = Vec::new();
    for change in changes.iter().filter(|change| change.content.is_none()) {
        info.extend(format!("0 {}\t{}\0", "0".repeat(40), change.path).bytes());
    }
    for change in changes {
        if let Some(content) = &change.content {
            let id = git(&["hash-object", "-w", "--stdin"], content).await;
            info.extend(format!("{} {id}\t{}\0", change.kind.mode(), change.path).bytes());
        }
    }
    git(&["update-index", "-z", "--index-info"], &info).await;
    git(&["write-tree"], b"").await
}

/// Without what stands behind a hunk's place.
fn plain(diff: &[u8]) -> String {
    let text = String::from_utf8_lossy(diff);
    let line = |line: &str| match line.strip_prefix("@@ ") {
        Some(rest) => format!("@@ {}@@", rest.split("@@").next().unwrap_or_default()),
        None => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// A repository without a commit, and its empty tree.
async fn empty_store() -> (TempDir, Repository, ObjectId) {
    let folder = tempfile::tempdir().unwrap();
    let store = Git::new().init_bare(folder.path()).await.unwrap();
    let args = ["hash-object", "-w", "-t", "tree", "/dev/null"];
    let empty = Origin::git_in(folder.path(), &args).await;
    (folder, store, empty.parse().unwrap())
}

#[test]
fn trees_and_differences_are_those_of_the_command_line() {
    check(24, &(changes(), changes()), |runtime, (first, second)| {
        runtime.block_on(async {
            let (folder, store, empty) = empty_store().await;
            let mut trees = vec![empty];
            for changes in [&first, &second] {
                let base = trees.last().unwrap().clone();
                let tree = store.write_tree(&base, changes).await.unwrap();
                prop_assert_eq!(
                    tree.as_str(),
                    by_command(&store, base.as_str(), changes).await
                );
                trees.push(tree);
            }
            let ours = store.diff(&trees[1], &trees[2]).await.unwrap();
            let args = [
                "-c",
                "core.quotePath=false",
                "diff-tree",
                "-r",
                "-p",
                "--no-renames",
            ];
            let args = [&args[..], &[trees[1].as_str(), trees[2].as_str()]].concat();
            let theirs = Origin::git_in(folder.path(), &args).await;
            let (ours, theirs) = (plain(&ours), plain(theirs.as_bytes()));
            prop_assert_eq!(ours.trim(), theirs.trim());
            Ok(())
        })
    });
}

#[test]
fn merges_are_those_of_the_command_line() {
    let sides = (content(), content(), content(), content());
    check(24, &sides, |runtime, (base, ours, theirs, other)| {
        runtime.block_on(async {
            let (folder, store, empty) = empty_store().await;
            let file = |path: &str, content: &[u8]| Change {
                path: path.to_owned(),
                content: Some(content.to_vec()),
                kind: EntryKind::File,
            };
            let first = [file("a", &base), file("b", &other)];
            let tree = store.write_tree(&empty, &first).await.unwrap();
            let args = ["commit-tree", tree.as_str(), "-m", "x"];
            let root = Origin::git_in(folder.path(), &args).await;
            let root: ObjectId = root.parse().unwrap();
            let mut sides = Vec::new();
            for content in [ours, theirs] {
                let tree = store
                    .write_tree(&root, &[file("a", &content)])
                    .await
                    .unwrap();
                let commit = store.commit_tree(&tree, &root, "y", &author()).await;
                sides.push(commit.unwrap());
            }
            let merged = store.merge(&sides[0], &sides[1]).await;
            let command = Spawn::new("git", folder.path())
                .args(["merge-tree", "--write-tree", "--name-only", "--no-messages"])
                .args([sides[0].as_str(), sides[1].as_str()])
                .run(&CancellationToken::new())
                .await
                .unwrap();
            let said = command.stdout_text();
            let mut lines = said.lines();
            let tree = lines.next().unwrap_or_default();
            match merged {
                Ok(merged) => {
                    prop_assert_eq!((merged.as_str(), command.returncode), (tree, Some(0)));
                }
                Err(GitError::Conflict { paths }) => {
                    prop_assert_eq!(command.returncode, Some(1));
                    prop_assert_eq!(paths, lines.collect::<Vec<_>>());
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
            Ok(())
        })
    });
}
