//! This very program as a container sees it, with the loader and the libraries of the host: an image
//! needs none of them, nor the C library that it was built for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::process;
use crate::sandbox::plan::{Mount, OWN, STAGE};

/// Why its files are shown.
const WHY: &str = "this program, as the first process";

/// What has to be shown, and the words that start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) mounts: Vec<Mount>,
    pub(super) words: Vec<String>,
}

impl Program {
    /// This program, by what of it is loaded. A file that was replaced meanwhile is copied to the
    /// folder from memory.
    pub(super) fn find(folder: &Path) -> io::Result<Self> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        Ok(Self::of(&file(folder)?, &libraries(&maps)))
    }

    fn of(file: &Path, libraries: &[PathBuf]) -> Self {
        let mut mounts = vec![shown(file, STAGE.to_owned())];
        let mut words = Vec::new();
        let folder = format!("{OWN}/lib");
        for library in libraries {
            let Some(name) = library.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let target = format!("{folder}/{name}");
            if name.starts_with("ld-") {
                words = [&target, "--library-path", &folder]
                    .map(str::to_owned)
                    .into();
            }
            mounts.push(shown(library, target));
        }
        // Without a loader it is linked statically.
        words.push(STAGE.to_owned());
        Self { mounts, words }
    }
}

fn shown(source: &Path, target: String) -> Mount {
    Mount {
        source: source.to_owned(),
        ..Mount::read_only(target, WHY)
    }
}

/// The files of shared libraries and of their loader among what is mapped.
fn libraries(maps: &str) -> Vec<PathBuf> {
    let paths = maps.lines().filter_map(|line| {
        let path = Path::new(&line[line.find('/')?..]);
        let name = path.file_name()?.to_str()?;
        let is_library = name.split('.').any(|part| part == "so");
        is_library.then(|| path.to_owned())
    });
    paths.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The program's file, as it was when this process began.
fn file(folder: &Path) -> io::Result<PathBuf> {
    let path = process::own_file()?;
    let running = Path::new("/proc/self/exe");
    let is_other = path != std::env::current_exe()?;
    if is_other || is_same(&path, running) {
        return Ok(path);
    }
    let copy = folder.join("program");
    fs::copy(running, &copy)?;
    Ok(copy)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let number = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    number(one).is_some_and(|it| Some(it) == number(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_started_by_the_hosts_loader_with_the_hosts_libraries() {
        let maps = "\
            55d0-55d1 r--p 00000000 fe:00 1 /usr/bin/patchfleet\n\
            7f00-7f01 r--p 00000000 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
            7f01-7f02 r-xp 00001000 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6\n\
            7f03-7f04 rw-p 00000000 00:00 0\n\
            7f05-7f06 r-xp 00000000 fe:00 3 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2\n\
            7fff-8000 rw-p 00000000 00:00 0 [stack]\n";
        let program = Program::of(Path::new("/usr/bin/patchfleet"), &libraries(maps));
        assert_eq!(
            program.words.join(" "),
            "/run/patchfleet/lib/ld-linux-x86-64.so.2 --library-path /run/patchfleet/lib \
             /run/patchfleet/sandbox"
        );
        let targets = program.mounts.iter().map(|it| it.target.to_str().unwrap());
        assert_eq!(
            targets.collect::<Vec<_>>(),
            [
                "/run/patchfleet/sandbox",
                "/run/patchfleet/lib/ld-linux-x86-64.so.2",
                "/run/patchfleet/lib/libc.so.6",
            ]
        );
    }

    #[test]
    fn a_program_without_libraries_starts_by_itself() {
        let program = Program::of(Path::new("/opt/patchfleet"), &[]);
        assert_eq!(program.words, ["/run/patchfleet/sandbox"]);
    }
}
