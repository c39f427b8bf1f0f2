//! `[[agents.repositories]]`: what one repository needs that others do not.

use std::collections::BTreeSet;

use patchfleet_config::Faults;
use patchfleet_domain::RepositoryName;
use serde::Deserialize;

use crate::sandbox::egress::Entry;
use crate::workspace::CloneMode;

/// One of `[[agents.repositories]]`. An operator's choice and not the repository's, because it has to
/// be known before the repository is cloned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// The repository, `owner/name`.
    pub name: RepositoryName,
    /// How much of it is fetched.
    #[serde(default)]
    pub clone: CloneMode,
    /// Whether the contents of its files of Git LFS are fetched.
    #[serde(default)]
    pub lfs: bool,
    /// Whether its submodules are fetched.
    #[serde(default)]
    pub submodules: bool,
    /// Hosts besides its own that these are fetched from.
    #[serde(default)]
    pub hosts: Vec<Entry>,
}

/// What is wrong with the list as a whole.
pub(super) fn faults(all: &[RepositorySettings]) -> Faults {
    let mut faults = Faults::default();
    let mut seen = BTreeSet::new();
    for (index, settings) in all.iter().enumerate() {
        faults.rule(
            seen.insert(&settings.name),
            &[&format!("{index}.name")],
            format!("`{}` is in this list twice; write one entry", settings.name),
        );
        faults.rule(
            settings.hosts.is_empty() || settings.lfs || settings.submodules,
            &[&format!("{index}.hosts")],
            "nothing is fetched from them; write `lfs = true` or `submodules = true`",
        );
    }
    faults
}
