//! Results of setup phases in `shared/setups/<key>`, so that what was installed once is not
//! installed again.
//!
//! ```text
//! <key>/entry.json   what it is, with the hash of the listing below; written last
//!      /home         the home in which was installed
//!      /tree         what the base does not have
//! ```
//!
//! An entry comes to its place whole, by one rename of the folder in which a task installed, and is
//! never written again: runs get copies. Nobody waits until it is on disk, which on a busy host takes
//! minutes: an entry of before the host's last start is not used. Its listing (paths, kinds, rights, sizes, times) is
//! compared before each use, so that one that was damaged is removed and not used. Whoever uses an
//! entry has a shared lock on its `entry.json`, which whoever deletes it must have alone. One lock
//! of a key keeps all but one from installing the same; the kernel lets go of both when a process
//! ends.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use patchfleet_domain::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::dependencies::Dependencies;
use super::file_lock::{FileLock, Sharing};
use super::layout::{delete_unless_used, folders};
use crate::disk;

/// The file that makes a folder an entry.
const ENTRY: &str = "entry.json";
/// The folder of locks. Keys that begin alike share one, so that their number stays small.
const LOCKS: &str = "locks";

/// The results of setup phases of one agent.
#[derive(Debug, Clone)]
pub struct SetupCache {
    folder: PathBuf,
    /// How old a result may be that is used.
    keep: TimeDelta,
}

/// The right to install what has a key, until this value is dropped.
#[derive(Debug)]
pub struct InstallLock(#[expect(dead_code, reason = "closing it gives the lock back")] FileLock);

/// A result that was kept.
#[derive(Debug, Clone)]
pub struct CachedSetup {
    /// What was installed; its entry is not deleted while this is there.
    pub dependencies: Dependencies,
    /// How it went, as whoever stored it says.
    pub report: serde_json::Value,
    /// When it was installed.
    pub made_at: Timestamp,
}

/// `entry.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    made_at: Timestamp,
    /// The start of the host that it was made in; see `boot`.
    boot: String,
    /// The topmost paths in `tree`.
    paths: Vec<PathBuf>,
    /// The hash of what lies beside.
    listing: String,
    report: serde_json::Value,
}

/// An entry on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetupEntry {
    pub(super) path: PathBuf,
    pub(super) last_used: Timestamp,
    /// Too old to be used, or no entry at all.
    pub(super) is_over: bool,
}

impl SetupCache {
    /// Results below a folder, each used for so long.
    pub(super) const fn new(folder: PathBuf, keep: TimeDelta) -> Self {
        Self { folder, keep }
    }

    /// Waits until nobody else installs what has this key.
    ///
    /// # Errors
    /// When nothing can be locked.
    pub async fn lock(&self, key: &str) -> io::Result<InstallLock> {
        let begin = key.get(..2).unwrap_or(key);
        let file = self.folder.join(LOCKS).join(format!("{begin}.lock"));
        FileLock::take(&file, Sharing::Alone).await.map(InstallLock)
    }

    /// The result with a key. One that is damaged or too old is removed.
    pub async fn find(&self, key: &str, now: Timestamp) -> Option<CachedSetup> {
        let place = self.folder.join(key);
        if !place.exists() {
            return None;
        }
        let (folder, keep) = (place.clone(), self.keep);
        let read = tokio::task::spawn_blocking(move || read(&folder, now, keep)).await;
        match read.map_err(io::Error::other).flatten() {
            Ok(found) => {
                disk::touch(&place);
                Some(found)
            }
            Err(error) => {
                tracing::info!(folder = %place.display(), %error, "a setup result is not used and is removed");
                self.delete(&place).await;
                None
            }
        }
    }

    /// Keeps what a task installed, whose folder becomes the entry; what the task goes on with.
    /// Where it can't be kept, it stays with the task.
    pub async fn store(
        &self,
        key: &str,
        dependencies: Dependencies,
        (report, now): (serde_json::Value, Timestamp),
    ) -> Dependencies {
        let place = self.folder.join(key);
        let installed = dependencies.clone();
        let stored = move || store(&installed, &place, (report, now));
        let stored = tokio::task::spawn_blocking(stored).await;
        match stored.map_err(io::Error::other).flatten() {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%error, "what was installed can't be kept for later tasks");
                dependencies
            }
        }
    }

    /// Every entry, also those that are none any more.
    pub(super) async fn entries(&self, now: Timestamp) -> Vec<SetupEntry> {
        let (folder, keep) = (self.folder.clone(), self.keep);
        let found = tokio::task::spawn_blocking(move || {
            let all = folders(&folder).into_iter().filter(|path| is_entry(path));
            let entry = |path: PathBuf| SetupEntry {
                last_used: fs::metadata(&path)
                    .and_then(|it| it.modified())
                    .map_or(Timestamp::MIN_UTC, Into::into),
                is_over: note(&path).map_or(true, |it| it.is_over(now, keep)),
                path,
            };
            all.map(entry).collect()
        });
        found.await.unwrap_or_default()
    }

    /// Deletes an entry unless it is being used; true when it is out of the way.
    pub(super) async fn delete(&self, place: &Path) -> bool {
        delete_unless_used((&self.folder, place), ENTRY).await
    }
}

