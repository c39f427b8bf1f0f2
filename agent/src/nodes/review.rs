//! `review`: by rules. OK means that there is a change and the tests, if any, are green.
//!
//! Risks do not refuse; they stand in the pull request for those who merge it.

use std::fmt::Write as _;

use async_trait::async_trait;
use patchfleet_domain::FailureKind;
use patchfleet_flow::{Node, NodeCall, NodeError};
use serde_json::{Value, json};

use super::context::{optional, required};
use super::finding::{Finding, Source};
use super::patch::{PatchedFile, Status};
use super::summary::code;
use super::test::count::Count;
use super::test::{LeftOut, TestPart, TestResults};
use crate::draft::ModelWork;

/// How much of the tests' output a finding tells.
const TAIL: usize = 8 * 1024;
/// Most paths that a risk names.
const NAMED: usize = 20;
/// A change of more lines than this is a risk.
const MANY_LINES: usize = 400;
/// Files that say what else is installed.
const DEPENDENCIES: &[&str] = &[
    "requirements.txt",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "Pipfile",
    "package.json",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "Cargo.toml",
    "Cargo.lock",
    "go.mod",
    "go.sum",
    "Gemfile",
    "Gemfile.lock",
    "pom.xml",
    "build.gradle",
    "Dockerfile",
];

/// The node.
pub(super) struct Review;

#[async_trait]
impl Node for Review {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let files: Vec<PatchedFile> = required(call.ctx, "workspace.files")?;
        let before: Option<TestResults> = optional(call.ctx, "tests.before")?;
        let after: Option<TestResults> = optional(call.ctx, "tests.results")?;
        let left_out: Option<Vec<LeftOut>> = optional(call.ctx, "tests.left_out")?;
        let mut risks = risks(&files, before.as_ref(), after.as_ref());
        risks.extend(untested(&left_out.unwrap_or_default()));
        let model: Option<ModelWork> = optional(call.ctx, "draft.model")?;
        risks.extend(model.as_ref().and_then(stopped));
        let unheard: Option<Vec<String>> = optional(call.ctx, "configuration.without_effect")?;
        risks.extend(without_effect(&unheard.unwrap_or_default()));
        let findings = findings(&files, before.as_ref(), after.as_ref());
        let (status, summary) = match findings.first() {
            None => ("OK", approval(&files, after.as_ref())),
            Some(finding) => ("NG", first_line(&finding.message)),
        };
        Ok(json!({
            "review": { "status": status, "summary": summary, "risks": risks, "findings": findings },
        }))
    }
}

fn findings(
    files: &[PatchedFile],
    before: Option<&TestResults>,
    after: Option<&TestResults>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if files.is_empty() {
        findings.push(Finding {
            source: Source::Review,
            code: FailureKind::DraftFailed,
            message: "the draft changes nothing".to_owned(),
        });
    }
    // Where no tests were run before either, the repository has none that the command finds.
    let has_none = before.is_some_and(TestResults::ran_none);
    let counts = |results: &&TestResults| !(has_none && results.ran_none());
    let red_ones = after.filter(counts).filter(|results| !results.passed());
    findings.extend(red_ones.map(|after| red(before, after)));
    if let (Some(before), Some(after)) = (before, after)
        && findings.is_empty()
    {
        let lost = after.lost_since(before);
        findings.extend(lost.first().map(|part| none_any_more(&part.command)));
    }
    findings
}

/// A model that was stopped may have left its work half done.
fn stopped(model: &ModelWork) -> Option<String> {
    let why = model.stopped.as_ref()?;
    Some(format!(
        "The model was stopped before it said that it was done, so the change may lack something: \
         `{}`",
        code(why)
    ))
}

/// Tests that a change took away, or has its runner not find.
fn none_any_more(command: &[String]) -> Finding {
    Finding {
        source: Source::Tests,
        code: FailureKind::TestsFailed,
        message: format!(
            "no tests were run by `{}`, though it ran some before the change",
            code(&command.join(" "))
        ),
    }
}

/// What else the repository has to be tested with.
fn untested(left_out: &[LeftOut]) -> Option<String> {
    let named = |it: &LeftOut| format!("`{}` ({})", code(&it.command), one_line(&it.reason));
    let named: Vec<_> = left_out.iter().take(NAMED).map(named).collect();
    (!named.is_empty()).then(|| {
        format!(
            "The repository has other tests that were not run: {}; set `test` in `.patchfleet.yaml` to \
             what runs all",
            named.join(", ")
        )
    })
}

/// What the repository's configuration says in vain.
fn without_effect(fields: &[String]) -> Option<String> {
    (!fields.is_empty()).then(|| {
        format!(
            "Without effect in `.patchfleet.yaml`: {}",
            fields.join("; ")
        )
    })
}

