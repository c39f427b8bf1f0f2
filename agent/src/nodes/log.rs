//! A task's output on its way out: redacted, bounded, and never in the way of the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use patchfleet_domain::Work;
use tokio::sync::mpsc;

use crate::process::OnLine;
use crate::workspace::{AgentLogs, LogFile};

/// Takes lines. When nobody keeps up, lines are dropped and counted.
#[derive(Debug, Clone)]
pub struct TaskLog {
    lines: mpsc::Sender<String>,
    dropped: Arc<AtomicU64>,
    file: Option<(AgentLogs, Arc<str>)>,
}

/// How many lines a log had to drop.
#[derive(Debug)]
pub struct DroppedLines(Arc<AtomicU64>);

impl DroppedLines {
    /// How many since this was asked last.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl TaskLog {
    /// A log that ends in a bounded channel.
    pub fn new(lines: mpsc::Sender<String>) -> Self {
        Self {
            lines,
            dropped: Arc::default(),
            file: None,
        }
    }

    /// The same log, also kept in the agent's `task-execution.log`.
    pub(crate) fn also_in(self, logs: AgentLogs, work: Work) -> Self {
        Self {
            file: Some((logs, work.to_string().into())),
            ..self
        }
    }

    /// Adds a line, without what looks like a secret.
    pub fn line(&self, text: &str) {
        let line = patchfleet_guard::redact(text).into_owned();
        if let Some((logs, about)) = &self.file {
            logs.append_redacted(LogFile::TaskExecution, about, &line);
        }
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The count of dropped lines alone, without a hold on the channel.
    pub fn into_count(self) -> DroppedLines {
        DroppedLines(self.dropped)
    }

    /// The log for a child's output.
    pub(crate) fn for_output(&self) -> OnLine {
        let log = self.clone();
        Arc::new(move |line| log.line(line))
    }
}
