//! The agent's own log files: `task-execution.log` and `agent-activity.log`.
//!
//! Lines are redacted, stamped and appended; a file that is full makes way for a new one, and one
//! old file is kept. A log that can't be written never stops the work.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::SecondsFormat;

/// A file longer than this makes way.
const ROTATE_AT: u64 = 10 << 20;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFile {
    /// What tasks did.
    TaskExecution,
    /// What the agent did.
    AgentActivity,
}

impl LogFile {
    const fn name(self) -> &'static str {
        match self {
            Self::TaskExecution => "task-execution.log",
            Self::AgentActivity => "agent-activity.log",
        }
    }
}

/// The log files of one agent.
#[derive(Debug, Clone)]
pub struct AgentLogs {
    folder: PathBuf,
    // One writer at a time, so that a file is not rotated twice.
    writing: Arc<Mutex<()>>,
}

impl AgentLogs {
    /// Log files in a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            writing: Arc::default(),
        }
    }

    /// Appends a line about something, such as a task.
    pub fn append(&self, file: LogFile, about: &str, line: &str) {
        self.append_redacted(file, about, &patchfleet_guard::redact(line));
    }

    /// Appends a line that was redacted before.
    pub(crate) fn append_redacted(&self, file: LogFile, about: &str, line: &str) {
        let now = chrono::Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let path = self.folder.join(file.name());
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = append(&path, &format!("{now} {about} {line}\n")) {
            tracing::warn!(file = %path.display(), %error, "a log can't be written");
        }
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())?;
    if file.metadata()?.len() > ROTATE_AT {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    Ok(())
}
