//! Work trees that untrusted code was in: cleared before a check-out, looked through before a
//! snapshot.
//!
//! Git enters every repository that lies in a work tree and obeys what is configured there, so a
//! work tree is never given to git before nested repositories are gone. No link is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::EntryKind;
use crate::disk::{is_absent, open_up, remove_all};

/// Every path of a tree, as git has it.
pub(super) type Paths = BTreeMap<Vec<u8>, EntryKind>;

/// Something that no tree can hold, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Strange {
    pub(super) path: Vec<u8>,
    pub(super) what: &'static str,
}

const GIT_FOLDER: &str = "is a git repository of its own, or named like one";
const SPECIAL: &str = "is neither a file nor a folder nor a link";

/// Takes away all that is not in the tree: ignored files, nested repositories and what lies in
/// the folders of submodules too. What stays may differ from the tree in content alone.
pub(super) fn clear(root: &Path, kept: &Paths) -> io::Result<()> {
    match fs::symlink_metadata(root) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            fs::remove_file(root)?;
            fs::create_dir(root)?;
        }
        Err(error) if is_absent(&error) => fs::create_dir_all(root)?,
        Err(error) => return Err(error),
    }
    clear_folder(root, &[], kept)
}

fn clear_folder(folder: &Path, prefix: &[u8], kept: &Paths) -> io::Result<()> {
    open_up(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = [prefix, entry.file_name().as_bytes()].concat();
        let below = [path.as_slice(), b"/"].concat();
        match kept.get(&path) {
            Some(EntryKind::File | EntryKind::Executable) if kind.is_file() => {}
            Some(EntryKind::Symlink) if kind.is_symlink() => {}
            Some(EntryKind::Submodule) if kind.is_dir() => {
                clear_folder(&entry.path(), &below, &Paths::new())?;
            }
            None if kind.is_dir() && is_folder_of(kept, &below) => {
                clear_folder(&entry.path(), &below, kept)?;
            }
            _ => remove_all(&entry.path())?,
        }
    }
    Ok(())
}

fn is_folder_of(kept: &Paths, below: &[u8]) -> bool {
    let next = kept.range(below.to_vec()..).next();
    next.is_some_and(|(path, _)| path.starts_with(below))
}

/// Makes a work tree fit for git: nested repositories are taken away, submodules are as empty as
/// they were checked out, and all else can be read. Gives what no tree can hold.
pub(super) fn prepare(root: &Path, submodules: &BTreeSet<Vec<u8>>) -> io::Result<Vec<Strange>> {
    let mut strange = Vec::new();
    prepare_folder(root, &[], submodules, &mut strange)?;
    for path in submodules {
        make_folder(root, path)?;
    }
    Ok(strange)
}

fn prepare_folder(
    folder: &Path,
    prefix: &[u8],
    submodules: &BTreeSet<Vec<u8>>,
    strange: &mut Vec<Strange>,
) -> io::Result<()> {
    open_up(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let path = [prefix, name.as_bytes()].concat();
        if prefix.is_empty() && name == ".git" {
            // The clone's own: git is given another one and passes it over.
            continue;
        }
        if submodules.contains(&path) && kind.is_dir() {
            clear_folder(&entry.path(), &[], &Paths::new())?;
        } else if is_git_name(&name) {
            remove_all(&entry.path())?;
            let what = GIT_FOLDER;
            strange.push(Strange { path, what });
        } else if kind.is_dir() {
            let below = [path.as_slice(), b"/"].concat();
            prepare_folder(&entry.path(), &below, submodules, strange)?;
        } else if kind.is_file() {
            make_readable(&entry)?;
        } else if !kind.is_symlink() {
            let what = SPECIAL;
            strange.push(Strange { path, what });
        }
    }
    Ok(())
}

fn make_readable(file: &fs::DirEntry) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o400 == 0 {
        fs::set_permissions(file.path(), Permissions::from_mode(mode | 0o600))?;
    }
    Ok(())
}

/// Makes the folder of a submodule that was deleted, unless something else is in its place.
fn make_folder(root: &Path, path: &[u8]) -> io::Result<()> {
    let mut place = root.to_owned();
    for part in Path::new(OsStr::from_bytes(path)) {
        place.push(part);
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(()),
            Err(_) => fs::create_dir(&place)?,
        }
    }
    Ok(())
}

/// True for `.git` and for what some file system takes for it: other cases, characters that are
/// passed over, NTFS's short name, streams and ends.
fn is_git_name(name: &OsStr) -> bool {
    let ignorable = |letter: &char| {
        matches!(letter, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{206a}'..='\u{206f}' | '\u{feff}')
    };
    let name = name.to_string_lossy().to_lowercase();
    let plain: String = name.chars().filter(|letter| !ignorable(letter)).collect();
    plain.split('\\').any(|part| {
        let stem = part.split(':').next().unwrap_or(part);
        matches!(stem.trim_end_matches(['.', ' ']), ".git" | "git~1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_file_system_takes_for_a_git_folder_is_named_like_one() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "a\\.git",
        ] {
            assert!(is_git_name(OsStr::new(name)), "{name:?}");
        }
        for name in [".gitignore", "git", ".git~1", "a.git", ".github", "git~10"] {
            assert!(!is_git_name(OsStr::new(name)), "{name:?}");
        }
    }
}
