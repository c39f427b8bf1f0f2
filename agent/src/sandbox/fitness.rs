//! Whether this host can isolate: a canary that is run, and what to do when it does not come back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::namespace::Namespace;
use super::plan::STAGE;
use super::{Run, SandboxError, stage};
use crate::process::Finished;

/// How long the canary may take on a host that is busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const SETUID: u32 = 0o4000;

/// Why a host can't isolate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CantIsolate {
    /// bubblewrap is not installed.
    #[error("bubblewrap (`bwrap`) is not on the agent's PATH")]
    NoBubblewrap,
    /// bubblewrap runs as root, which its faults then do too.
    #[error("{} is setuid root, so that a fault in it is a fault of the host", .path.display())]
    SetuidBubblewrap {
        /// The program that was found.
        path: PathBuf,
    },
    /// bubblewrap lacks something.
    #[error("this bubblewrap is too old: {why}")]
    OldBubblewrap {
        /// What bubblewrap said.
        why: String,
    },
    /// The host refuses user namespaces to ordinary programs.
    #[error("the host refuses user namespaces: {why}")]
    NoUserNamespaces {
        /// What bubblewrap said.
        why: String,
        /// Who refuses.
        cause: Refuser,
    },
    /// A container hides parts of `/proc`, so that no new one may be mounted.
    #[error("the host refuses a `/proc` of its own, as containers do: {why}")]
    NoProc {
        /// What bubblewrap said.
        why: String,
    },
    /// The kernel has no Landlock.
    #[error("the kernel restricts no files: {why}")]
    NoLandlock {
        /// What the stage said.
        why: String,
    },
    /// The canary came back and found a layer missing.
    #[error("isolation has a hole on this host: {what}")]
    Hole {
        /// What a run could do that it must not.
        what: String,
    },
    /// The containers' engine is not installed.
    #[error("`{engine}`, which runs containers, is not on the agent's PATH")]
    NoEngine {
        /// As it is configured.
        engine: String,
    },
    /// The image is not there.
    #[error("`{engine}` has no image `{image}`, and none is pulled unasked")]
    NoImage {
        /// The engine.
        engine: String,
        /// As it is configured.
        image: String,
    },
    /// The engine makes no container that can be used.
    #[error("`{engine}` runs no container: {why}")]
    Engine {
        /// The engine.
        engine: String,
        /// What it said.
        why: String,
    },
    /// Something else.
    #[error("a sandbox can't be made: {why}")]
    Other {
        /// What was said.
        why: String,
    },
}

/// Who refuses user namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuser {
    /// Ubuntu's restriction by `AppArmor`.
    AppArmor,
    /// This kernel setting, as a sysctl's name.
    Setting(&'static str),
    /// Unknown; in a container, its filter of system calls.
    Unknown,
}

impl CantIsolate {
    /// What the operator can do about it.
    pub fn mend(&self) -> String {
        let way_out = "or run without isolation by `sandbox.required = false`, which every pull \
                       request then says";
        let mend = match self {
            Self::NoBubblewrap => "install it: apt-get install bubblewrap".to_owned(),
            Self::SetuidBubblewrap { path } => format!("chmod u-s {}", path.display()),
            Self::OldBubblewrap { .. } => {
                "install bubblewrap 0.10 or newer, or Debian's 0.8.0-2+deb12u1".to_owned()
            }
            Self::NoUserNamespaces { cause, .. } => match cause {
                Refuser::AppArmor => "allow them for bubblewrap: copy \
                     deploy/apparmor/patchfleet-bwrap to /etc/apparmor.d/ and run \
                     `apparmor_parser --replace` on it"
                    .to_owned(),
                Refuser::Setting(setting) => format!("sysctl --write {setting}"),
                Refuser::Unknown => "in a container, start it as docs/OPERATIONS.md says for \
                     containers (`--security-opt seccomp=unconfined`)"
                    .to_owned(),
            },
            Self::NoProc { .. } => {
                "start the container with `--security-opt systempaths=unconfined` (Podman: \
                 `unmask=ALL`)"
                    .to_owned()
            }
            Self::NoLandlock { .. } => {
                "boot a kernel of 5.13 or newer with `landlock` among `lsm=`".to_owned()
            }
            Self::NoEngine { .. } => "install it (apt-get install podman runc), or change \
                 agents.sandbox.container.engine"
                .to_owned(),
            Self::NoImage { engine, image } => {
                format!(
                    "{engine} pull {image}, or set agents.sandbox.container.pull = true, or change \
                     agents.sandbox.container.image"
                )
            }
            Self::Engine { engine, .. } => format!(
                "let the agent's user run `{engine} run`, and start its service where it has one; \
                 `patchfleet sandbox run --backend container --image IMAGE -- true` shows it"
            ),
            Self::Hole { .. } | Self::Other { .. } => {
                "`patchfleet sandbox run -- true` shows it".to_owned()
            }
        };
        format!("{mend}; {way_out}")
    }

