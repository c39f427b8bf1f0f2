//! Reading commits and differences from a bare repository.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::super::git;
use super::super::model::PullSize;

/// Field order of `COMMIT_FORMAT`.
const COMMIT_FORMAT: &str = "%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B";

/// A commit as git tells it.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    pub(crate) tree: String,
    pub(crate) parents: Vec<String>,
    pub(crate) author: Person,
    pub(crate) committer: Person,
    pub(crate) message: String,
}

/// Author or committer.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) email: String,
    /// RFC 3339.
    pub(crate) date: String,
}

/// One file of a difference.
#[derive(Debug, Clone)]
pub(crate) struct FileChange {
    pub(crate) path: String,
    /// `added`, `removed`, `modified`.
    pub(crate) status: &'static str,
    /// Blob after the change, before it for a removed file.
    pub(crate) blob: String,
    pub(crate) additions: usize,
    pub(crate) deletions: usize,
    /// Hunks; none for a binary file.
    pub(crate) patch: Option<String>,
}

/// One commit.
pub(crate) fn commit(folder: &Path, sha: &str) -> Result<Commit> {
    let list = log(folder, &["--max-count=1", sha])?;
    list.into_iter().next().context("git log answered nothing")
}

/// Commits of `head` that `base` lacks, oldest first, at most 250 as on GitHub.
pub(crate) fn commits_between(folder: &Path, base: &str, head: &str) -> Result<Vec<Commit>> {
    let mut list = log(folder, &["--reverse", &format!("{base}..{head}")])?;
    list.truncate(250);
    Ok(list)
}

fn log(folder: &Path, range: &[&str]) -> Result<Vec<Commit>> {
    let format = format!("--format={COMMIT_FORMAT}%x00%x01");
    let mut args = vec!["log", &format];
    args.extend(range);
    args.push("--");
    let text = git::run(folder, &args)?;
    text.split("\0\u{1}")
        .map(|record| record.trim_start_matches('\n'))
        .filter(|record| !record.is_empty())
        .map(parse_commit)
        .collect()
}

fn parse_commit(record: &str) -> Result<Commit> {
    let mut fields = record.splitn(10, '\0').map(str::to_owned);
    let mut next = || fields.next().context("git log left out a field");
    Ok(Commit {
        sha: next()?,
        tree: next()?,
        parents: next()?.split_whitespace().map(str::to_owned).collect(),
        author: person(&mut next)?,
        committer: person(&mut next)?,
        message: next()?.trim_end().to_owned(),
    })
}

fn person(next: &mut impl FnMut() -> Result<String>) -> Result<Person> {
    Ok(Person {
        name: next()?,
        email: next()?,
        date: next()?,
    })
}

/// The unified difference of a pull request: from the merge base to the head.
pub(crate) fn diff(folder: &Path, base: &str, head: &str) -> Result<String> {
    let range = format!("{base}...{head}");
    let raw = git::run_raw(
        folder,
        &["diff", "--no-color", "--no-renames", &range, "--"],
    )?;
    Ok(String::from_utf8_lossy(&raw).into_owned())
}

/// Files that differ; `range` is `a...b` or `a..b`.
pub(crate) fn changes(folder: &Path, range: &str) -> Result<Vec<FileChange>> {
    let raw = git::run_raw(
        folder,
        &[
            "diff",
            "--raw",
            "-z",
            "--no-abbrev",
            "--no-renames",
            range,
            "--",
        ],
    )?;
    let text = String::from_utf8_lossy(&raw).into_owned();
    let mut parts = text.split('\0').filter(|part| !part.is_empty());
    let mut list = Vec::new();
    while let (Some(head), Some(path)) = (parts.next(), parts.next()) {
        list.push(change(folder, range, head, path)?);
    }
    Ok(list)
}

fn change(folder: &Path, range: &str, head: &str, path: &str) -> Result<FileChange> {
    let fields: Vec<_> = head.trim_start_matches(':').split(' ').collect();
    let [_, _, before, after, letter] = fields[..] else {
        anyhow::bail!("git diff --raw answered {head:?}");
    };
    let (status, blob) = match letter {
        "A" => ("added", after),
        "D" => ("removed", before),
        _ => ("modified", after),
    };
    let raw = git::run_raw(
        folder,
        &["diff", "--no-color", "--no-renames", range, "--", path],
    )?;
    let text = String::from_utf8_lossy(&raw);
    let hunks = text
        .find("\n@@")
        .map(|at| text[at + 1..].trim_end_matches('\n').to_owned());
    let lines = |sign| {
        hunks
            .iter()
            .flat_map(|p| p.lines())
            .filter(|l| l.starts_with(sign))
            .count()
    };
    Ok(FileChange {
        path: path.to_owned(),
        status,
        blob: blob.to_owned(),
        additions: lines('+'),
        deletions: lines('-'),
        patch: hunks.clone(),
    })
}

/// Paths added, removed and modified from one commit to another, for push events.
pub(crate) fn touched(folder: &Path, commit: &Commit) -> Result<Vec<(&'static str, String)>> {
    let text = git::run(
        folder,
        &[
            "diff-tree",
            "--root",
            "-r",
            "-z",
            "--no-renames",
            "--name-status",
            "--no-commit-id",
            &commit.sha,
        ],
    )?;
    let mut parts = text.split('\0').filter(|part| !part.is_empty());
    let mut list = Vec::new();
    while let (Some(letter), Some(path)) = (parts.next(), parts.next()) {
        let key = match letter {
            "A" => "added",
            "D" => "removed",
            _ => "modified",
        };
        list.push((key, path.to_owned()));
    }
    Ok(list)
}

/// How large the change from the merge base to `head` is.
pub(crate) fn size(folder: &Path, base: &str, head: &str) -> Result<PullSize> {
    let range = format!("{base}..{head}");
    let commits = git::run(folder, &["rev-list", "--count", &range, "--"])?;
    let numbers = git::run(
        folder,
        &[
            "diff",
            "--numstat",
            "--no-renames",
            &format!("{base}...{head}"),
            "--",
        ],
    )?;
    let mut size = PullSize {
        commits: commits.parse().context("git rev-list --count")?,
        ..PullSize::default()
    };
    for line in numbers.lines() {
        let mut columns = line.split('\t').map(|n| n.parse().unwrap_or(0));
        size.changed_files += 1;
        size.additions += columns.next().unwrap_or(0);
        size.deletions += columns.next().unwrap_or(0);
    }
    Ok(size)
}
