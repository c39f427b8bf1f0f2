//! What people and programs see on standard output and standard error.

use std::io::{IsTerminal as _, Write as _};

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

impl Output {
    /// JSON when asked for; colour when a terminal shows it and `NO_COLOR` is not set.
    pub(crate) fn new(json: bool) -> Self {
        let colour =
            !json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colour }
    }

    /// One object on one line, for programs only.
    pub(crate) fn object(self, object: &impl Serialize) {
        if self.json {
            let line = serde_json::to_string(object).unwrap_or_default();
            Self::write(&line);
        }
    }

    /// One line for people only.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        if !self.json {
            Self::write(text.as_ref());
        }
    }

    /// A word, coloured where that shows.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Notice => "33",
            Tone::Quiet => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Why the command failed, with every cause, on standard error.
    pub(crate) fn error(self, error: &anyhow::Error) {
        let message = error
            .chain()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ");
        let line = if self.json {
            serde_json::json!({ "event": "error", "message": message }).to_string()
        } else {
            format!("patchfleet: {message}")
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
