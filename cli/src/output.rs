//! What people and programs see on standard output and standard error.
//!
//! Titles, logs and errors come from outside; nothing of them acts on the terminal, and one line
//! stays one line. Colours are added here and nowhere else.

use std::io::{IsTerminal as _, Write as _};

use chrono::{DateTime, Utc};
use patchfleet_guard::{visible_json, visible_line};
use serde::Serialize;

/// Text for people or one JSON object per line; never both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

/// How a word stands out on a terminal that shows colour.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tone {
    /// Went well.
    Good,
    /// Went wrong.
    Bad,
    /// Worth a look.
    Notice,
    /// Beside the point.
    Quiet,
}

/// One line in parts, some of which stand out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Vec<(Option<Tone>, String)>);

impl Line {
    /// A line that begins with a word that stands out.
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self::default().and_toned(tone, text)
    }

    /// Adds a word that stands out.
    pub(crate) fn and_toned(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.0.push((Some(tone), text.into()));
        self
    }

    /// Adds text.
    pub(crate) fn and(mut self, text: impl Into<String>) -> Self {
        self.0.push((None, text.into()));
        self
    }

    fn render(&self, colour: bool) -> String {
        let parts = self.0.iter().map(|(tone, text)| {
            let text = visible_line(text);
            match tone.filter(|_| colour) {
                Some(tone) => format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code()),
                None => text.into_owned(),
            }
        });
        parts.collect()
    }
}

impl<T: Into<String>> From<T> for Line {
    fn from(text: T) -> Self {
        Self::default().and(text)
    }
}

impl std::fmt::Display for Line {
    /// Without colour.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// An error with all its causes, each once: some errors repeat their cause in their own words.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// A moment, as people read it.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

impl Tone {
    /// The parameter of the escape sequence that selects the colour (ECMA-48, SGR).
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Notice => "33",
            Self::Quiet => "2",
        }
    }
}

impl Output {
    /// JSON when asked for; colour when a terminal shows it and `NO_COLOR` is not set.
    pub(crate) fn new(json: bool) -> Self {
        let colour =
            !json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colour }
    }

    /// True when programs read the output: JSON, one object a line.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// One object on one line, for programs only.
    pub(crate) fn object(self, object: &impl Serialize) {
        if self.json {
            let line = serde_json::to_string(object).unwrap_or_default();
            Self::write(&visible_json(&line));
        }
    }

    /// One line for people only.
    pub(crate) fn line(self, line: impl Into<Line>) {
        if !self.json {
            Self::write(&line.into().render(self.colour));
        }
    }

    /// Text of several lines below what it belongs to, for people only.
    pub(crate) fn block(self, text: &str) {
        for line in text.lines() {
            // A tab of git's is a space between words.
            let line = line.replace('\t', " ");
            self.line(format!("    {line}"));
        }
    }

    /// Why the command failed, with every cause, on standard error.
    pub(crate) fn error(self, error: &anyhow::Error) {
        let message = explain(error);
        let line = if self.json {
            let object = serde_json::json!({ "event": "error", "message": message });
            visible_json(&object.to_string()).into_owned()
        } else {
            format!("patchfleet: {}", visible_line(&message))
        };
        // Nothing can be told to anyone when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// A reader that went away is no reason to stop working.
    fn write(line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_neither_acts_on_the_terminal_nor_takes_a_second_line() {
        let line =
            Line::toned(Tone::Bad, "fail\u{1b}[0med").and("  red \u{1b}[31m\u{9b}2J\nforged");
        assert_eq!(
            line.render(true),
            "\u{1b}[31mfail\\u{1b}[0med\u{1b}[0m  red \\u{1b}[31m\\u{9b}2J\\nforged"
        );
        assert!(!line.to_string().contains('\u{1b}'), "{line}");
    }
}
