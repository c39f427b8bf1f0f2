//! What stands in a git folder besides objects and refs, written anew before every use.
//!
//! A folder's configuration names programs that git runs, servers that it talks to and proxies
//! that it goes through. Code of a repository runs as the same user and may have written there, so
//! that nothing of it is believed: the configuration becomes ours again, and what would add to it
//! is taken away.
//!
//! Absent: the check of objects and refs. Only isolation keeps untrusted code from those.

use std::fs;
use std::io;
use std::path::Path;

use super::keep::is_of_a_kept;
use crate::disk::remove_all;

/// The configuration of a bare repository, all of it.
///
/// Without the last two, libgit2 looks for such files in the user's home.
const CONFIGURATION: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\
                             \tbare = true\n\tattributesFile = /dev/null\n\
                             \texcludesFile = /dev/null\n";

/// What is added for a repository that lacks contents of files: git takes no offence at what it does
/// not have. There is no address in it, so that no git goes and fetches what it stumbles over.
const LACKING: &str = "[extensions]\n\tpartialClone = origin\n[remote \"origin\"]\n\
                       \tpromisor = true\n\tpartialclonefilter = blob:none\n";

/// Which objects a repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All that its refs lead to.
    Whole,
    /// All but contents of files that nobody asked for (a partial clone).
    Partial,
}

impl Extent {
    /// What a repository's configuration says of it.
    pub(super) const fn configuration(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Partial => LACKING,
        }
    }
}

/// Further places that git takes settings or history from; a folder of ours has none of them.
const FOREIGN: &[&str] = &[
    "commondir",
    "config.worktree",
    "hooks",
    "info/attributes",
    "info/exclude",
    "info/grafts",
    "info/sparse-checkout",
];

/// Makes the settings of a git folder ours again. A folder that is not there stays absent.
pub(super) fn restore(dir: &Path, extent: Extent) -> io::Result<()> {
    for name in FOREIGN {
        remove_all(&dir.join(name))?;
    }
    let path = dir.join("config");
    let ours = [CONFIGURATION, extent.configuration()].concat();
    if !dir.is_dir() || has(&path, &ours) {
        return Ok(());
    }
    // A link, a folder or a file that others hold open makes way for a file of our own.
    remove_all(&path)?;
    let begun = dir.join(format!("config.{}", uuid::Uuid::now_v7()));
    fs::write(&begun, ours)?;
    fs::rename(&begun, &path)
}

/// Takes away the lock files and the half-written objects and packs that a killed git left. Only
/// for a folder that no other git uses.
pub(super) fn unlock(dir: &Path) -> io::Result<()> {
    remove_leftovers(dir)?;
    for folder in fs::read_dir(dir.join("objects")).into_iter().flatten() {
        // Loose objects in the folders with two digits; packs, `multi-pack-index.lock` and the
        // commit graph's in the others.
        remove_leftovers(&folder?.path())?;
    }
    let refs = dir.join("refs");
    if refs.is_dir() {
        unlock_refs(&refs)
    } else {
        Ok(())
    }
}

/// Removes files from a folder that only a git under way has there.
fn remove_leftovers(dir: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        // git-repack calls its own `.tmp-<pid>-pack-…`.
        let is_half = text.starts_with("tmp_") || text.starts_with(".tmp-");
        if is_half
            || Path::new(&name)
                .extension()
                .is_some_and(|end| end == "lock")
        {
            remove_all(&dir.join(&name))?;
        }
    }
    Ok(())
}

fn unlock_refs(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            unlock_refs(&path)?;
        } else if path.extension().is_some_and(|end| end == "lock") && !is_of_a_kept(&path) {
            remove_all(&path)?;
        }
    }
    Ok(())
}

/// True for a plain file with this text.
fn has(path: &Path, text: &str) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
        && fs::read_to_string(path).is_ok_and(|found| found == text)
}
