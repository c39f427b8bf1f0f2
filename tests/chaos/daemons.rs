//! Agents as real processes: they clone, draft, run tests, push and open pull requests. Each has its
//! workspaces on a small disk of its own, where the host lets a process have one.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use patchfleet_testkit::process::{Process, Start};
use serde_json::json;

use crate::world::KEY;

/// Begins the names of such agents.
pub(crate) const NAME: &str = "agent-";
/// Size of the disk: some hundred times what the sample needs.
const DISK: &str = "64m";
/// Mounts the disk at the first argument and becomes the program that the others name.
const ON_DISK: &str = "mount -t tmpfs -o size=$0 none \"$1\" && shift && exec \"$@\"";

/// An agent's process, or what is needed to start it.
pub(crate) struct Daemon {
    name: String,
    folder: PathBuf,
    /// It has a disk of its own while it runs; gone with the process.
    has_disk: bool,
    process: Option<Process>,
}

impl Daemon {
    pub(crate) fn start(folder: &Path, fleet: SocketAddr, (number, has_disk): (u64, bool)) -> Self {
        let name = format!("{NAME}{number}");
        let mut daemon = Self {
            folder: folder.to_owned(),
            has_disk,
            process: None,
            name,
        };
        std::fs::create_dir_all(daemon.disk()).unwrap();
        let tree = json!({"agents": [{
            "id": daemon.name,
            "type": "general",
            "coordinator": {"url": format!("http://{fleet}"), "key": {"env": "CHAOS_KEY"}},
            "workspace": {"root": daemon.disk()},
            "draft": {"mode": "cli", "command": ["git", "apply", answer()]},
            "sandbox": {"read_only": [answer()]},
        }]});
        std::fs::write(daemon.config(), toml::to_string(&tree).unwrap()).unwrap();
        daemon.begin();
        daemon
    }

    fn disk(&self) -> PathBuf {
        self.folder.join(format!("{}-disk", self.name))
    }

    fn config(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }

    /// Starts the process again, after it was taken.
    pub(crate) fn begin(&mut self) {
        let program = env!("CARGO_BIN_EXE_patchfleet");
        let config = self.config().display().to_string();
        let args = ["agent", "--config", &config].map(str::to_owned);
        let (program, args) = if self.has_disk {
            let disk = self.disk().display().to_string();
            let mut all = OWN_MOUNTS.map(str::to_owned).to_vec();
            all.extend(["sh", "-c", ON_DISK, DISK, &disk, program].map(str::to_owned));
            all.extend(args);
            (Path::new("unshare"), all)
        } else {
            (Path::new(program), args.into())
        };
        let start = Start {
            program,
            name: &self.name,
            args,
            secrets: vec![("CHAOS_KEY", KEY.to_owned())],
            folder: &self.folder,
        };
        self.process = Some(Process::start(start).unwrap());
    }

    /// The process, which is to be ended.
    pub(crate) fn take(&mut self) -> Process {
        self.process.take().unwrap()
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// Fills the disk to its last byte; what was written for that, to be removed. Nothing when it
    /// has no disk of its own.
    pub(crate) fn fill_disk(&self) -> Option<PathBuf> {
        let disk = self.disk();
        let inside = format!("/proc/{}/root{}", self.process().pid()?, disk.display());
        let filler = Path::new(&inside).join("filler");
        if !self.has_disk {
            return None;
        }
        let mut file = File::create(&filler).ok()?;
        let piece = vec![0; 64 * 1024];
        let full = loop {
            if let Err(error) = file.write_all(&piece) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        Some(filler)
    }
}

/// A process of its own user and mounts, in which it may mount.
const OWN_MOUNTS: [&str; 3] = ["--user", "--map-root-user", "--mount"];

/// True when this host lets a process have mounts of its own.
#[expect(clippy::disallowed_methods, reason = "asks the host, once")]
pub(crate) fn may_mount() -> bool {
    let asked = std::process::Command::new("unshare")
        .args(OWN_MOUNTS)
        .arg("true")
        .output();
    asked.is_ok_and(|answer| answer.status.success())
}

/// A patch that the sample's tests are content with.
fn answer() -> String {
    sample("answers/1.diff").display().to_string()
}

/// Something of the test kit's sample.
pub(crate) fn sample(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/kit/sample")
        .join(path)
        .canonicalize()
        .unwrap()
}