impl Note {
    /// Too old, or of before the host's last start, after which files may lack what was written last.
    fn is_over(&self, now: Timestamp, keep: TimeDelta) -> bool {
        if self.boot.is_empty() || self.boot != boot() {
            return true;
        }
        // A clock that was set back makes nothing live longer.
        let age = now - self.made_at;
        age > keep || age < -keep
    }
}

/// Locks and folders that are being deleted have other names.
fn is_entry(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit)
}

/// The kernel's name for the time since the host was started (`proc_sys_kernel(5)`); empty when it is
/// not told.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

fn note(place: &Path) -> io::Result<Note> {
    serde_json::from_slice(&fs::read(place.join(ENTRY))?).map_err(io::Error::from)
}

fn read(place: &Path, now: Timestamp, keep: TimeDelta) -> io::Result<CachedSetup> {
    let lock = FileLock::try_take_existing(&place.join(ENTRY), Sharing::Shared)?;
    let lock = lock.ok_or_else(|| io::Error::other("it is being deleted"))?;
    let note = note(place)?;
    if note.is_over(now, keep) {
        return Err(io::Error::other(
            "it is too old, or of before the host's last start",
        ));
    }
    if listing(place)? != note.listing {
        return Err(io::Error::other("it is damaged"));
    }
    Ok(CachedSetup {
        dependencies: Dependencies::at(place, note.paths, Some(lock)),
        report: note.report,
        made_at: note.made_at,
    })
}

fn store(
    installed: &Dependencies,
    place: &Path,
    (report, made_at): (serde_json::Value, Timestamp),
) -> io::Result<Dependencies> {
    let Some((folder, paths)) = installed.place() else {
        return Ok(installed.clone());
    };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !PARTS.iter().any(|part| entry.file_name() == *part) {
            disk::remove_all(&entry.path())?;
        }
    }
    let note = Note {
        made_at,
        boot: boot(),
        paths: paths.to_vec(),
        listing: listing(folder)?,
        report,
    };
    let text = serde_json::to_vec(&note)?;
    let mut file = File::create_new(folder.join(ENTRY))?;
    file.write_all(&text)?;
    let parent = place.parent().unwrap_or(place);
    fs::create_dir_all(parent)?;
    let lock = FileLock::try_take_existing(&folder.join(ENTRY), Sharing::Shared)?;
    fs::rename(folder, place)?;
    Ok(Dependencies::at(place, note.paths, lock))
}

/// The folders of an entry.
const PARTS: [&str; 2] = ["home", "tree"];

/// The hash of all that lies in an entry but the content of files.
fn listing(place: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    for part in PARTS {
        let path = place.join(part);
        match fs::symlink_metadata(&path) {
            Err(error) if disk::is_absent(&error) => hash.update(b"none"),
            _ => list(&path, &mut hash)?,
        }
    }
    Ok(hex::encode(hash.finalize()))
}

fn list(path: &Path, hash: &mut Sha256) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let mut add = |part: &[u8]| {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    };
    add(path.file_name().unwrap_or_default().as_bytes());
    // Whoever copies a folder may have to give its owner rights.
    let owner = if found.is_dir() { 0o700 } else { 0 };
    let mode = found.permissions().mode() | owner;
    add(format!("{mode} {} {}", found.uid(), found.gid()).as_bytes());
    if found.is_symlink() {
        add(fs::read_link(path)?.as_os_str().as_bytes());
    } else if found.is_dir() {
        disk::make_readable(path, &found)?;
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        add(&names.len().to_be_bytes());
        for name in names {
            list(&path.join(name), hash)?;
        }
    } else {
        let times = format!("{} {} {}", found.len(), found.mtime(), found.mtime_nsec());
        add(times.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
