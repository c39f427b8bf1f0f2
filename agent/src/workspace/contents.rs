//! Contents that a commit only names: those of Git LFS, and of submodules.
//!
//! They are fetched once for a task, by git in a sandbox (`setup/contents.rs`), taken out of its work
//! tree, and copied to each draft and each test run, as dependencies are. What came from there is not
//! believed: a content of Git LFS counts when it has the hash that its pointer names, and of a
//! submodule's folder plain files, folders and links are taken and nothing else. None of it becomes a
//! part of a change: what is committed has the base's pointers and submodules.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::dependencies::{parent, parent_made};
use super::{GitError, Workspace};
use crate::disk::{self, Folder, Kind};
use crate::git::{LfsContents, LfsFile, Replaced, note_replaced};

/// What a clone's configuration says of Git LFS: whoever looks at git in a work tree sees no
/// changes, and nothing is downloaded. Where the program is not there, git goes on without it.
const FILTER: &str = "[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\
                      \tsmudge = git-lfs smudge --skip -- %f\n\
                      \tprocess = git-lfs filter-process --skip\n";

/// What was fetched; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Contents(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    /// Has `lfs` with contents by their hash, and `submodules` with those at their paths.
    folder: PathBuf,
    pointers: Arc<BTreeMap<String, Vec<u8>>>,
    submodules: Vec<PathBuf>,
}

impl Contents {
    /// True when nothing was fetched.
    pub fn is_empty(&self) -> bool {
        let mut kept = self.0.iter();
        kept.all(|kept| kept.pointers.is_empty() && kept.submodules.is_empty())
    }
}

/// What was found in a work tree after a fetch.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// All that is there.
    pub contents: Contents,
    /// Files of Git LFS that are pointers still.
    pub pointers: Vec<PathBuf>,
    /// Files of Git LFS that are neither their pointer nor its content.
    pub strange: Vec<PathBuf>,
    /// Submodules whose folders are empty.
    pub empty: Vec<PathBuf>,
}

impl Workspace {
    /// Takes what was fetched out of the work tree, which is at its base again then.
    ///
    /// # Errors
    /// When the work tree can't be read or written.
    pub async fn collect_contents(
        &self,
        files: Vec<LfsFile>,
        submodules: Vec<PathBuf>,
    ) -> Result<Fetched, GitError> {
        let (work_tree, folder) = (self.layout.repo_clone(), self.layout.contents());
        let config = self.layout.clone_git().join("config");
        let collected = self.on_disk(move || {
            let fetched = collect(&work_tree, (&files, submodules), &folder)?;
            if !files.is_empty() {
                let mut config = OpenOptions::new().append(true).open(config)?;
                config.write_all(FILTER.as_bytes())?;
            }
            Ok(fetched)
        });
        let collected = collected.await?;
        self.check_out(&self.base).await?;
        Ok(collected)
    }

    /// Puts copies of what was fetched where the checked-out tree names it.
    ///
    /// # Errors
    /// When they can't be written.
    pub(crate) async fn put_contents(&self) -> Result<LfsContents, GitError> {
        let Some(kept) = self.contents.0.clone() else {
            return Ok(LfsContents::default());
        };
        let files = self.repository.lfs_files_here().await?;
        let (work_tree, index) = (self.layout.repo_clone(), self.clone_git().join("index"));
        self.on_disk(move || {
            let contents = kept.put(&work_tree, &files)?;
            let replaced = files.iter().filter_map(|file| {
                let stamp = *contents.put.get(&file.path)?;
                let (path, original) = (file.path.as_path(), file.text.as_slice());
                Some(Replaced {
                    path,
                    original,
                    stamp,
                })
            });
            let replaced: Vec<_> = replaced.collect();
            if !replaced.is_empty() {
                note_replaced(&index, &replaced)?;
            }
            Ok(contents)
        })
        .await
    }
}

