//! PostgreSQL's programs, and the user that they accept: the kit's one door to them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail};

/// Where Debian puts each version's programs.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs of one version, run as one user.
#[derive(Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    /// The words before a program's name.
    prefix: Vec<String>,
}

impl Programs {
    /// The newest programs, run as a user who owns `folder`: PostgreSQL refuses to be root, so
    /// root becomes `nobody`. They end when this process ends.
    pub(super) fn for_folder(folder: &Path) -> anyhow::Result<Self> {
        // SIGQUIT is PostgreSQL's immediate shutdown, which leaves no shared memory behind.
        let guard = ["--pdeathsig", "QUIT"].map(str::to_owned);
        let mut prefix = vec!["setpriv".to_owned()];
        if nix::unistd::geteuid().is_root() {
            let nobody =
                nix::unistd::User::from_name("nobody")?.context("there is no user `nobody`")?;
            nix::unistd::chown(folder, Some(nobody.uid), Some(nobody.gid))?;
            prefix.push(format!("--reuid={}", nobody.uid));
            prefix.push(format!("--regid={}", nobody.gid));
            prefix.push("--clear-groups".to_owned());
        }
        // The signal is set last: changing the user clears it.
        prefix.extend(guard);
        Ok(Self {
            folder: newest()?,
            prefix,
        })
    }

    /// A word for this version and user, for names of files.
    pub(super) fn version(&self) -> String {
        let folder = self.folder.display().to_string();
        let plain = folder.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        format!("{}-{}", plain.trim_matches('-'), nix::unistd::geteuid())
    }

    /// A program to be run.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = command(&self.prefix[0]);
        command
            .args(&self.prefix[1..])
            .arg(self.folder.join(program))
            .env_remove("PGDATA");
        command
    }
}

/// A program of the host, as this process's user.
pub(super) fn command(program: &str) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test kit's door to database servers"
    )]
    let command = Command::new(program);
    command
}

/// Runs a program to its end, which has to be a good one.
pub(super) fn finish(mut command: Command) -> anyhow::Result<Output> {
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("can't run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {}", said.trim());
    }
    Ok(output)
}

/// The folder of the newest installed version.
fn newest() -> anyhow::Result<PathBuf> {
    let installed = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let debian = installed.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    let mut debian: Vec<_> = debian.filter(|(_, bin)| complete(bin)).collect();
    debian.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian
        .pop()
        .map(|(_, bin)| bin)
        .or_else(|| std::env::split_paths(&path).find(|bin| complete(bin)))
        .with_context(|| {
            format!(
                "PostgreSQL is not installed below {DEBIAN} nor in PATH: run `make setup`, or set {}",
                super::SERVER
            )
        })
}

fn complete(bin: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| bin.join(program).is_file())
}
