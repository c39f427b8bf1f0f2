//! Notices a command that hangs: it says nothing new, changes no file, uses no processor and asks no
//! model.
//!
//! Any one of the four is a sign of life. Output is watched all the time; the others are looked at
//! only when the output was silent for the whole span, so that a command that talks costs nothing.
//! A request to the model that waits for its answer is a sign of life however long it waits: for
//! how long it may is a limit of its own (`answer_timeout` of `[agents.draft.model]`). A command that only repeats itself (`Reconnecting… 3/5`) says nothing new.
//! Absent: files outside of the workspace, such as the temporary folder of a sandbox.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::disk::{Folder, Kind, walk};
use crate::gateway::ModelRecord;
use crate::process::{Meter, OnLine};

/// How many of the last lines count as the same thing said again.
const REPEATED: usize = 8;
/// The part of a silent span in which the processor is looked at.
const PROBE: u32 = 2;
/// The part of the probe that a working command keeps one processor busy.
const BUSY: f64 = 0.02;

/// Watches one run.
pub(super) struct Silence {
    span: Duration,
    /// The folder of the task; the command works below it.
    folder: PathBuf,
    meter: Meter,
    /// The requests to the model, where the command has one.
    model: Option<ModelRecord>,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    news: Notify,
    last: Mutex<VecDeque<String>>,
}

impl Silence {
    /// A watch over what runs below a folder.
    pub(super) fn new(span: Duration, folder: PathBuf, model: Option<ModelRecord>) -> Self {
        Self {
            span,
            folder,
            meter: Meter::default(),
            model,
            said: Arc::default(),
        }
    }

    /// Counts the processor time of the run.
    pub(super) fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// Hands lines on, and takes note of those that are new.
    pub(super) fn listen(&self, on_line: OnLine) -> OnLine {
        let said = Arc::clone(&self.said);
        Arc::new(move |line| {
            said.note(line);
            on_line(line);
        })
    }

    /// Returns when the command was silent for the span; never for a span of nothing.
    pub(super) async fn is_hung(&self) {
        if self.span.is_zero() {
            std::future::pending::<()>().await;
        }
        loop {
            let quiet = self.span.saturating_sub(self.span / PROBE);
            let begun = SystemTime::from(chrono::Utc::now());
            let asked = self.asked().0;
            if tokio::time::timeout(quiet, self.said.news.notified())
                .await
                .is_ok()
            {
                continue;
            }
            let before = self.look(begun).await;
            let probe = self.span / PROBE;
            if tokio::time::timeout(probe, self.said.news.notified())
                .await
                .is_ok()
            {
                continue;
            }
            let after = self.look(begun).await;
            let used = after.processor.saturating_sub(before.processor);
            let busy = used.as_secs_f64() > probe.as_secs_f64() * BUSY;
            let (requests, open) = self.asked();
            let asks = requests != asked || open > 0;
            if !after.changed && !busy && !asks {
                return;
            }
        }
    }

    /// How many requests the model got, and how many of them are open.
    fn asked(&self) -> (u64, u64) {
        self.model.as_ref().map_or((0, 0), ModelRecord::requests)
    }

    async fn look(&self, since: SystemTime) -> Signs {
        let (folder, meter) = (self.folder.clone(), self.meter.clone());
        let looked = tokio::task::spawn_blocking(move || Signs {
            changed: changed_since(&folder, since),
            processor: meter.processor_time(),
        });
        // A look that fails is no proof of a hang.
        looked.await.unwrap_or(Signs {
            changed: true,
            processor: Duration::ZERO,
        })
    }
}

impl Said {
    fn note(&self, line: &str) {
        // Counters and times alone make no news.
        let words: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.contains(&words) {
            return;
        }
        last.push_back(words);
        if last.len() > REPEATED {
            last.pop_front();
        }
        self.news.notify_one();
    }
}

/// What there is to see of a command that says nothing.
struct Signs {
    changed: bool,
    processor: Duration,
}

/// Whether anything below the folder was written since; links are not followed. A folder that was
/// moved while it was looked at was changed as well.
fn changed_since(folder: &Path, since: SystemTime) -> bool {
    let since = since.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.map_or(0, |it| i128::try_from(it.as_nanos()).unwrap_or(i128::MAX));
    let Ok(top) = Folder::open(folder) else {
        return false;
    };
    let open = |folder: &Folder, name: &OsStr| Ok(folder.peek(name));
    let looked = walk(top, open, |folder, _| {
        let mut folders = Vec::new();
        for name in folder.names().unwrap_or_default() {
            let Ok(Some(found)) = folder.stat(&name) else {
                continue;
            };
            let (seconds, nanoseconds) = found.stamp.modified;
            if i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds) >= since {
                return Err(io::Error::other("it was changed"));
            }
            if found.kind == Kind::Folder {
                folders.push(name);
            }
        }
        Ok(folders)
    });
    looked.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_is_no_news() {
        let said = Said::default();
        let is_news = |line| {
            said.note(line);
            let mut news = std::pin::pin!(said.news.notified());
            news.as_mut().enable()
        };
        assert!(is_news("Reconnecting... 1/5"));
        assert!(!is_news("Reconnecting... 2/5"));
        assert!(is_news("reading calc.py"));
        assert!(!is_news("Reconnecting... 3/5"));
    }

    /// For how long a model may think is a limit of its own, and longer than the usual silence.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_waits_for_its_model_does_not_hang() {
        let folder = tempfile::tempdir().unwrap();
        let span = Duration::from_mins(5);
        let record = ModelRecord::default();
        let silence = Silence::new(span, folder.path().to_owned(), Some(record.clone()));
        let hung = async |spans: u32| {
            let hung = tokio::time::timeout(span * spans, silence.is_hung()).await;
            hung.is_ok()
        };
        let waiting = record.begin_request();
        assert!(!hung(10).await, "an answer is awaited");
        drop(waiting);
        assert!(hung(2).await, "nothing happens any more");
        let later = async {
            for _ in 0..20 {
                tokio::time::sleep(span / 2).await;
                drop(record.begin_request());
            }
        };
        let asks = async { tokio::join!(hung(9), later).0 };
        assert!(!asks.await, "the model is asked again and again");
    }

    #[test]
    fn files_below_the_folder_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::from(chrono::Utc::now());
        let later = now + Duration::from_mins(1);
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), "x").unwrap();
        assert!(changed_since(folder.path(), now - Duration::from_mins(1)));
        assert!(!changed_since(folder.path(), later));
    }
}