/// A reason in one line, of which names stay as code.
fn one_line(reason: &str) -> String {
    let line = patchfleet_guard::visible_line(first_line_of(reason));
    line.replace("<!--", "<\u{200B}!--")
}

fn first_line_of(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn red(before: Option<&TestResults>, results: &TestResults) -> Finding {
    let seconds = results.duration_ms / 1000;
    let (code, mut what) = match results.returncode {
        _ if results.void().is_some() => (
            FailureKind::TestsOverLimit,
            "the tests have no result".to_owned(),
        ),
        _ if results.ran_none() => (
            FailureKind::TestsFailed,
            "no tests were run, though the repository has some".to_owned(),
        ),
        _ if results.timed_out => {
            let what = format!("the tests did not end within {seconds} s");
            (FailureKind::TestsTimedOut, what)
        }
        Some(code) => (
            FailureKind::TestsFailed,
            format!("the tests fail with exit code {code}"),
        ),
        None => (
            FailureKind::TestsFailed,
            "the tests were ended by a signal".to_owned(),
        ),
    };
    if let Some(limit) = &results.exceeded {
        let _ = write!(what, ": {limit}");
    }
    for part in results.parts.iter().filter(|part| part.failed()) {
        let command = part.command.join(" ");
        let _ = write!(what, "; it is `{}` that fails", self::code(&command));
        let before = before.and_then(|it| it.parts.iter().find(|it| it.command == part.command));
        if before.is_some_and(TestPart::failed) {
            what.push_str(", as it did before the change");
        }
    }
    Finding {
        source: Source::Tests,
        code,
        message: format!("{what}\n\n{}", results.tail(TAIL)),
    }
}

fn risks(
    files: &[PatchedFile],
    before: Option<&TestResults>,
    after: Option<&TestResults>,
) -> Vec<String> {
    let mut risks = Vec::new();
    let paths = |wanted: &dyn Fn(&PatchedFile) -> bool| -> Vec<String> {
        let found = files.iter().filter(|file| wanted(file));
        found
            .map(|file| format!("`{}`", code(&file.path)))
            .collect()
    };
    let mut risk = |what: &str, paths: Vec<String>| {
        if !paths.is_empty() {
            risks.push(format!("{what}: {}", listed(&paths)));
        }
    };
    risk(
        "Files are deleted",
        paths(&|file| file.status == Status::Deleted),
    );
    risk(
        "Tests themselves are changed",
        paths(&|file| is_test(&file.path)),
    );
    risk(
        "Dependencies or their versions are changed",
        paths(&|file| DEPENDENCIES.contains(&file_name(&file.path))),
    );
    risk(
        "Files that are no text are added or changed; look at them yourself",
        paths(&|file| file.binary_bytes.is_some()),
    );
    let lines: usize = files.iter().map(PatchedFile::changed_lines).sum();
    if lines > MANY_LINES {
        risks.push(format!("The change is large: {lines} lines"));
    }
    let Some(after) = after else {
        risks.push("The repository has no test command; nothing was tested".to_owned());
        return risks;
    };
    if after.ran_none() {
        risks.push("No tests were run: the test command found none".to_owned());
        return risks;
    }
    if let (Some(before), Some(after)) = (before.and_then(Count::read), Count::read(after))
        && let Some(fewer) = after.fewer_than(before)
    {
        let (before, after) = (before.tests, after.tests);
        let tests = if fewer == 1 { "test" } else { "tests" };
        risks.push(format!(
            "{fewer} {tests} fewer than before were run: {before} before, {after} after"
        ));
    }
    if before.is_some_and(TestResults::passed) {
        risks.push(
            "The tests were green before the change, so they do not show what it mends".to_owned(),
        );
    }
    risks
}

/// Some of the paths, and how many more there are.
fn listed(paths: &[String]) -> String {
    let mut list = paths[..paths.len().min(NAMED)].join(", ");
    if let Some(more @ 1..) = paths.len().checked_sub(NAMED) {
        let _ = write!(list, " and {more} more");
    }
    list
}

fn approval(files: &[PatchedFile], after: Option<&TestResults>) -> String {
    let files = match files.len() {
        1 => "1 file is changed".to_owned(),
        count => format!("{count} files are changed"),
    };
    match after {
        Some(after) if after.ran_none() => format!("{files}; no tests were run."),
        Some(_) => format!("{files} and the tests pass."),
        None => format!("{files}; there are no tests."),
    }
}

fn first_line(text: &str) -> String {
    first_line_of(text).to_owned()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_test(path: &str) -> bool {
    let name = file_name(path);
    let folder = path
        .split('/')
        .any(|part| matches!(part, "test" | "tests" | "__tests__" | "spec"));
    folder
        || name.starts_with("test_")
        || name.contains("_test.")
        || name.contains(".test.")
        || name.contains(".spec.")
}

#[cfg(test)]
mod tests {
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
}
