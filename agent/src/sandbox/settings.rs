//! `[agents.sandbox]`: how what a repository brings is kept apart from the host.

use std::path::PathBuf;

use patchfleet_config::{Faults, Rules};
use serde::{Deserialize, Serialize};

use super::container::ContainerConfig;
use crate::disk::Owner;

/// Kinds of isolation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Backend {
    /// Namespaces, Landlock and a filter of system calls.
    #[default]
    Namespace,
    /// A container of Docker or Podman.
    Container,
    /// No isolation.
    None,
}

/// The section, with its defaults.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// Whether an agent whose host can't isolate refuses work.
    pub required: bool,
    /// The kind of isolation.
    pub backend: Backend,
    /// The user that an agent of root becomes for each run. It should own nothing else.
    pub uid: u32,
    /// The group that goes with that user.
    pub gid: u32,
    /// Files and folders of the host that every run may read, at their own paths.
    pub read_only: Vec<PathBuf>,
    /// Memory of a run, in MiB.
    pub memory_mib: u64,
    /// Processors of a run; the host's divided by the agent's slots when absent.
    pub cpus: Option<u32>,
    /// Most processes and threads of a run.
    pub processes: u64,
    /// Largest file that may be written, in MiB.
    pub file_mib: u64,
    /// Most files that a process may have open.
    pub open_files: u64,
    /// What the folders that a run may write may take on disk, the work tree included, in MiB.
    pub disk_mib: u64,
    /// `[agents.sandbox.container]`, for the backend of that name.
    pub container: ContainerConfig,
}

/// `nobody` and `nogroup`: users without anything of their own, on every host.
const NOBODY: u32 = 65534;

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            required: true,
            backend: Backend::default(),
            uid: NOBODY,
            gid: NOBODY,
            read_only: Vec::new(),
            memory_mib: 4096,
            cpus: None,
            processes: 1024,
            file_mib: 1024,
            open_files: 4096,
            disk_mib: 16 * 1024,
            container: ContainerConfig::default(),
        }
    }
}

impl SandboxConfig {
    /// With processors that are the host's divided by so many slots, where none are named.
    pub fn shared_by(mut self, slots: u32) -> Self {
        let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        self.cpus = self.cpus.or(Some((all / slots.max(1)).max(1)));
        self
    }

    /// The user that commands surely run as, where that is not the agent's own. Where isolation is
    /// not required, they may come to run as root, to whom git refuses the folders of others.
    pub fn owner(&self) -> Option<Owner> {
        let is_isolated = self.required && self.backend != Backend::None;
        let becomes = is_isolated && nix::unistd::geteuid().is_root();
        becomes.then_some(Owner {
            uid: self.uid,
            gid: self.gid,
        })
    }
}

impl Backend {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Container => "container",
            Self::None => "none",
        }
    }
}

impl TryFrom<String> for Backend {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        match name.as_str() {
            "namespace" => Ok(Self::Namespace),
            "none" => Ok(Self::None),
            "container" => Ok(Self::Container),
            _ => Err(
                "there is no such backend; write `namespace`, `container`, or `none` for no isolation",
            ),
        }
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rules for SandboxConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        faults.rule(
            self.backend != Backend::None || !self.required,
            &["backend"],
            "`none` isolates nothing: write `required = false` beside it, if that is meant",
        );
        faults.rule(
            self.uid != 0 && self.gid != 0,
            &["uid"],
            "root is not left behind by becoming root; name a user that owns nothing else",
        );
        if self.backend == Backend::Container {
            faults.section("container", self.container.faults());
        }
        let limits = [
            (self.memory_mib >= 64, "memory_mib"),
            (self.cpus != Some(0), "cpus"),
            (self.processes >= 16, "processes"),
            (self.file_mib > 0, "file_mib"),
            (self.open_files >= 64, "open_files"),
            (self.disk_mib >= 64, "disk_mib"),
        ];
        for (is_enough, field) in limits {
            let message = "no program can work with so little";
            faults.rule(is_enough, &[field], message);
        }
        faults
    }
}
