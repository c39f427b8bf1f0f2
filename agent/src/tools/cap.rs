//! Results that are too long for a model: what is left out is said first and where it is missing,
//! and all of it can be read and searched as `output:N`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// Longest result that the model is shown.
pub(super) const RESULT: usize = 16 * 1024;
/// Longest sum of the results of one turn.
pub(super) const TURN: usize = 64 * 1024;
/// What a result has in any case, however much its turn had before.
pub(super) const LEAST: usize = 2 * 1024;
/// Longest line that is shown whole.
pub(super) const LINE: usize = 1_000;
/// Begins the name of an output that was kept.
pub(super) const PREFIX: &str = "output:";
/// Most that all outputs together may take in memory.
const KEPT: usize = 32 << 20;
/// Most lines that tell of failures and are shown from what is left out.
const FAILURES: usize = 40;

/// Lines by which test runners and compilers tell of a failure.
static FAILURE: LazyLock<Regex> = LazyLock::new(|| {
    let parts = [
        r"\bFAIL(?:ED|URE|URES)?\b",
        r"\b[Ee]rror(?:\[\w+\])?:",
        r"\b\w*(?:Error|Exception)\b",
        r"\bpanicked at\b",
        r"^\s*not ok\b",
        r"^\s*[\u{2717}\u{2718}\u{2716}\u{00d7}\u{25cf}] ",
        r"^E\s{2,}",
    ];
    Regex::new(&parts.join("|")).expect("a test uses the pattern")
});

/// Outputs that were longer than what was shown, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    kept: VecDeque<(u32, String)>,
    count: u32,
}

/// Which lines of what is left out are still worth their room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Ends,
    /// Those that tell of failures too.
    Failures,
}

impl Outputs {
    /// The text as the model sees it; one that is too long is kept.
    pub(super) fn show(&mut self, text: String, room: usize, keep: Keep) -> String {
        if text.len() <= room {
            return text;
        }
        self.count += 1;
        let name = format!("{PREFIX}{}", self.count);
        let shown = shortened(&text, (room, keep), &name);
        self.kept.push_back((self.count, text));
        let mut bytes: usize = self.kept.iter().map(|(_, text)| text.len()).sum();
        while bytes > KEPT && self.kept.len() > 1 {
            bytes -= self.kept.pop_front().map_or(0, |(_, text)| text.len());
        }
        shown
    }

    /// An output by its name; nothing for what is a path.
    pub(super) fn get(&self, name: &str) -> Option<Result<&str, String>> {
        let number: u32 = name.strip_prefix(PREFIX)?.parse().ok()?;
        let found = self.kept.iter().find(|(it, _)| *it == number);
        Some(match found {
            Some((_, text)) => Ok(text),
            None => Err(format!(
                "there is no `{name}`: only results that were cut are kept, the newest of them; run \
                 it again"
            )),
        })
    }
}

/// The first fifth and the last four fifths of what fits: the end of an output says how it went.
fn shortened(text: &str, (room, keep): (usize, Keep), name: &str) -> String {
    let head = line_end(text, room / 5);
    let tail = line_start(text, text.len() - room * 4 / 5);
    let lines = |part: &str| part.lines().count();
    let gone = head..tail;
    let first = lines(&text[..head]) + 1;
    let last = first + lines(&text[gone.clone()]).saturating_sub(1);
    let mut shown = format!(
        "[{} of {} bytes, the lines {first} to {last} of {}, are left out below: `read_file` and \
         `search` take `{name}` as a path]\n",
        gone.len(),
        text.len(),
        lines(text)
    );
    push_lines(&mut shown, &text[..head]);
    let _ = writeln!(
        shown,
        "[the lines {first} to {last} of `{name}` are left out here]"
    );
    if keep == Keep::Failures {
        failures(&mut shown, text, (gone, first), room / 5);
    }
    push_lines(&mut shown, &text[tail..]);
    shown
}

