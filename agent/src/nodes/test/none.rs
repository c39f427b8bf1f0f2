//! Whether a runner says that it found no test, and whether there was a runner at all.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use super::TestResults;
use super::count::Count;

/// What runners say that found nothing to run, in words of their own instead of a count of zero.
static NONE: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new([
        // jest, vitest, mocha, Playwright, Deno, Pest
        r"(?m)^\s*(?:Error: |error: |INFO +)?No test(?:s| files?| suite| modules)? found",
        r"(?m)^ +Tests  no tests$",
        // AVA, Jasmine, Cypress
        r"(?m)^\s*(?:\u{2716} )?Couldn.t find any files to test",
        r"(?m)^(?:No specs found|Can't run because no spec files were found)",
        // Bun, Trial, Leiningen
        r"(?m)^(?:error: 0 test files matching|Ran 0 tests\b)",
        // Deno
        r"(?m)^ok \| 0 passed \| 0 failed",
        // Maven's surefire, Elixir
        r"(?m)^(?:\[\w+\] )?(?:No tests to run\.|There are no tests to run|No tests were executed|Tests run: 0,)",
        // sbt
        r"(?m)^\[info\] No tests (?:were executed|to run)",
        // Gradle
        r"(?m)^> Task \S*[tT]est NO-SOURCE$",
        // .NET
        r"(?m)^\s*(?:No test is available in |.*Zero tests ran)",
        // PHPUnit
        r"(?m)^No tests executed!",
        // RSpec
        r"(?m)^0 examples, 0 failures",
        // minitest, test-unit, Busted
        r"(?m)^(?:0 (?:runs|tests), 0 assertions, 0 failures|0 successes / 0 failures)",
        // CTest, Meson, Bazel
        r"(?m)^(?:No tests were found!!!|No tests defined\.|ERROR: No test targets were found)",
        // Swift, Dart
        r"(?m)^\s*(?:Executed 0 tests,|\S+ Test run with 0 tests|error: no tests found|No tests ran\.)",
        // TAP, prove
        r"(?m)^(?:1\.\.0(?: |$)|Result: NOTESTS$)",
        // go, without any package
        r"(?m)^no packages to test$",
    ])
    .expect("a test compiles the patterns")
});
/// What the same runners say of a part of a project that has tests, where another part has none.
static SOME: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new([
        // Maven's surefire
        r"(?m)^(?:\[\w+\] )?Tests run: [1-9]",
        // Gradle
        r"(?m)^> Task \S*[tT]est(?: UP-TO-DATE| FROM-CACHE| FAILED)?$",
        // .NET
        r"(?m)(?:Passed|Failed|Total tests): +[1-9]",
        // Swift, which has two runners
        r"(?m)^\s*(?:Executed [1-9]|\S+ Test run with [1-9])",
        // Bun, Trial, Leiningen
        r"(?m)^Ran [1-9]\d* tests?\b",
        // TAP, sbt
        r"(?m)^(?:1\.\.[1-9]|(?:not )?ok [1-9]|\[info\] Passed: Total [1-9])",
    ])
    .expect("a test compiles the patterns")
});
/// Go's lines of packages, with tests and without; one without is told by its coverage where that is
/// measured.
static GO: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?m)^(?:(?:ok|FAIL|\?|---) .*?(\[no test(?: files|s to run)\])?| \S+ +(coverage: 0\.0% of statements))$",
    )
    .expect("a test compiles the pattern")
});
/// The words of a shell, of make and of Python for a program that is not there.
static MISSING: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let patterns = [
        r"(?m)^(?:/bin/)?(?:sh|bash|dash)(?:: line \d+|: \d+)?: (\S+): (?:command )?not found$",
        r"(?m)^make(?:\[\d+\])?: (\S+): No such file or directory$",
        r"(?m)^\S*python[\d.]*: No module named '?(pytest|nox|tox|nose2?|unittest2|green|ward)'?$",
        r"(?m)^\S*env: .?([\w.+-]+)['\u{2019}]?: No such file or directory$",
        r"(?m)^error: no such (?:sub)?command: `([\w-]+)`",
        r#"(?m)^(?:error |\s*ERR_PNPM\w* +)?Command "(\S+)" not found"#,
        r"(?m)^(?:bundler: command|Command) not found: (\S+)$",
    ];
    let patterns = patterns.iter().map(|pattern| Regex::new(pattern));
    let patterns: Result<_, _> = patterns.collect();
    patterns.expect("a test compiles the patterns")
});

