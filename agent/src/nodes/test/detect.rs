//! How a repository is tested, when nobody says: by what lies in its root.

use crate::git::{Entry, EntryKind, GitError};
use crate::workspace::Workspace;

/// A larger file is not read for hints.
const MAX_BYTES: u64 = 256 * 1024;
/// How many of the tests are read to see what they are written with. That there are some is known
/// by their names.
const MAX_TESTS: usize = 8;
/// Files in the root that may say how tests are run.
const CONFIGURATIONS: &[&str] = &[
    "package.json",
    "Makefile",
    "pyproject.toml",
    "setup.cfg",
    "tox.ini",
];

/// The command that the base's files tell; empty when they tell none.
pub(super) async fn command(
    workspace: &Workspace,
    entries: &[Entry],
) -> Result<Vec<String>, GitError> {
    let hints = hints(entries);
    let ids: Vec<_> = hints.iter().map(|entry| entry.id.clone()).collect();
    let texts = workspace.repository.blobs(&ids).await?;
    let texts: Vec<(&str, String)> = hints
        .iter()
        .zip(texts)
        .map(|(entry, text)| {
            (
                entry.path.as_str(),
                String::from_utf8_lossy(&text).into_owned(),
            )
        })
        .collect();
    let words = from_files(entries, &texts);
    Ok(words.iter().map(|&word| word.to_owned()).collect())
}

/// The files to be read: few, however many the repository has.
fn hints(entries: &[Entry]) -> Vec<&Entry> {
    let readable = |entry: &&Entry| is_plain(entry) && entry.size <= MAX_BYTES;
    let in_root = entries
        .iter()
        .filter(|entry| CONFIGURATIONS.contains(&entry.path.as_str()));
    let tests = entries.iter().filter(|entry| is_python_test(&entry.path));
    in_root
        .filter(readable)
        .chain(tests.filter(readable).take(MAX_TESTS))
        .collect()
}

const fn is_plain(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File | EntryKind::Executable)
}

fn is_python_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let python = name.strip_suffix(".py").is_some();
    python && (name.starts_with("test_") || name.ends_with("_test.py"))
}

fn from_files(entries: &[Entry], texts: &[(&str, String)]) -> &'static [&'static str] {
    let has = |path: &str| entries.iter().any(|entry| entry.path == path);
    let text = |path: &str| {
        let found = texts.iter().find(|(name, _)| *name == path);
        found.map_or("", |(_, text)| text.as_str())
    };
    if has("Cargo.toml") {
        return &["cargo", "test"];
    }
    if has("go.mod") {
        return &["go", "test", "./..."];
    }
    if has_npm_test(text("package.json")) {
        return &["npm", "test"];
    }
    let in_python: Vec<_> = texts
        .iter()
        .filter(|(path, _)| is_python_test(path))
        .collect();
    let configured = has("pytest.ini")
        || has("conftest.py")
        || text("pyproject.toml").contains("[tool.pytest")
        || text("setup.cfg").contains("[tool:pytest]")
        || text("tox.ini").contains("[pytest]");
    if configured || in_python.iter().any(|(_, text)| text.contains("pytest")) {
        return &["python3", "-m", "pytest", "-v"];
    }
    if in_python.iter().any(|(_, text)| text.contains("unittest")) {
        return &["python3", "-m", "unittest", "-v"];
    }
    if entries
        .iter()
        .any(|it| is_plain(it) && is_python_test(&it.path))
    {
        return &["python3", "-m", "pytest", "-v"];
    }
    if text("Makefile")
        .lines()
        .any(|line| line.starts_with("test:"))
    {
        return &["make", "test"];
    }
    &[]
}

/// A `test` script that is more than the one `npm init` writes.
fn has_npm_test(package: &str) -> bool {
    let package: serde_json::Value = serde_json::from_str(package).unwrap_or_default();
    let script = package
        .pointer("/scripts/test")
        .and_then(|script| script.as_str());
    script.is_some_and(|script| !script.contains("no test specified"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(files: &[(&str, &str)]) -> String {
        let entry = |(path, text): &(&str, &str)| Entry {
            path: (*path).to_owned(),
            kind: EntryKind::File,
            id: "1".repeat(40).parse().unwrap(),
            size: text.len() as u64,
        };
        let entries: Vec<_> = files.iter().map(entry).collect();
        let hints = hints(&entries);
        let read = files
            .iter()
            .filter(|(path, _)| hints.iter().any(|entry| entry.path == *path));
        let texts: Vec<_> = read
            .map(|(path, text)| (*path, (*text).to_owned()))
            .collect();
        from_files(&entries, &texts).join(" ")
    }

    #[test]
    fn of_many_tests_a_few_are_read() {
        let entry = |number: usize| Entry {
            path: format!("tests/test_{number:05}.py"),
            kind: EntryKind::File,
            id: "1".repeat(40).parse().unwrap(),
            size: 200 * 1024,
        };
        let mut entries: Vec<_> = (0..2000).map(entry).collect();
        let bytes: u64 = hints(&entries).iter().map(|entry| entry.size).sum();
        assert!(bytes < 4 << 20, "{bytes} bytes are read");
        // Too large to be read, and known by its name all the same.
        entries.truncate(1);
        entries[0].size = MAX_BYTES + 1;
        assert_eq!(from_files(&entries, &[]), ["python3", "-m", "pytest", "-v"]);
    }

    #[test]
    fn the_files_tell_the_command() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("Cargo.toml", "")], "cargo test"),
            (&[("go.mod", "module x")], "go test ./..."),
            (
                &[("package.json", r#"{"scripts":{"test":"jest"}}"#)],
                "npm test",
            ),
            (
                &[(
                    "package.json",
                    r#"{"scripts":{"test":"echo \"Error: no test specified\""}}"#,
                )],
                "",
            ),
            (
                &[("pyproject.toml", "[tool.pytest.ini_options]")],
                "python3 -m pytest -v",
            ),
            (
                &[("tests/test_a.py", "import pytest")],
                "python3 -m pytest -v",
            ),
            (
                &[("tests/test_a.py", "def test_a(): pass")],
                "python3 -m pytest -v",
            ),
            (
                &[("tests/test_a.py", "import unittest")],
                "python3 -m unittest -v",
            ),
            (&[("Makefile", "all:\n\ntest: all\n\ttrue\n")], "make test"),
            (&[("README.md", "test:")], ""),
        ];
        for (files, expected) in cases {
            assert_eq!(detected(files), *expected, "{files:?}");
        }
    }
}
