//! `search`: lines that match a pattern, found by ripgrep's library.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use globset::GlobMatcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use serde::Deserialize;
use serde_json::json;

use super::list_files::{glob, is_match};
use super::text::shown;
use super::view::View;
use super::{Answer, Call, Definition, Tools, as_data, view};

/// Most matching lines that are shown.
const MATCHES: usize = 100;
/// Longest part of a line that is shown.
const LINE: usize = 300;
/// Most that a compiled pattern may take.
const PATTERN: usize = 4 << 20;
/// Longest that a search may take.
const TIME: Duration = Duration::from_secs(20);

/// The arguments of `search`, as its schema has them.
#[derive(Debug, Deserialize)]
struct Arguments {
    pattern: String,
    path: Option<String>,
    glob: Option<String>,
    literal: Option<bool>,
    ignore_case: Option<bool>,
    context: Option<usize>,
    ignored: Option<bool>,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "search",
        description: "Finds lines that match a regular expression (Rust's syntax), in all files or \
                      in one file or folder, or in `output:N`, the whole of a result that was cut.",
        parameters: json!({
            "type": "object",
            "properties": {
                "pattern": {"type": "string", "minLength": 1, "maxLength": 1000},
                "path": {"type": "string", "description": "A file or folder; the whole repository by default"},
                "glob": {"type": "string", "description": "Only files that match, such as `*.py`"},
                "literal": {"type": "boolean", "description": "The pattern is plain text"},
                "ignore_case": {"type": "boolean"},
                "context": {"type": "integer", "minimum": 0, "maximum": 5, "description": "Lines around each match"},
                "ignored": {"type": "boolean", "description": "Also what `.gitignore` leaves out, such as installed packages"},
            },
            "required": ["pattern"],
            "additionalProperties": false,
        }),
    }
}

pub(super) async fn run(tools: &mut Tools<'_>, call: Call<'_>) -> Result<Answer, String> {
    let arguments: Arguments = call.read()?;
    let searching = Searching::new(&arguments)?;
    let path = arguments.path.clone().unwrap_or_default();
    let hits = if let Some(output) = tools.outputs.get(&path) {
        let mut hits = Hits::default();
        searching.file(&path, output?.as_bytes(), &mut hits)?;
        hits
    } else {
        let path = view::plain(&path)?.to_owned();
        let (tracked, is_all) = (tools.tracked.clone(), arguments.ignored.unwrap_or_default());
        let found = tools.on_disk(move |view| searching.all(view, &path, (&tracked, is_all)));
        found.await?
    };
    let mut title = format!("{} matching lines in {} files", hits.matches, hits.files);
    if hits.matches > hits.shown {
        let _ = write!(
            title,
            "; the first {} are shown, give `path`, `glob` or a closer pattern to see others",
            hits.shown
        );
    }
    for note in &hits.notes {
        let _ = write!(title, "; {note}");
    }
    title.push('\n');
    if hits.text.is_empty() {
        return Ok(Answer::new(title));
    }
    let text = tools
        .outputs
        .show(hits.text, call.room, super::cap::Keep::Ends);
    Ok(Answer::new(format!("{title}{}", as_data(&text))))
}

/// One search.
struct Searching {
    matcher: RegexMatcher,
    glob: Option<GlobMatcher>,
    context: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Hits {
    pub(super) text: String,
    pub(super) matches: usize,
    shown: usize,
    pub(super) files: usize,
    notes: Vec<String>,
}

impl Searching {
    fn new(arguments: &Arguments) -> Result<Self, String> {
        let matcher = RegexMatcherBuilder::new()
            .case_insensitive(arguments.ignore_case.unwrap_or_default())
            .fixed_strings(arguments.literal.unwrap_or_default())
            .size_limit(PATTERN)
            .dfa_size_limit(PATTERN)
            .line_terminator(Some(b'\n'))
            .build(&arguments.pattern);
        let matcher = matcher.map_err(|error| {
            format!(
                "`pattern` is no regular expression of single lines: {error}. For plain text, give \
                 `literal` as well"
            )
        })?;
        Ok(Self {
            matcher,
            glob: arguments.glob.as_deref().map(glob).transpose()?,
            context: arguments.context.unwrap_or_default(),
        })
    }

