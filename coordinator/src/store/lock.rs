//! The lock of a SQLite store: one process at a time works on the file.
//!
//! The lock is on a file of its own beside the store, `.NAME.lock`, so that it also counts when the
//! store's file was removed, replaced or damaged; no `NAME*` of a shell takes it away. The kernel
//! releases it when the process ends, however it ends. The file itself stays: to remove a lock file
//! is to let two processes lock two files of one name.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::StoreError;

/// How long a process that is just ending is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two tries to acquire the lock.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// The exclusive lock of a SQLite store, released when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct FileLock {
    _file: Arc<File>,
    store: PathBuf,
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{store} is in use by {holder}")]
    Held {
        /// The store's file.
        store: PathBuf,
        /// The process and what it is.
        holder: String,
    },
    /// The lock file can't be made, or its file system can't lock.
    #[error("{file}: {error}; {hint}")]
    File {
        /// The lock file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
}

impl FileLock {
    /// Acquires the lock of the store in that file, which need not be there. Waits for two seconds
    /// at most. `holder` says to others what the process is.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn acquire(store: &Path, holder: &str) -> Result<Self, LockError> {
        let store = resolve(store).map_err(|error| unusable(store, error))?;
        let path = lock_file(&store);
        let until = Instant::now() + PATIENCE;
        loop {
            match lock(&store, &path, holder).map_err(|error| unusable(&path, error))? {
                Attempt::Locked(file) => {
                    return Ok(Self {
                        _file: Arc::new(file),
                        store,
                    });
                }
                Attempt::Held(holder) if Instant::now() >= until => {
                    return Err(LockError::Held { store, holder });
                }
                Attempt::Held(_) | Attempt::Replaced => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// The store's file, behind links.
    pub fn store(&self) -> &Path {
        &self.store
    }
}

impl From<LockError> for StoreError {
    fn from(error: LockError) -> Self {
        let one =
            "; a SQLite store has one coordinator: stop that process first, or use PostgreSQL";
        Self::Unavailable(match error {
            LockError::Held { .. } => format!("{error}{one}"),
            LockError::File { .. } => error.to_string(),
        })
    }
}

enum Attempt {
    Locked(File),
    Held(String),
    /// The file lost its name before it was locked.
    Replaced,
}

fn lock(store: &Path, path: &Path, holder: &str) -> io::Result<Attempt> {
    let mut file = open(store, path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // What is there is for people only.
            let _ = file.take(200).read_to_string(&mut text);
            return Ok(Attempt::Held(match text.trim() {
                "" => "another process".to_owned(),
                known => known.to_owned(),
            }));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let (locked, named) = (file.metadata()?, fs::metadata(path));
    if !named.is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
        return Ok(Attempt::Replaced);
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} ({holder})", std::process::id())?;
    Ok(Attempt::Locked(file))
}

fn open(store: &Path, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let like = fs::metadata(store).or_else(|_| fs::metadata(folder(store)))?;
    // Whoever can open it can lock it: only those who may write the store.
    let options = options.create(true).mode(0o600 | (like.mode() & 0o060));
    let file = options.open(path)?;
    own_like(&file, &like)?;
    Ok(file)
}

/// Gives a file that root made to whom the other belongs, so that a service that is not root can use
/// it. Others can at most give it to the group.
pub(super) fn own_like(file: &File, like: &Metadata) -> io::Result<()> {
    let made = file.metadata()?;
    if (made.uid(), made.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    if nix::unistd::geteuid().is_root() {
        return fchown(file, Some(like.uid()), Some(like.gid()));
    }
    let _ = fchown(file, None, Some(like.gid()));
    Ok(())
}

fn unusable(file: &Path, error: io::Error) -> LockError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "the folder of a SQLite store has to be there"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "whoever works on a SQLite store has to be able to write to its folder and to this file"
        }
        // ENOLCK, EOPNOTSUPP, ENOSYS: a network file system, mostly.
        _ => "a SQLite store needs a local file system that can lock; elsewhere use PostgreSQL",
    };
    let file = file.to_owned();
    LockError::File { file, error, hint }
}

/// The lock file of a store.
fn lock_file(store: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(store.file_name().unwrap_or_default());
    name.push(".lock");
    store.with_file_name(name)
}

/// The file behind links, beside which SQLite keeps its log; also of a file that is not there.
pub(super) fn resolve(file: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        resolved => return resolved,
    }
    match fs::read_link(file) {
        // Links in a circle are another error.
        Ok(target) => resolve(&folder(file).join(target)),
        Err(_) => {
            let named = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            Ok(fs::canonicalize(folder(file))?.join(named))
        }
    }
}

/// The folder of a file.
pub(super) fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_on_the_file_behind_links_and_outlives_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let (store, link) = (folder.path().join("pf.db"), folder.path().join("link"));
        std::os::unix::fs::symlink("pf.db", &link).unwrap();
        let first = FileLock::acquire(&link, "coordinator").await.unwrap();
        assert_eq!(first.store(), resolve(&store).unwrap());
        fs::write(&store, "").unwrap();
        for path in [&store, &link] {
            let refused = FileLock::acquire(path, "other").await.unwrap_err();
            let text = refused.to_string();
            let holder = format!("process {} (coordinator)", std::process::id());
            assert!(text.contains(&holder), "{text}");
        }
        let second = first.clone();
        drop(first);
        FileLock::acquire(&store, "other").await.unwrap_err();
        drop(second);
        let third = FileLock::acquire(&store, "other").await.unwrap();
        fs::remove_file(&store).unwrap();
        FileLock::acquire(&store, "another").await.unwrap_err();
        drop(third);
    }

    #[tokio::test]
    async fn what_keeps_a_lock_from_being_made_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("not/there.db");
        let refused = FileLock::acquire(&missing, "coordinator").await;
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("has to be there"), "{text}");
        fs::create_dir(folder.path().join(".pf.db.lock")).unwrap();
        let refused = FileLock::acquire(&folder.path().join("pf.db"), "coordinator").await;
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(".pf.db.lock"), "{text}");
    }
}
