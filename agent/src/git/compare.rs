//! Trees compared, commits merged, and what was written about commits.

use git2::{
    Delta, DiffDelta, DiffFindOptions, DiffFormat, DiffLine, DiffLineType, DiffOptions, ErrorCode,
    MergeOptions, Sort,
};

use super::local::failed;
use super::tree::tree_of;
use super::{GitError, OUTPUT_CAP, ObjectId, Repository};

/// Most files on a side that are compared for their likeness; equal ones are found beyond that.
const RENAMES: usize = 1000;
/// A deleted file of more bytes is told without its lines.
const LONG_DELETED: u64 = 256 * 1024;

/// What makes one tree another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A patch as git writes it.
    pub patch: Vec<u8>,
    /// Files that are no text, with the names of their contents afterwards.
    pub binaries: Vec<(String, ObjectId)>,
}

impl Repository {
    /// The difference between two trees as git writes it, without renames.
    ///
    /// What is text is told by the content alone: no attribute hides it.
    ///
    /// # Errors
    /// [`GitError::Unfit`] when it is too long; else when a tree can't be read.
    pub async fn diff(&self, from: &ObjectId, to: &ObjectId) -> Result<Vec<u8>, GitError> {
        let compared = self.compare(from, to, false).await?;
        Ok(compared.patch)
    }

    /// The difference between two trees as a change: files that are no text have their new contents
    /// in it, and one that was moved is one, as people count it.
    ///
    /// # Errors
    /// The same as those of [`Repository::diff`].
    pub async fn change(&self, from: &ObjectId, to: &ObjectId) -> Result<Difference, GitError> {
        self.compare(from, to, true).await
    }

    async fn compare(
        &self,
        from: &ObjectId,
        to: &ObjectId,
        is_change: bool,
    ) -> Result<Difference, GitError> {
        let what = "comparing trees";
        let (from, to) = (from.clone(), to.clone());
        self.local(what, move |repository| {
            let tree = |id: &ObjectId| tree_of(repository, id.to_oid()?).map_err(failed(what));
            let (from, to) = (tree(&from)?, tree(&to)?);
            let mut options = DiffOptions::new();
            options.indent_heuristic(true).show_binary(is_change);
            let mut diff = repository
                .diff_tree_to_tree(Some(&from), Some(&to), Some(&mut options))
                .map_err(failed(what))?;
            if is_change {
                let mut similar = DiffFindOptions::new();
                similar.renames(true).rename_limit(RENAMES);
                diff.find_similar(Some(&mut similar))
                    .map_err(failed(what))?;
            }
            let mut patch = Patch::default();
            let printed = diff.print(DiffFormat::Patch, |delta, _, line| {
                patch.push(&delta, &line);
                patch.text.len() <= OUTPUT_CAP
            });
            match printed {
                Err(error) if error.code() == ErrorCode::User => Err(GitError::Unfit {
                    reason: format!(
                        "the change is longer than {} MiB, with `{}` alone {} MiB",
                        OUTPUT_CAP >> 20,
                        patch.longest.1,
                        patch.longest.0.div_ceil(1 << 20)
                    ),
                }),
                printed => printed.map_err(failed(what)),
            }?;
            Ok(Difference {
                patch: patch.text,
                binaries: patch.binaries,
            })
        })
        .await
    }

    /// The tree of two commits merged.
    ///
    /// # Errors
    /// [`GitError::Conflict`] when they meet in the same place.
    pub async fn merge(&self, ours: &ObjectId, theirs: &ObjectId) -> Result<ObjectId, GitError> {
        let what = "merging";
        let (ours, theirs) = (ours.clone(), theirs.clone());
        self.local(what, move |repository| {
            let commit = |id: &ObjectId| repository.find_commit(id.to_oid()?).map_err(failed(what));
            merged(repository, &commit(&ours)?, &commit(&theirs)?)
        })
        .await
    }

