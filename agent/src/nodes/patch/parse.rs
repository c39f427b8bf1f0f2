//! A unified diff as git writes it, or as `diff -u` does, read into files and hunks.
//!
//! Strict about what a hunk says of its length, because that alone tells a removed line `-- x`
//! from the head of the next file. Only an empty line may stand for an empty context line.

use super::binary::{self, BinaryPatch};
use crate::git::{EntryKind, ObjectId};

/// A diff that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the diff: {message}")]
pub(super) struct ParseError {
    pub(super) line: usize,
    pub(super) message: String,
}

/// What a diff says of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FileDiff {
    /// The path before; `None` for a new file.
    pub(super) old: Option<String>,
    /// The path after; `None` for a deleted file.
    pub(super) new: Option<String>,
    /// The old file stays as it is.
    pub(super) is_copy: bool,
    /// A mode that the diff names for the file afterwards, as written.
    pub(super) mode: Option<String>,
    /// The file is no text on one side.
    pub(super) is_binary: bool,
    /// The content of a file that is no text, where the diff has it.
    pub(super) binary: Option<BinaryPatch>,
    /// The names of the contents before and after, where the diff has all of their digits.
    pub(super) ids: Option<(ObjectId, ObjectId)>,
    pub(super) hunks: Vec<Hunk>,
}

/// A place of a file, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hunk {
    /// `@@ … @@`, for messages.
    pub(super) header: String,
    /// First line before, from 1; 0 when there is none.
    pub(super) old_start: usize,
    pub(super) lines: Vec<Line>,
}

/// A line of a hunk, with its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Context(String),
    Removed(String),
    Added(String),
}

impl FileDiff {
    /// The path that the diff is about.
    pub(super) fn path(&self) -> &str {
        let path = self.new.as_deref().or(self.old.as_deref());
        path.unwrap_or_default()
    }

    /// The mode afterwards, when the diff names one; an error for what is no file or link.
    pub(super) fn kind(&self) -> Result<Option<EntryKind>, String> {
        match &self.mode {
            None => Ok(None),
            Some(mode) => EntryKind::from_mode(mode)
                .map(Some)
                .ok_or_else(|| format!("mode {mode} is unknown")),
        }
    }
}

