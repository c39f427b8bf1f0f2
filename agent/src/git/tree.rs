//! Trees and commits, made and compared in the object store.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use super::error::TOO_LONG;
use super::work_tree::{self, Paths, Strange};
use super::{GitError, OUTPUT_CAP, ObjectId, Repository, in_background};

/// Most strange things that an error names.
const NAMED: usize = 5;

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

    /// Has this repository, which is empty, use another's objects in place.
    ///
    /// # Errors
    /// When a file can't be written.
    pub async fn borrow_from(&self, objects: &Self) -> std::io::Result<()> {
        let info = self.dir.join("objects/info");
        tokio::fs::create_dir_all(&info).await?;
        let line = format!("{}\n", objects.dir.join("objects").display());
        tokio::fs::write(info.join("alternates"), line).await
    }

    /// Makes the work tree exactly this tree, whatever was left there: nothing else stays in it,
    /// neither ignored files nor repositories.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn check_out(&self, tree: &ObjectId) -> Result<(), GitError> {
        let kept = self.paths(tree).await?;
        let (root, lock) = self.untrusted();
        let folder_lock = self.lock();
        in_background("clearing the work tree", move || {
            let _lock = folder_lock;
            crate::disk::remove_all(&lock)?;
            work_tree::clear(&root, &kept)
        })
        .await?;
        let call = self.call(["read-tree", "--reset", "-u", tree.as_str()]);
        self.git.run(call).await.map(drop)
    }

    /// The tree that the work tree is now, without what is ignored. Submodules stay as they are
    /// in the tree that was checked out.
    ///
    /// # Errors
    /// [`GitError::Unfit`] when it holds what no tree can hold; else when it can't be read.
    pub async fn snapshot(&self) -> Result<ObjectId, GitError> {
        let submodules = self.submodules().await?;
        let (root, lock) = self.untrusted();
        let folder_lock = self.lock();
        let strange = in_background("reading the work tree", move || {
            let _lock = folder_lock;
            crate::disk::remove_all(&lock)?;
            work_tree::prepare(&root, &submodules)
        });
        self.refuse(strange.await?).await?;
        let added = self.git.run(self.call(["add", "--all", "--", "."])).await;
        added.map_err(GitError::of_work_tree)?;
        self.object(self.call(["write-tree"])).await
    }

    /// The work tree, and the lock that a killed git may have left on its index.
    fn untrusted(&self) -> (std::path::PathBuf, std::path::PathBuf) {
        let root = self.work_tree.as_ref().unwrap_or(&self.dir);
        (root.clone(), self.dir.join("index.lock"))
    }

    async fn paths(&self, tree: &ObjectId) -> Result<Paths, GitError> {
        let mut call = self.call(["ls-tree", "-r", "-z", "--full-tree", tree.as_str()]);
        // The work tree need not be there.
        call.cwd = &self.dir;
        Ok(paths(&self.git.run(call).await?.stdout).collect())
    }

    async fn submodules(&self) -> Result<BTreeSet<Vec<u8>>, GitError> {
        let listing = self
            .git
            .run(self.call(["ls-files", "--stage", "-z"]))
            .await?;
        let submodules = paths(&listing.stdout).filter(|(_, kind)| *kind == EntryKind::Submodule);
        Ok(submodules.map(|(path, _)| path).collect())
    }

    /// An error that names what is strange and not ignored.
    async fn refuse(&self, strange: Vec<Strange>) -> Result<(), GitError> {
        if strange.is_empty() {
            return Ok(());
        }
        let asked = strange.iter().flat_map(|it| [it.path.as_slice(), b"\0"]);
        let call = self.call(["check-ignore", "-z", "--stdin"]);
        let answer = self
            .git
            .run_any(call.input(asked.collect::<Vec<_>>().concat()));
        let answer = answer.await?.stdout;
        let ignored: BTreeSet<_> = answer.split(|byte| *byte == 0).collect();
        let refused: Vec<_> = strange
            .iter()
            .filter(|it| !ignored.contains(it.path.as_slice()))
            .map(|it| format!("`{}` {}", String::from_utf8_lossy(&it.path), it.what))
            .collect();
        let more = match refused.len() {
            0 => return Ok(()),
            count if count > NAMED => format!("; and {} more", count - NAMED),
            _ => String::new(),
        };
        let named = refused.iter().take(NAMED).map(String::as_str);
        let reason = named.collect::<Vec<_>>().join("; ") + &more;
        Err(GitError::Unfit { reason })
    }

    /// The difference between two trees as git writes it, without renames.
    ///
    /// # Errors
    /// [`GitError::Unfit`] when it is too long; else when a tree can't be read.
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
        match self.git.run(call).await {
            Ok(finished) => Ok(finished.stdout),
            Err(GitError::Other { reason, .. }) if reason == TOO_LONG => Err(GitError::Unfit {
                reason: format!("the change is longer than {} MiB", OUTPUT_CAP >> 20),
            }),
            Err(error) => Err(error),
        }
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

/// Paths and kinds of a listing by `ls-tree -z` or `ls-files --stage -z`.
fn paths(listing: &[u8]) -> impl Iterator<Item = (Vec<u8>, EntryKind)> {
    listing.split(|byte| *byte == 0).filter_map(|line| {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        let mode = std::str::from_utf8(line.get(..6)?).ok()?;
        Some((line[tab + 1..].to_vec(), EntryKind::from_mode(mode)?))
    })
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
    GitError::host("writing objects", error)
}
