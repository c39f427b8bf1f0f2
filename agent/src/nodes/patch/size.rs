//! How much a draft may change: what somebody who reviews it has to read.
//!
//! Lines that are added or removed count, the new contents of files that are no text, and files; one
//! that is moved is one. The lines around a change and what a deleted file had do not.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use patchfleet_config::{Faults, Rules};
use serde::Deserialize;

use super::parse::{FileDiff, Line};

/// The most that [`ChangeConfig::max_kib`] can be: a change is kept as a checkpoint, which has to fit
/// into one message.
const MOST_KIB: usize = 8 * 1024;
/// The most that [`ChangeConfig::max_files`] can be: GitHub shows no more files of a pull request.
const MOST_FILES: usize = 3000;
/// How many of the largest files are named.
const NAMED: usize = 3;

/// `[agents.change]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeConfig {
    /// How many files a draft may touch.
    pub max_files: usize,
    /// How many KiB it may have of lines that it adds and removes, and of files that are no text.
    pub max_kib: usize,
}

impl Default for ChangeConfig {
    fn default() -> Self {
        Self {
            max_files: 100,
            max_kib: 1024,
        }
    }
}

impl Rules for ChangeConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        let files = (1..=MOST_FILES).contains(&self.max_files);
        let text = format!("a number of files from 1 to {MOST_FILES}");
        faults.rule(files, &["max_files"], text);
        let size = (1..=MOST_KIB).contains(&self.max_kib);
        let text = format!("a number of KiB from 1 to {MOST_KIB}");
        faults.rule(size, &["max_kib"], text);
        faults
    }
}

impl ChangeConfig {
    /// Why a draft is too large; nothing when it is not.
    pub(super) fn refusal(&self, diffs: &[FileDiff]) -> Option<String> {
        if diffs.len() > self.max_files {
            return Some(format!(
                "it touches {} files, {}; at most {} are allowed (`max_files` of the operator's \
                 `[agents.change]`)",
                diffs.len(),
                most_in(diffs),
                self.max_files
            ));
        }
        let sizes = || diffs.iter().map(|diff| (changed_bytes(diff), diff.path()));
        let bytes = sizes().fold(0, |sum: usize, (bytes, _)| sum.saturating_add(bytes));
        if bytes <= self.max_kib * 1024 {
            return None;
        }
        let mut largest: Vec<_> = sizes().collect();
        largest.sort_by_key(|(bytes, _)| Reverse(*bytes));
        let named = largest.iter().take(NAMED);
        let named: Vec<_> = named
            .map(|(bytes, path)| format!("`{path}` {} KiB", bytes.div_ceil(1024)))
            .collect();
        Some(format!(
            "it adds and removes {} KiB of lines and of files that are no text, most of all in {}; \
             at most {} KiB are allowed \
             (`max_kib` of the operator's `[agents.change]`)",
            bytes.div_ceil(1024),
            named.join(", "),
            self.max_kib
        ))
    }
}

/// The bytes of the lines that a file gets or loses, or of its content when it is no text.
fn changed_bytes(diff: &FileDiff) -> usize {
    if let Some(patch) = diff.binary.as_ref().filter(|_| diff.new.is_some()) {
        return patch.size();
    }
    let lines = diff.hunks.iter().flat_map(|hunk| &hunk.lines);
    let changed = lines.map(|line| match line {
        Line::Added(text) => text.len() + 1,
        Line::Removed(text) if diff.new.is_some() => text.len() + 1,
        Line::Removed(_) | Line::Context(_) => 0,
    });
    changed.sum()
}

/// The top folder that most of the files are in.
fn most_in(diffs: &[FileDiff]) -> String {
    let mut folders = BTreeMap::<&str, usize>::new();
    for diff in diffs {
        let folder = diff.path().split_once('/').map_or("", |(top, _)| top);
        *folders.entry(folder).or_default() += 1;
    }
    match folders.into_iter().max_by_key(|(_, count)| *count) {
        Some(("", count)) => format!("{count} of them at the top"),
        Some((folder, count)) => format!("{count} of them in `{folder}/`"),
        None => String::new(),
    }
}
