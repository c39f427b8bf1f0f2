//! How many tests were run, as their runner says in its own summary.
//!
//! Read only, never concluded: a runner that is not known here, names of some tests, or an output
//! whose beginning was dropped give no count, and whoever reports to people makes no claim then.

use std::sync::LazyLock;

use regex::Regex;

use super::TestResults;

/// What the summaries of a run say. Skipped tests were not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nodes) struct Count {
    /// How many summaries there are, of test binaries or invocations.
    summaries: usize,
    /// How many tests they say were run.
    pub(in crate::nodes) tests: usize,
}

/// Where a runner writes its summary; the first group has the numbers.
struct Runner {
    summary: Regex,
    tests: fn(&str) -> usize,
}

static RUNNERS: LazyLock<Vec<Runner>> = LazyLock::new(|| {
    let runner = |summary: &str, tests| Runner {
        summary: Regex::new(summary).expect("a test compiles the patterns"),
        tests,
    };
    vec![
        // unittest: `Ran 3 tests in 0.001s`, an empty line, `OK (skipped=1)`
        runner(
            r"(?m)^(Ran \d+ tests? in .*\s+(?:OK|FAILED|NO TESTS RAN).*)$",
            unittest,
        ),
        // pytest: `== 1 failed, 3 passed, 2 skipped in 0.12s ==`, or without `==` when it is quiet
        runner(
            r"(?m)^(?:=+ )?((?:no tests ran|\d+ (?:passed|failed|errors?|skipped|deselected|xfailed|xpassed|warnings?)\b.*) in [\d.]+s)",
            by_word,
        ),
        // cargo: one for each binary
        runner(
            r"(?m)^test result: \w+\. (\d+ passed; \d+ failed);",
            by_word,
        ),
        // cargo nextest: `Summary [ 1.2s] 23 tests run: 22 passed, 1 failed, 3 skipped`
        runner(r"(?m)^\s*Summary \[.*\] \d+ tests? run: (.*)$", by_word),
        // jest
        runner(r"(?m)^Tests: +(.* total)$", by_word),
        // vitest
        runner(r"(?m)^ +Tests  (.*) \(\d+\)$", by_word),
        // mocha: ` 3 passing (5ms)`, ` 1 failing`
        runner(
            r"(?m)^ +(\d+ passing \(.*\)\s*(?:\d+ pending\s*)?(?:\d+ failing)?)",
            by_word,
        ),
        // node --test
        runner(
            r"(?m)^(?:#|\u{2139}) pass (\d+\s+(?:#|\u{2139}) fail \d+)$",
            numbers,
        ),
    ]
});

static OUTCOME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(\d+) (?:passed|failed|errors?|xfailed|xpassed|passing|failing)\b")
        .expect("a test compiles the pattern")
});
static SKIPPED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"skipped=(\d+)").expect("a test compiles the pattern"));
static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d+").expect("a test compiles the pattern"));

fn by_word(summary: &str) -> usize {
    let counts = OUTCOME.captures_iter(summary);
    counts
        .filter_map(|found| found[1].parse::<usize>().ok())
        .fold(0, usize::saturating_add)
}

fn numbers(summary: &str) -> usize {
    let counts = NUMBER.find_iter(summary);
    counts
        .filter_map(|found| found.as_str().parse::<usize>().ok())
        .fold(0, usize::saturating_add)
}

fn unittest(summary: &str) -> usize {
    let number = |text: &str| text.parse::<usize>().unwrap_or(0);
    let ran = NUMBER
        .find(summary)
        .map_or(0, |found| number(found.as_str()));
    let skipped = SKIPPED
        .captures(summary)
        .map_or(0, |found| number(&found[1]));
    ran.saturating_sub(skipped)
}

impl Count {
    /// What the runner's summaries say; `None` without one, with those of several runners, of
    /// which one may be quoted by the other, and when a part of the output is not there.
    pub(in crate::nodes) fn read(results: &TestResults) -> Option<Self> {
        if !results.parts.is_empty() {
            let tests = results.parts.iter().map(|part| part.tests);
            return Some(Self {
                summaries: results.parts.len(),
                tests: tests.sum::<Option<usize>>()?,
            });
        }
        if results.is_cut {
            return None;
        }
        let output = format!("{}\n{}", results.stdout, results.stderr);
        let mut counts = RUNNERS.iter().filter_map(|runner| runner.count(&output));
        let count = counts.next()?;
        counts.next().is_none().then_some(count)
    }

