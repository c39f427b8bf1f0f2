//! A file that a patch touches: its text in memory, and what the context keeps of it.
//!
//! The context keeps no text of a file. It travels to the coordinator and back with every attempt,
//! so that its size must follow that of the change and not that of the files: the text of a file is
//! had again from the base and the accepted diff (`patch.rs`).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::encoding;
use crate::git::{Change, EntryKind};

/// A file before and after the patch, in memory alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileVersions {
    /// The file's path, relative to the repository's root.
    pub(super) path: String,
    /// Its text before; none for a new file, empty for what is no text. What is not UTF-8 has a
    /// character for each byte (`patch/encoding.rs`).
    pub(super) before: Option<String>,
    /// Its content after, also of what is no text; none for a deleted file.
    pub(super) after: Option<String>,
    /// What it is afterwards.
    pub(super) kind: EntryKind,
}

/// What the context keeps of a file that the patch touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchedFile {
    /// The file's path, relative to the repository's root.
    pub path: String,
    /// What the patch does to it.
    pub status: Status,
    /// Lines that it gets, by count of equal lines; an estimate.
    #[serde(default)]
    pub added: usize,
    /// Lines that it loses, by count of equal lines; an estimate.
    #[serde(default)]
    pub removed: usize,
    /// The length of its content afterwards, when that is no text.
    #[serde(default)]
    pub binary_bytes: Option<usize>,
}

/// What a patch does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is new.
    Added,
    /// It was there before and is there afterwards. The alias is the word of earlier releases.
    #[serde(alias = "patched")]
    Changed,
    /// It is there no more.
    Deleted,
}

impl FileVersions {
    pub(super) fn new(
        path: &str,
        before: Option<String>,
        after: Option<String>,
        kind: EntryKind,
    ) -> Self {
        Self {
            path: path.to_owned(),
            before: before.map(|text| if is_text(&text) { text } else { String::new() }),
            after,
            kind,
        }
    }

    /// Lines added and removed: those that stand on one side only.
    fn line_counts(&self) -> (usize, usize) {
        let mut balance = HashMap::<&str, isize>::new();
        for line in self.after.iter().flat_map(|text| text.lines()) {
            *balance.entry(line).or_default() += 1;
        }
        for line in self.before.iter().flat_map(|text| text.lines()) {
            *balance.entry(line).or_default() -= 1;
        }
        balance
            .values()
            .fold((0, 0), |(added, removed), count| match count {
                0.. => (added + count.unsigned_abs(), removed),
                _ => (added, removed + count.unsigned_abs()),
            })
    }

    /// What the context keeps of it.
    pub(super) fn facts(&self) -> PatchedFile {
        let content = self.after.as_deref().filter(|text| !is_text(text));
        let binary_bytes = content.map(|text| encoding::to_bytes(text).len());
        let (added, removed) = match binary_bytes {
            Some(_) => (0, 0),
            None => self.line_counts(),
        };
        PatchedFile {
            path: self.path.clone(),
            status: match (&self.before, &self.after) {
                (None, _) => Status::Added,
                (_, None) => Status::Deleted,
                _ => Status::Changed,
            },
            added,
            removed,
            binary_bytes,
        }
    }

    /// What it is in a tree afterwards: links are never drafted.
    pub(super) fn kind_after(&self) -> EntryKind {
        if self.kind == EntryKind::Executable {
            EntryKind::Executable
        } else {
            EntryKind::File
        }
    }

    /// What it means for a tree.
    pub(super) fn into_change(self) -> Change {
        Change {
            kind: self.kind_after(),
            content: self.after.as_deref().map(encoding::to_bytes),
            path: self.path,
        }
    }
}

impl PatchedFile {
    /// The facts of a file with these texts.
    #[cfg(test)]
    pub(in crate::nodes) fn of_texts(
        path: &str,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Self {
        let text = |text: Option<&str>| text.map(str::to_owned);
        FileVersions::new(path, text(before), text(after), EntryKind::File).facts()
    }

    /// Lines that the patch adds or takes away; an estimate.
    pub(in crate::nodes) const fn changed_lines(&self) -> usize {
        self.added + self.removed
    }
}

/// Git takes a file with a zero byte for one that has no lines.
fn is_text(content: &str) -> bool {
    !content.contains('\0')
}
