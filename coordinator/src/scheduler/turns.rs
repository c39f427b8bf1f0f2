//! Whose turn it is: repositories with equally urgent tasks are served in turn.
//!
//! Age alone would let a repository with a hundred old tasks keep all others out.

use std::collections::BTreeMap;
use std::time::Duration;

use patchfleet_domain::RepositoryName;
use tokio::time::Instant;

/// Repositories that are remembered; beyond that, those served longest ago are forgotten.
const REMEMBERED: usize = 4096;

/// When each repository was last served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns {
    served: BTreeMap<RepositoryName, (u64, Instant)>,
    count: u64,
}

impl Turns {
    /// Remembers that the repository was just given an agent.
    pub fn serve(&mut self, repository: &RepositoryName) {
        self.count += 1;
        let served = (self.count, Instant::now());
        self.served.insert(repository.clone(), served);
        if self.served.len() > REMEMBERED {
            let oldest = self.served.iter().min_by_key(|(_, at)| **at);
            if let Some(oldest) = oldest.map(|(repository, _)| repository.clone()) {
                self.served.remove(&oldest);
            }
        }
    }

    /// Grows with each serving; 0 for one that was never served.
    pub fn last(&self, repository: &RepositoryName) -> u64 {
        self.served.get(repository).map_or(0, |(count, _)| *count)
    }

    /// How long ago the repository was served; none for one that never was.
    pub fn idle(&self, repository: &RepositoryName) -> Option<Duration> {
        self.served.get(repository).map(|(_, at)| at.elapsed())
    }
}
