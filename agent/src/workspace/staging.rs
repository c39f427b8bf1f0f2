//! Folders that workspaces and mirrors are built in before they take their places.
//!
//! Whoever builds may be cancelled at any moment, while a thread or a process goes on to write for a
//! while and may even make the folder again. So nobody cleans up at that moment: a sweep deletes
//! each such folder that nobody builds in any more, and tries again as long as there is one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Prefix of the names of staging folders.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// The staging folders of one agent that somebody builds in.
#[derive(Debug, Clone, Default)]
pub(super) struct StagingFolders(Arc<Mutex<BTreeSet<PathBuf>>>);

/// A staging folder, kept from sweeps until this value is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) folder: PathBuf,
    all: StagingFolders,
}

impl StagingFolders {
    /// The staging folder of that name in `parent`. Its builder makes it.
    pub(super) fn begin(&self, parent: &Path, name: &str) -> Staging {
        let folder = parent.join(format!("{UNFINISHED}{name}"));
        self.folders().insert(folder.clone());
        Staging {
            folder,
            all: self.clone(),
        }
    }

    /// True while somebody builds in the folder.
    pub(super) fn contains(&self, folder: &Path) -> bool {
        self.folders().contains(folder)
    }

    fn folders(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.all.folders().remove(&self.folder);
    }
}
