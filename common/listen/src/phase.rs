//! What a connection does, and whether it takes too long.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::Limits;

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing since then, or its last answer is being read.
    Idle(Instant),
    /// The head of a request began then.
    Head(Instant),
    /// That many requests are being answered.
    Answering(NonZeroUsize),
}

impl Phase {
    pub(crate) fn idle() -> Self {
        Self::Idle(Instant::now())
    }

    /// Since when nothing is being answered.
    pub(crate) const fn quiet_since(self) -> Option<Instant> {
        match self {
            Self::Idle(since) | Self::Head(since) => Some(since),
            Self::Answering(_) => None,
        }
    }
}

/// A request that is being answered. It ends when this is dropped.
#[derive(Debug)]
pub struct Answering {
    phase: Arc<watch::Sender<Phase>>,
}

impl Answering {
    pub(crate) fn begin(phase: &Arc<watch::Sender<Phase>>) -> Self {
        phase.send_modify(|phase| {
            *phase = Phase::Answering(match *phase {
                Phase::Answering(requests) => requests.saturating_add(1),
                Phase::Idle(_) | Phase::Head(_) => NonZeroUsize::MIN,
            });
        });
        Self {
            phase: Arc::clone(phase),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.phase.send_modify(|phase| {
            if let Phase::Answering(requests) = *phase {
                let left = NonZeroUsize::new(requests.get() - 1);
                *phase = left.map_or_else(Phase::idle, Phase::Answering);
            }
        });
    }
}

/// Waits until the connection has taken longer for something than it may.
pub(crate) async fn overdue(mut phase: watch::Receiver<Phase>, limits: Limits) {
    loop {
        let deadline = match *phase.borrow_and_update() {
            Phase::Idle(since) => Some(since + limits.idle),
            Phase::Head(since) => Some(since + limits.head),
            Phase::Answering(_) => None,
        };
        let changed = phase.changed();
        let ended = match deadline {
            None => changed.await.is_err(),
            Some(deadline) => tokio::select! {
                changed = changed => changed.is_err(),
                () = sleep_until(deadline) => true,
            },
        };
        if ended {
            return;
        }
    }
}

/// A stream on which the first byte after a pause begins the head of a request.
pub(crate) struct Watched {
    stream: TcpStream,
    phase: Arc<watch::Sender<Phase>>,
}

impl Watched {
    pub(crate) const fn new(stream: TcpStream, phase: Arc<watch::Sender<Phase>>) -> Self {
        Self { stream, phase }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.phase.send_if_modified(|phase| {
                let begins = matches!(phase, Phase::Idle(_));
                if begins {
                    *phase = Phase::Head(Instant::now());
                }
                begins
            });
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
