//! The `namespace` backend: bubblewrap outside, this very program inside.

use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::unistd::geteuid;
use tokio_util::sync::CancellationToken;

use super::explain::{self, Fact};
use super::groups::{Allowance, Group, Groups};
use super::limits::{Allowed, End};
use super::plan::{self, HOME, Mount, PROXY_PORT, Plan, PlanError, ProcessLimits, STAGE, User};
use super::settings::{Backend, SandboxConfig};
use super::verdict::{self, Verdict};
use super::{
    Exceeded, Limit, Network, Ran, Run, SandboxError, egress, overlay, owner, stage, system,
    toolchains, watch,
};
use crate::disk::Owner;
use crate::process::{Spawn, SpawnError, find_program};

/// The program that makes namespaces.
const BUBBLEWRAP: &str = "bwrap";

/// What isolated runs of one agent have in common.
#[derive(Debug, Clone)]
pub(super) struct Namespace {
    bubblewrap: PathBuf,
    /// Present when this process is root.
    user: Option<User>,
    toolchains: Vec<Mount>,
    allowed: Allowed,
    disk_mib: u64,
    limits: ProcessLimits,
    /// Looked for once, before the first run.
    groups: OnceLock<Groups>,
}

impl Namespace {
    /// Looks for what runs need; where there is no bubblewrap, the first run says so.
    pub(super) fn new(config: &SandboxConfig, programs: &[String]) -> Self {
        let user = User {
            uid: config.uid,
            gid: config.gid,
        };
        let mut toolchains = toolchains::find(programs.iter().map(String::as_str));
        let wanted = config.read_only.iter();
        toolchains.extend(wanted.map(|path| Mount::read_only(path, "`sandbox.read_only`")));
        Self {
            bubblewrap: find_program(BUBBLEWRAP).unwrap_or_else(|| BUBBLEWRAP.into()),
            user: geteuid().is_root().then_some(user),
            toolchains,
            allowed: Allowed {
                memory_mib: config.memory_mib,
                processes: config.processes,
                cpu_percent: 100 * u64::from(config.clone().shared_by(1).cpus.unwrap_or(1)),
            },
            disk_mib: config.disk_mib,
            groups: OnceLock::new(),
            limits: ProcessLimits::of(config, config.processes),
        }
    }

    #[cfg(test)]
    pub(super) const fn replace_cpu_percent(&mut self, percent: u64) {
        self.allowed.cpu_percent = percent;
    }

    /// As on a host that lets no groups be made.
    #[cfg(test)]
    pub(super) fn without_groups(&mut self) {
        self.groups = Groups::none("the test says so").into();
    }

    #[cfg(test)]
    pub(super) fn replace_bubblewrap(&mut self, path: &str) {
        self.bubblewrap = path.into();
    }

    pub(super) fn bubblewrap(&self) -> &Path {
        &self.bubblewrap
    }

    /// The user outside that runs become.
    pub(super) fn user(&self) -> String {
        format!("user {:?}", self.user)
    }

