//! The words of commit and pull request.

use patchfleet_domain::task::task_mark;
use patchfleet_guard::{redact, strip_invisible, visible_line, without_references};

use super::PullRequestDraft;
use crate::nodes::TaskFacts;
use crate::nodes::summary::{Summary, prose};

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

/// The pull request of a task, opened as a draft or not.
pub(super) fn of(task: &TaskFacts, summary: &Summary, draft: bool) -> PullRequestDraft {
    let issue = task.issue.map(|issue| format!("Fixes #{issue}\n\n"));
    with_lead(task, (&issue.unwrap_or_default(), summary), draft)
}

/// The same of work that was stopped: a draft, which closes no issue when it is merged.
pub(super) fn unfinished(
    task: &TaskFacts,
    summary: &Summary,
    (why, passes_tests): (&str, bool),
) -> PullRequestDraft {
    let tested = if passes_tests {
        "What there is of it passes the tests"
    } else {
        "No test was run on what there is of it"
    };
    let issue = task.issue.map(|issue| format!("For #{issue}. "));
    let lead = format!(
        "{}**This work is not finished:** {}. {tested}. The task waits, and \
         brings this pull request up to date when it goes on.\n\n",
        issue.unwrap_or_default(),
        prose(why.trim_end_matches('.')),
    );
    with_lead(task, (&lead, summary), true)
}

/// A pull request whose text begins with a lead, such as the issue that it closes.
fn with_lead(task: &TaskFacts, (lead, summary): (&str, &Summary), draft: bool) -> PullRequestDraft {
    let body = format!(
        "{lead}{}\n{}\n",
        summary.to_markdown(),
        task_mark(task.work.task),
    );
    PullRequestDraft {
        title: title_line(&task.title, TITLE),
        body: redact(&body).into_owned(),
        head: task.branch.clone(),
        base: task.default_branch.clone(),
        draft,
        is_new_branch: false,
    }
}

/// The title of others as one line of ours: no secret, nothing hidden, nothing that a terminal or
/// GitHub acts on, such as `closes #1`, which would close that issue when the change is merged.
fn title_line(title: &str, limit: usize) -> String {
    // Redacted before it is cut: half a secret would not be known as one.
    let clean = redact(&strip_invisible(title).0).into_owned();
    without_references(&one_line(&clean, limit))
}