/// Reads a whole diff. Text before the first file is skipped.
pub(super) fn parse(text: &str) -> Result<Vec<FileDiff>, ParseError> {
    let mut reader = Reader {
        lines: text.split_inclusive('\n').collect(),
        at: 0,
    };
    let mut files = Vec::new();
    while let Some(line) = reader.peek() {
        if line.starts_with("diff --git ") {
            files.push(reader.git_file()?);
        } else if line.starts_with("--- ")
            && reader.peek_after().is_some_and(|it| it.starts_with("+++ "))
        {
            files.push(reader.plain_file()?);
        } else if line.starts_with("@@ ") {
            return Err(reader.error("a hunk before any file"));
        } else if !files.is_empty() && line.starts_with(['+', '-', ' ']) && line != "-- \n" {
            // Skipping it would apply a part of what was meant.
            return Err(reader.error("the hunk before is longer than it says"));
        } else {
            reader.at += 1;
        }
    }
    Ok(files)
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    fn peek_after(&self) -> Option<&'a str> {
        self.lines.get(self.at + 1).copied()
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError {
            line: self.at + 1,
            message: message.into(),
        }
    }

    /// From `diff --git` to the last hunk.
    fn git_file(&mut self) -> Result<FileDiff, ParseError> {
        let header = self.peek().unwrap_or_default();
        let names = header_names(header.trim_end().trim_start_matches("diff --git "));
        let mut file = FileDiff::default();
        let (mut is_new, mut is_deleted, mut told) = (false, false, false);
        self.at += 1;
        while let Some(line) = self.peek() {
            let plain = line.trim_end_matches(['\n', '\r']);
            if let Some(mode) = plain.strip_prefix("new file mode ") {
                (is_new, file.mode) = (true, Some(mode.to_owned()));
            } else if let Some(mode) = plain.strip_prefix("new mode ") {
                file.mode = Some(mode.to_owned());
            } else if plain.starts_with("deleted file mode ") {
                is_deleted = true;
            } else if let Some(path) = plain.strip_prefix("rename from ") {
                file.old = Some(unquote(path));
            } else if let Some(path) = plain.strip_prefix("copy from ") {
                (file.old, file.is_copy) = (Some(unquote(path)), true);
            } else if let Some(path) = plain
                .strip_prefix("rename to ")
                .or_else(|| plain.strip_prefix("copy to "))
            {
                (file.new, told) = (Some(unquote(path)), true);
            } else if plain.starts_with("Binary files ") {
                file.is_binary = true;
            } else if plain == binary::HEAD {
                file.is_binary = true;
                file.binary = self.binary()?;
                break;
            } else if let Some(ids) = plain.strip_prefix("index ") {
                file.ids = object_ids(ids);
            } else if plain.starts_with("--- ") {
                let (old, new) = self.names()?;
                if !told {
                    (file.old, file.new, told) = (old, new, true);
                }
                file.hunks = self.hunks()?;
                break;
            } else if !is_extended_header(plain) {
                break;
            }
            self.at += 1;
        }
        if !told {
            let (old, new) = names.ok_or_else(|| self.error("the file is not named"))?;
            file.old = (!is_new).then_some(old);
            file.new = (!is_deleted).then_some(new);
        }
        self.named(file)
    }

    /// A file without git's header.
    fn plain_file(&mut self) -> Result<FileDiff, ParseError> {
        let (old, new) = self.names()?;
        let hunks = self.hunks()?;
        self.named(FileDiff {
            old,
            new,
            hunks,
            ..FileDiff::default()
        })
    }

    /// The file, if it has a path before or after.
    fn named(&self, file: FileDiff) -> Result<FileDiff, ParseError> {
        if file.old.is_none() && file.new.is_none() {
            return Err(self.error("the file is not named: it is nowhere before and after"));
        }
        Ok(file)
    }

    /// `--- a/x` and `+++ b/x`.
    fn names(&mut self) -> Result<(Option<String>, Option<String>), ParseError> {
        let old = self.peek().and_then(|line| line.strip_prefix("--- "));
        let new = self.peek_after().and_then(|line| line.strip_prefix("+++ "));
        let (Some(old), Some(new)) = (old, new) else {
            return Err(self.error("`--- ` has to be followed by `+++ `"));
        };
        let (old, new) = (side(old), side(new));
        self.at += 2;
        let has = |name: &Option<String>, prefix| {
            name.as_ref().is_none_or(|name| name.starts_with(prefix))
        };
        if has(&old, "a/") && has(&new, "b/") {
            let strip = |name: Option<String>| name.map(|name| name[2..].to_owned());
            return Ok((strip(old), strip(new)));
        }
        Ok((old, new))
    }

    /// What stands below `GIT binary patch`: a hunk, and mostly another one for the way back.
    fn binary(&mut self) -> Result<Option<BinaryPatch>, ParseError> {
        self.at += 1;
        let mut forward = None;
        while forward.is_none() || self.peek().is_some_and(|it| binary::is_hunk(it.trim_end())) {
            let head = self.peek().unwrap_or_default().trim_end();
            let below = self.lines[self.at..].iter().skip(1);
            let below = below.map(|line| line.trim_end_matches(['\n', '\r']));
            let lines: Vec<_> = below.take_while(|line| !line.is_empty()).collect();
            if forward.is_none() {
                let hunk = binary::hunk(head, &lines).map_err(|message| self.error(message))?;
                forward = Some(hunk);
            }
            // With the empty line that ends it.
            self.at += 1 + lines.len() + 1;
        }
        Ok(forward)
    }

    fn hunks(&mut self) -> Result<Vec<Hunk>, ParseError> {
        let mut hunks = Vec::new();
        while let Some(line) = self.peek().filter(|line| line.starts_with("@@ ")) {
            let header = line.trim_end();
            let Some((old_start, old_count, new_count)) = ranges(header) else {
                return Err(self.error(format!("`{header}` is not a hunk's head")));
            };
            self.at += 1;
            let lines = self.hunk_lines(header, old_count, new_count)?;
            hunks.push(Hunk {
                header: header.to_owned(),
                old_start,
                lines,
            });
        }
        Ok(hunks)
    }

    fn hunk_lines(
        &mut self,
        header: &str,
        mut old: usize,
        mut new: usize,
    ) -> Result<Vec<Line>, ParseError> {
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let line = self.peek().unwrap_or_default();
            if line.starts_with('\\') {
                if let Some(Line::Context(text) | Line::Removed(text) | Line::Added(text)) =
                    lines.last_mut()
                {
                    text.truncate(text.trim_end_matches('\n').len());
                }
                self.at += 1;
                continue;
            }
            if old == 0 && new == 0 {
                return Ok(lines);
            }
            let (parsed, takes) = match (line.chars().next(), line.get(1..)) {
                (Some(' '), Some(rest)) => (Line::Context(whole(rest)), (1, 1)),
                (Some('\n'), _) => (Line::Context(line.to_owned()), (1, 1)),
                (Some('-'), Some(rest)) => (Line::Removed(whole(rest)), (1, 0)),
                (Some('+'), Some(rest)) => (Line::Added(whole(rest)), (0, 1)),
                _ => return Err(self.error(format!("the hunk `{header}` is shorter than it says"))),
            };
            let left = (old.checked_sub(takes.0), new.checked_sub(takes.1));
            let (Some(old_left), Some(new_left)) = left else {
                return Err(self.error(format!("the hunk `{header}` is longer than it says")));
            };
            (old, new) = (old_left, new_left);
            lines.push(parsed);
            self.at += 1;
        }
    }
}

