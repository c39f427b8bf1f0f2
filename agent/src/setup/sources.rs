//! Which files of a repository decide what its setup phase installs. Pure.
//!
//! Manifests and lock files alone do where a command is known to read nothing else and to run no
//! code of the repository. Whatever is not known to be so is decided by the whole commit: its
//! files, and its history, by which some tools find out a version.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::commands::Command;
use crate::git::{Entry, EntryKind};

/// Longest manifest or lock file that is looked into.
const LONGEST: u64 = 32 << 20;
/// Files by which node's package managers are configured, or run code of the repository.
const NODE_SETTINGS: &[&str] = &[
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pnpmfile.cjs",
    ".pnpmfile.mjs",
    "pnpm-workspace.yaml",
    "bunfig.toml",
    "binding.gyp",
];

/// Ends of names of packages that lie in a folder.
const ARCHIVES: &[&str] = &[
    ".whl", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".tlz", ".lz", ".lzma",
];

/// The texts of the files that were asked for by [`to_be_read`], by their paths.
pub(super) type Texts = BTreeMap<String, String>;

/// The files that have to be looked into before it is known what decides.
pub(super) fn to_be_read(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| {
        let name = name(&entry.path);
        let is_wanted = matches!(
            name,
            "package.json"
                | "package-lock.json"
                | "npm-shrinkwrap.json"
                | "requirements.txt"
                | "rust-toolchain"
                | "rust-toolchain.toml"
        );
        is_wanted && is_file(entry) && entry.size <= LONGEST
    })
}

/// The files that decide what all commands together install; nothing when it is the whole commit.
pub(super) fn deciding<'a>(
    commands: &[Command],
    entries: &'a [Entry],
    texts: &Texts,
) -> Option<Vec<&'a Entry>> {
    let repository = Files { entries, texts };
    let mut all = Vec::new();
    for command in commands {
        if !command.is_detected {
            return None;
        }
        let words: Vec<_> = command.words.iter().map(String::as_str).collect();
        let folder = command.folder.as_str();
        all.extend(match words[..] {
            ["cargo", "fetch", "--locked"] => repository.of_cargo()?,
            ["go", "mod", "download"] => repository.of_go(),
            ["npm", "ci"] => repository.of_npm(folder)?,
            ["python3", "-m", "pip", "install", "--requirement", file] => {
                repository.of_pip(folder, file)?
            }
            _ => return None,
        });
    }
    // A link leads to a file that nobody compares, and attributes may change what is checked out.
    let attributes = |entry: &&Entry| name(&entry.path) == ".gitattributes";
    all.extend(entries.iter().filter(attributes));
    all.sort_by(|one, other| one.path.cmp(&other.path));
    all.dedup_by(|one, other| one.path == other.path);
    all.iter().all(|entry| is_file(entry)).then_some(all)
}

struct Files<'a, 'b> {
    entries: &'a [Entry],
    texts: &'b Texts,
}

impl<'a> Files<'a, '_> {
    fn named(&self, names: &[&str]) -> Vec<&'a Entry> {
        let found = self.entries.iter();
        found.filter(|it| names.contains(&name(&it.path))).collect()
    }

    fn at(&self, path: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// Cargo resolves the whole workspace, and runs nothing of it while it fetches. Its own settings
    /// may name programs and other sources.
    fn of_cargo(&self) -> Option<Vec<&'a Entry>> {
        let is_setting = |path: &str| path.starts_with(".cargo/") || path.contains("/.cargo/");
        if self.entries.iter().any(|entry| is_setting(&entry.path)) {
            return None;
        }
        let toolchains = self.named(&["rust-toolchain", "rust-toolchain.toml"]);
        let is_of_rustup = |entry: &&Entry| {
            let text = self.texts.get(&entry.path);
            text.is_some_and(|text| !text.contains("path"))
        };
        if !toolchains.iter().all(is_of_rustup) {
            return None;
        }
        let mut files = self.named(&["Cargo.lock", "Cargo.toml"]);
        files.extend(toolchains);
        Some(files)
    }

    fn of_go(&self) -> Vec<&'a Entry> {
        self.named(&["go.mod", "go.sum", "go.work", "go.work.sum"])
    }

    /// Packages with scripts of their own are told by the lock file from its second version on; such
    /// a script may read the project that it is installed for.
    fn of_npm(&self, folder: &str) -> Option<Vec<&'a Entry>> {
        if !self.named(NODE_SETTINGS).is_empty() {
            return None;
        }
        let mut files = Vec::new();
        for around in std::iter::successors(Some(folder), |it| parent(it)) {
            let path = within(around, "package.json");
            if let Some(entry) = self.at(&path) {
                is_plain_package(self.texts.get(&path)?).then_some(())?;
                files.push(entry);
            }
        }
        // The first that is there is the one that is read.
        for lock in ["npm-shrinkwrap.json", "package-lock.json"] {
            let path = within(folder, lock);
            if let Some(entry) = self.at(&path) {
                is_plain_lock(self.texts.get(&path)?).then_some(())?;
                files.push(entry);
            }
        }
        Some(files)
    }

    /// Every line names a package of a registry; none another file, a folder or an option. What lies
    /// beside it can stand in for a module of Python's own while `pip` runs.
    fn of_pip(&self, folder: &str, file: &str) -> Option<Vec<&'a Entry>> {
        let path = within(folder, file);
        let text = self.texts.get(&path)?;
        let lines = text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let is_plain = lines.all(|line| {
            let words = line.trim_end_matches('\\').split_whitespace();
            let mut words = words.take_while(|word| !word.starts_with('#'));
            words.all(|word| match word.strip_prefix("--hash=") {
                Some(_) => true,
                None => {
                    let is_archive = ARCHIVES.iter().any(|end| word.ends_with(end));
                    let is_option = word.starts_with(['-', '.', '$']);
                    !is_archive && !is_option && !word.contains(['/', '\\', '@', ':'])
                }
            })
        });
        let is_module = |path: &str| match path.rsplit_once('/') {
            None => Path::new(path).extension().is_some_and(|it| it == "py"),
            Some((package, name)) => !package.contains('/') && name == "__init__.py",
        };
        let beside = self.entries.iter().filter(|entry| match folder {
            "" => is_module(&entry.path),
            folder => {
                let below = entry.path.strip_prefix(folder);
                below
                    .and_then(|it| it.strip_prefix('/'))
                    .is_some_and(is_module)
            }
        });
        is_plain.then(|| self.at(&path).into_iter().chain(beside).collect())
    }
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File | EntryKind::Executable)
}

