//! Which file a program's name means.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::is_executable;

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
