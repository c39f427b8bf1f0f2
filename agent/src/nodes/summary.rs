//! What was done, for people. Pure: `publish` and `summarize` tell the same from the same.

use std::fmt::Write as _;

use patchfleet_domain::Spent;
use serde::{Deserialize, Serialize};

use super::TaskFacts;
use super::patch::{PatchedFile, Status};
use super::review::ModelReview;
use super::test::count::Count;
use super::test::{TestPart, TestResults, names};
use crate::sandbox::Isolation;
use crate::second_models::Words;
use crate::setup::SetupReport;

/// Most tests that are named.
const NAMED: usize = 30;
/// Most changed files that are listed.
const LISTED: usize = 100;
/// Longest summary as Markdown, in bytes: GitHub takes 65,536 characters of a pull request's text.
const LONGEST: usize = 60_000;

/// What a summary is made of.
pub(super) struct Facts<'a> {
    pub(super) task: &'a TaskFacts,
    pub(super) files: &'a [PatchedFile],
    pub(super) command: &'a [String],
    pub(super) before: Option<&'a TestResults>,
    pub(super) after: Option<&'a TestResults>,
    pub(super) risks: &'a [String],
    /// What installed the dependencies.
    pub(super) setup: Option<&'a SetupReport>,
    /// How the draft command was kept apart, where there was one.
    pub(super) drafted: Option<&'a Isolation>,
    /// What the task used of models so far.
    pub(super) spent: Spent,
    /// What a second model said of the change, where one did.
    pub(super) review: Option<&'a ModelReview>,
}

/// `ctx.summary.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) title: String,
    pub(super) changes: Vec<String>,
    pub(super) tests: Tested,
    pub(super) risks: Vec<String>,
    pub(super) next_actions: Vec<String>,
    /// What ran where, in a line; `null` when nothing ran.
    #[serde(default)]
    pub(super) isolation: Option<String>,
    /// What models cost the task so far; `null` when none was asked.
    #[serde(default)]
    pub(super) models: Option<String>,
    /// What a second model says of the change; `null` when none reviewed it.
    #[serde(default)]
    pub(super) review: Option<String>,
}

/// What the tests said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tested {
    pub(super) command: Vec<String>,
    /// How they ended before the change; `null` when they did not run.
    pub(super) before: Option<String>,
    /// How they ended after it; `null` when they did not run.
    pub(super) after: Option<String>,
    /// How each command ended, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<String>,
    /// Tests that failed before and pass now.
    pub(super) mended: Vec<String>,
}

impl Summary {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        Self {
            title: facts.task.title.clone(),
            changes: changes(facts.files),
            tests: Tested::of(facts),
            risks: facts.risks.to_vec(),
            next_actions: next_actions(facts),
            isolation: isolation(facts),
            models: facts.spent.words(),
            review: facts.review.and_then(ModelReview::words),
        }
    }

    /// Adds what a model says of the change, made inert; what the tests said stays the machine's.
    pub(super) fn put_into_words(&mut self, words: &Words) {
        self.title = prose(&words.title);
        let said = words.changes.iter().map(|change| prose(change));
        self.changes.splice(0..0, said);
        let left = words.next_actions.iter().map(|action| prose(action));
        self.next_actions.extend(left);
    }

    /// The summary as Markdown; redacted.
    pub(super) fn to_markdown(&self) -> String {
        let mut text = String::new();
        section(&mut text, "Changes", &self.changes);
        text.push_str("### Tests\n\n");
        text.push_str(&self.tests.to_markdown());
        text.push('\n');
        if let Some(isolation) = &self.isolation {
            let _ = writeln!(text, "{isolation}\n");
        }
        if let Some(models) = &self.models {
            let _ = writeln!(text, "### Models\n\n{models}\n");
        }
        section(&mut text, "Review", self.review.as_slice());
        section(&mut text, "Risks", &self.risks);
        section(&mut text, "Next", &self.next_actions);
        bounded(patchfleet_guard::redact(&text).into_owned(), LONGEST)
    }
}

/// The text's whole lines, as far as there is room, and a line that says that there were more.
fn bounded(mut text: String, longest: usize) -> String {
    if text.len() <= longest {
        return text;
    }
    let mut end = longest;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let end = text[..end].rfind('\n').map_or(end, |end| end + 1);
    text.truncate(end);
    text.push_str("\n*The rest is left out: the summary is too long.*\n");
    text
}

fn section(text: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = write!(text, "### {title}\n\n");
    for item in items {
        // One line each: what stands at the beginning of a line may be a command to some bot.
        let line: Vec<_> = item.lines().map(str::trim).collect();
        let _ = writeln!(text, "- {}", line.join(" "));
    }
    text.push('\n');
}

impl Tested {
    fn of(facts: &Facts<'_>) -> Self {
        let named = |results: &TestResults| names::parse(&results.stdout, &results.stderr);
        let mended = match (facts.before, facts.after) {
            (Some(before), Some(after)) if after.passed() => {
                let counts = Count::read(before).zip(Count::read(after));
                let all_run = counts.is_some_and(|(before, after)| after.tests >= before.tests);
                names::mended(&named(before), &named(after), all_run)
            }
            _ => Vec::new(),
        };
        Self {
            command: facts.command.to_vec(),
            before: facts.before.map(ending),
            after: facts.after.map(ending),
            parts: facts
                .after
                .map(|after| parts(facts.before, after))
                .unwrap_or_default(),
            mended,
        }
    }

