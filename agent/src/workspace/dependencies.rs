//! What the setup phase installed: kept apart, and copied to each draft and each test run.
//!
//! Copies, because whoever runs may change what it is given, and the next one must not meet that.
//! All of this happens while nothing untrusted runs; what it wrote is entered, moved and copied by
//! handles nevertheless, so that no link of it leads elsewhere and no depth is too deep.

use std::collections::BTreeSet;
use std::ffi::OsStr;
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
        disk::open_up(work_tree)?;
        let paths = base.additions(Folder::open(work_tree)?)?;
        let tree = folder.join("tree");
        disk::remove_all(&tree)?;
        for path in &paths {
            if let Some((folder, name)) = parent(work_tree, path)? {
                folder.rename(name, &parent_made(&tree, path)?, name)?;
            }
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
        let Some(installed) = self.put_home(home)? else {
            return Ok(InstalledFiles::default());
        };
        let mut paths = BTreeSet::new();
        for path in &installed.paths {
            if let Some((folder, name)) = parent(work_tree, path)? {
                installed.put_beside((path, &folder, name), &mut paths)?;
            }
        }
        let originals = installed.tree();
        Ok(InstalledFiles {
            originals,
            paths,
            ..InstalledFiles::default()
        })
    }

    /// The same for a work tree that lies over the folder with the rest, which thus is there already.
    pub(super) fn put_below(&self, home: &Path) -> io::Result<InstalledFiles> {
        let installed = self.put_home(home)?;
        Ok(installed.map(Installed::files).unwrap_or_default())
    }

    /// The folder with all but the home, when something is in it.
    pub(super) fn layer(&self) -> Option<PathBuf> {
        let files = self.0.as_ref()?.files();
        files.layer().map(Path::to_owned)
    }

    /// Makes a home a copy of the one that was installed in, with nothing of an earlier run.
    fn put_home(&self, home: &Path) -> io::Result<Option<&Installed>> {
        disk::remove_all(home)?;
        let Some(installed) = &self.0 else {
            return Ok(None);
        };
        fs::create_dir_all(home.parent().unwrap_or(home))?;
        disk::copy_tree(&installed.folder.join("home"), home)?;
        Ok(Some(installed))
    }
}

impl Installed {
    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn files(&self) -> InstalledFiles {
        InstalledFiles {
            originals: self.tree(),
            paths: self.paths.iter().cloned().collect(),
            ..InstalledFiles::default()
        }
    }

    /// Copies what is at a path, where nothing is; where both have a folder, what is in it.
    fn put_beside(
        &self,
        (path, folder, name): (&Path, &Folder, &OsStr),
        put: &mut BTreeSet<PathBuf>,
    ) -> io::Result<()> {
        let tree = self.tree();
        let Some((originals, _)) = parent(&tree, path)? else {
            return Ok(());
        };
        let is_folder = || -> io::Result<bool> {
            let original = originals.stat(name)?;
            Ok(original.is_some_and(|it| it.kind == Kind::Folder))
        };
        match folder.stat(name)?.map(|found| found.kind) {
            None => {
                disk::copy((&originals, name), (folder, name))?;
                put.insert(path.to_owned());
            }
            Some(Kind::Folder) if is_folder()? => {
                let below = folder.enter(name)?;
                for name in originals.for_reading(name)?.names()? {
                    self.put_beside((&path.join(&name), &below, &name), put)?;
                }
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// The folder that a path lies in below another one, made when it is not there.
pub(super) fn parent_made(top: &Path, path: &Path) -> io::Result<Folder> {
    fs::create_dir_all(top)?;
    let mut folder = Folder::open(top)?;
    for part in path.parent().into_iter().flatten() {
        folder = folder.make(part)?;
    }
    Ok(folder)
}

/// The folder of a work tree that a path lies in, and its name there; nothing when it is no folder
/// any more.
pub(super) fn parent<'a>(
    work_tree: &Path,
    path: &'a Path,
) -> io::Result<Option<(Folder, &'a OsStr)>> {
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
    /// What the work tree has and the base has not.
    fn additions(&self, work_tree: Folder) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let open = |folder: &Folder, name: &OsStr| folder.enter(name).map(Some);
        disk::walk(work_tree, open, |folder, path| {
            let mut folders = Vec::new();
            for name in folder.names()? {
                let is_git = path.as_os_str().is_empty() && name.as_bytes() == b".git";
                let below = path.join(&name);
                if is_git || self.files.contains(&below) {
                    continue;
                }
                let kind = folder.stat(&name)?.map(|it| it.kind);
                if !self.folders.contains(&below) {
                    // In a layer over others, it says that nothing is there.
                    found.extend((kind != Some(Kind::Whiteout)).then_some(below));
                } else if kind == Some(Kind::Folder) {
                    folders.push(name);
                }
            }
            Ok(folders)
        })?;
        Ok(found)
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

    #[test]
    fn what_was_installed_too_deep_for_a_path_or_without_rights_is_moved_and_copied() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("work");
        write(tree.join("a.py"));
        write(tree.join("locked/file"));
        let mut deep = Folder::open(&tree).unwrap();
        for _ in 0..1500 {
            deep = deep.make("deep".as_ref()).unwrap();
        }
        let folder = root.path().join("setup");
        write(folder.join("home/secret"));
        for path in [tree.join("locked"), folder.join("home/secret")] {
            let nothing = std::os::unix::fs::PermissionsExt::from_mode(0o0);
            fs::set_permissions(path, nothing).unwrap();
        }
        let dependencies = Dependencies::collect(&tree, ["a.py"], &folder).unwrap();
        assert!(!tree.join("deep").exists() && !tree.join("locked").exists());
        let home = root.path().join("home");
        let put = dependencies.put(&tree, &home).unwrap();
        let paths: Vec<_> = put.paths.iter().collect();
        assert_eq!(paths, [Path::new("deep"), Path::new("locked")]);
        assert!(home.join("secret").exists() && tree.join("locked/file").exists());
        for path in [root.path().join("work"), folder] {
            disk::remove_all(&path).unwrap();
        }
    }
}