    /// How many tests fewer than `before` were run. Nothing when there are fewer summaries: then
    /// one of before may have been quoted by a test that failed.
    pub(in crate::nodes) fn fewer_than(self, before: Self) -> Option<usize> {
        let fewer = before.tests.saturating_sub(self.tests);
        (fewer > 0 && self.summaries >= before.summaries).then_some(fewer)
    }
}

impl Runner {
    fn count(&self, output: &str) -> Option<Count> {
        let tests: Vec<_> = self
            .summary
            .captures_iter(output)
            .map(|found| (self.tests)(&found[1]))
            .collect();
        (!tests.is_empty()).then(|| Count {
            summaries: tests.len(),
            tests: tests.into_iter().fold(0, usize::saturating_add),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(stdout: &str, stderr: &str) -> TestResults {
        TestResults {
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
            returncode: Some(0),
            duration_ms: 1,
            timed_out: false,
            tree: "1".repeat(40).parse().unwrap(),
            is_cut: false,
            exceeded: None,
            isolation: None,
            parts: Vec::new(),
        }
    }

    fn tests(output: &str) -> Option<usize> {
        Count::read(&results(output, "")).map(|count| count.tests)
    }

    #[test]
    fn the_summaries_of_runners_are_read() {
        for (output, count) in [
            (
                "F.\n-----\nRan 2 tests in 0.001s\n\nFAILED (failures=1)\n",
                2,
            ),
            ("s.\n-----\nRan 2 tests in 0.001s\n\nOK (skipped=1)\n", 1),
            ("Ran 0 tests in 0.000s\n\nNO TESTS RAN\n", 0),
            (
                "==== 1 failed, 3 passed, 2 skipped, 1 warning in 0.12s ====\n",
                4,
            ),
            ("3 passed in 0.12s\n", 3),
            ("=== no tests ran in 0.01s ===\n", 0),
            ("=== 2 passed, 1 error in 75.12s (0:01:15) ===\n", 3),
            (
                "test result: ok. 3 passed; 1 failed; 2 ignored; 0 measured\n\ntest result: ok. 2 passed; 0 failed; 0 ignored\n",
                6,
            ),
            (
                "     Summary [   4.171s] 23 tests run: 22 passed, 1 failed, 3 skipped\n",
                23,
            ),
            ("Tests:       1 failed, 1 skipped, 3 passed, 5 total\n", 4),
            ("      Tests  1 failed | 3 passed (4)\n", 4),
            ("  3 passing (5ms)\n  1 failing\n", 4),
            (
                "# tests 5\n# suites 0\n# pass 4\n# fail 1\n# cancelled 0\n",
                5,
            ),
        ] {
            assert_eq!(tests(output), Some(count), "{output}");
        }
    }

    #[test]
    fn what_was_not_read_is_not_counted() {
        for output in [
            "",
            "OK\n",
            "FAIL: test_a (t.A.test_a)\n",
            "ok  \texample.com/calc\t0.002s\n",
            "--- FAIL: TestA (0.00s)\n",
            "Ran 2 tests in 0.001s\n\nOK\n=== 3 passed in 0.12s ===\n",
        ] {
            assert_eq!(tests(output), None, "{output}");
        }
        let mut cut = results("3 passed in 0.12s\n", "");
        cut.is_cut = true;
        assert_eq!(Count::read(&cut), None);
    }

    #[test]
    fn fewer_summaries_tell_nothing() {
        let count = |summaries, tests| Count { summaries, tests };
        assert_eq!(count(1, 8).fewer_than(count(1, 10)), Some(2));
        assert_eq!(count(1, 10).fewer_than(count(2, 13)), None);
        assert_eq!(count(2, 12).fewer_than(count(1, 10)), None);
    }
}
