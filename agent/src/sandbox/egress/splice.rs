//! Bytes both ways between a sandbox and a host, counted and limited.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusals::Reason;

/// How many bytes a sandbox may still exchange, all its connections together.
#[derive(Debug, Clone)]
pub(crate) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    pub(crate) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Takes bytes away; false when there are not as many.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let less = |left: u64| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            .is_ok()
    }

    /// Takes away what is left.
    pub(crate) fn use_up(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// True when nothing is left.
    pub(crate) fn is_used_up(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// How long a connection may last, and how long it may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) total: Duration,
    pub(super) idle: Duration,
}

/// A stream whose reads are counted against an allowance.
struct Counted<'a, S> {
    stream: &'a mut S,
    allowance: &'a Allowance,
    passed: &'a AtomicU64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        self.passed.fetch_add(count as u64, Ordering::Relaxed);
        if self.allowance.take(count) {
            return polled;
        }
        buffer.set_filled(before);
        Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// Passes bytes both ways until both sides have ended, or a limit is met: then its reason.
pub(super) async fn splice(
    (inside, up): (&mut (impl AsyncRead + AsyncWrite + Unpin), &Allowance),
    (outside, down): (&mut (impl AsyncRead + AsyncWrite + Unpin), &Allowance),
    times: Times,
) -> Result<(), Reason> {
    let passed = AtomicU64::new(0);
    let mut inside = Counted {
        stream: inside,
        allowance: up,
        passed: &passed,
    };
    let mut outside = Counted {
        stream: outside,
        allowance: down,
        passed: &passed,
    };
    let silence = async {
        let mut before = None;
        while before != Some(passed.load(Ordering::Relaxed)) {
            before = Some(passed.load(Ordering::Relaxed));
            tokio::time::sleep(times.idle).await;
        }
    };
    tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut inside, &mut outside) => match copied {
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => Err(Reason::TooManyBytes),
            // A side that hangs up is no fault of the other one's.
            _ => Ok(()),
        },
        () = silence => Err(Reason::TimeLimit),
        () = tokio::time::sleep(times.total) => Err(Reason::TimeLimit),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const TIMES: Times = Times {
        total: Duration::from_secs(100),
        idle: Duration::from_secs(10),
    };

    async fn passed(up: u64, down: u64, bytes: usize) -> (Result<(), Reason>, usize) {
        let (mut client, mut inside) = duplex(1 << 20);
        let (mut outside, mut server) = duplex(1 << 20);
        client.write_all(&vec![1; bytes]).await.unwrap();
        server.write_all(&vec![2; bytes]).await.unwrap();
        client.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
        let (up, down) = (Allowance::new(up), Allowance::new(down));
        let ended = splice((&mut inside, &up), (&mut outside, &down), TIMES).await;
        drop((inside, outside));
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        (ended, got.len())
    }

    #[tokio::test]
    async fn bytes_beyond_the_allowance_end_the_connection_in_either_direction() {
        assert_eq!(passed(1000, 1000, 1000).await, (Ok(()), 1000));
        let (ended, got) = passed(999, 1000, 1000).await;
        assert_eq!((ended, got), (Err(Reason::TooManyBytes), 0));
        assert_eq!(passed(1000, 999, 1000).await.0, Err(Reason::TooManyBytes));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_silent_or_too_long_ends() {
        let (_client, mut inside) = duplex(64);
        let (mut outside, _server) = duplex(64);
        let plenty = Allowance::new(u64::MAX);
        let begin = tokio::time::Instant::now();
        let ended = splice((&mut inside, &plenty), (&mut outside, &plenty), TIMES).await;
        assert_eq!(
            (ended, begin.elapsed()),
            (Err(Reason::TimeLimit), TIMES.idle)
        );

        let (mut client, mut inside) = duplex(64);
        let (mut outside, mut server) = duplex(64);
        let chatter = async {
            let mut byte = [0];
            while client.write_all(&[1]).await.is_ok() && server.read_exact(&mut byte).await.is_ok()
            {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        };
        let begin = tokio::time::Instant::now();
        tokio::select! {
            ended = splice((&mut inside, &plenty), (&mut outside, &plenty), TIMES) => {
                assert_eq!(ended, Err(Reason::TimeLimit));
            }
            () = chatter => unreachable!("the client goes on"),
        }
        assert_eq!(begin.elapsed(), TIMES.total);
    }
}
