//! A file before and after the patch, as the context keeps it.

use serde::{Deserialize, Serialize};

use super::encoding;
use crate::git::{Change, EntryKind};

/// A file that the patch touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchedFile {
    /// Where.
    pub path: String,
    /// Its text before; `null` for a new file, empty for what is no text. What is not UTF-8 has a
    /// character for each byte (`patch/encoding.rs`).
    pub original_content: Option<String>,
    /// Its text after; `null` for a deleted file.
    pub patched_content: Option<String>,
    /// Whether the patch changed it.
    pub status: Status,
    /// It may be executed afterwards.
    #[serde(default)]
    pub executable: bool,
}

/// Whether a patch changed a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is as it was.
    Original,
    /// It was changed.
    Patched,
}

impl PatchedFile {
    pub(in crate::nodes) fn new(
        path: &str,
        original_content: Option<String>,
        patched_content: Option<String>,
        kind: EntryKind,
    ) -> Self {
        Self {
            path: path.to_owned(),
            original_content,
            patched_content,
            status: Status::Patched,
            executable: kind == EntryKind::Executable,
        }
    }

    /// Lines that the patch adds or takes away, by count of equal lines; an estimate.
    pub(in crate::nodes) fn changed_lines(&self) -> usize {
        let (added, removed) = self.line_counts();
        added + removed
    }

    /// Lines added and removed: those that stand on one side only.
    pub(in crate::nodes) fn line_counts(&self) -> (usize, usize) {
        let mut balance = std::collections::HashMap::<&str, isize>::new();
        for line in self.patched_content.iter().flat_map(|text| text.lines()) {
            *balance.entry(line).or_default() += 1;
        }
        for line in self.original_content.iter().flat_map(|text| text.lines()) {
            *balance.entry(line).or_default() -= 1;
        }
        balance
            .values()
            .fold((0, 0), |(added, removed), count| match count {
                0.. => (added + count.unsigned_abs(), removed),
                _ => (added, removed + count.unsigned_abs()),
            })
    }
}

/// What the files mean for a tree.
pub(in crate::nodes) fn changes(files: &[PatchedFile]) -> Vec<Change> {
    let patched = files.iter().filter(|file| file.status == Status::Patched);
    let change = |file: &PatchedFile| Change {
        path: file.path.clone(),
        content: file.patched_content.as_deref().map(encoding::to_bytes),
        kind: if file.executable {
            EntryKind::Executable
        } else {
            EntryKind::File
        },
    };
    patched.map(change).collect()
}
