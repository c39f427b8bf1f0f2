//! How a repository is tested, when nobody says: by the files in its root and in the folders there.
//!
//! Every way of testing that they tell of is found and run, that of the language which most of the
//! code is in first. What is not run is named, so that nobody takes it for tested.

mod files;
mod python;
mod ways;

use std::path::Path;

use super::command::LeftOut;
use crate::git::{Entry, GitError};
use crate::workspace::Workspace;
use files::Files;

/// Most commands of a repository that are run.
const MOST: usize = 6;
/// Most commands that are named without being run.
const NAMED: usize = 20;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Detected {
    /// The commands of its languages and folders; none when the files tell none.
    pub(super) commands: Vec<Vec<String>>,
    /// Commands that are not run.
    pub(super) left_out: Vec<LeftOut>,
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
    let (run, more) = ways.split_at(ways.len().min(MOST));
    let too_many = format!("only the {MOST} with most of the code are run");
    let more = more.iter().map(|way| LeftOut::new(&way.command, &too_many));
    let apart = ways::apart_from_root(files);
    let apart = apart.iter().map(|way| {
        let reason = "it is no part of the project in the root";
        LeftOut::new(&way.command, reason)
    });
    Detected {
        commands: run.iter().map(|way| way.command.clone()).collect(),
        left_out: more.chain(apart).take(NAMED).collect(),
    }
}

/// True when packages of Python lie in `src`, from where they are imported by their own names.
pub(super) fn has_source_folder(entries: &[Entry]) -> bool {
    let mut is_package = false;
    for path in entries.iter().filter_map(|it| it.path.strip_prefix("src/")) {
        match path.split_once('/') {
            // `src` itself is the package.
            None if path == "__init__.py" => return false,
            None => is_package |= Path::new(path).extension().is_some_and(|it| it == "py"),
            Some((_, name)) => is_package |= name == "__init__.py",
        }
    }
    is_package
}

#[cfg(test)]
mod tests;
