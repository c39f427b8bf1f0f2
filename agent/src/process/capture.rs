//! The end of a child's output within a cap, and its lines as they come.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use patchfleet_guard::StreamRedactor;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::OnLine;

/// Longest line that is reported; the rest of a longer one is reported as lines of its own.
const LINE_CAP: usize = 4096;

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

    /// Reads to the end.
    pub(super) async fn read(self, mut pipe: impl AsyncRead + Unpin, on_line: Option<OnLine>) {
        let mut chunk = vec![0; 16 * 1024];
        let mut lines = on_line.map(Lines::new);
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
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

    use tokio::io::repeat;

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
        Capture::new(1024, false).read(output, None).await;
        heartbeat.abort();
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns >= 16, "{turns} turns");
    }
}
