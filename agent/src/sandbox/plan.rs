//! The plan of one isolated run: all that the two inner stages have to know, decided beforehand.
//!
//! Pure. The agent writes the plan into a sealed piece of memory; the stages read it from a
//! descriptor, so that nothing of it shows on a command line.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::SandboxConfig;
use super::{Network, Run, system};

/// The work tree, as the command sees it.
pub(crate) const WORKSPACE: &str = "/workspace";
/// The command's home. Not `/home/agent`: a host may well have a user of that name, whose
/// toolchains are shown at their own paths.
pub(super) const HOME: &str = "/home/sandbox";
/// This very program, as the inner stage sees it.
pub(super) const STAGE: &str = "/run/patchfleet/sandbox";
/// Where this program has its things in the sandbox.
pub(super) const OWN: &str = "/run/patchfleet";
/// The proxy's socket, as the bridge inside sees it.
pub(super) const PROXY_SOCKET: &str = "/run/patchfleet/proxy.sock";
/// The port of the loopback inside at which programs find the proxy.
pub(super) const PROXY_PORT: u16 = 3128;
/// The user and group that the command sees itself as.
pub(super) const INNER_USER: u32 = 1000;

/// How much more processes the user may have than the group, where there is one.
const BACKSTOP: u64 = 4;
/// The processor time after which something is wrong with the timeout.
const CPU_SECONDS: u64 = 24 * 3600;

/// A kernel user that root becomes before anything is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What may be done with a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Access {
    ReadOnly,
    Writable,
}

/// A file or folder of the host that the command sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) access: Access,
    /// Why it is there, for `sandbox explain`.
    pub(super) why: String,
}

/// What the work tree is an overlay of, besides its own folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layers {
    /// The layers below, from the top; nothing is written to them.
    pub(super) below: Vec<PathBuf>,
    /// An empty folder beside the work tree's own, for the kernel.
    pub(super) work: PathBuf,
}

/// Limits that the kernel keeps for each process on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessLimits {
    /// Largest file that may be written, in bytes.
    pub(super) file_size: u64,
    /// Most files open at a time.
    pub(super) open_files: u64,
    /// Most seconds of processor time; a backstop.
    pub(super) cpu_seconds: u64,
    /// Most processes and threads of the user; a backstop behind the control group.
    pub(super) processes: u64,
}

impl ProcessLimits {
    /// Those of a configuration, with so many processes.
    pub(super) const fn of(config: &SandboxConfig, processes: u64) -> Self {
        Self {
            file_size: config.file_mib << 20,
            open_files: config.open_files,
            cpu_seconds: CPU_SECONDS,
            processes,
        }
    }

    /// Leaves the number of processes to a control group, whose limit is met first then: only it
    /// counts whom it refuses.
    pub(super) const fn stand_behind_group(&mut self) {
        self.processes = self.processes.saturating_mul(BACKSTOP);
    }
}

/// All that one isolated run is made of, as it is handed from the agent to the inner stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) bubblewrap: PathBuf,
    /// Present when the agent runs as root.
    pub(super) user: Option<User>,
    /// In the order of mounting: a folder before what is in it.
    pub(super) mounts: Vec<Mount>,
    /// Present when the work tree is an overlay, whose upper layer is the mount's source.
    pub(super) layers: Option<Layers>,
    /// Links at the top, as of `/bin` to `usr/bin`: the link and where it points.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// The folder of the work tree that the command begins in; empty for its root.
    pub(super) folder: String,
    /// What is reached of the network.
    pub(super) network: Network,
    /// Bytes of `/tmp` and of `/dev/shm`, both in memory.
    pub(super) memory_folders: (u64, u64),
    pub(super) limits: ProcessLimits,
    /// The words that start this very program inside.
    pub(super) program: Vec<String>,
    /// There is no run on a kernel without Landlock; where an engine's mounts are looked after by
    /// the engine, there is.
    pub(super) needs_landlock: bool,
    /// Files of control groups that the command's processes join by.
    pub(super) groups: Vec<PathBuf>,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
}

