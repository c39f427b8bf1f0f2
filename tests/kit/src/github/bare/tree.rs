//! Reading files and folders from a bare repository.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::super::git;

/// What lies at a path of a commit.
#[derive(Debug)]
pub(crate) enum Found {
    /// A file with its blob's hash and content.
    File {
        /// Hash of the blob.
        sha: String,
        /// Its bytes.
        content: Vec<u8>,
    },
    /// A folder with its entries.
    Folder(Vec<Entry>),
    /// Another repository's commit.
    Submodule(Entry),
}

/// One entry of a folder.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// `file`, `dir`, `symlink` or `submodule`.
    pub(crate) kind: &'static str,
    pub(crate) sha: String,
    pub(crate) size: u64,
    /// From the root of the repository.
    pub(crate) path: String,
}

/// What lies at `path` of `commit`; nothing when the path does not exist.
pub(crate) fn find(folder: &Path, commit: &str, path: &str) -> Result<Option<Found>> {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return list(folder, commit, "").map(|entries| Some(Found::Folder(entries)));
    }
    let exact = list(folder, commit, path)?;
    let Some(entry) = exact.into_iter().find(|entry| entry.path == path) else {
        return Ok(None);
    };
    if entry.kind == "dir" {
        let entries = list(folder, commit, &format!("{path}/"))?;
        return Ok(Some(Found::Folder(entries)));
    }
    if entry.kind == "submodule" {
        return Ok(Some(Found::Submodule(entry)));
    }
    let content = git::run_raw(folder, &["cat-file", "blob", &entry.sha])?;
    Ok(Some(Found::File {
        sha: entry.sha,
        content,
    }))
}

fn list(folder: &Path, commit: &str, path: &str) -> Result<Vec<Entry>> {
    let mut args = vec!["ls-tree", "-z", "--long", "--full-tree", commit];
    if !path.is_empty() {
        args.extend(["--", path]);
    }
    git::run(folder, &args)?
        .split('\0')
        .filter(|line| !line.is_empty())
        .map(parse_entry)
        .collect()
}

fn parse_entry(line: &str) -> Result<Entry> {
    let (head, path) = line.split_once('\t').context("git ls-tree: no path")?;
    let mut fields = head.split_whitespace();
    let kind = match (fields.next(), fields.next()) {
        (_, Some("tree")) => "dir",
        (Some("120000"), _) => "symlink",
        (_, Some("commit")) => "submodule",
        _ => "file",
    };
    Ok(Entry {
        kind,
        sha: fields.next().context("git ls-tree: no hash")?.to_owned(),
        size: fields
            .next()
            .and_then(|size| size.parse().ok())
            .unwrap_or(0),
        path: path.to_owned(),
    })
}