fn failures(shown: &mut String, text: &str, (gone, first): (Range<usize>, usize), room: usize) {
    let lines = text[gone].lines().zip(first..);
    let told = lines.filter(|(line, _)| FAILURE.is_match(line));
    let mut bytes = 0;
    for (line, number) in told.take(FAILURES) {
        bytes += line.len().min(LINE);
        if bytes > room {
            return;
        }
        let _ = writeln!(shown, "[line {number}] {}", cut_line(line));
    }
}

fn push_lines(shown: &mut String, text: &str) {
    for line in text.lines() {
        shown.push_str(&cut_line(line));
        shown.push('\n');
    }
}

/// A line that is not longer than what a reader takes in.
pub(super) fn cut_line(line: &str) -> String {
    if line.len() <= LINE {
        return line.to_owned();
    }
    let mut end = LINE;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}[and {} more bytes]", &line[..end], line.len() - end)
}

/// The end of the last whole line before a place; the place, where the line is longer.
fn line_end(text: &str, place: usize) -> usize {
    let place = floor(text, place);
    text[..place].rfind('\n').map_or(place, |end| end + 1)
}

/// The start of the first whole line after a place; the place, where there is none.
fn line_start(text: &str, place: usize) -> usize {
    let place = floor(text, place);
    let rest = &text[place..];
    match rest.find('\n') {
        Some(end) if end + 1 < rest.len() => place + end + 1,
        _ => place,
    }
}

fn floor(text: &str, mut place: usize) -> usize {
    while !text.is_char_boundary(place) {
        place -= 1;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> String {
        (1..=count).fold(String::new(), |mut text, number| {
            let _ = writeln!(text, "line {number}");
            text
        })
    }

    #[test]
    fn what_is_short_is_shown_whole() {
        let mut outputs = Outputs::default();
        assert_eq!(outputs.show("a\n".to_owned(), 10, Keep::Ends), "a\n");
        assert!(outputs.get("output:1").unwrap().is_err());
        assert!(outputs.get("src/main.rs").is_none());
    }

    #[test]
    fn what_is_left_out_is_said_first_and_at_the_cut_and_can_be_had() {
        let mut outputs = Outputs::default();
        let text = lines(1000);
        let shown = outputs.show(text.clone(), 1000, Keep::Ends);
        let notice =
            "lines 27 to 912 of 1000, are left out below: `read_file` and `search` take `output:1`";
        assert!(shown.lines().next().unwrap().contains(notice), "{shown}");
        assert!(
            shown.contains(
                "line 26\n[the lines 27 to 912 of `output:1` are left out here]\nline 913\n"
            ),
            "{shown}"
        );
        assert!(shown.ends_with("line 1000\n"));
        assert!(shown.len() < 1300);
        assert_eq!(outputs.get("output:1").unwrap().unwrap(), text);
    }

    #[test]
    fn failures_in_the_middle_are_shown() {
        let mut text = lines(500);
        text.push_str("test git::reads ... FAILED\nerror[E0308]: mismatched types\n");
        text.push_str(&lines(500));
        let shown = Outputs::default().show(text.clone(), 1000, Keep::Failures);
        assert!(
            shown.contains("[line 501] test git::reads ... FAILED\n[line 502] error[E0308]"),
            "{shown}"
        );
        let shown = Outputs::default().show(text, 1000, Keep::Ends);
        assert!(!shown.contains("FAILED"));
    }

    #[test]
    fn one_line_without_end_is_cut_as_well() {
        let mut outputs = Outputs::default();
        let shown = outputs.show("\u{e9}".repeat(100_000), RESULT, Keep::Failures);
        assert!(shown.len() < RESULT + 500, "{}", shown.len());
        assert!(shown.contains("more bytes]"), "{shown}");
    }

    #[test]
    fn the_oldest_outputs_go_when_there_are_too_many() {
        let mut outputs = Outputs::default();
        for _ in 0..5 {
            outputs.show("x\n".repeat(4 << 20), RESULT, Keep::Ends);
        }
        assert!(outputs.get("output:1").unwrap().is_err());
        assert!(outputs.get("output:5").unwrap().is_ok());
    }
}
