//! How a run was kept apart, as results and pull requests tell it.

use serde::{Deserialize, Serialize};

use super::{Backend, Network, Ran};

/// What ran where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The kind of isolation.
    pub backend: Backend,
    /// It had the host's network.
    #[serde(default)]
    pub network: bool,
    /// It reached the operator's model, and nothing else.
    #[serde(default)]
    pub model: bool,
    /// Hosts that it was refused.
    #[serde(default)]
    pub refused_hosts: Vec<String>,
    /// Limits that nothing on that host enforced.
    #[serde(default)]
    pub limits_not_enforced: Vec<String>,
}

impl Isolation {
    /// Without refused hosts and with all limits enforced.
    pub const fn of(backend: Backend, network: Network) -> Self {
        Self {
            backend,
            network: matches!(network, Network::Host),
            model: matches!(network, Network::Model),
            refused_hosts: Vec::new(),
            limits_not_enforced: Vec::new(),
        }
    }

    /// The isolation that a run really had, with the limits that nothing enforced on it.
    pub fn of_run(ran: &Ran, network: Network) -> Self {
        let limits = ran.limits_not_enforced.iter();
        Self {
            limits_not_enforced: limits.map(|&limit| limit.to_owned()).collect(),
            ..Self::of(ran.backend, network)
        }
    }

    /// In words, after "ran": `in the sandbox …` or `without isolation …`.
    pub fn words(&self) -> String {
        if self.backend == Backend::None {
            return "**without isolation** on the agent's host".to_owned();
        }
        let network = match (self.network, self.model) {
            (true, _) => "with the host's network",
            (false, true) => "without network but for the operator's model",
            (false, false) => "without network",
        };
        let mut text = format!("in the sandbox `{}`, {network}", self.backend);
        let lists = [
            ("refused hosts: ", &self.refused_hosts),
            ("limits that were not enforced: ", &self.limits_not_enforced),
        ];
        for (name, list) in lists {
            if !list.is_empty() {
                text.push_str("; ");
                text.push_str(name);
                text.push_str(&list.join(", "));
            }
        }
        text
    }
}

impl From<&Ran> for Isolation {
    /// Of a run without network.
    fn from(ran: &Ran) -> Self {
        Self::of_run(ran, Network::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_say_what_was_not_isolated() {
        let sandboxed = Isolation {
            refused_hosts: vec!["example.com".to_owned()],
            limits_not_enforced: vec!["memory".to_owned(), "processors".to_owned()],
            ..Isolation::of(Backend::Namespace, Network::Nothing)
        };
        let runs = [
            Isolation::of(Backend::None, Network::Nothing),
            Isolation::of(Backend::Namespace, Network::Host),
            Isolation::of(Backend::Namespace, Network::Model),
            sandboxed,
        ];
        let words: Vec<_> = runs.iter().map(Isolation::words).collect();
        insta::assert_snapshot!(words.join("\n"), @r"
        **without isolation** on the agent's host
        in the sandbox `namespace`, with the host's network
        in the sandbox `namespace`, without network but for the operator's model
        in the sandbox `namespace`, without network; refused hosts: example.com; limits that were not enforced: memory, processors
        ");
    }
}
