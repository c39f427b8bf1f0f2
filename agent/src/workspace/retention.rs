//! How long workspaces stay: seven days after their end, fewer when the disk limit says so.
//!
//! The disk limit takes only finished ones, the oldest end first. A workspace without an end
//! whose attempt is not live belongs to an attempt that was lost; nobody will end it, so its age
//! counts from its making. A live one is never touched.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use patchfleet_domain::{TaskId, Timestamp};

use super::layout::AgentLayout;
use super::metadata::Metadata;

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long a workspace stays after its end.
    pub keep: TimeDelta,
    /// How many bytes all workspaces may take; none, without a limit.
    pub disk_limit: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep: TimeDelta::days(7),
            disk_limit: None,
        }
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Tasks whose workspaces were removed.
    pub removed: Vec<TaskId>,
    /// Bytes that all workspaces take afterwards; counted only when there is a limit.
    pub bytes: Option<u64>,
}

struct Candidate {
    task: TaskId,
    path: PathBuf,
    metadata: Metadata,
    bytes: u64,
}

impl Retention {
    pub(super) async fn sweep(
        &self,
        layout: &AgentLayout,
        now: Timestamp,
        live: &BTreeSet<TaskId>,
    ) -> io::Result<Swept> {
        let mut swept = Swept::default();
        let mut left = Vec::new();
        for found in candidates(&layout.tasks()).await? {
            let metadata = &found.metadata;
            let end = metadata.finished_at.unwrap_or(metadata.created_at);
            if !live.contains(&found.task) && now - end > self.keep {
                layout.remove(&found.path).await?;
                swept.removed.push(found.task);
            } else {
                left.push(found);
            }
        }
        if let Some(limit) = self.disk_limit {
            swept.bytes = Some(shrink(layout, left, limit, (live, &mut swept.removed)).await?);
        }
        Ok(swept)
    }
}

/// Removes finished workspaces, the oldest end first, until the rest fits.
async fn shrink(
    layout: &AgentLayout,
    mut left: Vec<Candidate>,
    limit: u64,
    (live, removed): (&BTreeSet<TaskId>, &mut Vec<TaskId>),
) -> io::Result<u64> {
    for found in &mut left {
        let path = found.path.clone();
        let measured = tokio::task::spawn_blocking(move || size(&path)).await;
        found.bytes = measured.unwrap_or(0);
    }
    let mut total: u64 = left.iter().map(|found| found.bytes).sum();
    left.retain(|found| found.metadata.finished_at.is_some() && !live.contains(&found.task));
    left.sort_by_key(|found| found.metadata.finished_at);
    for found in left {
        if total <= limit {
            break;
        }
        layout.remove(&found.path).await?;
        removed.push(found.task);
        total -= found.bytes;
    }
    Ok(total)
}

async fn candidates(tasks: &Path) -> io::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let mut folders = tokio::fs::read_dir(tasks).await?;
    while let Some(folder) = folders.next_entry().await? {
        let name = folder.file_name();
        let task = name.to_str().and_then(|name| name.strip_prefix("task-"));
        let Some(task) = task.and_then(|task| task.parse().ok()) else {
            continue;
        };
        let path = folder.path();
        match Metadata::read(&path.join("metadata.json")).await {
            Ok(metadata) => candidates.push(Candidate {
                task,
                path,
                metadata,
                bytes: 0,
            }),
            Err(error) => {
                tracing::warn!(folder = %path.display(), %error, "a workspace has no usable note and is left alone");
            }
        }
    }
    Ok(candidates)
}

/// Bytes below a folder; what can't be read counts nothing. Links are not followed.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