/// No script that an installation runs, no workspaces, and nothing that lies in the repository.
fn is_plain_package(text: &str) -> bool {
    let Ok(Value::Object(package)) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    let runs = |script: &String| {
        let parts = ["install", "prepare", "publish", "dependencies"];
        parts.iter().any(|part| script.contains(part))
    };
    let empty = Map::new();
    let of = |field: &str| package.get(field).map_or(Some(&empty), Value::as_object);
    let fields = [
        "dependencies",
        "devDependencies",
        "optionalDependencies",
        "peerDependencies",
    ];
    let is_of_registry = |version: &Value| {
        version.as_str().is_some_and(|version| {
            version.starts_with("npm:") || !version.contains(['/', ':', '\\'])
        })
    };
    let are_plain = fields
        .iter()
        .all(|field| of(field).is_some_and(|it| it.values().all(is_of_registry)));
    let unknown = ["workspaces", "overrides", "pnpm", "resolutions", "gypfile"];
    are_plain
        && of("scripts").is_some_and(|scripts| !scripts.keys().any(runs))
        && !unknown.iter().any(|field| package.contains_key(*field))
}

/// A lock file that says which packages have scripts, of which there are none, nor any that lie in
/// the repository.
fn is_plain_lock(text: &str) -> bool {
    let Ok(Value::Object(lock)) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    let says_scripts = lock.get("lockfileVersion").and_then(Value::as_u64);
    let Some(Value::Object(packages)) = lock.get("packages") else {
        return false;
    };
    let is_plain = |(path, package): (&String, &Value)| {
        let resolved = package.get("resolved").and_then(Value::as_str);
        let is_true = |field: &str| package.get(field).is_some_and(|it| it != false);
        !is_true("hasInstallScript")
            && !is_true("link")
            && (path.is_empty()
                || is_true("inBundle")
                || resolved.is_some_and(|it| it.starts_with("https://")))
    };
    says_scripts.is_some_and(|version| version >= 2) && packages.iter().all(is_plain)
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn within(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// The folder around one; nothing around the root.
fn parent(folder: &str) -> Option<&str> {
    match folder.rsplit_once('/') {
        Some((parent, _)) => Some(parent),
        None => (!folder.is_empty()).then_some(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::egress::AllowList;
    use crate::setup::commands::choose;
    use patchfleet_repository::RepositoryConfig;

    const PACKAGE: &str =
        r#"{"dependencies": {"a": "^1.0.0", "b": "npm:@c/d@~2"}, "scripts": {"test": "x"}}"#;
    const LOCK: &str = r#"{"lockfileVersion": 3, "packages": {"": {"name": "x"},
        "node_modules/a": {"resolved": "https://registry.npmjs.org/a.tgz"}}}"#;

    /// What decides in a repository with these files; `None` for the whole commit.
    fn decided(config: &str, files: &[(&str, &str)]) -> Option<Vec<String>> {
        let entry = |(path, text): &(&str, &str)| Entry {
            path: (*path).to_owned(),
            kind: if *text == "link" {
                EntryKind::Symlink
            } else {
                EntryKind::File
            },
            id: "1".repeat(40).parse().unwrap(),
            size: text.len() as u64,
        };
        let entries: Vec<_> = files.iter().map(entry).collect();
        let texts = to_be_read(&entries).map(|entry| {
            let text = files.iter().find(|(path, _)| *path == entry.path);
            (entry.path.clone(), text.unwrap().1.to_owned())
        });
        let texts = texts.collect();
        let config = RepositoryConfig::parse(config).unwrap();
        let paths = files.iter().map(|(path, _)| *path);
        let commands = choose(&config, paths, &AllowList::default());
        assert!(!commands.is_empty(), "{files:?}");
        let found = deciding(&commands, &entries, &texts)?;
        Some(found.into_iter().map(|it| it.path.clone()).collect())
    }

    #[test]
    fn manifests_and_lock_files_decide_where_nothing_of_the_repository_runs() {
        for (files, expected) in [
            (
                &[
                    ("Cargo.lock", ""),
                    ("Cargo.toml", ""),
                    ("a/Cargo.toml", ""),
                    ("a/src/lib.rs", ""),
                    ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.90\"\n"),
                ][..],
                &[
                    "Cargo.lock",
                    "Cargo.toml",
                    "a/Cargo.toml",
                    "rust-toolchain.toml",
                ][..],
            ),
            (
                &[
                    ("go.mod", ""),
                    ("go.sum", ""),
                    ("a.go", ""),
                    (".gitattributes", ""),
                ],
                &[".gitattributes", "go.mod", "go.sum"],
            ),
            (
                &[
                    ("package.json", PACKAGE),
                    ("package-lock.json", LOCK),
                    ("a.js", ""),
                ],
                &["package-lock.json", "package.json"],
            ),
            (
                &[
                    ("package.json", PACKAGE),
                    ("web/package.json", "{}"),
                    ("web/package-lock.json", LOCK),
                ],
                &["package.json", "web/package-lock.json", "web/package.json"],
            ),
            (
                &[
                    (
                        "requirements.txt",
                        "# x\na==1.0 ; python_version < '3.9' \\\n  --hash=sha256:00\nb[c]>=2 # -e .\n",
                    ),
                    ("a.py", ""),
                    ("b/__init__.py", ""),
                    ("b/c.py", ""),
                ],
                &["a.py", "b/__init__.py", "requirements.txt"],
            ),
        ] {
            assert_eq!(decided("", files).unwrap(), expected, "{files:?}");
        }
    }

    #[test]
    fn the_whole_commit_decides_where_code_or_other_files_of_the_repository_may() {
        let npm = |package: &'static str, lock: &'static str| {
            vec![("package.json", package), ("package-lock.json", lock)]
        };
        let cargo =
            |more: (&'static str, &'static str)| vec![("Cargo.lock", ""), ("Cargo.toml", ""), more];
        let pip = |text: &'static str| vec![("requirements.txt", text)];
        for files in [
            cargo((".cargo/config.toml", "")),
            cargo(("a/.cargo/config", "")),
            cargo(("rust-toolchain.toml", "[toolchain]\npath = \"tools\"\n")),
            cargo(("a/Cargo.toml", "link")),
            npm(PACKAGE, r#"{"lockfileVersion": 1, "dependencies": {}}"#),
            npm(
                PACKAGE,
                r#"{"lockfileVersion": 3, "packages": {"node_modules/a": {"hasInstallScript": true, "resolved": "https://x"}}}"#,
            ),
            npm(
                PACKAGE,
                r#"{"lockfileVersion": 3, "packages": {"node_modules/a": {"resolved": "a", "link": true}}}"#,
            ),
            npm(
                PACKAGE,
                r#"{"lockfileVersion": 3, "packages": {"node_modules/a": {"resolved": "file:a.tgz"}}}"#,
            ),
            npm(r#"{"scripts": {"postinstall": "node x.js"}}"#, LOCK),
            npm(r#"{"scripts": {"prepare": "husky"}}"#, LOCK),
            npm(r#"{"workspaces": ["a"]}"#, LOCK),
            npm(r#"{"dependencies": {"a": "../a"}}"#, LOCK),
            npm(r#"{"dependencies": {"a": "~/a"}}"#, LOCK),
            npm("{", LOCK),
            [npm(PACKAGE, LOCK), vec![(".npmrc", "")]].concat(),
            [npm(PACKAGE, LOCK), vec![("requirements.txt", "-e .")]].concat(),
            vec![
                ("package.json", r#"{"workspaces": ["web"]}"#),
                ("web/package.json", "{}"),
                ("web/package-lock.json", LOCK),
            ],
            vec![("yarn.lock", ""), ("package.json", PACKAGE)],
            vec![("uv.lock", ""), ("pyproject.toml", "")],
            vec![("poetry.lock", ""), ("pyproject.toml", "")],
            vec![("Gemfile.lock", ""), ("Gemfile", "")],
            vec![("pom.xml", "")],
            vec![("build.gradle", "")],
            pip("-e .\n"),
            pip("a\n-r more.txt\n"),
            pip("./a.whl\n"),
            pip("a.whl\n"),
            pip("a @ file:///workspace/a\n"),
            pip("--find-links wheels\na\n"),
        ] {
            assert_eq!(decided("", &files), None, "{files:?}");
        }
        // Somebody wrote it, who knows what for.
        let files = [("Cargo.lock", ""), ("Cargo.toml", "")];
        assert_eq!(decided("setup: [cargo fetch --locked]\n", &files), None);
    }
}
