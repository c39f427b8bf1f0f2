//! Clones that borrow their objects, written without git: a handful of files.
//!
//! What is there is what `git clone --shared --no-checkout` makes, but for logs of refs, with `HEAD` at
//! a commit. A process for each would take as long as all the rest of a small workspace.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use git2::ObjectType;

use super::local::failed;
use super::{GitError, ObjectId, Repository};

const CLONING: &str = "cloning a mirror";
const HEADS: &str = "refs/heads/";
const REMOTE: &str = "refs/remotes/origin/";
const TAGS: &str = "refs/tags/";

/// A ref as it is packed: its name, its object, and what that leads to when it is a tag.
type Packed = (String, git2::Oid, Option<git2::Oid>);

impl Repository {
    /// Makes a git folder that borrows this repository's objects and has its branches, as those of
    /// the remote `origin`, and its tags. Nothing is at its place.
    ///
    /// # Errors
    /// When this repository can't be read or the folder can't be written.
    pub async fn clone_into(&self, dir: &Path, head: &ObjectId) -> Result<(), GitError> {
        let (source, extent) = (self.clone(), self.extent);
        let (dir, head) = (dir.to_owned(), head.clone());
        self.local(CLONING, move |repository| {
            let branch = default_branch(repository)?;
            let refs = packed(repository).map_err(failed(CLONING))?;
            let config = [
                &configuration(&source.dir, branch.as_deref()),
                extent.configuration(),
            ];
            let written = write(&dir, &source.dir, (&refs, &head, &config.concat()))
                .and_then(|()| begin(&dir, branch.as_deref(), &refs));
            written.map_err(|error| GitError::host(CLONING, error))
        })
        .await
    }
}

/// The branch that a clone begins with.
fn default_branch(repository: &git2::Repository) -> Result<Option<String>, GitError> {
    let head = repository.find_reference("HEAD").map_err(failed(CLONING))?;
    let target = head.symbolic_target_bytes().map(String::from_utf8_lossy);
    Ok(target.and_then(|it| it.strip_prefix(HEADS).map(str::to_owned)))
}

/// Branches and tags, in the order of their names. One whose name is not UTF-8 is left out.
fn packed(repository: &git2::Repository) -> Result<Vec<Packed>, git2::Error> {
    let mut refs = Vec::new();
    for reference in repository.references()? {
        let reference = reference?;
        let (Ok(name), Some(id)) = (reference.name(), reference.target()) else {
            continue;
        };
        if let Some(branch) = name.strip_prefix(HEADS) {
            refs.push((format!("{REMOTE}{branch}"), id, None));
        } else if name.starts_with(TAGS) {
            let object = repository.find_object(id, None)?;
            let is_tag = object.kind() == Some(ObjectType::Tag);
            let peeled = if is_tag {
                Some(object.peel(ObjectType::Any)?.id())
            } else {
                None
            };
            refs.push((name.to_owned(), id, peeled));
        }
    }
    refs.sort();
    Ok(refs)
}

fn write(
    dir: &Path,
    source: &Path,
    (refs, head, config): (&[Packed], &ObjectId, &str),
) -> io::Result<()> {
    for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    let objects = format!("{}\n", source.join("objects").display());
    fs::write(dir.join("objects/info/alternates"), objects)?;
    let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    for (name, id, peeled) in refs {
        let _ = writeln!(text, "{id} {name}");
        if let Some(peeled) = peeled {
            let _ = writeln!(text, "^{peeled}");
        }
    }
    fs::write(dir.join("packed-refs"), text)?;
    fs::write(dir.join("HEAD"), format!("{head}\n"))?;
    fs::write(dir.join("config"), config)
}

fn configuration(source: &Path, branch: Option<&str>) -> String {
    let url = quoted(&source.display().to_string());
    let mut text = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
         \tlogallrefupdates = true\n[remote \"origin\"]\n\turl = {url}\n\
         \tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    );
    if let Some(branch) = branch {
        let (name, merge) = (quoted(branch), quoted(&format!("{HEADS}{branch}")));
        let _ = write!(
            text,
            "[branch {name}]\n\tremote = origin\n\tmerge = {merge}\n"
        );
    }
    text
}

/// A value or a subsection's name as git-config(1) wants it.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

/// Makes the local branch that a clone begins with, where the remote has it.
fn begin(dir: &Path, branch: Option<&str>, refs: &[Packed]) -> io::Result<()> {
    let Some(branch) = branch else { return Ok(()) };
    let remote = format!("{REMOTE}{branch}");
    let Some((_, id, _)) = refs.iter().find(|(name, ..)| *name == remote) else {
        return Ok(());
    };
    put(&dir.join(HEADS).join(branch), &format!("{id}\n"))?;
    put(&dir.join(REMOTE).join("HEAD"), &format!("ref: {remote}\n"))
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Git;
    use crate::git::tests::Origin;

    /// What people and tools see of a repository.
    async fn seen(folder: &Path) -> (String, String, String) {
        let refs = [
            "for-each-ref",
            "--format=%(refname) %(objectname) %(*objectname) %(symref)",
        ];
        (
            Origin::git_in(folder, &refs).await,
            Origin::git_in(folder, &["config", "--local", "--list"]).await,
            Origin::git_in(folder, &["log", "--oneline", "--all"]).await,
        )
    }

    #[tokio::test]
    async fn a_clone_is_as_git_makes_it() {
        let origin = Origin::with(&[("a", "1\n")]).await;
        for args in [
            &["tag", "light"][..],
            &["tag", "-a", "-m", "x", "v1"],
            &["tag", "-a", "-m", "of a tag", "v2", "v1"],
            &["branch", "topic/\"quoted\""],
            &["push", "-q", "--all", "origin"],
            &["push", "-q", "--tags", "origin"],
        ] {
            origin.git(args).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("a mirror \"of\" \\ it.git");
        let (theirs, ours) = (folder.path().join("theirs"), folder.path().join("ours"));
        let (from, to) = (mirror.to_str().unwrap(), theirs.to_str().unwrap());
        let bare = ["clone", "-q", "--bare", "--template=", &origin.url(), from];
        origin.git(&bare).await;
        let shared = ["clone", "-q", "--shared", "--no-checkout", "--template="];
        origin.git(&[&shared[..], &[from, to]].concat()).await;
        let repository = Git::new().repository(&mirror);
        let head = repository.resolve("HEAD").await.unwrap().unwrap();
        repository
            .clone_into(&ours.join(".git"), &head)
            .await
            .unwrap();
        assert_eq!(seen(&ours).await, seen(&theirs).await);
        let current = Origin::git_in(&ours, &["rev-parse", "--abbrev-ref", "HEAD"]).await;
        assert_eq!(current, "HEAD", "no branch is checked out");
    }
}
