//! Files with a preview, and those without one with the reason.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file_name;
use super::language::extension;
use crate::draft::FileFacts;
use crate::git::{Entry, EntryKind};

/// Most files that are listed either way; the context travels in one message.
const MAX_LISTED: usize = 2000;
/// Most bytes of their paths together: one alone may have 4 KiB.
const MAX_PATHS: usize = 1 << 20;
/// Most bytes of all previews; files named in the request come first.
const MAX_PREVIEWS: usize = 512 * 1024;
/// Longest line of a preview, in characters.
const MAX_LINE: usize = 300;
/// Files that are text without an extension to tell it.
const PLAIN_NAMES: &[&str] = &[
    "Makefile",
    "Dockerfile",
    "Justfile",
    "Procfile",
    "Gemfile",
    "Rakefile",
    "README",
    "LICENSE",
    "CHANGELOG",
    ".gitignore",
    ".dockerignore",
    ".editorconfig",
];

pub(super) struct Options {
    pub(super) preview_lines: usize,
    pub(super) max_bytes: u64,
    pub(super) extensions: BTreeSet<String>,
    pub(super) request: String,
    pub(super) target_files: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Inspected {
    pub(super) structure: Vec<FileFacts>,
    pub(super) excluded: Vec<Excluded>,
    /// Files that are in neither list because there are too many.
    pub(super) left_out: usize,
}

/// A file that is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Excluded {
    pub(super) path: String,
    pub(super) reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    Binary,
    TooLarge,
    PermissionDenied,
    NotAllowed,
}

/// Looks at every file of the tree, as it lies below the root.
pub(super) fn inspect(root: &Path, entries: &[Entry], options: &Options) -> Inspected {
    let mut inspected = Inspected::default();
    let mut budget = MAX_PREVIEWS;
    let mut paths = MAX_PATHS;
    let mut ordered: Vec<_> = entries
        .iter()
        .map(|entry| (is_named(entry, options), entry))
        .collect();
    ordered.sort_by_key(|(selected, _)| !selected);
    for (selected, entry) in ordered {
        let Some(left) = paths.checked_sub(entry.path.len()) else {
            inspected.left_out += 1;
            continue;
        };
        let listed = inspected.structure.len() + inspected.excluded.len();
        match text_of(root, entry, options) {
            Err(_) if inspected.excluded.len() >= MAX_LISTED => inspected.left_out += 1,
            Ok(_) if inspected.structure.len() >= MAX_LISTED => inspected.left_out += 1,
            Err(reason) => inspected.excluded.push(Excluded {
                path: entry.path.clone(),
                reason,
            }),
            Ok(text) => {
                let preview = preview(&text, options.preview_lines);
                let fits = preview.len() <= budget;
                budget -= if fits { preview.len() } else { 0 };
                inspected.structure.push(FileFacts {
                    path: entry.path.clone(),
                    size: entry.size,
                    preview: if fits { preview } else { String::new() },
                    selected,
                });
            }
        }
        if inspected.structure.len() + inspected.excluded.len() > listed {
            paths = left;
        }
    }
    inspected.structure.sort_by(|a, b| a.path.cmp(&b.path));
    inspected.excluded.sort_by(|a, b| a.path.cmp(&b.path));
    inspected
}

fn text_of(root: &Path, entry: &Entry, options: &Options) -> Result<String, Reason> {
    if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) || !is_allowed(entry, options)
    {
        return Err(Reason::NotAllowed);
    }
    if entry.size > options.max_bytes {
        return Err(Reason::TooLarge);
    }
    let text = read(&root.join(&entry.path), options.max_bytes).map_err(|error| reason(&error))?;
    if text.contains('\0') {
        Err(Reason::Binary)
    } else {
        Ok(text)
    }
}

/// What is not UTF-8 is binary; what can't be read at all is as good as forbidden.
pub(super) fn reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::InvalidData => Reason::Binary,
        _ => Reason::PermissionDenied,
    }
}

fn read(path: &Path, max_bytes: u64) -> io::Result<String> {
    let file = std::fs::OpenOptions::new().read(true).open(path)?;
    let mut text = String::new();
    file.take(max_bytes).read_to_string(&mut text)?;
    Ok(text)
}

fn is_allowed(entry: &Entry, options: &Options) -> bool {
    let name = file_name(entry);
    match extension(name) {
        Some(extension) if options.extensions.contains(&extension) => true,
        _ => PLAIN_NAMES.contains(&name),
    }
}

/// The request names the file, by its path or by its name.
fn is_named(entry: &Entry, options: &Options) -> bool {
    let name = file_name(entry);
    options.target_files.contains(&entry.path)
        || mentions(&options.request, &entry.path)
        || (name.len() >= 4 && name.contains('.') && mentions(&options.request, name))
}

/// The text has the name, and not as a part of a longer one.
fn mentions(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(|c| part(c) && c != '/') && !after.is_some_and(part)
    })
}

/// The first and last lines.
pub(super) fn preview(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let cut = |line: &&str| line.chars().take(MAX_LINE).collect::<String>();
    if all.len() <= lines.saturating_mul(2) {
        return all.iter().map(cut).collect::<Vec<_>>().join("\n");
    }
    let (first, last) = (&all[..lines], &all[all.len() - lines..]);
    let between = format!("… {} lines …", all.len() - 2 * lines);
    let parts = first
        .iter()
        .map(cut)
        .chain([between])
        .chain(last.iter().map(cut));
    parts.collect::<Vec<_>>().join("\n")
}
