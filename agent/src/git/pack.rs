//! Keeps the objects of a repository that is fetched into for weeks in few files.
//!
//! Each fetch adds loose objects or a pack. Git's own maintenance is off, as it runs when it likes
//! and drops what no ref leads to; others borrow these objects, so that nothing may ever go.

use std::fs;
use std::io;
use std::path::Path;

use super::{GitError, Repository, in_background};

/// Loose objects from which on packing pays.
const LOOSE: usize = 512;
/// Packs from which on they are joined; each is searched for every object.
const PACKS: usize = 32;

impl Repository {
    /// Packs what lies loose and joins packs of a size, when there is much of either. Objects that
    /// no ref leads to are packed like all others (git-repack(1), `--geometric`). Only for a
    /// repository that nobody else fetches into.
    ///
    /// # Errors
    /// When git can't pack; the repository is as it was.
    pub(super) async fn pack(&self) -> Result<(), GitError> {
        let objects = self.dir.join("objects");
        let counted = in_background("counting objects", move || is_scattered(&objects)).await?;
        if !counted {
            return Ok(());
        }
        let call = self.call(["repack", "-q", "-d", "--geometric=2"]);
        self.git.run(call).await.map(drop)
    }
}

fn is_scattered(objects: &Path) -> io::Result<bool> {
    let mut loose = 0;
    for folder in fs::read_dir(objects)? {
        let folder = folder?;
        // The others are `info` and `pack`.
        if folder.file_name().len() == 2 {
            loose += fs::read_dir(folder.path())?.count();
        }
    }
    let packs = fs::read_dir(objects.join("pack"))?.flatten();
    let packs = packs.filter(|file| file.path().extension().is_some_and(|end| end == "pack"));
    Ok(loose >= LOOSE || packs.count() >= PACKS)
}