/// A line at the very end of a diff may lack its line end.
fn whole(line: &str) -> String {
    if line.ends_with('\n') {
        line.to_owned()
    } else {
        format!("{line}\n")
    }
}

fn is_extended_header(line: &str) -> bool {
    ["old mode ", "similarity index ", "dissimilarity index "]
        .iter()
        .any(|prefix| line.starts_with(prefix))
}

/// Both names of `index OLD..NEW MODE`, unless they are abbreviated.
fn object_ids(text: &str) -> Option<(ObjectId, ObjectId)> {
    let (old, new) = text.split(' ').next()?.split_once("..")?;
    Some((old.parse().ok()?, new.parse().ok()?))
}

/// A name after `---` or `+++`; `None` for `/dev/null`.
fn side(text: &str) -> Option<String> {
    let text = text.trim_end_matches(['\n', '\r']);
    // What follows a tab is a time.
    let name = unquote(text.split('\t').next().unwrap_or(text));
    (name != "/dev/null").then_some(name)
}

/// Both names of `diff --git a/x b/x`; without quotes they can only be told when they are equal.
fn header_names(text: &str) -> Option<(String, String)> {
    if text.starts_with('"') {
        let end = closing_quote(text)? + 1;
        let (old, new) = (unquote(&text[..end]), unquote(text.get(end + 1..)?));
        return Some((old.get(2..)?.to_owned(), new.get(2..)?.to_owned()));
    }
    let half = text.len().checked_sub(1)? / 2;
    let (old, new) = (text.get(..half)?, text.get(half + 1..)?);
    let (old, new) = (old.strip_prefix("a/")?, new.strip_prefix("b/")?);
    (old == new).then(|| (old.to_owned(), new.to_owned()))
}

/// Where a quoted name ends: quotes within it have a backslash before them.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while *bytes.get(at)? != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    Some(at)
}

/// `@@ -1,2 +1,3 @@`: first line before, lines before, lines after.
fn ranges(header: &str) -> Option<(usize, usize, usize)> {
    let inner = header.strip_prefix("@@ -")?.split(" @@").next()?;
    let (old, new) = inner.split_once(" +")?;
    let range = |text: &str| -> Option<(usize, usize)> {
        match text.split_once(',') {
            Some((start, count)) => Some((start.parse().ok()?, count.parse().ok()?)),
            None => Some((text.parse().ok()?, 1)),
        }
    };
    let ((old_start, old_count), (_, new_count)) = (range(old)?, range(new)?);
    header[3..]
        .contains(" @@")
        .then_some((old_start, old_count, new_count))
}

/// Undoes git's quotes around names with unusual characters.
fn unquote(text: &str) -> String {
    let Some(inner) = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    else {
        return text.to_owned();
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b'a') => bytes.push(7),
            Some(b'b') => bytes.push(8),
            Some(b'v') => bytes.push(11),
            Some(b'f') => bytes.push(12),
            Some(first @ b'0'..=b'3') => {
                let digit = |byte: Option<u8>| byte.unwrap_or(b'0').wrapping_sub(b'0') & 7;
                let (second, third) = (digit(rest.next()), digit(rest.next()));
                bytes.push((first - b'0') << 6 | second << 3 | third);
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
