//! What a run reaches of the network: one thing, so that no two ways out are ever open at once.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The base address of the model, for a run with [`Reach::Model`].
pub const MODEL_URL: &str = "http://127.0.0.1:3128";

/// What a run reaches besides itself, and the socket that leads there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach<'a> {
    /// No network but its own loopback.
    #[default]
    Nothing,
    /// Whatever the host reaches.
    Host,
    /// The hosts of an allow-list, through the proxy that listens at this socket.
    Allowed(&'a Path),
    /// A model's interface at [`MODEL_URL`], through the reverse proxy that listens at this socket.
    Model(&'a Path),
}

/// What a run reaches, without the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// No network but its own loopback.
    #[default]
    Nothing,
    /// Whatever the host reaches.
    Host,
    /// The hosts of an allow-list.
    Allowed,
    /// A model and nothing else.
    Model,
}

impl<'a> Reach<'a> {
    /// The socket of the only way out, where there is one.
    pub(super) const fn socket(self) -> Option<&'a Path> {
        match self {
            Self::Nothing | Self::Host => None,
            Self::Allowed(socket) | Self::Model(socket) => Some(socket),
        }
    }

    /// What is reached.
    pub const fn network(self) -> Network {
        match self {
            Self::Nothing => Network::Nothing,
            Self::Host => Network::Host,
            Self::Allowed(_) => Network::Allowed,
            Self::Model(_) => Network::Model,
        }
    }
}

impl Network {
    /// True when a port of the loopback inside leads to a socket.
    pub(super) const fn is_bridged(self) -> bool {
        matches!(self, Self::Allowed | Self::Model)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Host => "the host's network",
            Self::Allowed => "the hosts of an allow-list",
            Self::Model => "the operator's model",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::plan::PROXY_PORT;

    #[test]
    fn the_models_address_is_where_the_sandbox_listens() {
        assert!(MODEL_URL.ends_with(&format!(":{PROXY_PORT}")));
    }
}
