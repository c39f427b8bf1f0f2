//! Bare repositories: how they come to be and what is read from them.
//!
//! Merging lives in `bare/merge.rs`. Nothing here knows accounts or issues.

pub(crate) mod history;
pub(crate) mod merge;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::git::{self, Signature};

/// Refuses every push while a file `refuse-push` lies in the repository.
const PRE_RECEIVE: &str = "#!/bin/sh
if test -f refuse-push; then
    cat refuse-push >&2
    exit 1
fi
";
const REFUSAL: &str = "refuse-push";

/// Makes an empty bare repository whose default branch will be `main`.
pub(crate) fn init(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    git::run(
        folder,
        &["init", "--quiet", "--bare", "--initial-branch=main", "."],
    )?;
    configure(folder)
}

/// Makes a bare repository whose `main` has one commit: the files of `seed`.
pub(crate) fn create(folder: &Path, seed: &Path, author: &Signature) -> Result<()> {
    init(folder)?;
    let seed = seed
        .canonicalize()
        .with_context(|| format!("the seed folder {} is missing", seed.display()))?;
    let work_tree = format!("--work-tree={}", seed.display());
    let git_dir = format!("--git-dir={}", folder.display());
    git::run(
        &seed,
        &[git_dir.as_str(), work_tree.as_str(), "add", "--all", "."],
    )?;
    let tree = git::run(folder, &["write-tree"])?;
    let commit = git::run_as(
        folder,
        author,
        &["commit-tree", tree.as_str()],
        b"Initial commit\n",
    )?;
    set_ref(folder, "refs/heads/main", &commit)
}

/// Makes a bare copy of another repository: a path or any address git knows.
pub(crate) fn import(folder: &Path, source: &str) -> Result<()> {
    let parent = folder.parent().context("a repository needs a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let target = folder.to_string_lossy();
    git::run(
        parent,
        &["clone", "--quiet", "--bare", "--", source, &target],
    )
    .with_context(|| format!("cannot import {source}"))?;
    configure(folder)
}

fn configure(folder: &Path) -> Result<()> {
    for (key, value) in [
        ("http.receivepack", "true"),
        ("uploadpack.allowFilter", "true"),
        ("uploadpack.allowAnySHA1InWant", "true"),
        ("gc.auto", "0"),
    ] {
        git::run(folder, &["config", key, value])?;
    }
    let hooks = folder.join("hooks");
    fs::create_dir_all(&hooks)?;
    let hook = hooks.join("pre-receive");
    fs::write(&hook, PRE_RECEIVE)?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Makes git refuse pushes with this message, or accept them again.
pub(crate) fn refuse_pushes(folder: &Path, message: Option<&str>) -> Result<()> {
    let file = folder.join(REFUSAL);
    match message {
        Some(message) => fs::write(file, format!("{message}\n"))?,
        None if file.exists() => fs::remove_file(file)?,
        None => {}
    }
    Ok(())
}

/// The branch that HEAD names.
pub(crate) fn default_branch(folder: &Path) -> Result<String> {
    git::run(folder, &["symbolic-ref", "--short", "HEAD"])
        .context("HEAD names no branch; check out the one that is to be the default")
}

/// Has HEAD name another branch.
pub(crate) fn set_default_branch(folder: &Path, branch: &str) -> Result<()> {
    let head = format!("refs/heads/{branch}");
    git::run(folder, &["symbolic-ref", "HEAD", &head]).map(drop)
}

/// Branches and tags with the commits they point at.
pub(crate) fn refs(folder: &Path) -> Result<BTreeMap<String, String>> {
    let format = "--format=%(refname) %(objectname)";
    let list = git::run(folder, &["for-each-ref", format, "refs/heads", "refs/tags"])?;
    Ok(list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, sha)| (name.to_owned(), sha.to_owned()))
        .collect())
}

/// The commit that a branch, tag or abbreviated hash names, if it exists.
pub(crate) fn resolve(folder: &Path, name: &str) -> Option<String> {
    // A leading dash would be read as an option.
    if name.starts_with('-') {
        return None;
    }
    let commit = format!("{name}^{{commit}}");
    git::run(folder, &["rev-parse", "--quiet", "--verify", &commit]).ok()
}

/// Points a ref at a commit.
pub(crate) fn set_ref(folder: &Path, name: &str, sha: &str) -> Result<()> {
    git::run(folder, &["update-ref", name, sha]).map(drop)
}

/// Removes a ref.
pub(crate) fn delete_ref(folder: &Path, name: &str) -> Result<()> {
    git::run(folder, &["update-ref", "-d", name]).map(drop)
}