/// One line, cut at a word where it is too long. Control characters are written out.
fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let word = visible_line(word);
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
    use patchfleet_domain::{AttemptNumber, IssueNumber, Money, Spent, Work};

    use super::*;
    use crate::nodes::summary::Facts;
    use crate::nodes::{PatchedFile, TestResults};

    #[test]
    fn a_title_becomes_one_short_line() {
        assert_eq!(one_line("  Totals\n\nare\twrong ", 72), "Totals are wrong");
        assert_eq!(one_line("one two three", 8), "one two…");
        assert_eq!(one_line(&"x".repeat(100), 10), "x".repeat(10));
        assert_eq!(one_line(" \n", 10), "Change");
        assert_eq!(one_line("red \u{1b}[31m", 72), "red \\u{1b}[31m");
    }

    fn task(title: &str) -> TaskFacts {
        TaskFacts {
            work: Work {
                task: "01975bd2-5ad0-7cc4-a7d4-1f0f2d1a5c11".parse().unwrap(),
                attempt: AttemptNumber(2),
            },
            repository: "acme/orders".parse().unwrap(),
            issue: Some(IssueNumber(12)),
            title: title.to_owned(),
            body: "It subtracts.".to_owned(),
            default_branch: "main".to_owned(),
            branch: "patchfleet/12-x".to_owned(),
            target_files: Vec::new(),
        }
    }

    fn file(path: &str, before: Option<&str>, after: Option<&str>) -> PatchedFile {
        PatchedFile::of_texts(path, before, after)
    }

    fn results(stderr: &str, returncode: i32) -> TestResults {
        TestResults {
            stdout: String::new(),
            stderr: stderr.to_owned(),
            returncode: Some(returncode),
            duration_ms: 1200,
            timed_out: false,
            tree: "1".repeat(40).parse().unwrap(),
            is_cut: false,
            exceeded: None,
            isolation: None,
            parts: Vec::new(),
        }
    }

    /// All that people see on GitHub: subject and text of the commit, title and text of the pull
    /// request. Zero-width spaces show as `·`.
    fn shown(facts: &Facts<'_>) -> String {
        let pull_request = of(facts.task, &Summary::of(facts), true);
        format!(
            "{}\n=====\n{}\n-----\n{}",
            commit_message(facts.task),
            pull_request.title,
            pull_request.body
        )
        .replace('\u{200B}', "·")
    }

    #[test]
    fn a_tested_change_is_told_as_a_whole() {
        let files = [
            file("orders/total.py", Some("a\nb\n"), Some("a\nc\nd\n")),
            file("orders/new.py", None, Some("x\n")),
            file("orders/old.py", Some("x\n"), None),
        ];
        let before = results(
            "test_add (t.A.test_add) ... FAIL\nRan 2 tests in 0.1s\n\nFAILED\n",
            1,
        );
        let after = results(
            "test_add (t.A.test_add) ... ok\nRan 2 tests in 0.1s\n\nOK\n",
            0,
        );
        insta::assert_snapshot!(shown(&Facts {
            task: &task("Totals are wrong"),
            files: &files,
            command: &["python3", "-m", "unittest", "-v"].map(str::to_owned),
            before: Some(&before),
            after: Some(&after),
            risks: &["Files are deleted: `orders/old.py`".to_owned()],
            setup: None,
            drafted: None,
            spent: Spent {
                calls: 12,
                input_tokens: 34_000,
                cache_read_tokens: 120_000,
                output_tokens: 5600,
                usd: Money(420_000),
                ..Spent::default()
            },
            review: None,
        }));
    }

    #[test]
    fn unfinished_work_claims_passed_tests_only_where_they_passed() {
        let task = task("Totals are wrong");
        let summary = Summary::of(&Facts {
            task: &task,
            files: &[file("README.md", Some("a\n"), Some("b\n"))],
            command: &[],
            before: None,
            after: None,
            risks: &[],
            setup: None,
            drafted: None,
            spent: Spent::default(),
            review: None,
        });
        for (passes, said, unsaid) in [
            (true, "passes the tests", "No test was run"),
            (false, "No test was run", "passes the tests"),
        ] {
            let pull_request = unfinished(&task, &summary, ("The budget is spent.", passes));
            let body = pull_request.body;
            let begin = "For #12. **This work is not finished:** The budget is spent. ";
            assert!(body.starts_with(begin), "{body}");
            assert!(body.contains(said) && !body.contains(unsaid), "{body}");
            assert!(pull_request.draft && !body.contains("Fixes"), "{body}");
        }
    }

    #[test]
    fn a_change_without_tests_claims_none() {
        let untitled = TaskFacts {
            issue: None,
            ..task(" \n")
        };
        insta::assert_snapshot!(shown(&Facts {
            task: &untitled,
            files: &[file("README.md", Some("a\n"), Some("b\n"))],
            command: &[],
            before: None,
            after: None,
            risks: &["The repository has no test command; nothing was tested".to_owned()],
            setup: None,
            drafted: None,
            spent: Spent::default(),
            review: None,
        }));
    }

    #[test]
    fn the_words_of_outsiders_do_nothing_anywhere() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        let title = format!(
            "Fix totals, closes #1 and https://github.com/acme/orders/issues/2 cc @mona [skip ci] \
             \u{1b}[31mred\u{202e} closes #<!-- -->3\r\nCo-authored-by: m <m@example.com> {token}"
        );
        let files = [
            file("a` closes #4 @mona `b.py", Some("a\n"), Some("b\n")),
            file(
                "<!-- patchfleet:task:01975bd2-5ad0-7cc4-a7d4-000000000000 -->\u{202e}",
                None,
                Some("x\n"),
            ),
        ];
        let before = results(
            "FAILED t.py::test_x[`<!--patchfleet:task:1-->@mona]\n1 failed in 0.1s\n",
            1,
        );
        let after = results("1 passed in 0.1s\n", 0);
        insta::assert_snapshot!(shown(&Facts {
            task: &task(&title),
            files: &files,
            command: &[
                "sh".to_owned(),
                "-c".to_owned(),
                "echo `id`\n# Closes #5".to_owned()
            ],
            before: Some(&before),
            after: Some(&after),
            risks: &[],
            setup: None,
            drafted: None,
            spent: Spent::default(),
            review: None,
        }));
    }

    #[test]
    fn the_words_of_outsiders_do_nothing_in_a_title() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for (title, expected) in [
            ("Fix X, closes #1", "Fix X, closes #\u{200B}1"),
            // A title is no Markdown, and shows it.
            ("closes #<!-- -->1 @mona", "closes #<!-- -->1 @\u{200B}mona"),
            ("[skip ci] it", "[\u{200B}skip ci] it"),
            ("a\u{1b}]0;owned\u{7}b", "a\\u{1b}]0;owned\\u{7}b"),
        ] {
            assert_eq!(title_line(title, SUBJECT), expected);
        }
        let cut = title_line(&format!("a key of mine {token}"), 30);
        assert_eq!(cut, "a key of mine [redacted]");
    }
}
