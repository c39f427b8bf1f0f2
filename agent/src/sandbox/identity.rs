//! What a sandbox is made of, as far as it decides what a command makes in it.
//!
//! For keys of caches: where one of these lines differs, a result is not used again. Files are told
//! by their size and time, packages of the system by the state of their database; what neither
//! shows is why no result is used for long.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Isolating, Sandbox, toolchains};
use crate::process::find_program;

/// What says which packages a system has, by distribution.
const PACKAGES: &[&str] = &[
    "/var/lib/dpkg/status",
    "/lib/apk/db/installed",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/pacman/local",
    "/run/current-system",
    "/usr/local/lib",
    "/usr/local/lib/node_modules",
];
/// How deep folders of toolchains are looked into: the names of their versions are there.
const DEPTH: usize = 2;

impl Sandbox {
    /// Lines that differ where a command might make something else. `programs` are looked at
    /// besides those that are allowed.
    pub fn identity(&self, programs: &[String]) -> Vec<String> {
        let mut lines = vec![
            format!("patchfleet {}", env!("CARGO_PKG_VERSION")),
            format!("backend {}", self.backend()),
            format!("architecture {}", std::env::consts::ARCH),
        ];
        let folders = match &self.backend {
            Isolating::Container(container) => {
                lines.extend(container.identity());
                container.shown().to_vec()
            }
            Isolating::Namespace(namespace) => {
                lines.extend(self.of_host(programs));
                lines.push(namespace.user());
                namespace.shown()
            }
            Isolating::Nothing => {
                lines.extend(self.of_host(programs));
                toolchains::rustup_home().into_iter().collect()
            }
        };
        for folder in folders {
            list(&folder, DEPTH, &mut lines);
        }
        lines.sort();
        lines.dedup();
        lines
    }

    /// Programs and packages of the host, where its system is the sandbox's.
    fn of_host(&self, programs: &[String]) -> Vec<String> {
        let release = fs::read_to_string("/etc/os-release");
        let mut lines = vec![format!("release {}", release.unwrap_or_default())];
        for program in programs.iter().chain(&self.programs) {
            lines.push(match found(program) {
                None => format!("program {program}: none"),
                Some(path) => format!("program {program}: {}", real(&path)),
            });
        }
        for path in PACKAGES.iter().map(Path::new) {
            lines.push(format!("packages {}", stamp(path)));
        }
        let libraries = fs::read_dir("/usr/local/lib");
        for entry in libraries.into_iter().flatten().flatten() {
            for folder in ["dist-packages", "site-packages"] {
                lines.extend(stamped(&entry.path().join(folder)));
            }
        }
        lines
    }
}

/// The file of a program; nothing for one of the repository, which its tree decides.
fn found(program: &str) -> Option<PathBuf> {
    match Path::new(program) {
        path if path.is_absolute() => Some(path.to_owned()),
        _ if program.contains('/') => None,
        _ => find_program(program),
    }
}

fn real(path: &Path) -> String {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    format!("{} {}", path.display(), stamp(&real))
}

fn stamp(path: &Path) -> String {
    stamped(path).unwrap_or_else(|| format!("{}: none", path.display()))
}

fn stamped(path: &Path) -> Option<String> {
    let found = fs::symlink_metadata(path).ok()?;
    Some(format!(
        "{} {} {} {}.{}",
        path.display(),
        found.mode(),
        found.size(),
        found.mtime(),
        found.mtime_nsec()
    ))
}

fn list(path: &Path, depth: usize, lines: &mut Vec<String>) {
    lines.push(format!("toolchain {}", stamp(path)));
    if depth == 0 || path.is_symlink() {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        list(&entry.path(), depth - 1, lines);
    }
}