    fn all(
        &self,
        view: &View,
        path: &str,
        rules: (&BTreeSet<String>, bool),
    ) -> Result<Hits, String> {
        let started = Instant::now();
        let mut hits = Hits::default();
        let listing = view.files(path, rules)?;
        let (mut unread, mut is_late) = (0, listing.is_cut);
        for file in listing.files.iter().filter(|file| !file.is_link) {
            if !is_match(self.glob.as_ref(), &file.path) {
                continue;
            }
            if started.elapsed() > TIME {
                is_late = true;
                break;
            }
            match view.read(&file.path) {
                Ok(source) => self.file(&file.path, &source.content, &mut hits)?,
                Err(_) => unread += 1,
            }
        }
        if is_late {
            hits.notes
                .push("not all files were looked at: give `path`".to_owned());
        }
        if unread > 0 {
            hits.notes
                .push(format!("{unread} files can't be read or are too large"));
        }
        Ok(hits)
    }

    /// Searches what the model may see of a file. Most files have no match, so that what they hide
    /// is of no matter.
    fn file(&self, path: &str, content: &[u8], hits: &mut Hits) -> Result<(), String> {
        let mut any = Any(false);
        let plain = plain_ends(content);
        self.search(&plain, 0, &mut any)
            .map_err(|error| error.to_string())?;
        if !any.0 {
            return Ok(());
        }
        let text = match shown(path, content) {
            Ok(shown) => shown.text,
            Err(_) => return Ok(()),
        };
        let mut found = Found {
            lines: String::new(),
            matches: 0,
            room: MATCHES.saturating_sub(hits.shown),
            shown: 0,
        };
        let searched = self.search(text.as_bytes(), self.context, &mut found);
        searched.map_err(|error| error.to_string())?;
        if found.matches == 0 {
            return Ok(());
        }
        hits.files += 1;
        hits.matches += found.matches;
        hits.shown += found.shown;
        if found.shown > 0 {
            let _ = writeln!(hits.text, "{path}");
            hits.text.push_str(&found.lines);
        }
        Ok(())
    }

    fn search(
        &self,
        content: &[u8],
        around: usize,
        sink: impl Sink<Error = io::Error>,
    ) -> io::Result<()> {
        let mut searcher = SearcherBuilder::new()
            .line_number(true)
            .before_context(around)
            .after_context(around)
            .binary_detection(BinaryDetection::quit(0))
            .build();
        searcher.search_slice(&self.matcher, content, sink)
    }
}

/// The content with one byte at the end of each line, by which `$` finds it.
fn plain_ends(content: &[u8]) -> Cow<'_, [u8]> {
    if !content.windows(2).any(|pair| pair == b"\r\n") {
        return Cow::Borrowed(content);
    }
    let mut bytes = content.iter().copied().peekable();
    let mut plain = Vec::with_capacity(content.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\r' || bytes.peek() != Some(&b'\n') {
            plain.push(byte);
        }
    }
    Cow::Owned(plain)
}

/// Whether there is a match.
struct Any(bool);

impl Sink for &mut Any {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, _: &SinkMatch<'_>) -> io::Result<bool> {
        self.0 = true;
        Ok(false)
    }
}

/// The matches of a file, of which some are shown.
struct Found {
    lines: String,
    matches: usize,
    room: usize,
    shown: usize,
}

impl Found {
    fn line(&mut self, number: Option<u64>, bytes: &[u8], mark: char) {
        let line = String::from_utf8_lossy(bytes);
        let line: String = line
            .trim_end_matches(['\n', '\r'])
            .chars()
            .take(LINE)
            .collect();
        let _ = writeln!(self.lines, "{:>6}{mark} {line}", number.unwrap_or_default());
    }
}

impl Sink for &mut Found {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.matches += 1;
        if self.shown < self.room {
            self.shown += 1;
            self.line(found.line_number(), found.bytes(), ':');
        }
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, found: &SinkContext<'_>) -> io::Result<bool> {
        if self.matches <= self.room && self.shown < self.room || self.matches == self.shown {
            self.line(found.line_number(), found.bytes(), '-');
        }
        Ok(true)
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        if self.matches == self.shown {
            self.lines.push_str("    --\n");
        }
        Ok(true)
    }
}
