//! The one runtime, and how a process is told to end.

use std::future::Future;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs a future to its end on a multi-threaded runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?
        .block_on(future)
}

/// The signals that ask a process to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    /// Absent when `nohup` had it ignored, which stays so.
    hangup: Option<Signal>,
}

impl Ends {
    fn listen() -> anyhow::Result<Self> {
        let hangup = (!hangup_is_ignored()).then(|| signal(SignalKind::hangup()));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("can't listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("can't listen for SIGINT")?,
            hangup: hangup.transpose().context("can't listen for SIGHUP")?,
        })
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

/// A token that is cancelled by SIGTERM, SIGINT or SIGHUP. A second signal ends the process at
/// once; supervisors end the commands that it ran.
pub(crate) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut ends = Ends::listen()?;
    let cancelled = token.clone();
    let watch = async move {
        ends.next().await;
        cancelled.cancel();
        ends.next().await;
        std::process::exit(130);
    };
    // It lives as long as the process; there is nothing to wait for.
    tokio_util::task::TaskTracker::new().spawn(watch);
    Ok(token)
}

/// Reads the mask of ignored signals; its lowest bit is signal 1, SIGHUP.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Ends this process when the one that started it ends, however that happens.
pub(crate) fn end_with_parent() -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .context("can't ask to be ended with the parent process")
}
