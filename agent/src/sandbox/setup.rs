//! The setup phase of a repository: which commands install its dependencies, by its lock files.
//!
//! Pure: a listing of files in, steps out. A step names the registries that it needs, so that no
//! other host is open while it runs. Absent: manifests without a lock file, but for Maven and
//! Gradle, which have none; what they would install differs from day to day.

use std::collections::{BTreeMap, BTreeSet};

use super::egress::Ecosystem;

/// Most steps of a repository; more folders than that are no project but examples.
const MAX_STEPS: usize = 8;
/// Folders whose lock files belong to others.
const NOT_OWN: &[&str] = &[
    "examples",
    "fixtures",
    "node_modules",
    "test",
    "testdata",
    "tests",
    "third_party",
    "vendor",
];

/// A command that installs dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupStep {
    /// The folder of the repository that it runs in; empty for its root.
    pub folder: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables that it needs.
    pub env: Vec<(String, String)>,
    /// Whose registries it may reach.
    pub ecosystem: Ecosystem,
}

/// A way to install, by the files of one folder.
struct Tool {
    ecosystem: &'static str,
    /// One of these has to be there.
    locks: &'static [&'static str],
    command: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
}

/// The first that fits is taken for each ecosystem of a folder.
const TOOLS: &[Tool] = &[
    Tool {
        ecosystem: "rust",
        locks: &["Cargo.lock"],
        command: &["cargo", "fetch", "--locked"],
        env: &[],
    },
    Tool {
        ecosystem: "go",
        locks: &["go.sum"],
        command: &["go", "mod", "download"],
        env: &[],
    },
    Tool {
        ecosystem: "node",
        locks: &["pnpm-lock.yaml"],
        command: &["pnpm", "install", "--frozen-lockfile"],
        env: &[],
    },
    Tool {
        ecosystem: "node",
        locks: &["yarn.lock"],
        command: &["yarn", "install", "--frozen-lockfile"],
        env: &[],
    },
    Tool {
        ecosystem: "node",
        locks: &["package-lock.json", "npm-shrinkwrap.json"],
        command: &["npm", "ci"],
        env: &[],
    },
    Tool {
        ecosystem: "node",
        locks: &["bun.lock", "bun.lockb"],
        command: &["bun", "install", "--frozen-lockfile"],
        env: &[],
    },
    Tool {
        ecosystem: "python",
        locks: &["uv.lock"],
        command: &["uv", "sync", "--frozen"],
        env: &[],
    },
    Tool {
        ecosystem: "python",
        locks: &["poetry.lock"],
        command: &["poetry", "install", "--no-interaction"],
        env: &[],
    },
    // Into the home, also where the system's Python belongs to the distribution (PEP 668).
    Tool {
        ecosystem: "python",
        locks: &["requirements.txt"],
        command: &[
            "python3",
            "-m",
            "pip",
            "install",
            "--requirement",
            "requirements.txt",
        ],
        env: &[
            ("PIP_BREAK_SYSTEM_PACKAGES", "1"),
            ("PIP_NO_INPUT", "1"),
            ("PIP_USER", "1"),
        ],
    },
    Tool {
        ecosystem: "gradle",
        locks: &["gradle.lockfile", "build.gradle", "build.gradle.kts"],
        command: &["gradle", "--no-daemon", "dependencies"],
        env: &[],
    },
    Tool {
        ecosystem: "maven",
        locks: &["pom.xml"],
        command: &["mvn", "--batch-mode", "dependency:go-offline"],
        env: &[],
    },
    Tool {
        ecosystem: "ruby",
        locks: &["Gemfile.lock"],
        command: &["bundle", "install"],
        env: &[("BUNDLE_FROZEN", "true")],
    },
];

/// Wrappers that a repository brings stand in for the program of their name.
const WRAPPERS: &[(&str, &str)] = &[("gradle", "gradlew"), ("mvn", "mvnw")];

/// The files of a repository by the folders that a project of its own may be in: the root, under the
/// empty name, and the folders there, each with the paths of all that is below it.
pub(crate) fn own_folders<'a>(
    files: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut folders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::from([("", BTreeSet::new())]);
    for path in files {
        folders.entry("").or_default().insert(path);
        if let Some((folder, name)) = path.split_once('/')
            && !folder.starts_with('.')
            && !NOT_OWN.contains(&folder)
        {
            folders.entry(folder).or_default().insert(name);
        }
    }
    folders
}

/// The steps for a repository with these files, its root first: for the root and the folders in
/// it, as in a repository with a service and its web interface.
pub fn detect<'a>(files: impl IntoIterator<Item = &'a str>) -> Vec<SetupStep> {
    let folders = own_folders(files);
    let steps = folders
        .iter()
        .flat_map(|(folder, names)| of_folder(folder, names));
    let mut seen_in_root = BTreeSet::new();
    let mut kept = Vec::new();
    for step in steps {
        // A workspace's members are installed with its root.
        if step.folder.is_empty() {
            seen_in_root.insert(step.ecosystem.name);
        } else if seen_in_root.contains(step.ecosystem.name) {
            continue;
        }
        kept.push(step);
    }
    kept.truncate(MAX_STEPS);
    kept
}

