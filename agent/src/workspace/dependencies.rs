//! What the setup phase installed: kept apart, and copied to each draft and each test run.
//!
//! Copies, because whoever runs may change what it is given, and the next one must not meet that.
//! All of this happens while nothing untrusted runs; what a change made of the work tree's folders
//! is entered by handles nevertheless, so that no link of it leads a copy elsewhere.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_lock::FileLock;
use crate::disk::{self, Folder, Kind, is_absent};
use crate::git::InstalledFiles;

/// What was installed; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Dependencies(Option<Arc<Installed>>);

#[derive(Debug)]
struct Installed {
    /// Has `home`, in which it was installed, and `tree` with the rest, at the paths of the work
    /// tree.
    folder: PathBuf,
    /// Paths that the base does not have, each the topmost one.
    paths: Vec<PathBuf>,
    /// Keeps a folder that tasks share from being deleted.
    _in_use: Option<FileLock>,
}

impl Dependencies {
    /// Moves all that the base does not have out of a work tree, into a folder that also has the
    /// home. `tracked` are the paths of the base.
    pub(super) fn collect<'a>(
        work_tree: &Path,
        tracked: impl IntoIterator<Item = &'a str>,
        folder: &Path,
    ) -> io::Result<Self> {
        let mut base = Base::default();
        for path in tracked {
            base.files.insert(path.into());
            base.folders
                .extend(Path::new(path).ancestors().skip(1).map(Path::to_owned));
        }
        let mut paths = Vec::new();
        base.additions(work_tree, Path::new(""), &mut paths)?;
        let tree = folder.join("tree");
        disk::remove_all(&tree)?;
        for path in &paths {
            let (from, to) = (work_tree.join(path), tree.join(path));
            fs::create_dir_all(to.parent().unwrap_or(&tree))?;
            if fs::symlink_metadata(&from)?.is_dir() {
                // A folder can be moved by who may write it.
                disk::open_up(&from)?;
            }
            fs::rename(from, to)?;
        }
        Ok(Self::at(folder, paths, None))
    }

    /// What was installed into a folder before, and the lock that keeps the folder there.
    pub(super) fn at(folder: &Path, paths: Vec<PathBuf>, in_use: Option<FileLock>) -> Self {
        Self(Some(Arc::new(Installed {
            folder: folder.to_owned(),
            paths,
            _in_use: in_use,
        })))
    }

    /// The folder that it lies in, and the topmost paths in `tree` there; nothing when nothing was
    /// installed.
    pub(super) fn place(&self) -> Option<(&Path, &[PathBuf])> {
        let installed = self.0.as_ref()?;
        Some((&installed.folder, &installed.paths))
    }

    /// Makes a home a copy of the one that was installed in, with nothing of an earlier run, and puts
    /// copies of the rest into a work tree, beside the files that a change has in the same folders;
    /// which files were put there.
    pub(super) fn put(&self, work_tree: &Path, home: &Path) -> io::Result<InstalledFiles> {
        disk::remove_all(home)?;
        let Some(installed) = &self.0 else {
            return Ok(InstalledFiles::default());
        };
        fs::create_dir_all(home.parent().unwrap_or(home))?;
        disk::copy_tree(&installed.folder.join("home"), home)?;
        let mut paths = BTreeSet::new();
        for path in &installed.paths {
            if let Some((folder, name)) = parent(work_tree, path)? {
                installed.put_beside(work_tree, (path, &folder, name), &mut paths)?;
            }
        }
        let originals = installed.tree();
        Ok(InstalledFiles { originals, paths })
    }
}

