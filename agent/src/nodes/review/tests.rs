use super::*;
use crate::sandbox::Exceeded;

fn file(path: &str, before: Option<&str>, after: Option<&str>) -> PatchedFile {
    PatchedFile::of_texts(path, before, after)
}

fn results(returncode: Option<i32>, timed_out: bool) -> TestResults {
    TestResults {
        stdout: "x".repeat(20_000),
        stderr: "Ran 3 tests in 0.001s\n\nOK\nthe end\n".to_owned(),
        returncode,
        duration_ms: 3000,
        timed_out,
        tree: "1".repeat(40).parse().unwrap(),
        is_cut: false,
        exceeded: None,
        isolation: None,
        parts: Vec::new(),
    }
}

#[test]
fn green_tests_and_a_change_are_needed() {
    let files = [file("a.py", Some("1\n"), Some("2\n"))];
    assert_eq!(findings(&files, None, Some(&results(Some(0), false))), []);
    assert_eq!(findings(&files, None, None), []);
    assert_eq!(findings(&[], None, None)[0].source, Source::Review);
    for (after, code, what) in [
        (
            results(Some(1), false),
            FailureKind::TestsFailed,
            "exit code 1",
        ),
        (results(None, false), FailureKind::TestsFailed, "signal"),
        (
            results(None, true),
            FailureKind::TestsTimedOut,
            "within 3 s",
        ),
    ] {
        let found = findings(&files, None, Some(&after));
        assert_eq!(found[0].code, code);
        assert!(found[0].message.contains(what) && found[0].message.ends_with("the end"));
        assert!(found[0].message.len() < TAIL + 200);
    }
}

#[test]
fn a_run_without_tests_is_refused_unless_there_were_none_before() {
    let files = [file("a.py", Some("1\n"), Some("2\n"))];
    let some = results(Some(0), false);
    let none = |code| TestResults {
        stderr: "Ran 0 tests in 0.000s\n\nOK\n".to_owned(),
        ..results(Some(code), false)
    };
    for before in [None, Some(&some)] {
        let found = findings(&files, before, Some(&none(0)));
        assert!(
            found[0].message.starts_with("no tests were run"),
            "{found:?}"
        );
    }
    for code in [0, 5] {
        let none = none(code);
        assert_eq!(findings(&files, Some(&none), Some(&none)), []);
        let risks = risks(&files, Some(&none), Some(&none));
        assert_eq!(risks, ["No tests were run: the test command found none"]);
        assert!(approval(&files, Some(&none)).ends_with("no tests were run."));
        assert_eq!(findings(&files, Some(&none), Some(&some)), []);
    }
    let left_out = LeftOut {
        command: "npm test".to_owned(),
        reason: "`jest` is not installed\nor so".to_owned(),
    };
    let named = untested(&[left_out]).unwrap();
    let expected = "not run: `npm test` (`jest` is not installed);";
    assert!(named.contains(expected), "{named}");
    assert_eq!(untested(&[]), None);
}

#[test]
fn tests_that_met_a_limit_say_which_and_only_those_without_result_are_of_another_kind() {
    let files = [file("a.py", Some("1\n"), Some("2\n"))];
    let killed = Exceeded::OutOfMemory {
        kills: 2,
        limit_mib: 64,
    };
    let refused = Exceeded::TooManyProcesses {
        refused: 9,
        limit: 32,
    };
    let throttled = Exceeded::Throttled {
        waited: std::time::Duration::from_secs(7),
        cpu_percent: 50,
    };
    for (limit, (returncode, timed_out), code, what) in [
        (killed, (None, false), FailureKind::TestsOverLimit, "64 MiB"),
        (
            refused,
            (Some(1), false),
            FailureKind::TestsFailed,
            "at most 32",
        ),
        (
            throttled,
            (None, true),
            FailureKind::TestsTimedOut,
            "0.50 processors",
        ),
    ] {
        let after = TestResults {
            exceeded: Some(limit),
            ..results(returncode, timed_out)
        };
        let found = findings(&files, None, Some(&after));
        assert_eq!(found[0].code, code);
        assert!(found[0].message.contains(what), "{}", found[0].message);
    }
}

#[test]
fn risks_are_told() {
    let long = "x\n".repeat(500);
    let files = [
        file("src/gone.py", Some("1\n"), None),
        file("tests/test_a.py", Some("1\n"), Some("2\n")),
        file("go.mod", None, Some(&long)),
    ];
    let (before, mut after) = (results(Some(0), false), results(Some(0), false));
    after.stderr = "Ran 2 tests in 0.001s\n\nOK\n".to_owned();
    insta::assert_snapshot!(risks(&files, Some(&before), Some(&after)).join("\n"), @r"
    Files are deleted: `src/gone.py`
    Tests themselves are changed: `tests/test_a.py`
    Dependencies or their versions are changed: `go.mod`
    The change is large: 503 lines
    1 test fewer than before were run: 3 before, 2 after
    The tests were green before the change, so they do not show what it mends
    ");
    let quiet = [file("src/a.py", Some("1\n"), Some("2\n"))];
    let red = results(Some(1), false);
    assert_eq!(
        risks(&quiet, Some(&red), Some(&before)),
        Vec::<String>::new()
    );
    assert_eq!(risks(&quiet, None, None).len(), 1);
    // A runner that names only what fails, and says nothing of a count.
    let (mut before, mut after) = (red, results(Some(0), false));
    before.stderr = "FAIL: test_a (t.A.test_a)\nFAIL: test_b (t.A.test_b)\n".to_owned();
    after.stderr = "OK\n".to_owned();
    assert_eq!(
        risks(&quiet, Some(&before), Some(&after)),
        Vec::<String>::new()
    );
}