fn of_folder(folder: &str, names: &BTreeSet<&str>) -> Vec<SetupStep> {
    let mut steps: Vec<SetupStep> = Vec::new();
    for tool in TOOLS {
        let has_step = steps
            .iter()
            .any(|step| step.ecosystem.name == tool.ecosystem);
        let is_locked = tool.locks.iter().any(|name| names.contains(name));
        if is_locked && !has_step {
            steps.extend(tool.step(folder, names));
        }
    }
    steps
}

impl Tool {
    fn step(&self, folder: &str, names: &BTreeSet<&str>) -> Option<SetupStep> {
        let mut command: Vec<String> = self.command.iter().map(|&word| word.to_owned()).collect();
        let wrapper = WRAPPERS
            .iter()
            .find(|(program, file)| command[0] == *program && names.contains(file));
        if let Some((_, file)) = wrapper {
            command[0] = format!("./{file}");
        }
        // Yarn's second generation has another word for it, and a file that the first does not.
        if command[0] == "yarn" && names.contains(".yarnrc.yml") {
            "--immutable".clone_into(&mut command[2]);
        }
        Some(SetupStep {
            folder: folder.to_owned(),
            command,
            env: self
                .env
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            ecosystem: Ecosystem::named(self.ecosystem)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(files: &[&str]) -> Vec<(String, String, &'static str)> {
        let steps = detect(files.iter().copied());
        let step = |it: SetupStep| (it.folder, it.command.join(" "), it.ecosystem.name);
        steps.into_iter().map(step).collect()
    }

    #[test]
    fn each_lock_file_has_its_command_and_registries() {
        for (files, command, ecosystem) in [
            (
                &["Cargo.lock", "Cargo.toml"][..],
                "cargo fetch --locked",
                "rust",
            ),
            (&["go.mod", "go.sum"], "go mod download", "go"),
            (&["package-lock.json"], "npm ci", "node"),
            (&["npm-shrinkwrap.json"], "npm ci", "node"),
            (
                &["pnpm-lock.yaml", "package.json"],
                "pnpm install --frozen-lockfile",
                "node",
            ),
            (&["yarn.lock"], "yarn install --frozen-lockfile", "node"),
            (
                &["yarn.lock", ".yarnrc.yml"],
                "yarn install --immutable",
                "node",
            ),
            (&["bun.lock"], "bun install --frozen-lockfile", "node"),
            (&["uv.lock", "pyproject.toml"], "uv sync --frozen", "python"),
            (
                &["poetry.lock"],
                "poetry install --no-interaction",
                "python",
            ),
            (
                &["requirements.txt"],
                "python3 -m pip install --requirement requirements.txt",
                "python",
            ),
            (
                &["build.gradle.kts"],
                "gradle --no-daemon dependencies",
                "gradle",
            ),
            (
                &["build.gradle", "gradlew"],
                "./gradlew --no-daemon dependencies",
                "gradle",
            ),
            (
                &["pom.xml"],
                "mvn --batch-mode dependency:go-offline",
                "maven",
            ),
            (
                &["pom.xml", "mvnw"],
                "./mvnw --batch-mode dependency:go-offline",
                "maven",
            ),
            (&["Gemfile.lock", "Gemfile"], "bundle install", "ruby"),
        ] {
            let expected = [(String::new(), command.to_owned(), ecosystem)];
            assert_eq!(commands(files), expected, "{files:?}");
        }
        assert_eq!(
            commands(&["Cargo.toml", "package.json", "pyproject.toml", "src/a.rs"]),
            []
        );
    }

    #[test]
    fn of_two_tools_for_one_ecosystem_the_stricter_one_installs() {
        let of = |files: &[&str]| {
            commands(files)
                .into_iter()
                .map(|it| it.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(&["requirements.txt", "uv.lock", "poetry.lock"]),
            ["uv sync --frozen"]
        );
        assert_eq!(
            of(&["package-lock.json", "pnpm-lock.yaml"]),
            ["pnpm install --frozen-lockfile"]
        );
        assert_eq!(
            of(&["Cargo.lock", "package-lock.json"]),
            ["cargo fetch --locked", "npm ci"]
        );
    }

    #[test]
    fn parts_of_a_repository_install_for_themselves_and_members_of_a_workspace_do_not() {
        let files = [
            "Cargo.lock",
            "tools/Cargo.lock",
            "web/package-lock.json",
            "web/deep/package-lock.json",
            "tests/package-lock.json",
            "node_modules/package-lock.json",
            ".hidden/package-lock.json",
        ];
        let expected = [
            (String::new(), "cargo fetch --locked".to_owned(), "rust"),
            ("web".to_owned(), "npm ci".to_owned(), "node"),
        ];
        assert_eq!(commands(&files), expected);
        let many: Vec<_> = (0..30)
            .map(|number| format!("part{number}/go.sum"))
            .collect();
        assert_eq!(detect(many.iter().map(String::as_str)).len(), MAX_STEPS);
    }
}
