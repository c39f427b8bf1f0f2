//! How a Python project is tested.

use std::collections::BTreeSet;

use super::files::{Files, is_plain, is_python_test};

const PYTEST: &[&str] = &["python3", "-m", "pytest", "-v"];
/// What `unittest` looks for by itself.
const PATTERN: &str = "test";

/// The command; tests that can be run as they are come before tools that make an environment first,
/// for which there is no network.
pub(super) fn command(files: &Files<'_>) -> Option<Vec<String>> {
    let tests: Vec<&str> = files
        .entries
        .iter()
        .filter(|it| is_plain(it) && is_python_test(&it.path))
        .map(|it| it.path.as_str())
        .collect();
    let text = |name| files.text("", name);
    let settings = [
        "pytest.toml",
        ".pytest.toml",
        "pytest.ini",
        ".pytest.ini",
        "conftest.py",
    ];
    let is_configured = files.has_any("", &settings)
        || files.has("", "tests/conftest.py")
        || text("pyproject.toml").contains("[tool.pytest")
        || text("setup.cfg").contains("[tool:pytest]")
        || text("tox.ini").contains("[pytest]");
    let written_with = |word| files.python_tests().any(|text| text.contains(word));
    let words: Vec<String> = if is_configured || written_with("pytest") {
        owned(PYTEST)
    } else if text("manage.py").contains("django") {
        owned(&["python3", "manage.py", "test"])
    } else if written_with("unittest") {
        unittest(files, &tests)
    } else if !tests.is_empty() {
        owned(PYTEST)
    } else if text("tox.ini").contains("[testenv") {
        owned(&["tox"])
    } else if files.has("", "noxfile.py") {
        owned(&["nox"])
    } else {
        return None;
    };
    Some(words)
}

/// `unittest` finds tests in the root and in packages below it; those of a folder that is none have to
/// be pointed at.
fn unittest(files: &Files<'_>, tests: &[&str]) -> Vec<String> {
    let is_package = |folder: &str| {
        let init = format!("{folder}/__init__.py");
        files.entries.iter().any(|it| it.path == init)
    };
    let folder = |path: &str| {
        path.rsplit_once('/')
            .map_or("", |(folder, _)| folder)
            .to_owned()
    };
    let is_reached = |path: &&&str| {
        let folder = folder(path);
        let mut above = folder.match_indices('/').map(|(at, _)| &folder[..at]);
        folder.is_empty() || (above.all(is_package) && is_package(&folder))
    };
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let mut words = owned(&["python3", "-m", "unittest"]);
    let by_pattern = |path: &&&str| name(path).starts_with(PATTERN);
    let folders: BTreeSet<_> = tests.iter().map(|path| folder(path)).collect();
    match folders.first() {
        _ if tests.iter().any(|path| is_reached(&path)) => {}
        Some(folder) if folders.len() == 1 => {
            words.extend(["discover", "-s", folder.as_str()].map(str::to_owned));
        }
        // Only pytest finds what is spread over folders that are no packages.
        _ => return owned(PYTEST),
    }
    if !tests.iter().any(|path| by_pattern(&path)) {
        if words.len() == 3 {
            words.push("discover".to_owned());
        }
        words.extend(["-p", "*_test.py"].map(str::to_owned));
    }
    words.push("-v".to_owned());
    words
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
