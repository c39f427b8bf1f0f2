//! The work tree of a workspace, between the runs that work in it.

use std::path::{Path, PathBuf};

use patchfleet_domain::outcome::Failure;
use patchfleet_repository::{Author, ConfigError, FILES, Found, RepositoryConfig};

use super::{Dependencies, Workspace, disk};
use crate::git::{Entry, EntryKind, GitError, InstalledFiles, ObjectId};
use crate::sandbox::egress::AllowList;

impl Workspace {
    /// Makes the work tree exactly this tree, with a `.git` as it was at the beginning: nothing
    /// that drafts or tests left there is seen by those who come after.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn check_out(&self, tree: &ObjectId) -> Result<(), GitError> {
        self.repository.check_out(tree).await?;
        self.copy(self.layout.clone_git(), self.clone_git()).await
    }

    /// The same for a tree that is tested: it is committed on the base, so that tests which look
    /// at git see what they would see after a merge: a clean work tree, and each file known.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn check_out_committed(&self, tree: &ObjectId) -> Result<(), GitError> {
        self.check_out(tree).await?;
        let base = format!("{}^{{tree}}", self.base);
        if self.repository.resolve(&base).await?.as_ref() == Some(tree) {
            return Ok(());
        }
        let author = Author {
            name: "Patchfleet".to_owned(),
            email: "patchfleet@localhost".to_owned(),
        };
        let message = "The change under test";
        let commit = self
            .repository
            .commit_tree(tree, &self.base, message, &author);
        let commit = commit.await?;
        // A copy: what runs in the work tree has no need to know where the agent's own objects are.
        let objects = self.repository.dir().join("objects");
        self.copy(objects, self.clone_git().join("objects")).await?;
        let head = self.clone_git().join("HEAD");
        let written = tokio::fs::write(head, format!("{commit}\n")).await;
        written.map_err(disk)?;
        self.repository
            .write_index(&self.clone_git().join("index"))
            .await
    }

    /// Takes what the setup phase installed out of the work tree, which is at its base then.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn collect_dependencies(&self) -> Result<Dependencies, GitError> {
        let entries = self.repository.entries(&self.base).await?;
        let (work_tree, folder) = (self.layout.repo_clone(), self.layout.setup());
        let layers = self.layers();
        let collected = self.on_disk(move || {
            if !layers.is_empty() {
                crate::disk::resolve_redirects(&work_tree, &layers)?;
            }
            let paths = entries.iter().map(|entry| entry.path.as_str());
            Dependencies::collect(&work_tree, paths, &folder)
        });
        let collected = collected.await?;
        self.check_out(&self.base).await?;
        Ok(collected)
    }

    /// Puts copies of what was installed into the work tree and into the home of a run; which
    /// files of the work tree they are, so that they are no part of a change.
    ///
    /// # Errors
    /// When they can't be written.
    pub async fn put_dependencies(&self, private: &Path) -> Result<InstalledFiles, GitError> {
        let (dependencies, work_tree) = (self.dependencies.clone(), self.layout.repo_clone());
        let (home, temporary) = (private.join("home"), private.join("tmp"));
        let is_layered = self.template.is_some();
        let lfs = self.put_contents().await?;
        let mut installed = self
            .on_disk(move || {
                crate::disk::remove_all(&temporary)?;
                if is_layered {
                    dependencies.put_below(&home)
                } else {
                    dependencies.put(&work_tree, &home)
                }
            })
            .await?;
        installed.lfs = lfs;
        Ok(installed)
    }

    /// The folders that the work tree lies over, from the top, for each run in it: those of the
    /// template and what was installed. None where the work tree has all of its files.
    pub fn layers(&self) -> Vec<PathBuf> {
        let Some(shared) = &self.template else {
            return Vec::new();
        };
        let template = shared.template.layers().into_iter();
        // The template's folders count where both have one: they belong to whom the work tree does.
        template.chain(self.dependencies.layer()).collect()
    }

    /// The folder that has the files of the base, before anything ran.
    pub fn base_files(&self) -> PathBuf {
        match &self.template {
            Some(shared) => shared.template.root().to_owned(),
            None => self.layout.repo_clone(),
        }
    }

    /// Works on the task's folder, which stays locked until that is done.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, GitError> {
        let lock = self.repository.lock();
        let done = tokio::task::spawn_blocking(move || {
            let _lock = lock;
            work()
        });
        done.await
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(disk)
    }

    /// The folders of objects that the work tree's `.git` borrows from, which whoever runs git in
    /// it has to see.
    pub async fn borrowed_objects(&self) -> Vec<PathBuf> {
        let alternates = self.layout.clone_git().join("objects/info/alternates");
        let text = tokio::fs::read_to_string(alternates).await;
        text.unwrap_or_default()
            .lines()
            .map(PathBuf::from)
            .collect()
    }

    /// The tags that whoever runs git in the work tree sees, each with what it points to.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn tags(&self) -> std::io::Result<Vec<String>> {
        // A fresh clone has all of its refs here.
        let text = tokio::fs::read_to_string(self.layout.clone_git().join("packed-refs")).await?;
        let is_tag = |line: &&str| line.contains(" refs/tags/") || line.starts_with('^');
        Ok(text.lines().filter(is_tag).map(str::to_owned).collect())
    }

    /// The `.git` that drafts and tests see.
    pub(super) fn clone_git(&self) -> PathBuf {
        self.layout.repo_clone().join(".git")
    }

    pub(super) async fn copy(&self, from: PathBuf, to: PathBuf) -> Result<(), GitError> {
        self.on_disk(move || crate::disk::copy_all(&from, &to))
            .await
    }

    /// How Patchfleet works on this repository, as the base says.
    ///
    /// # Errors
    /// When `.patchfleet.yaml` can't be used or asks for hosts that are not allowed, with line,
    /// column and field.
    pub async fn configuration(&self, allowed: &AllowList) -> Result<RepositoryConfig, Failure> {
        let entries = self.repository.entries(&self.base).await;
        let entries = entries.map_err(GitError::into_failure)?;
        let at = |file: &'static str| {
            let is_there = |path: &str| {
                let rest = path.strip_prefix(file);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let found = entries.iter().find(|entry| is_there(&entry.path));
            found.map(|entry| (file, entry))
        };
        let mut found: Vec<_> = FILES.into_iter().filter_map(at).collect();
        let (file, entry) = match found.len() {
            0 => return Ok(RepositoryConfig::default()),
            1 => found.remove(0),
            _ => return Err(ConfigError::doubled().into_failure()),
        };
        let failure = |error: ConfigError| error.in_file(file).into_failure();
        ConfigError::check_place(file, found_at(file, entry)).map_err(failure)?;
        let texts = self.repository.blobs(std::slice::from_ref(&entry.id)).await;
        let texts = texts.map_err(GitError::into_failure)?;
        let text = ConfigError::check_text(&texts.concat()).map_err(failure)?;
        RepositoryConfig::parse_within(&text, allowed).map_err(failure)
    }
}

/// What the repository has at the file's place, where this entry is at or below it.
fn found_at(file: &str, entry: &Entry) -> Found {
    match entry.kind {
        _ if entry.path != file => Found::Folder,
        EntryKind::Symlink => Found::Symlink,
        EntryKind::Submodule => Found::Submodule,
        EntryKind::File | EntryKind::Executable => Found::File { size: entry.size },
    }
}
