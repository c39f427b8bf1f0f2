//! Toolchains outside of `/usr`: in homes (rustup, pyenv, nvm, pipx, uv) and below `/opt`.
//!
//! They are found by what programs resolve to: each hop of a chain of links, and the interpreter
//! that a script names. Of a home only the toolchain's own folders are shown, never the home.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use super::plan::Mount;
use super::system;
use crate::process::find_program;

/// Hops of links and interpreters that are followed.
const MOST_HOPS: usize = 16;
/// Folders of homes that hold programs of many owners: only the folder of programs itself is
/// shown, because secrets may be beside it (as `credentials.toml` in `.cargo`).
const SHARED_PREFIXES: &[&str] = &[".cargo", ".local"];

/// The mounts that make these programs work, with the program that wants each.
pub(super) fn find<'a>(programs: impl IntoIterator<Item = &'a str>) -> Vec<Mount> {
    let mut found = BTreeMap::new();
    for program in programs {
        let path = match Path::new(program) {
            path if path.is_absolute() => Some(path.to_owned()),
            _ if program.contains('/') => None,
            _ => find_program(program),
        };
        if let Some(path) = path.filter(|path| path.symlink_metadata().is_ok()) {
            follow(&path, program, &mut found);
        }
    }
    rustup(&mut found);
    let mounts = found.into_iter();
    mounts
        .map(|(path, program)| Mount::read_only(path, format!("`{program}` is there")))
        .collect()
}

/// Every hop from a program to the file that runs, and on to its interpreter.
fn follow(program: &Path, name: &str, found: &mut BTreeMap<PathBuf, String>) {
    let mut path = program.to_owned();
    for _ in 0..MOST_HOPS {
        for folder in folders(&path) {
            found.entry(folder).or_insert_with(|| name.to_owned());
        }
        let next = match fs::read_link(&path) {
            Ok(target) => Some(path.parent().unwrap_or(Path::new("/")).join(target)),
            Err(_) => interpreter(&path),
        };
        let Some(next) = next else { return };
        path = without_dots(&next);
    }
}

/// What has to be shown so that a program at this path works; nothing when `/usr` shows it.
fn folders(path: &Path) -> Vec<PathBuf> {
    let real = path.parent().and_then(|it| it.canonicalize().ok());
    let real = real.map(|folder| folder.join(path.file_name().unwrap_or_default()));
    let mut both = vec![path.to_owned()];
    both.extend(real.filter(|real| real != path));
    let hidden = both.into_iter().filter(|path| !is_shown(path));
    hidden.filter_map(|path| folder(&path)).collect()
}

fn is_shown(path: &Path) -> bool {
    [
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib64",
        "/nix/store",
        "/gnu/store",
    ]
    .iter()
    .any(|folder| path.starts_with(folder))
}

/// The folder that a program belongs to, or the program itself where nothing is recognized.
fn folder(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    let name = parent.file_name()?;
    if let Some(modules) = around(path, "node_modules") {
        return Some(modules);
    }
    if name == "shims" {
        // pyenv, rbenv, asdf: the shims ask the rest of the folder which version is meant.
        let manager = parent.parent()?;
        return Some(if is_private(manager) { parent } else { manager }.to_owned());
    }
    if name != "bin" {
        return Some(path.to_owned());
    }
    let prefix = parent.parent()?;
    let is_shared = prefix
        .file_name()
        .is_some_and(|name| SHARED_PREFIXES.iter().any(|it| OsStr::new(it) == name));
    if is_shared || is_private(prefix) {
        return Some(parent.to_owned());
    }
    // The versions of one manager lie side by side and refer to each other.
    Some(around_hidden(prefix).unwrap_or_else(|| prefix.to_owned()))
}

/// A folder that must not be shown whole: a home, or one of the system's.
fn is_private(folder: &Path) -> bool {
    system::is_home(folder) || system::is_too_wide(folder)
}

/// `~/.pyenv` for `~/.pyenv/versions/3.12.1`: the hidden folder of a manager of versions.
fn around_hidden(prefix: &Path) -> Option<PathBuf> {
    const MANAGERS: &[&str] = &[
        ".pyenv", ".nvm", ".rbenv", ".asdf", ".sdkman", ".volta", ".goenv",
    ];
    MANAGERS.iter().find_map(|name| around(prefix, name))
}

/// The path up to a part of that name.
fn around(path: &Path, name: &str) -> Option<PathBuf> {
    let mut so_far = PathBuf::new();
    for part in path.components() {
        so_far.push(part);
        if part == Component::Normal(OsStr::new(name)) {
            return Some(so_far);
        }
    }
    None
}

/// The program that a script names in its first line.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut head = [0; 256];
    let length = fs::File::open(path).ok()?.read(&mut head).ok()?;
    let text = std::str::from_utf8(&head[..length]).ok()?;
    let line = text.strip_prefix("#!")?.lines().next()?;
    let mut words = line.split_whitespace();
    let program = words.next()?;
    if program.ends_with("/env") {
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        return find_program(name);
    }
    Some(PathBuf::from(program))
}

/// `rustup` finds its toolchains through a folder beside the one with its programs.
fn rustup(found: &mut BTreeMap<PathBuf, String>) {
    if let Some(folder) = rustup_home() {
        found.entry(folder).or_insert_with(|| "rustup".to_owned());
    }
}

/// Where rustup keeps toolchains; none without rustup.
pub(super) fn rustup_home() -> Option<PathBuf> {
    let named = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let usual = || Some(Path::new(&std::env::var_os("HOME")?).join(".rustup"));
    named.or_else(usual).filter(|folder| folder.is_dir())
}

/// The path with `.` and `..` taken out as text, as the links of toolchains mean them.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
