//! Upper layers of overlays, made readable without the layers below.
//!
//! A folder of a layer below is moved by a note: the upper layer has a folder at the new place that
//! says where it comes from, and what is in it is still seen through it
//! (`Documentation/filesystems/overlayfs.rst`, `redirect_dir`). Only the kernel writes such notes.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::{Folder, Kind, copy, walk};

/// How deep a folder is that is put together of several layers; none of a repository is so deep.
const MAX_DEPTH: usize = 200;

/// Copies what is seen through redirected folders of an upper layer up into them, so that the layer
/// can be read without those below, which are given from the top.
pub(crate) fn resolve_redirects(upper: &Path, below: &[PathBuf]) -> io::Result<()> {
    let layers = below.iter().map(|path| Folder::open(path));
    let layers = layers.collect::<io::Result<Vec<_>>>()?;
    let mut moved: Vec<(PathBuf, PathBuf)> = Vec::new();
    let open = |folder: &Folder, name: &OsStr| folder.enter(name).map(Some);
    walk(Folder::open(upper)?, open, |folder, path| {
        if let Some(note) = folder.moved_from()? {
            let origin = origin(&moved, path, Path::new(&note));
            for layer in &layers {
                if let Some(layer) = below_it(layer, &origin)? {
                    merge(&layer, folder, 0)?;
                }
            }
            folder.make_opaque()?;
            moved.push((path.to_owned(), origin));
        }
        let mut folders = Vec::new();
        for name in folder.names()? {
            if folder
                .stat(&name)?
                .is_some_and(|it| it.kind == Kind::Folder)
            {
                folders.push(name);
            }
        }
        Ok(folders)
    })
}

/// Where in the layers below a folder comes from: a note is a path from their roots, or a name beside
/// the folder.
fn origin(moved: &[(PathBuf, PathBuf)], path: &Path, note: &Path) -> PathBuf {
    if let Ok(from_root) = note.strip_prefix("/") {
        return from_root.to_owned();
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    // Of folders that were moved, the innermost one counts, which is the last one that was met.
    let around = moved.iter().rev().find_map(|(new, old)| {
        let rest = parent.strip_prefix(new).ok()?;
        Some(old.join(rest))
    });
    around.unwrap_or_else(|| parent.to_owned()).join(note)
}

/// The folder at a path below another one, when there is one.
fn below_it(top: &Folder, path: &Path) -> io::Result<Option<Folder>> {
    let mut folder = top.look_into(OsStr::new("."))?;
    for part in path {
        match folder.stat(part)? {
            Some(found) if found.kind == Kind::Folder => folder = folder.for_reading(part)?,
            _ => return Ok(None),
        }
    }
    Ok(Some(folder))
}

/// Copies what a folder does not have from one that is seen through it.
fn merge(below: &Folder, folder: &Folder, depth: usize) -> io::Result<()> {
    if depth == MAX_DEPTH {
        return Err(io::Error::other("a folder that was moved lies too deep"));
    }
    for name in below.names()? {
        let is_folder = below.stat(&name)?.is_some_and(|it| it.kind == Kind::Folder);
        match folder.stat(&name)?.map(|found| found.kind) {
            None => copy((below, &name), (folder, &name))?,
            Some(Kind::Folder) if is_folder => {
                let inner = folder.enter(&name)?;
                if !inner.is_opaque()? && inner.moved_from()?.is_none() {
                    merge(&below.for_reading(&name)?, &inner, depth + 1)?;
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_a_path_from_the_root_or_a_name_beside_the_folder() {
        let moved = [
            ("new".into(), "old".into()),
            ("new/inner".into(), "elsewhere/it".into()),
        ];
        for (path, note, expected) in [
            ("a/b", "/x/y", "x/y"),
            ("a/b", "c", "a/c"),
            ("b", "c", "c"),
            ("new/b", "c", "old/c"),
            ("new/sub/b", "c", "old/sub/c"),
            ("new/inner/b", "c", "elsewhere/it/c"),
            ("newer/b", "c", "newer/c"),
        ] {
            let found = origin(&moved, Path::new(path), Path::new(note));
            assert_eq!(found, Path::new(expected), "{path} {note}");
        }
    }
}
