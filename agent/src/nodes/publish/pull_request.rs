//! The words of commit and pull request.

use patchfleet_domain::task::task_mark;
use patchfleet_guard::{redact, strip_hidden, without_references};

use super::PullRequestDraft;
use crate::nodes::summary::Summary;
use crate::nodes::{NodeDeps, TaskFacts};

/// The trailer that marks a commit as Patchfleet's.
pub(super) const TASK_TRAILER: &str = "Patchfleet-Task";
/// Longest first line of a commit, in characters.
const SUBJECT: usize = 72;
/// Longest title of a pull request, in characters.
const TITLE: usize = 200;

pub(super) fn commit_message(task: &TaskFacts) -> String {
    let issue = task.issue.map(|issue| format!("For #{issue}.\n\n"));
    format!(
        "{}\n\n{}{TASK_TRAILER}: {}\nPatchfleet-Attempt: {}\n",
        title_line(&task.title, SUBJECT),
        issue.unwrap_or_default(),
        task.work.task,
        task.work.attempt,
    )
}

pub(super) fn draft(deps: &NodeDeps, summary: &Summary) -> PullRequestDraft {
    let task = &deps.task;
    let issue = task.issue.map(|issue| format!("Fixes #{issue}\n\n"));
    let body = format!(
        "{}{}\n{}\n",
        issue.unwrap_or_default(),
        summary.to_markdown(),
        task_mark(task.work.task),
    );
    PullRequestDraft {
        title: title_line(&task.title, TITLE),
        body: redact(&body).into_owned(),
        head: task.branch.clone(),
        base: task.default_branch.clone(),
        draft: deps.publishing.draft,
    }
}

/// The title of others as one line of ours: no secret, nothing hidden, nothing that a terminal or
/// GitHub acts on, such as `closes #1`, which would close that issue when the change is merged.
fn title_line(title: &str, limit: usize) -> String {
    // Redacted before it is cut: half a secret would not be known as one.
    let clean = redact(&strip_hidden(title).text).into_owned();
    without_references(&one_line(&clean, limit))
}

/// One line, cut at a word where it is too long. Control characters are written out.
fn one_line(text: &str, limit: usize) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !c.is_whitespace() {
            visible.extend(c.escape_unicode());
        } else {
            visible.push(c);
        }
    }
    let mut line = String::new();
    let mut length = 0;
    for word in visible.split_whitespace() {
        let word_length = word.chars().count();
        if length + word_length + 1 > limit && !line.is_empty() {
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(limit));
        length += word_length + 1;
    }
    if line.is_empty() {
        "Change".to_owned()
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_becomes_one_short_line() {
        assert_eq!(one_line("  Totals\n\nare\twrong ", 72), "Totals are wrong");
        assert_eq!(one_line("one two three", 8), "one two…");
        assert_eq!(one_line(&"x".repeat(100), 10), "x".repeat(10));
        assert_eq!(one_line(" \n", 10), "Change");
        assert_eq!(one_line("red \u{1b}[31m", 72), "red \\u{1b}[31m");
    }

    #[test]
    fn the_words_of_outsiders_do_nothing_in_a_title() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for (title, expected) in [
            ("Fix X, closes #1", "Fix X, closes #\u{200B}1"),
            ("closes #<!-- -->1 @mona", "closes #\u{200B}1 @\u{200B}mona"),
            ("[skip ci] it", "[\u{200B}skip ci] it"),
            ("a\u{1b}]0;owned\u{7}b", "a\\u{1b}]0;owned\\u{7}b"),
        ] {
            assert_eq!(title_line(title, SUBJECT), expected);
        }
        let cut = title_line(&format!("a key of mine {token}"), 30);
        assert_eq!(cut, "a key of mine [redacted]");
    }
}
