//! Trees and commits, made and compared in the object store.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use super::{GitError, ObjectId, Repository};

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link.
    Symlink,
    /// Another repository's commit.
    Submodule,
}

impl EntryKind {
    /// From git's mode.
    pub fn from_mode(mode: &str) -> Option<Self> {
        match mode {
            "100644" | "100664" => Some(Self::File),
            "100755" => Some(Self::Executable),
            "120000" => Some(Self::Symlink),
            "160000" => Some(Self::Submodule),
            _ => None,
        }
    }

    /// Git's mode.
    pub const fn mode(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Submodule => "160000",
        }
    }
}

/// A file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where, with `/`; names that are not UTF-8 are changed so that they are.
    pub path: String,
    /// What.
    pub kind: EntryKind,
    /// Its content.
    pub id: ObjectId,
    /// Its length; 0 for a submodule.
    pub size: u64,
}

/// A file that a new tree has otherwise than its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: String,
    /// The content; `None` takes the file away.
    pub content: Option<Vec<u8>>,
    /// What it is to be.
    pub kind: EntryKind,
}

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

impl Repository {
    /// Every file of a tree or commit.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn entries(&self, tree: &ObjectId) -> Result<Vec<Entry>, GitError> {
        let call = self.call(["ls-tree", "-r", "-z", "-l", "--full-tree", tree.as_str()]);
        let listing = self.git.run(call).await?.stdout;
        let lines = listing
            .split(|byte| *byte == 0)
            .filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let line = String::from_utf8_lossy(line);
                entry(&line).ok_or_else(|| GitError::other("git ls-tree", format!("`{line}`")))
            })
            .collect()
    }

    /// The contents of blobs, in the order asked for.
    ///
    /// # Errors
    /// When one can't be read.
    pub async fn blobs(&self, ids: &[ObjectId]) -> Result<Vec<Vec<u8>>, GitError> {
        let asked = ids.iter().fold(String::new(), |mut asked, id| {
            let _ = writeln!(asked, "{id}");
            asked
        });
        let call = self.call(["cat-file", "--batch"]).input(asked);
        let output = self.git.run(call).await?.stdout;
        let mut rest = output.as_slice();
        let mut blobs = Vec::with_capacity(ids.len());
        for id in ids {
            let blob = next_blob(&mut rest);
            blobs.push(blob.ok_or_else(|| GitError::other("git cat-file", format!("no {id}")))?);
        }
        Ok(blobs)
    }

    /// Writes the tree that a base becomes by changes. Neither work tree nor index is touched.
    ///
    /// # Errors
    /// When an object can't be written.
    pub async fn write_tree(
        &self,
        base: &ObjectId,
        changes: &[Change],
    ) -> Result<ObjectId, GitError> {
        let scratch = tempfile::tempdir_in(&self.dir).map_err(io)?;
        let ids = self.write_blobs(scratch.path(), changes).await?;
        let index: OsString = scratch.path().join("index").into();
        let with_index = |args: Vec<&str>| {
            let mut call = self.call(args);
            call.env.push(("GIT_INDEX_FILE", index.clone()));
            call
        };
        self.git
            .run(with_index(vec!["read-tree", base.as_str()]))
            .await?;
        let info = index_info(changes, &ids);
        let update = with_index(vec!["update-index", "-z", "--index-info"]).input(info);
        self.git.run(update).await?;
        self.object(with_index(vec!["write-tree"])).await
    }

    /// Writes the contents of changes as blobs; one id for each change that has a content.
    async fn write_blobs(
        &self,
        scratch: &Path,
        changes: &[Change],
    ) -> Result<Vec<ObjectId>, GitError> {
        let mut paths = String::new();
        for (number, change) in changes.iter().enumerate() {
            if let Some(content) = &change.content {
                let path = scratch.join(number.to_string());
                tokio::fs::write(&path, content).await.map_err(io)?;
                paths.push_str(&path.to_string_lossy());
                paths.push('\n');
            }
        }
        let args = ["hash-object", "-w", "--no-filters", "--stdin-paths"];
        let ids = self.output(self.call(args).input(paths)).await?;
        ids.lines().map(str::parse).collect()
    }

    /// Checks a commit out without a branch.
    ///
    /// # Errors
    /// When an object is missing or the work tree can't be written.
    pub async fn check_out_detached(&self, commit: &ObjectId) -> Result<(), GitError> {
        let call = self.call([
            "checkout",
            "--quiet",
            "--force",
            "--detach",
            commit.as_str(),
        ]);
        self.git.run(call).await.map(drop)
    }

    /// Has this repository, which is empty, use another's objects in place, and begin with the
    /// index of a clone of it, so that a checked-out file is not read again to see it unchanged.
    ///
    /// # Errors
    /// When a file can't be written.
    pub async fn borrow_from(&self, objects: &Self, index: &Self) -> std::io::Result<()> {
        let info = self.dir.join("objects/info");
        tokio::fs::create_dir_all(&info).await?;
        let line = format!("{}\n", objects.dir.join("objects").display());
        tokio::fs::write(info.join("alternates"), line).await?;
        tokio::fs::copy(index.dir.join("index"), self.dir.join("index")).await?;
        Ok(())
    }

    /// Makes the work tree exactly this tree: nothing else is left in it, ignored files included.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn check_out(&self, tree: &ObjectId) -> Result<(), GitError> {
        self.git.run(self.call(["clean", "-ffdxq"])).await?;
        let call = self.call(["read-tree", "--reset", "-u", tree.as_str()]);
        self.git.run(call).await.map(drop)
    }

    /// The tree that the work tree is now, without what is ignored.
    ///
    /// # Errors
    /// When the work tree can't be read.
    pub async fn snapshot(&self) -> Result<ObjectId, GitError> {
        self.git.run(self.call(["add", "--all", "--", "."])).await?;
        self.object(self.call(["write-tree"])).await
    }

    /// The difference between two trees as git writes it, without renames.
    ///
    /// # Errors
    /// When a tree can't be read.
    pub async fn diff(&self, from: &ObjectId, to: &ObjectId) -> Result<Vec<u8>, GitError> {
        let args = [
            "diff-tree",
            "-r",
            "-p",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
        ];
        let call = self.call(args.iter().copied().chain([from.as_str(), to.as_str()]));
        Ok(self.git.run(call).await?.stdout)
    }

    /// Commits a tree on a parent. No branch moves.
    ///
    /// # Errors
    /// When the commit can't be written.
    pub async fn commit_tree(
        &self,
        tree: &ObjectId,
        parent: &ObjectId,
        message: &str,
        author: &Author,
    ) -> Result<ObjectId, GitError> {
        let args = [
            "commit-tree",
            tree.as_str(),
            "-p",
            parent.as_str(),
            "-F",
            "-",
        ];
        let mut call = self.call(args).input(message);
        for (name, value) in [
            ("GIT_AUTHOR_NAME", &author.name),
            ("GIT_AUTHOR_EMAIL", &author.email),
            ("GIT_COMMITTER_NAME", &author.name),
            ("GIT_COMMITTER_EMAIL", &author.email),
        ] {
            call.env.push((name, value.into()));
        }
        self.object(call).await
    }

    /// The tree of two commits merged.
    ///
    /// # Errors
    /// [`GitError::Conflict`] when they meet in the same place.
    pub async fn merge(&self, ours: &ObjectId, theirs: &ObjectId) -> Result<ObjectId, GitError> {
        let args = [
            "merge-tree",
            "--write-tree",
            "--no-messages",
            "--name-only",
            "-z",
        ];
        let call = self.call(args.iter().copied().chain([ours.as_str(), theirs.as_str()]));
        let finished = self.git.run_any(call).await?;
        let output = finished.stdout_text();
        let mut parts = output
            .split('\0')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        match (finished.returncode, parts.next()) {
            (Some(0), Some(tree)) => tree.parse(),
            (Some(1), Some(_)) => Err(GitError::Conflict {
                paths: parts.map(str::to_owned).collect(),
            }),
            _ => Err(GitError::other("git merge-tree", finished.stderr_text())),
        }
    }

    /// Commits that `head` has and `base` has not, each with the values of a trailer.
    ///
    /// # Errors
    /// When the commits can't be read.
    pub async fn trailers_since(
        &self,
        base: &ObjectId,
        head: &ObjectId,
        key: &str,
    ) -> Result<Vec<(ObjectId, String)>, GitError> {
        let format = format!("--format=%H %(trailers:key={key},valueonly,separator=%x20)");
        let range = format!("{base}..{head}");
        let listing = self.output(self.call(["log", &format, &range])).await?;
        let mut commits = Vec::new();
        for line in listing.lines() {
            let (id, values) = line.split_once(' ').unwrap_or((line, ""));
            commits.push((id.parse()?, values.trim().to_owned()));
        }
        Ok(commits)
    }
}