impl Installed {
    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Copies what is at a path, where nothing is; where both have a folder, what is in it.
    fn put_beside(
        &self,
        work_tree: &Path,
        (path, folder, name): (&Path, &Folder, &OsStr),
        put: &mut BTreeSet<PathBuf>,
    ) -> io::Result<()> {
        let original = self.tree().join(path);
        match folder.stat(name)?.map(|found| found.kind) {
            None => {
                disk::copy_tree(&original, &work_tree.join(path))?;
                put.insert(path.to_owned());
            }
            Some(Kind::Folder) if fs::symlink_metadata(&original)?.is_dir() => {
                let below = folder.enter(name)?;
                for name in names(&original)? {
                    self.put_beside(work_tree, (&path.join(&name), &below, &name), put)?;
                }
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

/// The folder of a work tree that a path lies in, and its name there; nothing when it is no folder
/// any more.
fn parent<'a>(work_tree: &Path, path: &'a Path) -> io::Result<Option<(Folder, &'a OsStr)>> {
    let mut folder = Folder::open(work_tree)?;
    let mut parts: Vec<_> = path.iter().collect();
    let Some(name) = parts.pop() else {
        return Ok(None);
    };
    for part in parts {
        match folder.stat(part)? {
            Some(found) if found.kind == Kind::Folder => {}
            _ => return Ok(None),
        }
        folder = match folder.enter(part) {
            Err(error) if is_absent(&error) => return Ok(None),
            entered => entered?,
        };
    }
    Ok(Some((folder, name)))
}

/// The paths of a base.
#[derive(Default)]
struct Base {
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl Base {
    /// What a folder of the work tree has and the base has not.
    fn additions(
        &self,
        work_tree: &Path,
        folder: &Path,
        found: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(work_tree.join(folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let is_git = folder.as_os_str().is_empty() && entry.file_name().as_bytes() == b".git";
            if is_git || self.files.contains(&path) {
                continue;
            }
            if !self.folders.contains(&path) {
                found.push(path);
            } else if entry.file_type()?.is_dir() {
                disk::open_up(&entry.path())?;
                self.additions(work_tree, &path, found)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    /// A work tree in which something was installed, and the folder that keeps it.
    fn installed() -> (tempfile::TempDir, PathBuf, Dependencies) {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("work");
        for path in [
            "a.py",
            "web/index.js",
            "web/node_modules/x/index.js",
            ".venv/bin/tool",
            ".git/HEAD",
        ] {
            write(tree.join(path));
        }
        symlink("x/index.js", tree.join("web/node_modules/link")).unwrap();
        let folder = root.path().join("setup");
        write(folder.join("home/.cargo/registry/crate"));
        let base = ["a.py", "web/index.js"];
        let dependencies = Dependencies::collect(&tree, base, &folder).unwrap();
        (root, tree, dependencies)
    }

    #[test]
    fn what_the_base_does_not_have_is_moved_out_and_copied_back_in() {
        let (root, tree, dependencies) = installed();
        assert!(tree.join("web/index.js").exists() && tree.join(".git/HEAD").exists());
        assert!(!tree.join(".venv").exists() && !tree.join("web/node_modules").exists());
        let home = root.path().join("home");
        write(home.join("of/another"));
        let put = dependencies.put(&tree, &home).unwrap();
        let names: Vec<_> = put.paths.iter().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(names, [".venv", "web/node_modules"]);
        assert!(home.join(".cargo/registry/crate").exists() && !home.join("of").exists());
        let link = fs::read_link(tree.join("web/node_modules/link")).unwrap();
        assert_eq!(link, Path::new("x/index.js"));
        // What one run does to its copy is not met by the next.
        fs::write(tree.join("web/node_modules/x/index.js"), "changed").unwrap();
        fs::remove_dir_all(tree.join("web/node_modules")).unwrap();
        dependencies.put(&tree, &home).unwrap();
        let text = fs::read_to_string(tree.join("web/node_modules/x/index.js")).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn what_a_change_has_at_a_path_is_neither_replaced_nor_followed() {
        let (root, tree, dependencies) = installed();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::remove_dir_all(tree.join("web")).unwrap();
        symlink(&outside, tree.join("web")).unwrap();
        fs::write(tree.join(".venv"), "a file of the change").unwrap();
        let home = root.path().join("home");
        assert!(dependencies.put(&tree, &home).unwrap().paths.is_empty());
        assert!(!outside.join("node_modules").exists());
        assert!(tree.join(".venv").is_file());
    }

    #[test]
    fn installed_files_are_put_beside_those_that_a_change_has_in_the_same_folder() {
        let (root, tree, dependencies) = installed();
        write(tree.join("web/node_modules/x/own.js"));
        fs::write(tree.join("web/node_modules/x/index.js"), "own").unwrap();
        let put = dependencies.put(&tree, &root.path().join("home")).unwrap();
        let names: Vec<_> = put.paths.iter().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(names, [".venv", "web/node_modules/link"]);
        let text = fs::read_to_string(tree.join("web/node_modules/x/index.js")).unwrap();
        assert_eq!(text, "own");
        assert!(tree.join("web/node_modules/x/own.js").exists());
    }

    #[test]
    fn a_home_has_nothing_of_an_earlier_run_where_nothing_was_installed_either() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        write(home.join(".local/usercustomize.py"));
        let put = Dependencies::default().put(root.path(), &home).unwrap();
        assert!(put.paths.is_empty() && !home.exists());
    }
}
