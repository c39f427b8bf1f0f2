//! The ways of testing, by language and by the tools that run tasks.

use std::sync::LazyLock;

use regex::Regex;

use super::Way;
use super::files::{Files, within};
use super::python;

/// Finds the command of one language in a folder.
type Find = fn(&Files<'_>, &str) -> Option<Vec<String>>;

/// Languages whose tests can be run from the root also where they lie in a folder of it.
const ANYWHERE: &[(Find, &[&str])] = &[
    (rust, &["rs"]),
    (go, &["go"]),
    (
        node,
        &[
            "cjs", "cts", "js", "jsx", "mjs", "mts", "svelte", "ts", "tsx", "vue",
        ],
    ),
    (gradle, &["groovy", "java", "kt", "kts", "scala"]),
    (maven, &["groovy", "java", "kt", "scala"]),
];
/// Languages whose tests are looked for in the root alone.
const IN_ROOT: &[(Find, &[&str])] = &[
    (|files, _| python::command(files), &["py", "pyi", "pyx"]),
    (ruby, &["rb"]),
    (dotnet, &["cs", "fs", "vb"]),
    (php, &["php"]),
    (cmake, &["c", "cc", "cpp", "cxx", "h", "hpp"]),
    (elixir, &["ex", "exs"]),
    (swift, &["swift"]),
];

/// All that the files tell of languages.
pub(super) fn of_languages(files: &Files<'_>) -> Vec<Way> {
    let mut ways = Vec::new();
    for (find, endings) in ANYWHERE {
        let way = |folder: &str| {
            let command = find(files, folder)?;
            let folder = folder.to_owned();
            Some(Way {
                command,
                endings,
                folder,
            })
        };
        match way("") {
            // A workspace's members are tested with its root.
            Some(in_root) => ways.push(in_root),
            None => ways.extend(files.folders().skip(1).filter_map(way)),
        }
    }
    for (find, endings) in IN_ROOT {
        let command = find(files, "").into_iter();
        ways.extend(command.map(|command| Way {
            command,
            endings,
            folder: String::new(),
        }));
    }
    // One project may be built by two tools: the first is as good.
    let is_java = |way: &Way| way.endings.contains(&"java");
    if let Some(first) = ways.iter().position(is_java) {
        let folder = ways[first].folder.clone();
        let mut at = 0;
        ways.retain(|way| {
            at += 1;
            at <= first + 1 || !is_java(way) || way.folder != folder
        });
    }
    ways
}

/// Projects in folders that the one in the root does not take in: of a language that it has, too, and
/// without words in its manifest that make it a workspace.
pub(super) fn apart_from_root(files: &Files<'_>) -> Vec<Way> {
    let package: serde_json::Value =
        serde_json::from_str(files.text("", "package.json")).unwrap_or_default();
    let has_members = package.get("workspaces").is_some()
        || files.has_any(
            "",
            &["pnpm-workspace.yaml", "lerna.json", "nx.json", "turbo.json"],
        );
    let is_workspace = files.text("", "Cargo.toml").contains("[workspace");
    let mut ways = Vec::new();
    for (find, endings, takes_all) in [
        (rust as Find, &["rs"][..], is_workspace),
        // A module of Go ends where the next one begins, also in a workspace.
        (go, &["go"], false),
        (node, &["js", "ts"], has_members),
    ] {
        if takes_all || find(files, "").is_none() {
            continue;
        }
        ways.extend(files.folders().skip(1).filter_map(|folder| {
            Some(Way {
                command: find(files, folder)?,
                endings,
                folder: folder.to_owned(),
            })
        }));
    }
    ways
}

/// Tools that run tasks of any kind, where no language told more.
pub(super) fn of_tasks(files: &Files<'_>) -> Option<Way> {
    let command = just(files).or_else(|| make(files))?;
    Some(Way {
        command,
        endings: &[],
        folder: String::new(),
    })
}

/// A command whose words may need the folder.
fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

fn rust(files: &Files<'_>, folder: &str) -> Option<Vec<String>> {
    if !files.has(folder, "Cargo.toml") {
        return None;
    }
    let mut command = words(["cargo", "test"]);
    if !folder.is_empty() {
        command.extend(["--manifest-path".to_owned(), within(folder, "Cargo.toml")]);
    }
    if files.text(folder, "Cargo.toml").contains("[workspace") {
        command.push("--workspace".to_owned());
    }
    Some(command)
}

fn go(files: &Files<'_>, folder: &str) -> Option<Vec<String>> {
    files.has(folder, "go.mod").then(|| match folder {
        "" => words(["go", "test", "./..."]),
        folder => words(["go", "-C", folder, "test", "./..."]),
    })
}

/// A `test` script that is more than the one `npm init` writes, or workspaces that may have one.
fn node(files: &Files<'_>, folder: &str) -> Option<Vec<String>> {
    let package = files.text(folder, "package.json");
    let package: serde_json::Value = serde_json::from_str(package).unwrap_or_default();
    let script = package.pointer("/scripts/test").and_then(|it| it.as_str());
    let is_test = script.is_some_and(|script| !script.contains("no test specified"));
    let locked_by = |lock| files.has(folder, lock);
    let (program, folder_flag, all_flags): (_, _, &[&str]) = if locked_by("pnpm-lock.yaml") {
        ("pnpm", "--dir", &["--recursive"])
    } else if locked_by("yarn.lock") {
        ("yarn", "--cwd", &["workspaces", "run"])
    } else if locked_by("bun.lock") || locked_by("bun.lockb") {
        ("bun", "--cwd", &["--filter", "*"])
    } else {
        ("npm", "--prefix", &["--workspaces", "--if-present"])
    };
    let has_members = package.get("workspaces").is_some() || locked_by("pnpm-workspace.yaml");
    if !is_test && !has_members {
        return None;
    }
    let mut command = vec![program.to_owned()];
    if !folder.is_empty() {
        command.extend([folder_flag, folder].map(str::to_owned));
    }
    if !is_test {
        command.extend(all_flags.iter().map(|&flag| flag.to_owned()));
    }
    if program == "bun" {
        command.push("run".to_owned());
    }
    command.push("test".to_owned());
    Some(command)
}

fn gradle(files: &Files<'_>, folder: &str) -> Option<Vec<String>> {
    let builds = [
        "build.gradle",
        "build.gradle.kts",
        "settings.gradle",
        "settings.gradle.kts",
    ];
    let flags = ["--no-daemon", "--project-dir"];
    files
        .has_any(folder, &builds)
        .then(|| wrapped(files, folder, ("gradle", "gradlew"), flags, ""))
}

fn maven(files: &Files<'_>, folder: &str) -> Option<Vec<String>> {
    let flags = ["--batch-mode", "--file"];
    let build = "pom.xml";
    files
        .has(folder, build)
        .then(|| wrapped(files, folder, ("mvn", "mvnw"), flags, build))
}

/// The wrapper that the repository brings, in the folder or the root, else the program of the host.
fn wrapped(
    files: &Files<'_>,
    folder: &str,
    (program, wrapper): (&str, &str),
    [quiet, place]: [&str; 2],
    build: &str,
) -> Vec<String> {
    let brought = [folder, ""]
        .into_iter()
        .find(|it| files.has_program(it, wrapper));
    let program = brought.map_or_else(
        || program.to_owned(),
        |place| format!("./{}", within(place, wrapper)),
    );
    let mut command = vec![program, quiet.to_owned()];
    if !folder.is_empty() {
        let build = within(folder, build);
        command.extend([place.to_owned(), build.trim_end_matches('/').to_owned()]);
    }
    command.push("test".to_owned());
    command
}

fn ruby(files: &Files<'_>, _: &str) -> Option<Vec<String>> {
    let bundled = files.has("", "Gemfile.lock") || files.has("", "Gemfile");
    let mut command = if bundled {
        words(["bundle", "exec"])
    } else {
        Vec::new()
    };
    let has_specs = files.entries.iter().any(|it| it.path.ends_with("_spec.rb"));
    if has_specs && (bundled || files.has("", ".rspec")) {
        command.push("rspec".to_owned());
    } else if files.has_any("", &["Rakefile", "rakefile", "Rakefile.rb"]) {
        command.extend(words(["rake", "test"]));
    } else {
        return None;
    }
    Some(command)
}

fn dotnet(files: &Files<'_>, _: &str) -> Option<Vec<String>> {
    let mut endings = [".sln", ".slnx", ".csproj", ".fsproj", ".vbproj"].into_iter();
    let is_there = endings.any(|ending| files.has_ending("", ending));
    is_there.then(|| words(["dotnet", "test"]))
}

fn php(files: &Files<'_>, _: &str) -> Option<Vec<String>> {
    let manifest: serde_json::Value =
        serde_json::from_str(files.text("", "composer.json")).unwrap_or_default();
    if manifest.pointer("/scripts/test").is_some() {
        return Some(words(["composer", "test"]));
    }
    let configured = ["phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml"];
    files.has_any("", &configured).then(|| words(["phpunit"]))
}

fn elixir(files: &Files<'_>, _: &str) -> Option<Vec<String>> {
    files.has("", "mix.exs").then(|| words(["mix", "test"]))
}

fn swift(files: &Files<'_>, _: &str) -> Option<Vec<String>> {
    files
        .has("", "Package.swift")
        .then(|| words(["swift", "test"]))
}

/// Configures, builds and tests in one command, which has to end with what tests.
fn cmake(files: &Files<'_>, _: &str) -> Option<Vec<String>> {
    let project = files.text("", "CMakeLists.txt").to_lowercase();
    let has_tests = project.contains("enable_testing") || project.contains("include(ctest)");
    has_tests.then(|| {
        let build = [
            "ctest",
            "--build-and-test",
            ".",
            "build",
            "--build-generator",
            "Unix Makefiles",
        ];
        let then = ["--test-command", "ctest", "--output-on-failure"];
        build.into_iter().chain(then).map(str::to_owned).collect()
    })
}

static RECIPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^@?test(?:[ \t][^:=\n]*)?:(?:[^=]|$)").expect("a test compiles the pattern")
});

fn just(files: &Files<'_>) -> Option<Vec<String>> {
    let names = ["justfile", "Justfile", "JUSTFILE", ".justfile"];
    let has_recipe = names
        .iter()
        .any(|name| RECIPE.is_match(files.text("", name)));
    has_recipe.then(|| words(["just", "test"]))
}

static TARGET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^(?:[^\s:=#]+[ \t]+)*(tests?|check)(?:[ \t]+[^\s:=#]+)*[ \t]*::?(?:[^=:]|$)")
        .expect("a test compiles the pattern")
});

/// `test` or `tests`, else `check`, as GNU's projects call it; in the file that make itself takes.
fn make(files: &Files<'_>) -> Option<Vec<String>> {
    let names = ["GNUmakefile", "makefile", "Makefile"];
    let name = names.iter().find(|name| files.has("", name))?;
    let targets: Vec<_> = TARGET
        .captures_iter(files.text("", name))
        .filter_map(|found| Some(found.get(1)?.as_str()))
        .collect();
    let target = ["test", "tests", "check"]
        .into_iter()
        .find(|target| targets.contains(target))?;
    Some(words(["make", target]))
}
