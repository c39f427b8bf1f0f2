//! `metadata.json`: whose workspace it is, what it was made of, how it ended.

use std::io;
use std::path::{Path, PathBuf};

use patchfleet_domain::{RepositoryName, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Checkout;
use crate::git::ObjectId;

/// A workspace's note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: u32,
    /// The repository.
    pub repository: RepositoryName,
    /// The commit that the change is made on.
    pub base_sha: ObjectId,
    /// The check-out that the work tree lies over, which then has only what differs from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// The branch that carries the change.
    pub branch: String,
    /// When the workspace was made.
    pub created_at: Timestamp,
    /// When the work ended.
    pub finished_at: Option<Timestamp>,
    /// How the work ended.
    pub outcome: Option<String>,
}

impl Metadata {
    pub(super) fn begun(checkout: &Checkout, base: &ObjectId, template: Option<PathBuf>) -> Self {
        Self {
            task: checkout.work.task,
            attempt: checkout.work.attempt.0,
            repository: checkout.repository.clone(),
            base_sha: base.clone(),
            template,
            branch: checkout.branch.clone(),
            created_at: chrono::Utc::now(),
            finished_at: None,
            outcome: None,
        }
    }

    /// Reads a note.
    ///
    /// # Errors
    /// When it is not there or is not a note.
    pub async fn read(path: &Path) -> io::Result<Self> {
        let bytes = tokio::fs::read(path).await?;
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }

    /// Writes the note in one step: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub async fn write(&self, path: &Path) -> io::Result<()> {
        let begun = path.with_extension("json.new");
        tokio::fs::write(&begun, serde_json::to_vec_pretty(self)?).await?;
        tokio::fs::rename(&begun, path).await
    }
}
