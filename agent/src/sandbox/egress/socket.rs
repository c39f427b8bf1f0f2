//! A unix socket that a sandbox is given, and the connections on it.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// A socket that answers until it is closed or dropped; its file is gone then.
#[derive(Debug)]
pub(crate) struct Served {
    path: PathBuf,
    tracker: TaskTracker,
    cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
}

/// What a connection's task is given besides the connection.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// Where tasks of the connection go.
    pub(crate) tracker: TaskTracker,
    /// When they end.
    pub(crate) cancel: CancellationToken,
}

impl Served {
    /// Binds the socket and answers each connection with `answer`, at most `most` at once; more
    /// wait in the listener's queue.
    pub(crate) fn bind<F, A>(path: &Path, most: usize, answer: A) -> io::Result<Self>
    where
        A: Fn(UnixStream, Serving) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = listen(path)?;
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let serving = Serving {
            tracker: tracker.clone(),
            cancel: cancel.clone(),
        };
        tracker.spawn(accept(
            listener,
            Arc::new(Semaphore::new(most)),
            serving,
            answer,
        ));
        let guard = cancel.clone().drop_guard();
        Ok(Self {
            path: path.to_owned(),
            tracker,
            cancel,
            _cancel_on_drop: guard,
        })
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends all connections and waits for them.
    pub(crate) async fn close(self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The folder keeps others out (0700); within a sandbox, which sees the socket alone, any user
/// may connect.
pub(in crate::sandbox) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (folder, name) = path.parent().zip(path.file_name()).ok_or_else(|| {
        let message = format!("{} is no place for a socket", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    // By its folder's descriptor: the path of a socket has at most 107 bytes, and folders of tasks
    // lie deep.
    let folder = std::fs::File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    let listener = UnixListener::bind(short.join(name))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

async fn accept<F, A>(listener: UnixListener, room: Arc<Semaphore>, serving: Serving, answer: A)
where
    A: Fn(UnixStream, Serving) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let accepting = async {
        // Never closed, so that a permit is always had.
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (work, cancel) = (answer(stream, serving.clone()), serving.cancel.clone());
                    serving.tracker.spawn(async move {
                        cancel.run_until_cancelled(work).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a sandbox's connection can't be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    };
    serving.cancel.run_until_cancelled(accepting).await;
}
