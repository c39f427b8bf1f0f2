//! `[agents.setup]`: what repositories may reach while their dependencies are installed.

use patchfleet_config::{Faults, HumanDuration, Rules};
use serde::Deserialize;

use crate::sandbox::egress::{AddressRules, AllowList, Ecosystem, Entry, IpNet};

/// The section, with its defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SetupConfig {
    /// Hosts and ecosystems that a repository may ask for: all registries, and no code host, when
    /// absent.
    pub allow: Vec<Entry>,
    /// Networks whose addresses these hosts may have although they are not public.
    pub open: Vec<IpNet>,
    /// How long all commands together may take, at most.
    pub timeout: HumanDuration,
    /// Whether what was installed is used again for the same commands and lock files.
    pub cache: bool,
}

impl SetupConfig {
    /// The hosts that a repository may ask for.
    pub fn allow_list(&self) -> AllowList {
        AllowList::new(&self.allow)
    }
}

impl Default for SetupConfig {
    fn default() -> Self {
        Self {
            allow: Ecosystem::registries().map(Entry::Ecosystem).collect(),
            open: Vec::new(),
            timeout: HumanDuration::from_secs(600),
            cache: true,
        }
    }
}

impl Rules for SetupConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        let opened = AddressRules::opening(self.open.iter().copied());
        let message = opened.err().map(|error| error.to_string());
        let is_safe = message.is_none();
        faults.rule(is_safe, &["open"], message.unwrap_or_default());
        let time = !self.timeout.0.is_zero();
        faults.rule(time, &["timeout"], "there is no time to install anything");
        faults
    }
}