    /// True when a commit does nothing but bring the base in, as the button "Update branch" makes one:
    /// its second parent is of the base, and its tree what git itself merges.
    ///
    /// # Errors
    /// When the commits can't be read.
    pub async fn only_merges(&self, base: &ObjectId, commit: &ObjectId) -> Result<bool, GitError> {
        let what = "reading a merge";
        let (base, commit) = (base.clone(), commit.clone());
        self.local(what, move |repository| {
            let (base, id) = (base.to_oid()?, commit.to_oid()?);
            let commit = repository.find_commit(id).map_err(failed(what))?;
            let parents: Vec<_> = commit.parents().collect();
            let [ours, theirs] = parents.as_slice() else {
                return Ok(false);
            };
            let descends = repository.graph_descendant_of(base, theirs.id());
            if theirs.id() != base && !descends.map_err(failed(what))? {
                return Ok(false);
            }
            match merged(repository, ours, theirs) {
                Ok(tree) => Ok(tree == commit.tree_id().into()),
                Err(GitError::Conflict { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Commits that `head` has and `base` has not, newest first, each with the values of a trailer.
    ///
    /// # Errors
    /// When the commits can't be read.
    pub async fn trailers_since(
        &self,
        base: &ObjectId,
        head: &ObjectId,
        key: &str,
    ) -> Result<Vec<(ObjectId, String)>, GitError> {
        let what = "reading commits";
        let (base, head, key) = (base.clone(), head.clone(), key.to_owned());
        self.local(what, move |repository| {
            let (base, head) = (base.to_oid()?, head.to_oid()?);
            let read = || -> Result<Vec<_>, git2::Error> {
                let mut walk = repository.revwalk()?;
                walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
                walk.push(head)?;
                walk.hide(base)?;
                walk.map(|id| {
                    let commit = repository.find_commit(id?)?;
                    Ok((commit.id().into(), trailer(&commit, &key)?))
                })
                .collect()
            };
            read().map_err(failed(what))
        })
        .await
    }
}

/// The tree of two commits merged.
fn merged(
    repository: &git2::Repository,
    ours: &git2::Commit<'_>,
    theirs: &git2::Commit<'_>,
) -> Result<ObjectId, GitError> {
    let what = "merging";
    let mut options = MergeOptions::new();
    options.find_renames(true);
    let merged = repository.merge_commits(ours, theirs, Some(&options));
    let mut merged = merged.map_err(failed(what))?;
    if merged.has_conflicts() {
        let paths = conflicts(&merged).map_err(failed(what))?;
        return Err(GitError::Conflict { paths });
    }
    let tree = merged.write_tree_to(repository);
    tree.map(Into::into).map_err(failed(what))
}

/// A patch as git prints it. Of a long file that is deleted no line is told: its text is in the old
/// tree, and a diff that says so is as short as the reading of it.
#[derive(Default)]
struct Patch {
    text: Vec<u8>,
    /// `---` and `+++` of a file, which git only prints before a hunk.
    names: Vec<u8>,
    /// The file that has the most of the text so far.
    longest: (usize, String),
    /// Files that are no text, with the names of their contents afterwards.
    binaries: Vec<(String, ObjectId)>,
    /// Where the present file begins in the text.
    start: usize,
}

impl Patch {
    fn push(&mut self, delta: &DiffDelta<'_>, line: &DiffLine<'_>) {
        if line.origin_value() == DiffLineType::FileHeader {
            self.start = self.text.len();
        } else if line.origin_value() == DiffLineType::Binary {
            self.push_binary(delta, line.content());
            return self.note_length(delta);
        } else if delta.status() == Delta::Deleted && delta.old_file().size() > LONG_DELETED {
            return self.push_deleted(delta);
        }
        self.push_line(line);
        self.note_length(delta);
    }

    fn note_length(&mut self, delta: &DiffDelta<'_>) {
        let bytes = self.text.len() - self.start;
        if bytes > self.longest.0 {
            self.longest = (bytes, path_of(delta));
        }
    }

    /// The new content of a file that is no text. Git says nothing of one that only got another name
    /// or mode, and the way back to the old content is in the old tree.
    fn push_binary(&mut self, delta: &DiffDelta<'_>, content: &[u8]) {
        let (before, after) = (delta.old_file().id(), delta.new_file().id());
        if before == after {
            return;
        }
        if !after.is_zero() {
            self.binaries.push((path_of(delta), after.into()));
        }
        let forward = content.windows(2).position(|it| it == b"\n\n");
        let forward = forward.map_or(content, |end| &content[..end + 2]);
        self.text.extend(readable(forward));
    }

    /// Says once that a file goes, in the words that git has for one without text.
    fn push_deleted(&mut self, delta: &DiffDelta<'_>) {
        if std::mem::take(&mut self.names).is_empty() {
            return;
        }
        let line = format!("Binary files a/{} and /dev/null differ\n", path_of(delta));
        self.text.extend(readable(line.as_bytes()));
    }

    fn push_line(&mut self, line: &DiffLine<'_>) {
        let content = line.content();
        match line.origin_value() {
            DiffLineType::FileHeader => {
                self.names.clear();
                for line in content.split_inclusive(|byte| *byte == b'\n') {
                    let mut line = readable(line);
                    let name = line
                        .strip_prefix(b"--- ")
                        .or_else(|| line.strip_prefix(b"+++ "));
                    match name {
                        Some(name) => {
                            if name.contains(&b' ') {
                                // So that a time can't be taken for a part of the name.
                                line.insert(line.len() - 1, b'\t');
                            }
                            self.names.extend(line);
                        }
                        None => self.text.extend(line),
                    }
                }
            }
            DiffLineType::HunkHeader => {
                self.text.append(&mut self.names);
                self.text.extend(content);
            }
            DiffLineType::Context | DiffLineType::Addition | DiffLineType::Deletion => {
                self.text.extend(line.origin().to_string().bytes());
                self.text.extend(content);
            }
            _ => self.text.extend(content),
        }
    }
}

/// The path of a file, for people.
fn path_of(delta: &DiffDelta<'_>) -> String {
    let path = delta.new_file().path_bytes();
    let path = path.or_else(|| delta.old_file().path_bytes());
    String::from_utf8_lossy(path.unwrap_or_default()).into_owned()
}

/// A line of a file's head whose names are quoted for control characters, quotes and backslashes
/// alone, as git does it with `core.quotePath` off: letters of other scripts stay readable.
fn readable(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.iter().position(|byte| *byte == b'"') {
        let (name, after) = quoted(&rest[start + 1..]);
        plain.extend(&rest[..start]);
        if name.contains(&b'\\') {
            plain.push(b'"');
            plain.extend(name);
            plain.push(b'"');
        } else {
            plain.extend(name);
        }
        rest = after;
    }
    plain.extend(rest);
    plain
}

/// A quoted name up to its closing quote, with the bytes that are no ASCII as they are, and what
/// follows it.
fn quoted(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut name = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let octal = text.get(at + 1..at + 4).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match (byte, octal) {
            (b'"', _) => return (name, &text[at + 1..]),
            (b'\\', Some(letter)) if !letter.is_ascii() => {
                name.push(letter);
                at += 4;
            }
            (b'\\', _) => {
                name.extend(text.get(at..at + 2).unwrap_or(&text[at..]));
                at += 2;
            }
            _ => {
                name.push(*byte);
                at += 1;
            }
        }
    }
    (name, &[])
}

/// Where a merge has conflicts, each path once.
fn conflicts(merged: &git2::Index) -> Result<Vec<String>, git2::Error> {
    let mut paths = std::collections::BTreeSet::new();
    for conflict in merged.conflicts()? {
        let conflict = conflict?;
        let sides = [conflict.our, conflict.their, conflict.ancestor];
        let path = sides.into_iter().flatten().next().map(|entry| entry.path);
        paths.extend(path.map(|path| String::from_utf8_lossy(&path).into_owned()));
    }
    Ok(paths.into_iter().collect())
}

/// The values of a trailer in a commit's message.
fn trailer(commit: &git2::Commit<'_>, key: &str) -> Result<String, git2::Error> {
    let trailers = git2::message_trailers_bytes(commit.message_raw_bytes())?;
    let values: Vec<_> = trailers
        .iter()
        .filter(|(found, _)| found.eq_ignore_ascii_case(key.as_bytes()))
        .map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned())
        .collect();
    Ok(values.join(" "))
}
