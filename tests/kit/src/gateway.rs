//! One address before several backends, as a load balancer is: each connection goes to one that
//! answers. All of them can be cut, slowed down, held so that nothing passes while they seem to stand,
//! and forgotten, as by a router that drops its table: those that stand hang for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A running gateway; its connections end with it.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    backends: Mutex<Vec<Option<SocketAddr>>>,
    cut: Mutex<CancellationToken>,
    forgotten: Mutex<CancellationToken>,
    line: watch::Sender<Line>,
}

/// How what is sent passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Each piece waits that long.
    Open(Duration),
    /// Nothing passes.
    Held,
    /// Nothing passes back to who connected.
    Deaf,
}

impl Gateway {
    /// A gateway with room for so many backends, none of which is there yet.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn start(backends: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let shared = Arc::new(Shared {
            backends: Mutex::new(vec![None; backends]),
            cut: Mutex::default(),
            forgotten: Mutex::default(),
            line: watch::Sender::new(Line::Open(Duration::ZERO)),
        });
        let address = listener.local_addr()?;
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, shared.clone()));
        Ok(Self {
            address,
            shared,
            _serving: serving,
        })
    }

    /// Says where a backend is, or that it is gone.
    pub fn set(&self, index: usize, address: Option<SocketAddr>) {
        lock(&self.shared.backends)[index] = address;
    }

    /// Changes how everything passes from now on.
    pub fn pass(&self, line: Line) {
        self.shared.line.send_replace(line);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        std::mem::take(&mut *lock(&self.shared.cut)).cancel();
    }

    /// Forgets all connections: nothing passes on them any more, and nobody is told.
    pub fn forget(&self) {
        std::mem::take(&mut *lock(&self.shared.forgotten)).cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut turn = 0;
    while let Ok((stream, _)) = listener.accept().await {
        turn += 1;
        connections.spawn(forward(stream, shared.clone(), turn));
        while connections.try_join_next().is_some() {}
    }
}

/// Goes to the first backend that takes the connection; without one the caller is cut off.
async fn forward(mut stream: TcpStream, shared: Arc<Shared>, turn: usize) {
    let mut backends: Vec<_> = {
        let backends = lock(&shared.backends);
        backends.iter().flatten().copied().collect()
    };
    let cut = lock(&shared.cut).clone();
    let forgotten = lock(&shared.forgotten).clone();
    if !backends.is_empty() {
        let first = turn % backends.len();
        backends.rotate_left(first);
    }
    for backend in backends {
        if let Ok(mut other) = TcpStream::connect(backend).await {
            let _ = stream.set_nodelay(true);
            let _ = other.set_nodelay(true);
            let ((from, to), (back_from, back_to)) = (stream.split(), other.split());
            let there = pump(from, back_to, (shared.line.subscribe(), &[Line::Held]));
            let closed = [Line::Held, Line::Deaf];
            let back = pump(back_from, to, (shared.line.subscribe(), &closed));
            let passing = async { tokio::join!(there, back) };
            let both = async {
                if forgotten.run_until_cancelled(passing).await.is_none() {
                    std::future::pending::<()>().await;
                }
            };
            let _ = cut.run_until_cancelled(both).await;
            return;
        }
    }
}

/// Passes on what comes until its end, as the line lets it: not while it is one of those.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (mut line, closed): (watch::Receiver<Line>, &[Line]),
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let open = line.wait_for(|line| !closed.contains(line)).await;
        let delay = match open.map(|line| *line) {
            Ok(Line::Open(delay)) => delay,
            Ok(Line::Held | Line::Deaf) => Duration::ZERO,
            Err(_) => break,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&piece[..read]).await.is_err() {
            break;
        }
    }
    // The other end may be gone.
    let _ = to.shutdown().await;
}
