//! `review`: by rules, then by a second model where there is one. For the rules, OK means that there is
//! a change and the tests, if any, are green; what they refuse no model is asked about.
//!
//! Risks do not refuse; they stand in the pull request for those who merge it.

mod model;

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use patchfleet_domain::FailureKind;
use patchfleet_flow::{Node, NodeCall, NodeError};
use serde_json::{Value, json};

use super::NodeDeps;
use super::context::{optional, required};
use super::finding::{Finding, Source};
use super::patch::{PatchedFile, Status};
use super::summary::code;
use super::test::count::Count;
use super::test::{LeftOut, TestPart, TestResults};
use crate::draft::ModelWork;
pub(super) use model::ModelReview;

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
pub(super) struct Review(pub(super) Arc<NodeDeps>);

#[async_trait]
impl Node for Review {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let files: Vec<PatchedFile> = required(call.ctx, "workspace.files")?;
        let before: Option<TestResults> = optional(call.ctx, "tests.before")?;
        let after: Option<TestResults> = optional(call.ctx, "tests.results")?;
        let left_out: Option<Vec<LeftOut>> = optional(call.ctx, "tests.left_out")?;
        let mut risks = risks(&files, before.as_ref(), after.as_ref());
        risks.extend(untested(&left_out.unwrap_or_default()));
        let work: Option<ModelWork> = optional(call.ctx, "draft.model")?;
        risks.extend(work.as_ref().and_then(stopped));
        let unheard: Option<Vec<String>> = optional(call.ctx, "configuration.without_effect")?;
        risks.extend(without_effect(&unheard.unwrap_or_default()));
        let misnamed: Option<Vec<String>> = optional(call.ctx, "configuration.misnamed")?;
        risks.extend(unread(&misnamed.unwrap_or_default()));
        let mut findings = findings(&files, before.as_ref(), after.as_ref());
        let mut record = None;
        if findings.is_empty() {
            let change = model::Change::of(&self.0.task, call.ctx)?;
            risks.extend(change.marked());
            if let Some(reviewer) = &self.0.reviewer {
                let review = change.review(&self.0, reviewer, &call, &risks).await?;
                risks.extend(review.risks());
                findings = review.refusals();
                record = Some(review);
            }
        }
        let (status, summary) = match findings.first() {
            None => ("OK", approval(&files, after.as_ref())),
            Some(finding) => ("NG", first_line(&finding.message)),
        };
        Ok(json!({
            "review": {
                "status": status,
                "summary": summary,
                "risks": risks,
                "findings": findings,
                "model": record,
            },
        }))
    }
}

pub(super) fn findings(
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

/// Files that were meant to configure something, and do not.
fn unread(paths: &[String]) -> Option<String> {
    let names: Vec<_> = paths
        .iter()
        .take(NAMED)
        .map(|it| format!("`{it}`"))
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "Not read: {}; the configuration is called `.patchfleet.yaml` and lies in the root",
            names.join(", ")
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
mod tests;
