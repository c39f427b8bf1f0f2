//! Absolute paths in the words of a command, also within a word that a shell is going to read.

use std::path::{Component, Path, PathBuf};

/// What ends a word, also within one that a shell is going to read.
const ENDS: &[char] = &[
    ' ', '\t', '\n', '\'', '"', '`', ';', '|', '&', '(', ')', '<', '>', '{', '}', '=', ',', ':',
];

/// The absolute paths that a command names, but for those that lead back up.
pub(crate) fn absolute_paths(command: &[String]) -> impl Iterator<Item = PathBuf> {
    let words = command.iter().flat_map(|word| word.split(ENDS));
    words.filter_map(|word| plain(Path::new(word)))
}

/// An absolute path without `.`; none when it leads back up.
fn plain(path: &Path) -> Option<PathBuf> {
    let is_plain = |part: &Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let parts: PathBuf = path.components().collect();
    (path.is_absolute() && parts.components().all(|part| is_plain(&part))).then_some(parts)
}
