//! How an agent did with a type of task in a repository before.
//!
//! Kept in memory, for as long as the coordinator runs: it makes a good choice better and nothing
//! depends on it.

use std::collections::BTreeMap;

use patchfleet_domain::{AgentType, RepositoryName};

/// Pairs of type and repository that are kept for one agent.
const KEPT: usize = 1024;

/// What a task is about, as far as experience with it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    /// The type of agent that it asks for.
    pub agent_type: AgentType,
    /// Its repository.
    pub repository: RepositoryName,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    succeeded: u32,
    failed: u32,
}

/// An agent's past, by topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Experience {
    tallies: BTreeMap<Topic, Tally>,
}

impl Experience {
    /// Counts one finished attempt.
    pub fn record(&mut self, topic: Topic, succeeded: bool) {
        if self.tallies.len() >= KEPT && !self.tallies.contains_key(&topic) {
            self.tallies.pop_first();
        }
        let tally = self.tallies.entry(topic).or_default();
        if succeeded {
            tally.succeeded = tally.succeeded.saturating_add(1);
        } else {
            tally.failed = tally.failed.saturating_add(1);
        }
    }

    /// How likely success is, in percent. Without experience 50, and little experience says
    /// little: one success is 66, not 100.
    pub fn percent(&self, topic: &Topic) -> u32 {
        let tally = self.tallies.get(topic).copied().unwrap_or_default();
        let good = u64::from(tally.succeeded) + 1;
        let all = good + u64::from(tally.failed) + 1;
        u32::try_from(good * 100 / all).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: usize) -> Topic {
        Topic {
            agent_type: "backend".parse().unwrap(),
            repository: format!("acme/r{number}").parse().unwrap(),
        }
    }

    #[test]
    fn little_experience_says_little() {
        let mut experience = Experience::default();
        assert_eq!(experience.percent(&topic(1)), 50);
        experience.record(topic(1), true);
        assert_eq!(experience.percent(&topic(1)), 66);
        experience.record(topic(1), false);
        assert_eq!(experience.percent(&topic(1)), 50);
        experience.record(topic(1), false);
        assert_eq!(experience.percent(&topic(1)), 40);
        assert_eq!(experience.percent(&topic(2)), 50);
    }

    #[test]
    fn memory_is_bounded() {
        let mut experience = Experience::default();
        for number in 0..KEPT + 10 {
            experience.record(topic(number), true);
        }
        assert_eq!(experience.tallies.len(), KEPT);
    }
}
