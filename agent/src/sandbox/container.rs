//! The `container` backend: Docker or Podman, by their command line, with an image of the operator's.
//!
//! ```text
//! agent → supervisor → `podman run` → … → `sandbox-contained` → `sandbox-init` → the command
//! ```
//! The engine makes the namespaces, the mounts and the control groups. The first process of the
//! container is this program; it has its order from the agent over a socket of its own, and the
//! stage that becomes the command is the one that the namespaces' backend has, with the same kernel
//! limits, Landlock and filter of system calls behind those of the engine. Only what the first
//! process says of the command's end counts. Toolchains are the image's: nothing of the host is shown
//! but what a run is given.
//!
//! Absent: building images, and networks of engines.

mod arguments;
mod check;
mod control;
mod engine;
mod inside;
mod prepare;
mod program;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use nix::unistd::{getegid, geteuid};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::groups::Allowance;
use super::limits::{Allowed, End};
use super::plan::{ProcessLimits, User};
use super::settings::{Backend, SandboxConfig};
use super::verdict::{self, Verdict};
use super::{Exceeded, Limit, Ran, Run, SandboxError, namespace, owner, watch};
use crate::disk::Owner;
use crate::process::{Finished, SpawnError};
use control::{Report, Watch};
use engine::Engine;
pub(super) use inside::run as contained;
pub use settings::ContainerConfig;

/// What runs in containers of one agent have in common.
#[derive(Debug)]
pub(super) struct Container {
    engine: Engine,
    config: ContainerConfig,
    user: User,
    is_root: bool,
    read_only: Vec<PathBuf>,
    disk_mib: u64,
    limits: ProcessLimits,
    /// The image's id once it was looked up. It stays the same one while this process lives, also
    /// when its tag is moved, unless it goes.
    image: Mutex<Option<String>>,
    /// Limits that the container of the last check did not have.
    missing: Mutex<Vec<Limit>>,
    /// Removals that go on when nobody waits for a run any more.
    removals: TaskTracker,
}

/// One agent's backend, shared by its runs.
pub(super) type Shared = Arc<Container>;

/// The folder of a run's own files, and the container that is removed when nobody waits for its run
/// any more.
struct Made<'a> {
    container: &'a Container,
    name: String,
    folder: PathBuf,
    is_removed: bool,
}

impl Made<'_> {
    /// Where the engine writes the container's id.
    fn id_file(&self) -> PathBuf {
        self.folder.join("id")
    }

    /// Ends the container, and proves that it is gone.
    async fn remove(mut self) -> Result<(), String> {
        let removed = remove(&self.container.engine, &self.name, &self.folder).await;
        self.is_removed = true;
        removed
    }
}

/// Removes a container, the groups that its engine leaves when it was killed, and its files.
async fn remove(engine: &Engine, name: &str, folder: &Path) -> Result<(), String> {
    let id = fs::read_to_string(folder.join("id")).unwrap_or_default();
    let removed = engine.remove(name, &id).await;
    let _ = fs::remove_dir_all(folder);
    removed
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.is_removed {
            return;
        }
        let (engine, name) = (self.container.engine.clone(), self.name.clone());
        let folder = self.folder.clone();
        // Without a runtime the process ends, and the next one finds the label.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let removal = async move {
                let _ = remove(&engine, &name, &folder).await;
            };
            self.container.removals.spawn_on(removal, &runtime);
        }
    }
}

impl Container {
    pub(super) fn new(config: &SandboxConfig) -> Self {
        let is_root = geteuid().is_root();
        let own = User {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        };
        let other = User {
            uid: config.uid,
            gid: config.gid,
        };
        Self {
            engine: Engine::new(&config.container.engine),
            config: config.container.clone(),
            user: if is_root { other } else { own },
            is_root,
            read_only: config.read_only.clone(),
            disk_mib: config.disk_mib,
            limits: ProcessLimits::of(config, config.container.processes),
            image: Mutex::default(),
            missing: Mutex::default(),
            removals: TaskTracker::new(),
        }
    }

    /// The user that what a run may write belongs to, where that is another one than the agent's.
    fn other_user(&self) -> Option<User> {
        self.is_root.then_some(self.user)
    }

    /// To whom what runs may write belongs, when that is not this process's user.
    pub(super) fn owner(&self) -> Option<Owner> {
        let User { uid, gid } = self.other_user()?;
        Some(Owner { uid, gid })
    }

