//! The end of a child's output within a cap, and its lines as they come.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchfleet_guard::StreamRedactor;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::OnLine;

/// Longest line that is reported; the rest of a longer one is reported as lines of its own.
const LINE_CAP: usize = 4096;
/// How long a pipe may be silent once nobody of the child is left: whoever still holds it is a stranger.
const SILENCE: Duration = Duration::from_secs(2);
/// Most bytes that are read from then on: as many as a pipe can hold (`pipe(7)`, `pipe-max-size`).
const PIPE: usize = 1 << 20;

/// Keeps the last `cap` bytes; shared, so that what was read is there even if reading never ends.
#[derive(Clone)]
pub(super) struct Capture {
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    cap: usize,
    /// Takes secrets out before anything is kept or reported.
    redactor: Option<StreamRedactor>,
    bytes: Vec<u8>,
    dropped: u64,
}

impl Kept {
    /// Takes what was read; gives what may be reported of it.
    fn read<'a>(&mut self, chunk: &'a [u8]) -> Cow<'a, [u8]> {
        let clean = match &mut self.redactor {
            Some(redactor) => redactor.push(chunk).into_bytes().into(),
            None => Cow::Borrowed(chunk),
        };
        self.push(&clean);
        clean
    }

    /// Gives what the redactor held back.
    fn finish(&mut self) -> Vec<u8> {
        let redactor = self.redactor.as_mut();
        let rest = redactor.map_or_else(Vec::new, |it| it.finish().into_bytes());
        self.push(&rest);
        rest
    }

    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        // Twice the cap, so that bytes are moved once per cap and not once per chunk.
        if self.bytes.len() > self.cap.saturating_mul(2) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let excess = self.bytes.len().saturating_sub(self.cap);
        self.bytes.drain(..excess);
        self.dropped += excess as u64;
    }
}

impl Capture {
    pub(super) fn new(cap: usize, redacted: bool) -> Self {
        let kept = Kept {
            cap,
            redactor: redacted.then(StreamRedactor::default),
            bytes: Vec::new(),
            dropped: 0,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// Reads to the end. Once the child and all of its descendants are `gone`, what is left is what
    /// the pipe holds; a stranger who has it open keeps nobody waiting.
    pub(super) async fn read(
        self,
        mut pipe: impl AsyncRead + Unpin,
        on_line: Option<OnLine>,
        gone: CancellationToken,
    ) {
        let mut chunk = vec![0; 16 * 1024];
        let mut lines = on_line.map(Lines::new);
        let mut left = PIPE;
        loop {
            let read = tokio::select! {
                biased;
                read = pipe.read(&mut chunk) => read,
                () = silence(&gone) => break,
            };
            let Ok(count @ 1..) = read else { break };
            if gone.is_cancelled() {
                let Some(rest) = left.checked_sub(count) else {
                    break;
                };
                left = rest;
            }
            let clean = self.lock().read(&chunk[..count]);
            if let Some(lines) = &mut lines {
                lines.push(&clean);
            }
            // Looking for secrets takes a while; output that never pauses must not keep heartbeats
            // from this thread meanwhile.
            tokio::task::yield_now().await;
        }
        let rest = self.lock().finish();
        if let Some(lines) = &mut lines {
            lines.push(&rest);
            lines.flush();
        }
    }

    /// What is kept, and how many bytes before it are not.
    pub(super) fn take(&self) -> (Vec<u8>, u64) {
        let mut kept = self.lock();
        kept.finish();
        kept.trim();
        (std::mem::take(&mut kept.bytes), kept.dropped)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when nothing came for a while after the end of everybody who should write.
async fn silence(gone: &CancellationToken) {
    gone.cancelled().await;
    tokio::time::sleep(SILENCE).await;
}

struct Lines {
    report: OnLine,
    begun: Vec<u8>,
}

impl Lines {
    fn new(report: OnLine) -> Self {
        Self {
            report,
            begun: Vec::new(),
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LINE_CAP) {
                self.begun.extend_from_slice(part);
                if self.begun.ends_with(b"\n") || self.begun.len() >= LINE_CAP {
                    self.flush();
                }
            }
        }
    }

    fn flush(&mut self) {
        if !self.begun.is_empty() {
            let line = String::from_utf8_lossy(&self.begun);
            (self.report)(line.trim_end_matches(['\n', '\r']));
            self.begun.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncWriteExt as _, repeat};

    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "it is ended by the test")]
    async fn output_that_never_pauses_lets_others_have_their_turns() {
        let turns = Arc::new(AtomicUsize::new(0));
        let count = turns.clone();
        let heartbeat = tokio::spawn(async move {
            loop {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let chunks = 16;
        let output = repeat(b'x').take(chunks * 16 * 1024);
        let gone = CancellationToken::new();
        Capture::new(1024, false).read(output, None, gone).await;
        heartbeat.abort();
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns >= 16, "{turns} turns");
    }

    /// What is kept of a pipe that is written to by `write` after all of the child are gone.
    async fn kept<W: Future<Output = ()>>(
        capacity: usize,
        write: impl FnOnce(tokio::io::DuplexStream) -> W,
    ) -> usize {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let gone = CancellationToken::new();
        gone.cancel();
        let capture = Capture::new(2 * PIPE, false);
        tokio::select! {
            biased;
            () = capture.clone().read(ours, None, gone) => {}
            () = async { write(theirs).await; std::future::pending::<()>().await } => {}
        }
        capture.take().0.len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_pipe_holds_is_read_however_long_it_takes_and_a_stranger_keeps_nobody() {
        let in_pieces = async |mut pipe: tokio::io::DuplexStream| {
            for _ in 0..5 {
                tokio::time::sleep(SILENCE / 4 * 3).await;
                pipe.write_all(&[b'x'; 1000]).await.unwrap();
            }
        };
        assert_eq!(kept(16, in_pieces).await, 5000);
        // Open and silent for good.
        let held = async |mut pipe: tokio::io::DuplexStream| {
            pipe.write_all(b"last words").await.unwrap();
            std::future::pending::<()>().await;
        };
        assert_eq!(kept(16, held).await, 10);
        // Written to for good.
        let endless = async |mut pipe: tokio::io::DuplexStream| {
            while pipe.write_all(&[b'x'; 1000]).await.is_ok() {}
        };
        assert!(kept(1 << 16, endless).await <= PIPE);
    }
}
