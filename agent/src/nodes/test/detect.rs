//! How a repository is tested, when nobody says: by the files in its root and in the folders there.
//!
//! Every way of testing that they tell of is found. The one of the language that most of the code is
//! in is taken; the others are named, so that nobody takes them for tested.

mod files;
mod python;
mod ways;

use crate::git::{Entry, GitError};
use crate::workspace::Workspace;
use files::Files;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Detected {
    /// The command; empty when the files tell none.
    pub(super) command: Vec<String>,
    /// Commands of other languages or folders, which are not run with it.
    pub(super) others: Vec<Vec<String>>,
}

/// A way to test some of the code.
struct Way {
    command: Vec<String>,
    /// The endings of the code that it tests; none for what says nothing of a language.
    endings: &'static [&'static str],
    /// The folder of that code; empty for all.
    folder: String,
}

/// The commands that the base's files tell.
pub(super) async fn commands(
    workspace: &Workspace,
    entries: &[Entry],
) -> Result<Detected, GitError> {
    let hints = files::hints(entries);
    let ids: Vec<_> = hints.iter().map(|entry| entry.id.clone()).collect();
    let texts = workspace.repository.blobs(&ids).await?;
    let paths = hints.iter().map(|entry| entry.path.as_str());
    let texts = texts
        .iter()
        .map(|it| String::from_utf8_lossy(it).into_owned());
    Ok(from_files(&Files::new(entries, paths.zip(texts).collect())))
}

fn from_files(files: &Files<'_>) -> Detected {
    let mut ways = ways::of_languages(files);
    // The sort keeps the order of those with as much code.
    ways.sort_by_key(|way| std::cmp::Reverse(files.code(&way.folder, way.endings)));
    if ways.is_empty() {
        ways.extend(ways::of_tasks(files));
    }
    let mut commands = ways.into_iter().map(|way| way.command);
    Detected {
        command: commands.next().unwrap_or_default(),
        others: commands.collect(),
    }
}

#[cfg(test)]
mod tests;
