//! Text from outside on its way to a person: what would act on a terminal, forge a line or hide
//! from the eye is written out as an escape such as `\u{1b}`.
//!
//! Nothing is taken away, so that the reader sees that something was there. Absent: quoting for
//! Markdown or HTML, which is the work of whoever writes those.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::untrusted::{is_invisible, is_needed};

/// Escapes control characters, line ends, bidirectional controls and invisible characters, where
/// one line is expected: a terminal does not obey them and a log gets no forged line.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    escape(text, acts, write_escape)
}

/// Like [`visible_line`] for text of several lines: line ends and tabs stay, and a carriage return
/// before a line end is left out. One that stands alone would write over its line and is escaped.
pub fn visible_text(text: &str) -> Cow<'_, str> {
    let text = if text.contains("\r\n") {
        Cow::Owned(text.replace("\r\n", "\n"))
    } else {
        Cow::Borrowed(text)
    };
    let acts = |c| acts(c) && !matches!(c, '\n' | '\t');
    match escape(&text, acts, write_escape) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => Cow::Owned(escaped),
    }
}

/// Escapes the same characters in a JSON document, as `\u009b`: it stays one line and means the
/// same to programs. A JSON document has these characters within texts only.
pub fn visible_json(document: &str) -> Cow<'_, str> {
    escape(document, acts, |out, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a text can't fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// Whether a terminal, a log or a reader's eye may take the character for something else than a
/// sign: C0, DEL, C1, the separators of lines and paragraphs, and what shows as nothing.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_invisible(c)
}

fn escape(
    text: &str,
    acts: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    let Some(first) = text.find(&acts) else {
        return Cow::Borrowed(text);
    };
    let (clean, rest) = text.split_at(first);
    let mut escaped = clean.to_owned();
    let mut before = clean.chars().next_back();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        if acts(c) && !is_needed(c, before, chars.peek().copied()) {
            write(&mut escaped, c);
        } else {
            escaped.push(c);
        }
        before = Some(c);
    }
    Cow::Owned(escaped)
}

fn write_escape(out: &mut String, c: char) {
    match c {
        '\n' | '\r' | '\t' => out.extend(c.escape_default()),
        _ => out.extend(c.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_acts_on_a_terminal_is_written_out() {
        let title = "red \u{1b}[31m\u{1b}]0;pwned\u{7} x\u{9b}2J\u{7f}\r\n2026 INFO forged";
        assert_eq!(
            visible_line(title),
            r"red \u{1b}[31m\u{1b}]0;pwned\u{7} x\u{9b}2J\u{7f}\r\n2026 INFO forged"
        );
        assert_eq!(
            visible_line("user\u{202e}txt.exe\u{200b}\u{2066}\u{85}\u{2028}|\u{e0041}"),
            r"user\u{202e}txt.exe\u{200b}\u{2066}\u{85}\u{2028}|\u{e0041}"
        );
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        let text = "Grüße, 世界 — I \u{2764}\u{fe0f} C:\\new";
        assert_eq!(visible_line(text), text);
        let block = "one\n\ttwo\n";
        assert!(matches!(visible_text(block), Cow::Borrowed(it) if it == block));
    }

    #[test]
    fn several_lines_keep_their_ends_and_nothing_else() {
        assert_eq!(
            visible_text("one\r\ntwo\rTWO\u{8}\u{8}\n\u{2029}three"),
            "one\ntwo\\rTWO\\u{8}\\u{8}\n\\u{2029}three"
        );
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_left_and_nothing_is_lost(text in r"(\PC|[\x00-\x1f\x7f-\x9f]|[\u{200b}-\u{202e}\u{e0041}\u{fe0f}]){0,30}") {
            let line = visible_line(&text);
            let chars: Vec<_> = line.chars().collect();
            for (at, c) in chars.iter().enumerate().filter(|(_, c)| acts(**c)) {
                let before = at.checked_sub(1).map(|at| chars[at]);
                prop_assert!(is_needed(*c, before, chars.get(at + 1).copied()));
            }
            prop_assert!(line.chars().count() >= text.chars().count());
            prop_assert_eq!(visible_line(&line).into_owned(), line.into_owned());
            let lines = visible_text(&text);
            let left = lines.chars().find(|c| c.is_control() && !matches!(*c, '\n' | '\t'));
            prop_assert_eq!(left, None);
        }
    }

    #[test]
    fn a_document_means_the_same_to_programs() {
        assert_eq!(
            visible_json("{\"a\":\"x\u{9b}\u{202e}\u{e0041}\"}"),
            r#"{"a":"x\u009b\u202e\udb40\udc41"}"#
        );
    }
}
