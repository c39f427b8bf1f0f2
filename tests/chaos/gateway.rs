//! One address before several backends, as a load balancer is: each connection goes to one that
//! answers, and all of them can be cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A running gateway; its connections end with it.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    backends: Mutex<Vec<Option<SocketAddr>>>,
    cut: Mutex<CancellationToken>,
}

impl Gateway {
    /// A gateway with room for so many backends, none of which is there yet.
    pub(crate) async fn start(backends: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            backends: Mutex::new(vec![None; backends]),
            cut: Mutex::default(),
        });
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, shared.clone()));
        Self {
            address,
            shared,
            _serving: serving,
        }
    }

    /// Says where a backend is, or that it is gone.
    pub(crate) fn set(&self, index: usize, address: Option<SocketAddr>) {
        self.shared.backends.lock().unwrap()[index] = address;
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.shared.cut.lock().unwrap()).cancel();
    }
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
        let backends = shared.backends.lock().unwrap();
        backends.iter().flatten().copied().collect()
    };
    let cut = shared.cut.lock().unwrap().clone();
    if !backends.is_empty() {
        let first = turn % backends.len();
        backends.rotate_left(first);
    }
    for backend in backends {
        if let Ok(mut other) = TcpStream::connect(backend).await {
            let _ = stream.set_nodelay(true);
            let _ = other.set_nodelay(true);
            let both = copy_bidirectional(&mut stream, &mut other);
            let _ = cut.run_until_cancelled(both).await;
            return;
        }
    }
}
