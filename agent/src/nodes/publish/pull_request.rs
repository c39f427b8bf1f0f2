//! The words of commit and pull request.

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
    let text = format!(
        "{}\n\n{}{TASK_TRAILER}: {}\nPatchfleet-Attempt: {}\n",
        one_line(&task.title, SUBJECT),
        issue.unwrap_or_default(),
        task.work.task,
        task.work.attempt,
    );
    patchfleet_guard::redact(&text).into_owned()
}

pub(super) fn draft(deps: &NodeDeps, summary: &Summary) -> PullRequestDraft {
    let task = &deps.task;
    let issue = task.issue.map(|issue| format!("Fixes #{issue}\n\n"));
    let body = format!(
        "{}{}\n<!-- patchfleet:task:{} -->\n",
        issue.unwrap_or_default(),
        summary.to_markdown(),
        task.work.task,
    );
    PullRequestDraft {
        title: patchfleet_guard::redact(&one_line(&task.title, TITLE)).into_owned(),
        body: patchfleet_guard::redact(&body).into_owned(),
        head: task.branch.clone(),
        base: task.default_branch.clone(),
        draft: deps.publishing.draft,
    }
}

/// One line without hidden text, cut at a word where it is too long.
fn one_line(text: &str, limit: usize) -> String {
    let text = patchfleet_guard::strip_hidden(text).text;
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
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
    }
}