/// A mount can't be part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It would lie in a folder that the sandbox makes itself or that the command may write.
    #[error("{} can't be shown in the sandbox: it would lie inside of {}", .path.display(), .inside.display())]
    Inside {
        /// What was asked for.
        path: PathBuf,
        /// What it collides with.
        inside: PathBuf,
    },
    /// It is too wide to be shown.
    #[error("{} can't be shown in the sandbox: it is the system itself or a folder that holds others' secrets; name a folder below it", .path.display())]
    TooWide {
        /// What was asked for.
        path: PathBuf,
    },
    /// An engine would read another path.
    #[error("{} can't be shown in a container: the path has a comma, a quote or a line end", .path.display())]
    Separator {
        /// What was asked for.
        path: PathBuf,
    },
    /// Only absolute paths mean the same inside and outside.
    #[error("{} can't be shown in the sandbox: write an absolute path without `..`", .path.display())]
    Relative {
        /// What was asked for.
        path: PathBuf,
    },
}

impl Mount {
    pub(super) fn read_only(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            target: path.clone(),
            source: path,
            access: Access::ReadOnly,
            why: why.into(),
        }
    }

    pub(super) fn writable(
        source: impl Into<PathBuf>,
        target: impl Into<PathBuf>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            access: Access::Writable,
            why: why.into(),
        }
    }
}

/// What each run sees of its own, whatever isolates it: its work tree, home and folders, what it is
/// shown, and the socket to its proxy.
///
/// # Errors
/// When the work tree would show more than a work tree.
pub(super) fn own_mounts(run: &Run<'_>) -> Result<Vec<Mount>, PlanError> {
    if system::is_too_wide(run.cwd) || system::is_home(run.cwd) {
        let path = run.cwd.to_owned();
        return Err(PlanError::TooWide { path });
    }
    let shown = run.shown.iter().map(|path| Mount {
        // A link is shown as what it leads to.
        source: path.canonicalize().unwrap_or_else(|_| path.clone()),
        ..Mount::read_only(path, "this run reads it")
    });
    let folders = run.folders.iter();
    let folders = folders.map(|path| Mount::writable(path, path, "this run is given it"));
    let mut mounts: Vec<_> = shown.chain(folders).collect();
    mounts.push(Mount::writable(run.cwd, WORKSPACE, "the work tree"));
    mounts.push(Mount::writable(run.home(), HOME, "a home of its own"));
    let network = run.reach.network();
    mounts.extend(run.reach.socket().map(|socket| Mount {
        source: socket.to_owned(),
        ..Mount::read_only(PROXY_SOCKET, format!("the only way out, to {network}"))
    }));
    Ok(mounts)
}

/// Puts mounts in order and leaves out those that are shown by another one anyway.
///
/// Mount points lie in the skeleton that is made for the sandbox, and never below a folder that
/// the command may write: a link planted there could lead the mounting astray (CVE-2026-87766).
///
/// # Errors
/// When one can't be mounted without breaking that rule.
pub(super) fn ordered(mounts: Vec<Mount>) -> Result<Vec<Mount>, PlanError> {
    let mut sorted = mounts;
    // Of the same target, the one that may be written stays.
    sorted.sort_by_key(|it| (it.target.clone(), it.access == Access::ReadOnly));
    sorted.dedup_by(|later, earlier| later.target == earlier.target);
    let mut kept: Vec<Mount> = Vec::new();
    for mount in sorted {
        check(&mount)?;
        let around = kept.iter().find(|it| mount.target.starts_with(&it.target));
        match around {
            // It is seen there already.
            Some(around) if is_shown_by(&mount, around) => {}
            Some(around) => {
                return Err(PlanError::Inside {
                    path: mount.target,
                    inside: around.target.clone(),
                });
            }
            None => kept.push(mount),
        }
    }
    Ok(kept)
}

