//! The work tree: made known by a check-out, read by a snapshot.

use std::collections::BTreeSet;

use super::tree::files;
use super::work_tree::{self, Paths, Strange};
use super::{EntryKind, GitError, ObjectId, Repository, in_background};

/// Most strange things that an error names.
const NAMED: usize = 5;

impl Repository {
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
        let tree = tree.clone();
        self.local("listing a tree", move |repository| {
            let files = files(repository, tree.to_oid()?)?.into_iter();
            Ok(files.map(|(path, blob)| (path, blob.kind)).collect())
        })
        .await
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
}

/// Paths and kinds of a listing by `ls-tree -z` or `ls-files --stage -z`.
fn paths(listing: &[u8]) -> impl Iterator<Item = (Vec<u8>, EntryKind)> {
    listing.split(|byte| *byte == 0).filter_map(|line| {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        let mode = std::str::from_utf8(line.get(..6)?).ok()?;
        Some((line[tab + 1..].to_vec(), EntryKind::from_mode(mode)?))
    })
}
