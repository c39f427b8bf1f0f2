//! Which file a program's name means, and the wrapper that sets limits.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use super::{Limits, is_executable};

/// Where programs are looked for when the agent itself was started without `PATH`.
const FALLBACK_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The agent's own `PATH`.
pub(super) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| FALLBACK_PATH.into())
}

/// Finds a program on the agent's `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_on(OsStr::new(name), &search_path())
}

fn find_on(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

/// The file that is meant: a bare name through the child's `PATH`, a path from the child's folder.
pub(super) fn resolve(
    program: &OsStr,
    cwd: &Path,
    env: &[(OsString, OsString)],
) -> Option<PathBuf> {
    if Path::new(program).components().count() > 1 || Path::new(program).is_absolute() {
        let path = cwd.join(program);
        return is_executable(&path).then_some(path);
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH");
    find_on(
        program,
        path.map_or(OsStr::new(FALLBACK_PATH), |(_, path)| path),
    )
}

/// What to start, and the arguments before the child's own.
pub(super) fn with_limits(program: PathBuf, limits: Option<Limits>) -> (PathBuf, Vec<OsString>) {
    let (Some(limits), Some(prlimit)) = (limits, find_program("prlimit")) else {
        return (program, Vec::new());
    };
    let fsize = lower(Resource::RLIMIT_FSIZE, limits.file_size);
    let nofile = lower(Resource::RLIMIT_NOFILE, limits.open_files);
    let leading = vec![
        "--core=0".into(),
        format!("--fsize={fsize}").into(),
        format!("--nofile={nofile}").into(),
        "--".into(),
        program.into_os_string(),
    ];
    (prlimit, leading)
}

/// A limit that may be set without privileges: never above the agent's own.
fn lower(resource: Resource, wanted: u64) -> u64 {
    getrlimit(resource).map_or(wanted, |(_, hard)| wanted.min(hard))
}