    fn to_markdown(&self) -> String {
        let Some(after) = &self.after else {
            return "The repository has no test command; nothing was tested.\n".to_owned();
        };
        let mut text = format!("`{}`\n\n", code(&self.command.join(" ")));
        if let Some(before) = &self.before {
            let _ = writeln!(text, "- before the change: {before}");
        }
        let _ = writeln!(text, "- after the change: {after}");
        for part in &self.parts {
            let _ = writeln!(text, "- {part}");
        }
        if self.mended.is_empty() {
            return text;
        }
        text.push_str("\nFailed before and pass now:\n\n");
        for name in self.mended.iter().take(NAMED) {
            let _ = writeln!(text, "- `{}`", code(name));
        }
        if let Some(more @ 1..) = self.mended.len().checked_sub(NAMED) {
            let _ = writeln!(text, "- and {more} more");
        }
        text
    }
}

/// What ran where; nothing is said of what an earlier release ran.
fn isolation(facts: &Facts<'_>) -> Option<String> {
    let tested = facts.after.and_then(|after| after.isolation.as_ref());
    let parts = [("The draft command", facts.drafted), ("The tests", tested)];
    let parts = parts.into_iter().filter_map(|(what, isolation)| {
        isolation.map(|isolation| format!("{what} ran {}.", isolation.words()))
    });
    let line = facts.setup.map(SetupReport::words).into_iter().flatten();
    let line = line.chain(parts).collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then_some(line)
}

/// A line for each of several commands.
fn parts(before: Option<&TestResults>, after: &TestResults) -> Vec<String> {
    let line = |part: &TestPart| {
        let same = before.and_then(|it| it.parts.iter().find(|it| it.command == part.command));
        let before = same.map(|it| format!("{} before, ", part_ending(it)));
        format!(
            "`{}`: {}{} after",
            code(&part.command.join(" ")),
            before.unwrap_or_default(),
            part_ending(part)
        )
    };
    after.parts.iter().map(line).collect()
}

fn part_ending(part: &TestPart) -> String {
    match part.returncode {
        _ if part.ran_none => "no tests were run".to_owned(),
        _ if part.timed_out => "no end".to_owned(),
        Some(code) => format!("exit code {code}"),
        None => "no result".to_owned(),
    }
}

/// How the tests ended before and after a change, as the machine knows it.
pub(super) fn endings(before: Option<&TestResults>, after: Option<&TestResults>) -> Vec<String> {
    let line =
        |when: &str, results: &TestResults| format!("{when} the change: {}", ending(results));
    let before = before.map(|results| line("before", results));
    let after = after.map(|results| line("after", results));
    before.into_iter().chain(after).collect()
}

fn ending(results: &TestResults) -> String {
    let seconds = std::time::Duration::from_millis(results.duration_ms).as_secs_f64();
    if let Some(limit) = results.void() {
        return format!("no result after {seconds:.1} s: {limit}");
    }
    match results.returncode {
        Some(code) if results.ran_none() => {
            format!("no tests were run (exit code {code} after {seconds:.1} s)")
        }
        _ if results.timed_out => format!("no end within {seconds:.1} s"),
        Some(code) => format!("exit code {code} after {seconds:.1} s"),
        None => format!("ended by a signal after {seconds:.1} s"),
    }
}

/// A line for each file, and one for those that are not named.
fn changes(files: &[PatchedFile]) -> Vec<String> {
    let more = files.len().checked_sub(LISTED).filter(|more| *more > 0);
    let more = more.map(|more| format!("and {more} more files"));
    files.iter().take(LISTED).map(change).chain(more).collect()
}

fn change(file: &PatchedFile) -> String {
    let path = code(&file.path);
    let (added, removed) = (file.added, file.removed);
    if let Some(bytes) = file.binary_bytes {
        let is_new = if file.status == Status::Added {
            " is new"
        } else {
            ""
        };
        return format!("`{path}`{is_new} (no text, {bytes} bytes)");
    }
    match file.status {
        Status::Added if added == 1 => format!("`{path}` is new (1 line)"),
        Status::Added => format!("`{path}` is new ({added} lines)"),
        Status::Deleted => format!("`{path}` is deleted"),
        Status::Changed => format!("`{path}` (+{added} −{removed})"),
    }
}

fn next_actions(facts: &Facts<'_>) -> Vec<String> {
    let mut actions = vec!["Review the pull request and merge it".to_owned()];
    if facts.after.is_none_or(TestResults::ran_none) {
        actions.push("Set `test` in `.patchfleet.yaml`, so that changes are tested".to_owned());
    }
    actions
}

/// Text of others that can stand between back-ticks: it can't leave them, hide anything in them, or
/// forge the mark by which a pull request is known as a task's. It refers to nothing either: the text of
/// a pull request may become the message of a commit, where back-ticks mean nothing.
pub(super) fn code(text: &str) -> String {
    let visible = patchfleet_guard::visible_line(text);
    let visible = visible.replace('`', "'").replace("<!--", "<\u{200B}!--");
    patchfleet_guard::without_references(&visible)
}

/// Words of a model as a line of ours: it refers to nothing, embeds nothing and hides nothing.
pub(super) fn prose(text: &str) -> String {
    let bare = patchfleet_guard::strip_hidden(text).text;
    let words: Vec<_> = bare.split_whitespace().collect();
    let visible = patchfleet_guard::visible_line(&words.join(" ")).into_owned();
    let plain = visible.replace('<', "\\<").replace('[', "\\[");
    patchfleet_guard::without_references(&plain)
}
