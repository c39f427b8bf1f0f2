//! Why a command did not run, or its run has no result.

use std::path::PathBuf;

use super::PlanError;
use crate::process::SpawnError;

/// A command did not run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It may not.
    #[error(
        "`{program}` is not among the programs that may be run; allowed are files of the repository (`./…`) and: {allowed}"
    )]
    NotAllowed {
        /// As it was asked for.
        program: String,
        /// What is.
        allowed: String,
    },
    /// It can't.
    #[error(transparent)]
    NotRun(SpawnError),
    /// Nobody can say that nothing of it lives: there is no result, and the folders that it may write
    /// are neither read nor handed over any more.
    #[error("{why}")]
    Left {
        /// What may live, and where to look.
        why: String,
    },
    /// Its private folders can't be made.
    #[error("the folder {path} can't be made: {source}")]
    NoFolder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What it is to see can't be shown safely.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It would reach whatever it likes, and not only what a proxy lets it.
    #[error(
        "a command that may reach some hosts and no others, or its model alone, has to be isolated, and the backend is `none`"
    )]
    NotIsolated,
    /// It was not isolated, or nobody says how it ended: whatever came out does not count.
    #[error("the sandbox failed: {why}")]
    Broken {
        /// What bubblewrap, an engine or this program said.
        why: String,
    },
}

impl From<SpawnError> for SandboxError {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::Left { .. } => Self::Left {
                why: error.to_string(),
            },
            other => Self::NotRun(other),
        }
    }
}
