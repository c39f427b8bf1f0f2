//! The files of a repository, and the texts of the few that say how it is tested.

use std::collections::{BTreeMap, BTreeSet};

use crate::git::{Entry, EntryKind};
use crate::sandbox::setup::own_folders;

/// A larger file is not read for hints.
pub(super) const MAX_BYTES: u64 = 256 * 1024;
/// How many of the tests are read to see what they are written with. That there are some is known
/// by their names.
const MAX_TESTS: usize = 8;
/// How many folders are looked at.
const MAX_FOLDERS: usize = 32;
/// A file counts as this much code at most: what is larger was generated.
const MOST_CODE: u64 = 64 * 1024;
/// Folders whose code is of others.
const OF_OTHERS: &[&str] = &["node_modules", "third_party", "vendor"];
/// Files that may say how tests are run.
const CONFIGURATIONS: &[&str] = &[
    ".justfile",
    "CMakeLists.txt",
    "Cargo.toml",
    "GNUmakefile",
    "Gemfile",
    "JUSTFILE",
    "Justfile",
    "Makefile",
    "composer.json",
    "justfile",
    "makefile",
    "manage.py",
    "package.json",
    "pyproject.toml",
    "setup.cfg",
    "tox.ini",
];

/// What is looked at.
pub(super) struct Files<'a> {
    pub(super) entries: &'a [Entry],
    texts: Vec<(&'a str, String)>,
    /// The names in the root, under the empty name, and in the folders there.
    folders: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

/// The files to be read: few, however many the repository has.
pub(super) fn hints(entries: &[Entry]) -> Vec<&Entry> {
    let readable = |entry: &&Entry| is_plain(entry) && entry.size <= MAX_BYTES;
    let configurations = entries.iter().filter(|entry| {
        let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        CONFIGURATIONS.contains(&name) && !folder.contains('/')
    });
    let tests = entries.iter().filter(|it| is_python_test(&it.path));
    configurations
        .filter(readable)
        .take(CONFIGURATIONS.len() + MAX_FOLDERS)
        .chain(tests.filter(readable).take(MAX_TESTS))
        .collect()
}

pub(super) const fn is_plain(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File | EntryKind::Executable)
}

pub(super) fn is_python_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let python = name.strip_suffix(".py").is_some();
    python && (name.starts_with("test_") || name.ends_with("_test.py") || name == "tests.py")
}

impl<'a> Files<'a> {
    pub(super) fn new(entries: &'a [Entry], texts: Vec<(&'a str, String)>) -> Self {
        Self {
            entries,
            texts,
            folders: own_folders(entries.iter().map(|entry| entry.path.as_str())),
        }
    }

    /// The root and the folders in it, each with the names of what is in it and below it.
    pub(super) fn folders(&self) -> impl Iterator<Item = &'a str> {
        self.folders.keys().copied().take(MAX_FOLDERS)
    }

    /// True when a folder has a file of that name.
    pub(super) fn has(&self, folder: &str, name: &str) -> bool {
        self.folders
            .get(folder)
            .is_some_and(|names| names.contains(name))
    }

    /// True when a folder has one of these files.
    pub(super) fn has_any(&self, folder: &str, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(folder, name))
    }

    /// True when a folder has a file with that ending, directly in it.
    pub(super) fn has_ending(&self, folder: &str, ending: &str) -> bool {
        let names = self.folders.get(folder);
        let mut names = names.into_iter().flatten();
        names.any(|name| name.ends_with(ending) && !name.contains('/'))
    }

    /// True for a program that a folder brings.
    pub(super) fn has_program(&self, folder: &str, name: &str) -> bool {
        let path = within(folder, name);
        let mut entries = self.entries.iter();
        entries.any(|it| it.path == path && it.kind == EntryKind::Executable)
    }

    /// What a file says, if it was read.
    pub(super) fn text(&self, folder: &str, name: &str) -> &str {
        let path = within(folder, name);
        let found = self.texts.iter().find(|(known, _)| *known == path);
        found.map_or("", |(_, text)| text.as_str())
    }

    /// What the tests say that were read.
    pub(super) fn python_tests(&self) -> impl Iterator<Item = &str> {
        let tests = self.texts.iter().filter(|(path, _)| is_python_test(path));
        tests.map(|(_, text)| text.as_str())
    }

    /// How much code with these endings is in a folder, roughly.
    pub(super) fn code(&self, folder: &str, endings: &[&str]) -> u64 {
        let is_code = |path: &str| {
            let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
            let is_own = !path.split('/').any(|part| OF_OTHERS.contains(&part));
            endings.contains(&ending) && is_own && !path.ends_with(".min.js")
        };
        let inside = |path: &str| {
            let rest = path.strip_prefix(folder);
            rest.is_some_and(|rest| folder.is_empty() || rest.starts_with('/'))
        };
        let code = self
            .entries
            .iter()
            .filter(|it| is_plain(it) && inside(&it.path));
        let code = code.filter(|it| is_code(&it.path));
        code.map(|it| it.size.min(MOST_CODE)).sum()
    }
}

/// The path of a file in a folder of the repository.
pub(super) fn within(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}