    /// Gives a folder back to who it belonged to before.
    pub(super) fn give_back(&self, folder: &Path, owner: (u32, u32)) -> io::Result<()> {
        owner::give_back(self.other_user(), folder, owner)
    }

    /// Removes containers of agents that live no more; gives their number.
    pub(super) async fn remove_left(&self) -> usize {
        self.engine.remove_left().await
    }

    /// The part of what every run sees that a file of the host is in.
    pub(super) fn shows(&self, file: &Path) -> Option<PathBuf> {
        let places = [Some(file.to_owned()), file.canonicalize().ok()];
        let shown = |path: &&PathBuf| places.iter().flatten().any(|it| it.starts_with(path));
        self.read_only.iter().find(shown).cloned()
    }

    /// Runs a command in a container of its own.
    pub(super) async fn run(
        &self,
        mut run: Run<'_>,
        cancel: &CancellationToken,
    ) -> Result<Ran, SandboxError> {
        let program = run.command.first().cloned().unwrap_or_default();
        let prepared = self.prepare(&run).await?;
        let (written, enough) = (run.written(), run.enough.clone());
        let watch = Watch {
            allowance: self.allowance(),
            meter: written.meter.clone(),
        };
        let (mut directing, over) = (JoinSet::new(), CancellationToken::new());
        let control = prepared.control;
        directing.spawn(control.direct(prepared.order, watch, over.clone()));
        let spawn = run.attach(self.engine.call(prepared.arguments));
        let (finished, disk) = watch::watched(spawn, (written, self.disk_mib), cancel).await;
        // A daemon's container is none of the processes below this one: that it is removed proves
        // that nothing of it lives.
        let removed = prepared.made.remove().await;
        over.cancel();
        let report = directing.join_next().await.transpose();
        let report = report.map_err(|error| broken(error.to_string()))?;
        let report = report.unwrap_or_default();
        removed.map_err(|why| {
            let name = self.engine.name();
            let why = format!(
                "the container of `{program}` may still run, because `{name}` can't remove it: \
                 {why}; what it worked on is not used"
            );
            SandboxError::Left { why }
        })?;
        let mut finished = finished?;
        let is_ended = disk.is_some() || enough.is_cancelled();
        self.judge(program, (&mut finished, &report), is_ended)?;
        let end = End {
            succeeded: finished.succeeded(),
            timed_out: finished.timed_out,
            duration: finished.duration,
        };
        let exceeded = Exceeded::find(&report.usage, self.allowed(), end);
        Ok(Ran {
            exceeded: disk.or(exceeded),
            finished,
            backend: Backend::Container,
            usage: report.usage,
            limits_not_enforced: namespace::not_enforced(report.missing),
        })
    }

    /// Puts the command's end, as the first process told it, in the place of the engine's.
    fn judge(
        &self,
        program: String,
        (finished, report): (&mut Finished, &Report),
        is_ended: bool,
    ) -> Result<(), SandboxError> {
        match Verdict::read(&report.text) {
            _ if finished.timed_out || is_ended => verdict::put_killed(finished),
            Verdict::Ended(code) => verdict::put(code, finished),
            Verdict::Fault(fault) if fault.is_not_found => {
                return Err(SpawnError::NotFound { program }.into());
            }
            // Whoever reports may be among those that the kernel ended.
            Verdict::Unknown if report.usage.oom_kills > Some(0) => verdict::put_killed(finished),
            Verdict::Fault(fault) => {
                return Err(broken(format!("{}: {}", fault.stage, fault.what)));
            }
            Verdict::Unknown => {
                let words = verdict::last_words(finished, &self.engine.name());
                if engine::lacks_image(&words) {
                    // It may be there again under its name.
                    *self.image.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                return Err(broken(words));
            }
        }
        Ok(())
    }

    fn allowance(&self) -> Allowance {
        Allowance {
            memory: self.config.memory_mib << 20,
            processes: self.config.processes,
            cpu_percent: self.config.cpu_percent(),
        }
    }

    fn allowed(&self) -> Allowed {
        Allowed {
            memory_mib: self.config.memory_mib,
            processes: self.config.processes,
            cpu_percent: self.config.cpu_percent(),
        }
    }
}

fn broken(why: String) -> SandboxError {
    SandboxError::Broken { why }
}