fn entry(line: &str) -> Option<Entry> {
    let (facts, path) = line.split_once('\t')?;
    let mut facts = facts.split_ascii_whitespace();
    let kind = EntryKind::from_mode(facts.next()?)?;
    let id = facts.nth(1)?.parse().ok()?;
    Some(Entry {
        path: path.to_owned(),
        kind,
        id,
        size: facts.next()?.parse().unwrap_or(0),
    })
}

/// One `<id> blob <size>\n<content>\n` of a batch.
fn next_blob(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let header = std::str::from_utf8(&rest[..end]).ok()?;
    let size: usize = header.rsplit_once(" blob ")?.1.parse().ok()?;
    let content = rest.get(end + 1..end + 1 + size)?.to_vec();
    *rest = rest.get(end + 2 + size..)?;
    Some(content)
}

/// Removals first: a file may make room for a folder.
fn index_info(changes: &[Change], ids: &[ObjectId]) -> String {
    let (mut removals, mut additions) = (String::new(), String::new());
    let mut ids = ids.iter();
    for change in changes {
        match change.content.as_ref().and_then(|_| ids.next()) {
            Some(id) => {
                let _ = write!(additions, "{} {id}\t{}\0", change.kind.mode(), change.path);
            }
            None => {
                let _ = write!(removals, "0 {}\t{}\0", "0".repeat(40), change.path);
            }
        }
    }
    removals + &additions
}

fn io(error: std::io::Error) -> GitError {
    GitError::other("writing objects", error.to_string())
}