    /// To whom what runs may write belongs, when that is not this process's user.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.user.map(|user| Owner {
            uid: user.uid,
            gid: user.gid,
        })
    }

    /// What every run sees besides the system.
    pub(super) fn shown(&self) -> Vec<PathBuf> {
        let shown = self.toolchains.iter();
        shown.map(|mount| mount.source.clone()).collect()
    }

    /// What a run sees and may do.
    pub(super) fn plan(&self, run: &Run<'_>) -> Result<Plan, PlanError> {
        let (mut mounts, links) = system::mounts();
        mounts.extend(self.toolchains.iter().cloned());
        let program = run.command.first().map(String::as_str);
        mounts.extend(toolchains::find(program));
        mounts.extend(plan::own_mounts(run)?);
        let network = run.reach.network();
        if network == Network::Host {
            mounts.extend(system::resolver());
        }
        // Memory folders count as memory of the run, so that they get a part of it.
        let memory = self.allowed.memory_mib << 20;
        Ok(Plan {
            bubblewrap: self.bubblewrap.clone(),
            user: self.user,
            mounts: plan::ordered(mounts)?,
            layers: overlay::layers(run),
            links,
            folder: run.folder.to_owned(),
            network,
            memory_folders: (memory / 8 * 3, memory / 8),
            limits: self.limits,
            program: vec![STAGE.to_owned()],
            needs_landlock: true,
            groups: Vec::new(),
            command: run.command.to_vec(),
        })
    }

    /// The part of what every run of a program sees that a file of the host is in.
    pub(super) fn shows(&self, file: &Path, program: Option<&str>) -> Option<PathBuf> {
        let (system, _) = system::mounts();
        let mut mounts = system.into_iter();
        let tools = self.toolchains.iter().cloned();
        let mounts = mounts
            .by_ref()
            .chain(tools)
            .chain(toolchains::find(program));
        // The file as well as what it may be a link to.
        let places = [Some(file.to_owned()), file.canonicalize().ok()];
        mounts
            .map(|mount| mount.source)
            .find(|source| places.iter().flatten().any(|it| it.starts_with(source)))
    }

    /// Runs a command in namespaces of its own.
    pub(super) async fn run(
        &self,
        mut run: Run<'_>,
        cancel: &CancellationToken,
    ) -> Result<Ran, SandboxError> {
        let mut plan = self.plan(&run)?;
        owner::own(self.user, &run).await?;
        if let Some(layers) = &plan.layers {
            overlay::prepare(layers).await?;
        }
        let group = self.group().await?;
        let missing = group.missing();
        if !missing.contains(&Limit::Processes) {
            plan.limits.stand_behind_group();
        }
        plan.groups = group.joins();
        let text = serde_json::to_vec(&plan).map_err(|error| broken(error.to_string()))?;
        let memory = |error: std::io::Error| broken(format!("memory can't be had: {error}"));
        let order = stage::memory(&text).map_err(memory)?;
        let (mut report, writer) = stage::report().map_err(memory)?;
        let mut spawn = Spawn::own("/")
            .args([stage::ENTER])
            .descriptor(stage::PLAN, order.into())
            .descriptor(stage::STATUS, writer)
            .env("HOME", HOME)
            .env("TMPDIR", "/tmp");
        if plan.network == Network::Allowed {
            for (name, value) in egress::proxy_variables(PROXY_PORT) {
                spawn = spawn.env(name, value);
            }
        }
        let (written, enough) = (run.written(), run.enough.clone());
        let spawn = run.into_spawn(spawn);
        let (finished, disk) = watch::watched(spawn, (written, self.disk_mib), cancel).await;
        // Both say whether all of it is dead, each by means of its own: the process namespace's end,
        // and the group's.
        let usage = group.end().await;
        let usage = usage.map_err(|left| {
            let program = plan.command.first().map_or("", String::as_str);
            let why = format!("`{program}` has ended, but {left}; what it worked on is not used");
            SandboxError::Left { why }
        })?;
        let mut finished = finished?;
        let mut text = String::new();
        let read = report
            .rewind()
            .and_then(|()| report.read_to_string(&mut text));
        read.map_err(|error| broken(error.to_string()))?;
        match Verdict::read(&text) {
            _ if finished.timed_out => {}
            _ if disk.is_some() || enough.is_cancelled() => verdict::put_killed(&mut finished),
            Verdict::Ended(code) => verdict::put(code, &mut finished),
            Verdict::Fault(fault) if fault.is_not_found => {
                let program = plan.command.into_iter().next().unwrap_or_default();
                return Err(SpawnError::NotFound { program }.into());
            }
            // Whoever reports may be among those that the kernel ended.
            Verdict::Unknown if usage.oom_kills > Some(0) => verdict::put_killed(&mut finished),
            Verdict::Fault(fault) => {
                return Err(broken(format!("{}: {}", fault.stage, fault.what)));
            }
            Verdict::Unknown => return Err(broken(verdict::last_words(&finished, "bubblewrap"))),
        }
        let end = End {
            succeeded: finished.succeeded(),
            timed_out: finished.timed_out,
            duration: finished.duration,
        };
        Ok(Ran {
            exceeded: disk.or_else(|| Exceeded::find(&usage, self.allowed, end)),
            finished,
            backend: Backend::Namespace,
            usage,
            limits_not_enforced: not_enforced(missing),
        })
    }

    /// Makes the control groups of a run.
    async fn group(&self) -> Result<Group, SandboxError> {
        let allowance = Allowance {
            memory: self.allowed.memory_mib << 20,
            processes: self.allowed.processes,
            cpu_percent: self.allowed.cpu_percent,
        };
        let groups = self.groups();
        let made = tokio::task::spawn_blocking(move || groups.make(allowance)).await;
        let made = made.map_err(std::io::Error::other).flatten();
        made.map_err(|error| broken(format!("control groups: {error}")))
    }

    /// Where groups are made.
    fn groups(&self) -> Groups {
        self.groups.get_or_init(Groups::find).clone()
    }

    /// The limits of a run as a whole, for `sandbox explain`.
    pub(super) fn limits(&self) -> Vec<Fact> {
        let missing = self.missing();
        let why = |limit| {
            let found = missing.iter().find(|(found, _)| *found == limit);
            found.map(|(_, why)| why.as_str())
        };
        let Allowed {
            memory_mib,
            processes,
            cpu_percent,
        } = self.allowed;
        let cpus = format!("{cpu_percent} % of one processor");
        let disk = format!(
            "{} MiB in the folders that it may write, looked at now and then",
            self.disk_mib
        );
        vec![
            explain::limit("memory", format!("{memory_mib} MiB"), why(Limit::Memory)),
            explain::limit("processors", cpus, why(Limit::Processors)),
            explain::limit("processes", processes, None),
            explain::limit("disk", disk, None),
        ]
    }

    /// Limits that this host can't enforce, and why.
    pub(super) fn missing(&self) -> Vec<(Limit, String)> {
        let missing = self.groups().missing().clone().into_iter();
        // The user has a limit of processes too.
        missing
            .filter(|(limit, _)| *limit != Limit::Processes)
            .collect()
    }

    /// Gives a folder back to who it belonged to before.
    pub(super) fn give_back(&self, folder: &Path, owner: (u32, u32)) -> std::io::Result<()> {
        owner::give_back(self.user, folder, owner)
    }

    /// Gives a folder to the user that runs are.
    pub(super) fn hand_over(&self, folder: &Path) -> std::io::Result<()> {
        let Some(user) = self.user else { return Ok(()) };
        owner::hand_over(folder, geteuid().as_raw(), user)
    }
}

/// In words; the number of processes is kept by a limit of the user then.
pub(super) fn not_enforced(missing: Vec<Limit>) -> Vec<&'static str> {
    let lacking = missing.into_iter().filter(|it| *it != Limit::Processes);
    lacking.map(Limit::as_str).collect()
}

/// One agent's backend, shared by its runs.
pub(super) type Shared = Arc<Namespace>;

fn broken(why: String) -> SandboxError {
    SandboxError::Broken { why }
}