/// The enclosing mount shows the same file at the same place, with no less access.
fn is_shown_by(mount: &Mount, around: &Mount) -> bool {
    let same_place = mount
        .target
        .strip_prefix(&around.target)
        .is_ok_and(|rest| around.source.join(rest) == mount.source || rest.as_os_str().is_empty());
    same_place && (mount.access == Access::ReadOnly || around.access == Access::Writable)
}

fn check(mount: &Mount) -> Result<(), PlanError> {
    let path = &mount.target;
    let plain = |part| {
        matches!(
            part,
            std::path::Component::RootDir | std::path::Component::Normal(_)
        )
    };
    if !path.is_absolute() || !path.components().all(plain) {
        return Err(PlanError::Relative { path: path.clone() });
    }
    if system::is_too_wide(path) {
        return Err(PlanError::TooWide { path: path.clone() });
    }
    let own = [WORKSPACE, HOME, STAGE, PROXY_SOCKET].map(Path::new);
    let made = [Path::new("/proc"), Path::new("/dev"), Path::new(OWN)];
    let inside = own
        .into_iter()
        .filter(|folder| path != folder)
        .chain(made.into_iter().filter(|_| {
            ![STAGE, PROXY_SOCKET]
                .map(Path::new)
                .contains(&path.as_path())
        }))
        .find(|folder| path.starts_with(folder));
    match inside {
        Some(inside) => Err(PlanError::Inside {
            path: path.clone(),
            inside: inside.to_owned(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(mounts: Vec<Mount>) -> Vec<String> {
        let ordered = ordered(mounts).unwrap();
        let texts = ordered.iter().map(|it| it.target.display().to_string());
        texts.collect()
    }

    #[test]
    fn what_another_mount_shows_anyway_is_left_out() {
        let mounts = vec![
            Mount::read_only("/opt/node/lib", "a part"),
            Mount::read_only("/opt/node", "a toolchain"),
            Mount::read_only("/opt/node", "the same again"),
            Mount::writable("/work/tree", WORKSPACE, "the work tree"),
        ];
        assert_eq!(targets(mounts), ["/opt/node", WORKSPACE]);
    }

    #[test]
    fn nothing_is_mounted_below_a_folder_that_the_command_may_write() {
        for (outer, inner) in [
            (Mount::writable("/x/tree", WORKSPACE, ""), "/workspace/.git"),
            (Mount::writable("/x/home", HOME, ""), "/home/sandbox/.cargo"),
        ] {
            let mounts = vec![outer, Mount::read_only(inner, "")];
            let error = ordered(mounts).unwrap_err();
            assert!(matches!(error, PlanError::Inside { .. }), "{error}");
        }
        // One that is there for reading too is seen through the writable one.
        let login = Mount::writable("/var/lib/tool", "/var/lib/tool", "login");
        let mounts = vec![Mount::read_only("/var/lib/tool/bin", ""), login];
        assert_eq!(targets(mounts), ["/var/lib/tool"]);
        // As when a program lies in a folder that it is given.
        let tool = Mount::writable("/opt/tool", "/opt/tool", "this run is given it");
        let mounts = vec![Mount::read_only("/opt/tool", "a program"), tool];
        assert_eq!(ordered(mounts).unwrap()[0].access, Access::Writable);
        // The other way round, the write would be lost.
        let login = Mount::writable("/opt/tool/login", "/opt/tool/login", "login");
        let mounts = vec![Mount::read_only("/opt/tool", ""), login];
        assert!(ordered(mounts).is_err());
    }

    #[test]
    fn neither_the_whole_system_nor_a_place_of_secrets_is_shown() {
        for path in [
            "/", "/etc", "/home", "/root", "/var", "/run", "/proc", "/sys", "/dev",
        ] {
            assert!(ordered(vec![Mount::read_only(path, "")]).is_err(), "{path}");
        }
        for path in ["tools", "/opt/../etc", "/proc/1", "/dev/shm/x"] {
            assert!(ordered(vec![Mount::read_only(path, "")]).is_err(), "{path}");
        }
    }
}
