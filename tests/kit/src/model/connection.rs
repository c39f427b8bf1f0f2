//! Connections that can be reset, and a listener that can refuse them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long to wait before the port is asked for again.
const AGAIN: Duration = Duration::from_millis(5);

/// Whether connections are accepted.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    open: Arc<watch::Sender<bool>>,
    /// Whether nobody listens any more.
    closed: Arc<watch::Sender<bool>>,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self {
            open: Arc::new(watch::Sender::new(true)),
            closed: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Refuses connections from now on, and resets those that are there.
    pub(crate) async fn close(&self) {
        self.open.send_replace(false);
        // Without an acceptor there is nobody to wait for.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

/// A listener that leaves its port while its door is closed.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: Option<TcpListener>,
    address: SocketAddr,
    door: Door,
    /// Resets all connections.
    all: CancellationToken,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, door: Door) -> io::Result<Self> {
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(listener),
            door,
            all: CancellationToken::new(),
        })
    }
}

impl Listener for Acceptor {
    type Io = Resettable;
    type Addr = Connection;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let mut open = self.door.open.subscribe();
        loop {
            if !*open.borrow_and_update() {
                self.listener = None;
                std::mem::take(&mut self.all).cancel();
                self.door.closed.send_replace(true);
                let _ = open.wait_for(|open| *open).await;
                continue;
            }
            let Some(listener) = &self.listener else {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => {
                        self.listener = Some(listener);
                        self.door.closed.send_replace(false);
                    }
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
                continue;
            };
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    };
                    let connection = Connection { reset: self.all.child_token() };
                    return (Resettable::new(stream, &connection), connection);
                }
                _ = open.changed() => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        let reset = self.all.child_token();
        Ok(Connection { reset })
    }
}

/// A connection, for those who answer on it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    reset: CancellationToken,
}

impl Connection {
    /// Resets it, whatever is under way.
    pub(crate) fn reset(&self) {
        self.reset.cancel();
    }
}

impl Connected<IncomingStream<'_, Acceptor>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Acceptor>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A stream that fails, and is reset at the other end, once its connection is.
#[derive(Debug)]
pub(crate) struct Resettable {
    stream: TcpStream,
    reset: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Resettable {
    fn new(stream: TcpStream, connection: &Connection) -> Self {
        // Pieces are to leave as they are written.
        let _ = stream.set_nodelay(true);
        let reset = Box::pin(connection.reset.clone().cancelled_owned());
        Self { stream, reset }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.reset.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        // The close that follows tells the other end with a reset.
        let _ = self.stream.set_zero_linger();
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