    /// Finds the cause of a run that did not come about.
    fn of(error: &SandboxError) -> Self {
        let why = match error {
            SandboxError::Broken { why } => why.clone(),
            other => other.to_string(),
        };
        let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
        if says(&["Unknown option"]) {
            Self::OldBubblewrap { why }
        } else if says(&["mount proc"]) {
            Self::NoProc { why }
        } else if says(&["Landlock"]) {
            Self::NoLandlock { why }
        } else if says(&["uid map", "new namespace", "RTM_NEWADDR", "user namespace"]) {
            let cause = refuser();
            Self::NoUserNamespaces { why, cause }
        } else {
            Self::Other { why }
        }
    }
}

/// Who refuses user namespaces on this host.
fn refuser() -> Refuser {
    let says =
        |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if says(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        Refuser::AppArmor
    } else if says("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        Refuser::Setting("kernel.unprivileged_userns_clone=1")
    } else if says("/proc/sys/user/max_user_namespaces", "0") {
        Refuser::Setting("user.max_user_namespaces=10000")
    } else {
        Refuser::Unknown
    }
}

/// A work tree for a canary, a place for its home, and a file that it must not see.
pub(super) struct Place {
    tree: PathBuf,
    private: PathBuf,
    folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Result<Self, CantIsolate> {
        let folder = tempfile::tempdir().map_err(other)?;
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).map_err(other)?;
        Ok(Self {
            tree,
            private: folder.path().join("private"),
            folder,
        })
    }

    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    pub(super) fn private(&self) -> &Path {
        &self.private
    }

    /// Makes the file that is not to be seen.
    pub(super) fn hidden(&self) -> Result<PathBuf, CantIsolate> {
        let hidden = self.folder.path().join("hidden");
        fs::write(&hidden, []).map_err(other)?;
        Ok(hidden)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn other(why: std::io::Error) -> CantIsolate {
    CantIsolate::Other {
        why: why.to_string(),
    }
}

/// Runs the canary, which looks at its sandbox from inside.
pub(super) async fn check(namespace: &Namespace) -> Result<(), CantIsolate> {
    let bubblewrap = namespace.bubblewrap();
    let file = fs::metadata(bubblewrap).map_err(|_| CantIsolate::NoBubblewrap)?;
    if file.permissions().mode() & SETUID != 0 {
        let path = bubblewrap.to_owned();
        return Err(CantIsolate::SetuidBubblewrap { path });
    }
    let place = Place::new()?;
    let hidden = place.hidden()?.display().to_string();
    let command = [STAGE, stage::CANARY, &hidden].map(str::to_owned);
    let run = Run {
        timeout: PATIENCE,
        ..Run::new(&command, place.tree(), place.private())
    };
    super::make_private(run.private)
        .await
        .map_err(|error| CantIsolate::of(&error))?;
    let finished = namespace.run(run, &CancellationToken::new()).await;
    let finished = finished.map_err(|error| CantIsolate::of(&error))?.finished;
    judge(&finished, &place)
}

/// What the canary found.
pub(super) fn judge(finished: &Finished, place: &Place) -> Result<(), CantIsolate> {
    if finished.succeeded() && !is_roots(&place.tree().join(".canary")) {
        return Ok(());
    }
    let found = format!(
        "{} {}",
        finished.stdout_text().trim(),
        finished.stderr_text().trim()
    );
    let what = match found.trim() {
        "" if finished.timed_out => "it did not answer in time".to_owned(),
        "" => "what it writes belongs to root".to_owned(),
        found => found.replace('\n', "; "),
    };
    Err(CantIsolate::Hole { what })
}

/// Written by a process that is root for the kernel.
fn is_roots(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).is_ok_and(|file| file.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bubblewrap_says_names_the_cause_and_what_mends_it() {
        let cause = |why: &str| {
            CantIsolate::of(&SandboxError::Broken {
                why: why.to_owned(),
            })
        };
        let refused = [
            "bwrap: setting up uid map: Permission denied",
            "bwrap: No permissions to create new namespace, likely because the kernel does not allow",
            "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
        ];
        for words in refused {
            let cause = cause(words);
            assert!(
                matches!(cause, CantIsolate::NoUserNamespaces { .. }),
                "{cause}"
            );
        }
        let proc = cause("bwrap: Can't mount proc on /newroot/proc: Operation not permitted");
        assert!(proc.mend().contains("unmask=ALL"), "{}", proc.mend());
        let old = cause("bwrap: Unknown option --ro-bind-fd");
        assert!(matches!(old, CantIsolate::OldBubblewrap { .. }), "{old}");
        let kernel = cause("sandbox-init: Landlock: the kernel has no Landlock");
        assert!(matches!(kernel, CantIsolate::NoLandlock { .. }), "{kernel}");
        let other = cause("something new");
        assert!(other.to_string().contains("something new"), "{other}");
    }
}