/// True when the output says that no test was run, and none of it that one was.
pub(super) fn reports_no_tests(results: &TestResults) -> bool {
    if let Some(count) = Count::read(results) {
        return count.tests == 0;
    }
    if results.is_cut {
        return false;
    }
    let output = format!("{}\n{}", results.stdout, results.stderr);
    if NONE.is_match(&output) {
        return !SOME.is_match(&output);
    }
    let output = output.replace('\t', " ");
    let mut packages = GO
        .captures_iter(&output)
        .map(|found| found.get(1).or_else(|| found.get(2)))
        .peekable();
    packages.peek().is_some() && packages.all(|none| none.is_some())
}

/// The program that the tests need and that is not there, as what ran says itself.
pub(super) fn missing_program(results: &TestResults) -> Option<String> {
    let failed = results.returncode.is_some_and(|code| code != 0);
    let output = format!("{}\n{}", results.stdout, results.stderr);
    let mut missing = MISSING.iter().filter_map(|it| it.captures(&output));
    let found = missing.find(|_| failed && Count::read(results).is_none())?;
    Some(found[1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(output: &str, returncode: i32) -> TestResults {
        TestResults {
            stdout: output.to_owned(),
            stderr: String::new(),
            returncode: Some(returncode),
            duration_ms: 1,
            timed_out: false,
            tree: "1".repeat(40).parse().unwrap(),
            is_cut: false,
            exceeded: None,
            isolation: None,
            parts: Vec::new(),
        }
    }

    #[test]
    fn a_runner_that_found_nothing_is_neither_green_nor_red() {
        for (output, returncode) in [
            ("\n----\nRan 0 tests in 0.000s\n\nOK\n", 0),
            ("\n----\nRan 0 tests in 0.000s\n\nNO TESTS RAN\n", 5),
            ("collected 0 items\n\n=== no tests ran in 0.01s ===\n", 5),
            ("=== 3 skipped in 0.01s ===\n", 0),
            (
                "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored;\n",
                0,
            ),
            (
                "?   \texample.com/a\t[no test files]\nok  \texample.com/b\t0.01s [no tests to run]\n",
                0,
            ),
            ("No tests found, exiting with code 0\n", 0),
            ("No test files found, exiting with code 1\n", 1),
            ("  0 passing (1ms)\n", 0),
            ("# tests 0\n# suites 0\n# pass 0\n# fail 0\n", 0),
            ("[INFO] No tests to run.\n[INFO] BUILD SUCCESS\n", 0),
            ("> Task :test NO-SOURCE\nBUILD SUCCESSFUL in 1s\n", 0),
            ("No tests executed!\n", 0),
            ("0 examples, 0 failures\n", 0),
            ("No tests were found!!!\n", 0),
            ("=== 5 deselected in 0.01s ===\n", 5),
            ("Tests:       3 skipped, 3 total\n", 0),
            (" Test Files  1 passed (1)\n      Tests  no tests\n", 1),
            ("\n Error: No test files found: \"test\"\n", 1),
            ("Error: No tests found\n", 1),
            (
                "\u{2139} tests 0\n\u{2139} suites 0\n\u{2139} pass 0\n\u{2139} fail 0\n",
                0,
            ),
            ("  \u{2716} Couldn\u{2019}t find any files to test\n", 1),
            ("No specs found\nFinished in 0.001 seconds\n", 2),
            (
                "error: 0 test files matching **{.test,.spec} in --cwd=\"/w\"\n",
                1,
            ),
            ("error: No test modules found\n", 1),
            (
                " 0 pass\n 0 fail\nRan 0 tests across 0 files. [2.00ms]\n",
                0,
            ),
            (
                "     Summary [   0.000s] 0 tests run: 0 passed, 0 skipped\nerror: no tests to run\n",
                4,
            ),
            ("no packages to test\n", 1),
            ("\texample.com/a\t\tcoverage: 0.0% of statements\n", 0),
            (
                "[INFO] Tests run: 0, Failures: 0, Errors: 0, Skipped: 0\n",
                0,
            ),
            ("[info] No tests were executed.\n", 0),
            ("Test run summary: Zero tests ran\n", 8),
            ("\n  INFO  No tests found.\n", 1),
            ("0 runs, 0 assertions, 0 failures, 0 errors, 0 skips\n", 0),
            ("No tests defined.\n", 0),
            (
                "ERROR: No test targets were found, yet testing was requested\n",
                4,
            ),
            (
                "\t Executed 0 tests, with 0 failures (0 unexpected) in 0.000 seconds\n",
                0,
            ),
            (
                "\u{2714} Test run with 0 tests passed after 0.001 seconds.\n",
                0,
            ),
            ("Files=0, Tests=0,  0 wallclock secs\nResult: NOTESTS\n", 0),
            ("TAP version 13\n1..0\n", 0),
        ] {
            let results = results(output, returncode);
            assert!(results.ran_none() && !results.passed(), "{output}");
            assert!(results.verdict(&[]).ran_none, "{output}");
        }
    }

    #[test]
    fn whoever_ran_a_test_ran_some() {
        for output in [
            "",
            "built\n",
            "Ran 1 test in 0.001s\n\nOK\n",
            "ok  \texample.com/a\t0.01s\n?   \texample.com/b\t[no test files]\n",
            "FAIL\texample.com/a [build failed]\n",
            "> Task :core:test NO-SOURCE\n> Task :api:test\n\nBUILD SUCCESSFUL in 1s\n",
            "> Task :core:test NO-SOURCE\n> Task :api:integrationTest FAILED\n",
            "[INFO] No tests to run.\n[INFO] Tests run: 3, Failures: 0, Errors: 0, Skipped: 0\n",
            "No test is available in /w/a.dll.\nPassed!  - Failed:     0, Passed:     3, Skipped:     0\n",
            "test result: ok. 0 passed; 0 failed;\n\ntest result: ok. 2 passed; 0 failed;\n",
            "\t Executed 3 tests, with 0 failures\n\u{2714} Test run with 0 tests passed after 0.001 seconds.\n",
            "\t Executed 0 tests, with 0 failures\n\u{2714} Test run with 2 tests passed after 0.001 seconds.\n",
            "\texample.com/a\t\tcoverage: 0.0% of statements\nok  \texample.com/b\t0.1s\tcoverage: 9.1% of statements\n",
            "ok  \texample.com/b\t0.1s\tcoverage: 0.0% of statements\n",
            "Tests run: 0, Failures: 0\nTests run: 2, Failures: 0\n",
            "TAP version 13\nok 1 - adds\n1..1\n",
            "Ran 0 tests containing 0 assertions.\nRan 3 tests containing 4 assertions.\n",
            "said: No tests found\n",
        ] {
            assert!(!results(output, 0).ran_none(), "{output}");
        }
        let mut cut = results("Ran 0 tests in 0.000s\n\nOK\n", 0);
        cut.is_cut = true;
        assert!(!cut.ran_none());
    }

    #[test]
    fn a_runner_that_is_not_there_is_named() {
        for (output, program) in [
            ("/usr/bin/python3: No module named pytest\n", "pytest"),
            ("> x@1.0.0 test\n> jest\n\nsh: 1: jest: not found\n", "jest"),
            ("bash: line 1: mocha: command not found\n", "mocha"),
            (
                "env: \u{2018}bats\u{2019}: No such file or directory\n",
                "bats",
            ),
            ("/usr/bin/env: 'node': No such file or directory\n", "node"),
            (
                "error: no such command: `nextest`\n\nhelp: view all installed commands\n",
                "nextest",
            ),
            ("error Command \"jest\" not found.\n", "jest"),
            (
                " ERR_PNPM_RECURSIVE_EXEC_FIRST_FAIL  Command \"vitest\" not found\n",
                "vitest",
            ),
            ("bundler: command not found: rspec\n", "rspec"),
            ("Command not found: pytest\n", "pytest"),
            (
                "pytest -v\nmake: pytest: No such file or directory\nmake: *** [Makefile:2: test] Error 127\n",
                "pytest",
            ),
        ] {
            assert_eq!(
                missing_program(&results(output, 1)).as_deref(),
                Some(program),
                "{output}"
            );
            assert_eq!(missing_program(&results(output, 0)), None);
        }
        for output in [
            "ModuleNotFoundError: No module named 'app'\n",
            "sh: 1: jest: not found\n=== 1 failed in 0.1s ===\n",
        ] {
            assert_eq!(missing_program(&results(output, 1)), None, "{output}");
        }
    }
}
