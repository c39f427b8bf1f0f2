//! Which tests passed and which failed, as far as their runner's output tells.
//!
//! Known are unittest, pytest, cargo and go. Hints for people: the verdict is the exit code.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

/// Tests by name; true for those that passed.
pub(in crate::nodes) type Tests = BTreeMap<String, bool>;

static PYTEST: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^(\S+::\S.*?) (PASSED|FAILED|ERROR|XPASS)\b"));
static PYTEST_SHORT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^(FAILED|ERROR) (\S+::\S+)"));
static CARGO: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED)"));
static GO: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^\s*--- (PASS|FAIL): (\S+)"));
static UNITTEST: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^(\w+) \(([\w.]+)\)(?: \.\.\. |\n.* \.\.\. )(ok|FAIL|ERROR)\b"));
static UNITTEST_SHORT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^(?:FAIL|ERROR): (\w+) \(([\w.]+)\)"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a test compiles the pattern")
}

/// The tests that an output names.
pub(in crate::nodes) fn parse(stdout: &str, stderr: &str) -> Tests {
    let mut tests = Tests::new();
    for output in [stdout, stderr] {
        let mut add = |name: &str, passed: bool| {
            // A test that failed anywhere failed.
            let known = tests.entry(name.to_owned()).or_insert(passed);
            *known &= passed;
        };
        for found in PYTEST.captures_iter(output) {
            add(&found[1], matches!(&found[2], "PASSED" | "XPASS"));
        }
        for found in PYTEST_SHORT.captures_iter(output) {
            add(&found[2], false);
        }
        for found in CARGO.captures_iter(output) {
            add(&found[1], &found[2] == "ok");
        }
        for found in GO.captures_iter(output) {
            add(&found[2], &found[1] == "PASS");
        }
        for found in UNITTEST.captures_iter(output) {
            add(&unittest_name(&found[1], &found[2]), &found[3] == "ok");
        }
        for found in UNITTEST_SHORT.captures_iter(output) {
            add(&unittest_name(&found[1], &found[2]), false);
        }
    }
    tests
}

/// Python before 3.11 leaves the method out of the parentheses.
fn unittest_name(method: &str, place: &str) -> String {
    if place.rsplit('.').next() == Some(method) {
        place.to_owned()
    } else {
        format!("{place}.{method}")
    }
}

/// Tests that failed before and pass now. A runner that names only failures names no test that
/// passes: then one that is not named passes, if `all_run` says that none is left out.
pub(in crate::nodes) fn mended(before: &Tests, after: &Tests, all_run: bool) -> Vec<String> {
    let names_passed = after.values().any(|passed| *passed);
    let unnamed = all_run && !names_passed;
    let failed = before.iter().filter(|(_, passed)| !**passed);
    failed
        .filter(|(name, _)| after.get(*name).copied().unwrap_or(unnamed))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tests: &Tests) -> Vec<String> {
        tests
            .iter()
            .map(|(name, passed)| format!("{name} {passed}"))
            .collect()
    }

    #[test]
    fn unittest_is_read_in_all_its_forms() {
        let output = "test_a (tests.test_x.X.test_a) ... ok\n\
            test_b (tests.test_x.X)\nWhat b is about ... FAIL\n\
            test_c (tests.test_x.X.test_c) ... ERROR\n\n\
            ======\nFAIL: test_d (tests.test_x.X.test_d)\n------\n";
        assert_eq!(
            shown(&parse("", output)),
            [
                "tests.test_x.X.test_a true",
                "tests.test_x.X.test_b false",
                "tests.test_x.X.test_c false",
                "tests.test_x.X.test_d false",
            ]
        );
    }

    #[test]
    fn pytest_cargo_and_go_are_read() {
        let output = "tests/test_a.py::test_one PASSED      [ 50%]\n\
            tests/test_a.py::test_two[a b] FAILED      [100%]\n\
            FAILED tests/test_a.py::test_three - assert 1 == 2\n\
            test git::reads ... ok\ntest git::panics - should panic ... FAILED\n\
            --- PASS: TestA (0.00s)\n    --- FAIL: TestA/sub (0.00s)\n";
        assert_eq!(
            shown(&parse(output, "")),
            [
                "TestA true",
                "TestA/sub false",
                "git::panics false",
                "git::reads true",
                "tests/test_a.py::test_one true",
                "tests/test_a.py::test_three false",
                "tests/test_a.py::test_two[a b] false",
            ]
        );
    }

    #[test]
    fn what_failed_before_and_not_now_is_mended() {
        let tests = |list: &[(&str, bool)]| -> Tests {
            list.iter()
                .map(|(name, passed)| ((*name).to_owned(), *passed))
                .collect()
        };
        let before = tests(&[("a", false), ("b", true), ("c", false), ("d", false)]);
        let after = tests(&[("a", true), ("b", false), ("c", false)]);
        assert_eq!(mended(&before, &after, true), ["a"]);
        let only_failures = tests(&[("c", false)]);
        assert_eq!(mended(&before, &only_failures, true), ["a", "d"]);
        assert_eq!(mended(&before, &only_failures, false), [""; 0]);
    }
}
