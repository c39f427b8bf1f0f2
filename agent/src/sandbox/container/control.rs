//! The connection between the agent and the first process of a container, on a unix socket that only
//! these two have: the agent's order goes in, the end of the command comes out.
//!
//! So neither the command nor a variable of it shows on the engine's command line, in its database
//! or in its log, and its end is not what an engine makes of it. The first process stays until the
//! agent has read the counters of the container's control groups, which go with it; and it ends with
//! all others when the agent is gone.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::process::Meter;
use crate::sandbox::egress;
use crate::sandbox::groups::{Allowance, Seen};
use crate::sandbox::plan::Plan;
use crate::sandbox::{Limit, Usage};

/// The socket's name, outside in a folder of the run and inside beside this program.
pub(super) const NAME: &str = "control.sock";
/// How often counters are read while the command runs, for a container that is killed as a whole.
const SAMPLE: Duration = Duration::from_secs(1);
/// More than any order has.
const MOST: u64 = 16 << 20;

/// What the first process is to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) plan: Plan,
    /// What it reads from its standard input; secret.
    pub(super) input: Vec<u8>,
    /// Variables besides those of the image.
    pub(super) env: Vec<(String, String)>,
}

/// What is looked at from outside while the command runs.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) allowance: Allowance,
    pub(super) meter: Meter,
}

/// What became of an order.
#[derive(Debug)]
pub(super) struct Report {
    /// Lines for [`crate::sandbox::verdict::Verdict`].
    pub(super) text: String,
    pub(super) usage: Usage,
    /// Limits that nothing was seen to enforce.
    pub(super) missing: Vec<Limit>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            text: String::new(),
            usage: Usage::default(),
            missing: Limit::ALL.to_vec(),
        }
    }
}

impl Order {
    /// Reads the agent's order, inside.
    pub(super) fn read(stream: &mut BlockingStream) -> io::Result<Self> {
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let length = u64::from_be_bytes(length);
        let mut text = Vec::new();
        stream.take(length.min(MOST)).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    async fn write(&self, stream: &mut UnixStream) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        stream.write_all(&(text.len() as u64).to_be_bytes()).await?;
        stream.write_all(&text).await
    }
}

/// The agent's end, before the container is there.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Binds the socket in a folder that keeps others out.
    pub(super) fn bind(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        let listener = egress::listen(&path)?;
        Ok(Self { listener, path })
    }

    /// Gives the order to whoever connects first, which is the first process of the container, and
    /// takes its report. Whatever is known when the connection breaks is reported, at the latest
    /// when all is over: the container is gone then.
    pub(super) async fn direct(
        self,
        order: Order,
        watch: Watch,
        over: CancellationToken,
    ) -> Report {
        let mut report = Report::default();
        let conversation = self.converse(order, watch, (&mut report, &over));
        if let Err(error) = conversation.await {
            tracing::warn!(%error, "the connection to a container broke");
        }
        report
    }

    async fn converse(
        self,
        mut order: Order,
        watch: Watch,
        (report, over): (&mut Report, &CancellationToken),
    ) -> io::Result<()> {
        let Some(accepted) = over.run_until_cancelled(self.listener.accept()).await else {
            return Ok(());
        };
        let (mut stream, _) = accepted?;
        // Nobody else is let in.
        drop(self.listener);
        std::fs::remove_file(&self.path)?;
        let first = stream.peer_cred()?.pid().filter(|pid| *pid > 0);
        if let Some(pid) = first {
            watch.meter.also_below(pid);
        }
        let seen = first.map_or_else(Seen::default, |pid| Seen::of(pid, watch.allowance));
        let missing = seen.missing();
        if !missing.contains(&Limit::Processes) {
            order.plan.limits.stand_behind_group();
        }
        report.missing = missing;
        order.write(&mut stream).await?;
        let mut lines = BufReader::new(stream).lines();
        let mut samples = tokio::time::interval(SAMPLE);
        loop {
            tokio::select! {
                // What was said before the end comes first.
                biased;
                line = lines.next_line() => {
                    let Some(line) = line? else { break };
                    report.text.push_str(&line);
                    report.text.push('\n');
                    if line.ends_with(END) {
                        break;
                    }
                }
                () = over.cancelled() => break,
                _ = samples.tick() => report.usage = seen.usage(),
            }
        }
        // The first process is still there, and so are its groups; unless it was killed.
        let last = seen.usage();
        if last != Usage::default() {
            report.usage = last;
        }
        Ok(())
    }
}

/// What the last line ends with: [`last_line`].
const END: &str = "\"end\":true}";

/// The line that tells the command's end, and that there is no other.
pub(super) fn last_line(exit_code: i32) -> String {
    format!("{{\"exit-code\":{exit_code},{END}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::verdict::Verdict;

    #[test]
    fn the_last_line_is_a_verdict_of_its_own() {
        assert_eq!(Verdict::read(&last_line(137)), Verdict::Ended(137));
        assert!(last_line(0).trim_end().ends_with(END));
    }
}
