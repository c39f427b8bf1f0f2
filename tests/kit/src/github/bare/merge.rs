//! Really merging, in a bare repository, in the three ways that GitHub offers.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::super::git::{self, Signature};
use super::history;

/// How a pull request is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeMethod {
    /// A commit with two parents.
    Merge,
    /// One commit with all changes.
    Squash,
    /// The commits again, on top of the base.
    Rebase,
}

/// What to merge.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    pub(crate) base: &'a str,
    pub(crate) head: &'a str,
    pub(crate) message: &'a str,
    pub(crate) author: &'a Signature,
}

/// Whether `head` merges into `base` without a conflict.
pub(crate) fn is_clean(folder: &Path, base: &str, head: &str) -> Result<bool> {
    git::test(folder, &["merge-tree", "--write-tree", base, head])
}

/// Makes the commit that has both; no ref moves.
pub(crate) fn merge(folder: &Path, method: MergeMethod, what: &Merge<'_>) -> Result<String> {
    match method {
        MergeMethod::Merge => {
            let tree = git::run(
                folder,
                &["merge-tree", "--write-tree", what.base, what.head],
            )?;
            commit(folder, what, &tree, &[what.base, what.head])
        }
        MergeMethod::Squash => {
            let tree = git::run(
                folder,
                &["merge-tree", "--write-tree", what.base, what.head],
            )?;
            commit(folder, what, &tree, &[what.base])
        }
        MergeMethod::Rebase => rebase(folder, what),
    }
}

fn rebase(folder: &Path, what: &Merge<'_>) -> Result<String> {
    let mut tip = what.base.to_owned();
    for old in history::commits_between(folder, what.base, what.head)? {
        let parent = old.parents.first().context("cannot rebase a root commit")?;
        let merge_base = format!("--merge-base={parent}");
        let tree = git::run(
            folder,
            &["merge-tree", "--write-tree", &merge_base, &tip, &old.sha],
        )?;
        let step = Merge {
            message: &old.message,
            ..*what
        };
        tip = commit(folder, &step, &tree, &[&tip])?;
    }
    Ok(tip)
}

fn commit(folder: &Path, what: &Merge<'_>, tree: &str, parents: &[&str]) -> Result<String> {
    let mut args = vec!["commit-tree", tree];
    for parent in parents {
        args.extend(["-p", *parent]);
    }
    git::run_as(folder, what.author, &args, what.message.as_bytes())
}