fn collect(
    work_tree: &Path,
    (files, submodules): (&[LfsFile], Vec<PathBuf>),
    folder: &Path,
) -> io::Result<Fetched> {
    disk::remove_all(folder)?;
    let lfs = folder.join("lfs");
    fs::create_dir_all(&lfs)?;
    let lfs = Folder::open(&lfs)?;
    let mut found = BTreeMap::new();
    let (mut pointers, mut strange, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        match look(work_tree, file)? {
            Now::Content(from, name) => {
                from.rename(name, &lfs, file.pointer.oid.as_ref())?;
                found.insert(file.pointer.oid.clone(), file.text.clone());
            }
            Now::Pointer => pointers.push(file.path.clone()),
            Now::Strange => strange.push(file.path.clone()),
        }
    }
    // The same content at two places was fetched for both.
    pointers.retain(|path| {
        let mut named = files.iter().filter(|it| &it.path == path);
        !named.any(|it| found.contains_key(&it.pointer.oid))
    });
    let tree = folder.join("submodules");
    let mut kept = Vec::new();
    for path in submodules {
        let Some((from, name)) = parent(work_tree, &path)? else {
            empty.push(path);
            continue;
        };
        let is_folder = from.stat(name)?.is_some_and(|it| it.kind == Kind::Folder);
        if !is_folder || from.enter(name)?.names()?.is_empty() {
            empty.push(path);
            continue;
        }
        without_git(&from.enter(name)?)?;
        from.rename(name, &parent_made(&tree, &path)?, name)?;
        kept.push(path);
    }
    Ok(Fetched {
        contents: Contents(Some(Arc::new(Kept {
            folder: folder.to_owned(),
            pointers: Arc::new(found),
            submodules: kept,
        }))),
        pointers,
        strange,
        empty,
    })
}

/// What is at the place of a file of Git LFS.
enum Now<'a> {
    /// Its content, in this folder under this name.
    Content(Folder, &'a OsStr),
    Pointer,
    Strange,
}

fn look<'a>(work_tree: &Path, file: &'a LfsFile) -> io::Result<Now<'a>> {
    let Some((folder, name)) = parent(work_tree, &file.path)? else {
        return Ok(Now::Strange);
    };
    let Some(found) = folder.stat(name)?.filter(|it| it.kind == Kind::File) else {
        return Ok(Now::Strange);
    };
    if found.size == file.text.len() as u64 && folder.read(name, found.size)? == file.text {
        return Ok(Now::Pointer);
    }
    if found.size != file.pointer.size {
        return Ok(Now::Strange);
    }
    let mut hash = Sha256::new();
    io::copy(&mut folder.open_file(name)?, &mut hash)?;
    if hex::encode(hash.finalize()) == file.pointer.oid {
        Ok(Now::Content(folder, name))
    } else {
        Ok(Now::Strange)
    }
}

/// Removes what makes a folder, and folders in it, repositories of their own: in a work tree of ours
/// it would lead nowhere.
fn without_git(folder: &Folder) -> io::Result<()> {
    folder.remove(".git".as_ref())?;
    for name in folder.names()? {
        if folder
            .stat(&name)?
            .is_some_and(|it| it.kind == Kind::Folder)
        {
            without_git(&folder.enter(&name)?)?;
        }
    }
    Ok(())
}

impl Kept {
    fn put(&self, work_tree: &Path, files: &[LfsFile]) -> io::Result<LfsContents> {
        let lfs = Folder::open(&self.folder.join("lfs"))?;
        let mut put = BTreeMap::new();
        for file in files {
            if !self.pointers.contains_key(&file.pointer.oid) {
                continue;
            }
            let Some((folder, name)) = parent(work_tree, &file.path)? else {
                continue;
            };
            folder.remove(name)?;
            disk::copy((&lfs, file.pointer.oid.as_ref()), (&folder, name))?;
            let mode = if file.is_executable { 0o755 } else { 0o644 };
            // Nobody else is in the work tree now, and the file was just made.
            let path = work_tree.join(&file.path);
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            let placed = folder.stat(name)?;
            put.extend(placed.map(|placed| (file.path.clone(), placed.stamp)));
        }
        for path in &self.submodules {
            self.put_submodule(work_tree, path)?;
        }
        Ok(LfsContents {
            pointers: Arc::clone(&self.pointers),
            put,
        })
    }

    /// Fills the empty folder that a check-out leaves for a submodule; nothing where there is none.
    fn put_submodule(&self, work_tree: &Path, path: &Path) -> io::Result<()> {
        let originals = self.folder.join("submodules");
        let (Some((from, _)), Some((to, name))) =
            (parent(&originals, path)?, parent(work_tree, path)?)
        else {
            return Ok(());
        };
        let is_folder = to.stat(name)?.is_some_and(|it| it.kind == Kind::Folder);
        if !is_folder || !to.enter(name)?.names()?.is_empty() {
            return Ok(());
        }
        let (from, to) = (from.for_reading(name)?, to.enter(name)?);
        for name in from.names()? {
            disk::copy((&from, &name), (&to, &name))?;
        }
        Ok(())
    }
}
