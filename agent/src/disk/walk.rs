//! Trees of any depth, walked with few descriptors and without recursion.
//!
//! Untrusted code may have nested folders deeper than a stack, a path or the descriptors of a
//! process reach. A cursor has one folder open. It goes up by `..`, and only to the folder that it
//! came from, so that one that was moved meanwhile leads nowhere else.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::Folder;

/// How much of a path an error names; untrusted code can make them as long as it likes.
const PATH_LENGTH: usize = 200;

/// A place in a tree of folders.
pub(super) struct Cursor {
    here: Folder,
    /// Device and inode of the folders above, the top first.
    above: Vec<(u64, u64)>,
}

impl Cursor {
    pub(super) const fn new(top: Folder) -> Self {
        Self {
            here: top,
            above: Vec::new(),
        }
    }

    pub(super) const fn here(&self) -> &Folder {
        &self.here
    }

    /// Goes into a folder that was opened in this one.
    pub(super) fn enter(&mut self, opened: Folder) -> io::Result<()> {
        self.above.push(self.here.identity()?);
        self.here = opened;
        Ok(())
    }

    /// Goes up, and gives the folder that was left.
    pub(super) fn leave(&mut self) -> io::Result<Folder> {
        let parent = self.here.parent()?;
        if self.above.pop() != Some(parent.identity()?) {
            return Err(io::Error::other("a folder was moved while it was read"));
        }
        Ok(std::mem::replace(&mut self.here, parent))
    }
}

/// Goes through a folder and those below it. `inside` is called in each, with its path below the
/// first one, and says which folders in it are gone into; `open` opens them, or leaves them out.
///
/// # Errors
/// The first one of either, with the path.
pub(crate) fn walk(
    top: Folder,
    open: impl Fn(&Folder, &OsStr) -> io::Result<Option<Folder>>,
    mut inside: impl FnMut(&Folder, &Path) -> io::Result<Vec<OsString>>,
) -> io::Result<()> {
    let mut path = PathBuf::new();
    let mut todo = vec![inside(&top, &path)?];
    let mut cursor = Cursor::new(top);
    while let Some(names) = todo.last_mut() {
        let Some(name) = names.pop() else {
            todo.pop();
            if !todo.is_empty() {
                cursor.leave().map_err(|error| at(&path, &error))?;
                path.pop();
            }
            continue;
        };
        let opened = open(cursor.here(), &name);
        let Some(folder) = opened.map_err(|error| at(&path.join(&name), &error))? else {
            continue;
        };
        cursor.enter(folder)?;
        path.push(&name);
        let found = inside(cursor.here(), &path);
        todo.push(found.map_err(|error| at(&path, &error))?);
    }
    Ok(())
}

/// An error that names where it happened.
pub(super) fn at(path: &Path, error: &io::Error) -> io::Error {
    let text = path.to_string_lossy();
    let named: String = text.chars().take(PATH_LENGTH).collect();
    let rest = if named.len() < text.len() { "…" } else { "" };
    io::Error::new(error.kind(), format!("`{named}{rest}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_no_path_reaches_is_walked_to_its_end_and_back() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(root.path()).unwrap();
        for _ in 0..3000 {
            folder = folder.make("a".as_ref()).unwrap();
        }
        folder.make("last".as_ref()).unwrap();
        Folder::open(root.path())
            .unwrap()
            .make("z".as_ref())
            .unwrap();
        let mut seen = Vec::new();
        let top = Folder::open(root.path()).unwrap();
        let open = |folder: &Folder, name: &OsStr| folder.look_into(name).map(Some);
        walk(top, open, |folder, path| {
            if path.ends_with("last") || path.ends_with("z") {
                seen.push(path.iter().count());
            }
            folder.names()
        })
        .unwrap();
        assert_eq!(seen, [1, 3001]);
        crate::disk::remove_all(&root.path().join("a")).unwrap();
    }

    #[test]
    fn a_folder_that_was_moved_meanwhile_leads_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::new(Folder::open(root.path()).unwrap());
        for name in ["a", "b"] {
            let made = cursor.here().make(name.as_ref()).unwrap();
            cursor.enter(made).unwrap();
        }
        std::fs::create_dir(root.path().join("other")).unwrap();
        std::fs::rename(root.path().join("a/b"), root.path().join("other/b")).unwrap();
        let error = cursor.leave().map(drop).unwrap_err();
        assert!(error.to_string().contains("moved"), "{error}");
    }

    #[test]
    fn an_error_names_the_folder_and_never_a_path_without_end() {
        let error = at(Path::new(&"long/".repeat(100)), &io::Error::other("why"));
        let text = error.to_string();
        assert!(text.starts_with("`long/") && text.ends_with("…`: why"));
        assert!(text.len() < PATH_LENGTH + 20, "{text}");
    }
}
