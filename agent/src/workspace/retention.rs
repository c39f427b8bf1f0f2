//! What stays on disk, and how long.
//!
//! A workspace stays seven days after its end. Without an end and without a live attempt it
//! belongs to an attempt that was lost; nobody will end it, so its age counts from its making. A
//! version of a mirror that a newer one supersedes goes with the last workspace that borrows from
//! it. A setup phase's result is used for as long as a workspace stays; a template that was not used
//! for so long goes. When the disk limit is exceeded or the disk is full, what was not used longest
//! goes first: workspaces, results of setup phases, templates, and mirrors that no workspace borrows
//! from. What is in use is never touched.
//!
//! One folder that can't be deleted stops nothing: it is logged, counted and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use patchfleet_domain::{TaskId, Timestamp};

use super::folder_lock::FolderLocks;
use super::layout::{AgentLayout, DOOMED, TaskLayout, delete, folders};
use super::metadata::Metadata;
use super::mirrors::{Mirrors, Version};
use super::setups::{SetupCache, SetupEntry};
use super::staging::StagingFolders;
use super::templates::{TemplateEntry, Templates};
use crate::disk::size;

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long a workspace stays after its end, and how old a setup phase's result may be.
    pub keep: TimeDelta,
    /// How many bytes all workspaces, mirrors, templates and setup results may take; none, without a
    /// limit.
    pub disk_limit: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep: TimeDelta::days(7),
            disk_limit: None,
        }
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Tasks whose workspaces were removed.
    pub removed: Vec<TaskId>,
    /// How many versions of mirrors were removed.
    pub mirrors: usize,
    /// How many results of setup phases were removed.
    pub setups: usize,
    /// How many templates were removed.
    pub templates: usize,
    /// Bytes that all of these take afterwards; counted only when there is a limit.
    pub bytes: Option<u64>,
}

/// When is swept, and what must stay.
pub(super) struct Occasion<'a> {
    pub(super) now: Timestamp,
    pub(super) live: &'a BTreeSet<TaskId>,
    pub(super) is_disk_full: &'a (dyn Fn() -> bool + Sync),
}

/// One sweep under way.
pub(super) struct Sweep<'a> {
    pub(super) layout: &'a AgentLayout,
    pub(super) mirrors: &'a Mirrors,
    pub(super) setups: &'a SetupCache,
    pub(super) templates: &'a Templates,
    pub(super) locks: &'a FolderLocks,
    pub(super) staging: &'a StagingFolders,
    pub(super) occasion: Occasion<'a>,
}

/// What may have to go.
#[derive(Debug)]
enum Candidate {
    Workspace(TaskId, PathBuf, Timestamp),
    Mirror(Version),
    Setup(SetupEntry),
    Template(TemplateEntry),
}

impl Candidate {
    /// When it was of use last.
    fn last_used(&self) -> Timestamp {
        match self {
            Self::Workspace(_, _, last_used) => *last_used,
            Self::Mirror(version) => version.last_used,
            Self::Setup(entry) => entry.last_used,
            Self::Template(entry) => entry.last_used,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Workspace(_, path, _) => path,
            Self::Mirror(version) => &version.path,
            Self::Setup(entry) => &entry.path,
            Self::Template(entry) => &entry.path,
        }
    }
}

impl Sweep<'_> {
    pub(super) async fn run(&self, rules: Retention) -> io::Result<Swept> {
        let mut swept = Swept::default();
        let stuck = self.layout.clear_leftovers(self.staging).await;
        let mut left = Vec::new();
        for found in workspaces(&self.layout.tasks()).await? {
            let expired = self.occasion.now - found.last_used() > rules.keep;
            if !expired || !self.remove(&found, &mut swept).await {
                left.push(found);
            }
        }
        let borrowed = self.borrowed().await;
        for version in self.mirrors.versions().await {
            let superseded = !version.is_current && !is_borrowed(&borrowed, &version.path);
            let found = Candidate::Mirror(version);
            if !superseded || !self.remove(&found, &mut swept).await {
                left.push(found);
            }
        }
        for entry in self.setups.entries(self.occasion.now).await {
            let is_over = entry.is_over;
            let found = Candidate::Setup(entry);
            if !is_over || !self.remove(&found, &mut swept).await {
                left.push(found);
            }
        }
        for entry in self.templates.entries(self.occasion.now, rules.keep).await {
            let is_over = entry.is_over;
            let found = Candidate::Template(entry);
            if !is_over || !self.remove(&found, &mut swept).await {
                left.push(found);
            }
        }
        if rules.disk_limit.is_some() || (self.occasion.is_disk_full)() {
            let total = self.shrink(left, rules.disk_limit, stuck, &mut swept).await;
            swept.bytes = rules.disk_limit.map(|_| total);
        }
        Ok(swept)
    }

    /// Removes what was not used longest, until the rest fits and the disk is not full.
    async fn shrink(
        &self,
        mut left: Vec<Candidate>,
        limit: Option<u64>,
        stuck: Vec<PathBuf>,
        swept: &mut Swept,
    ) -> u64 {
        let mut sizes = BTreeMap::new();
        if limit.is_some() {
            let paths = left
                .iter()
                .map(|found| found.path().to_owned())
                .chain(stuck);
            sizes = measured(paths.collect()).await;
        }
        let mut borrowed = self.borrowed().await;
        left.sort_by_key(Candidate::last_used);
        loop {
            let total: u64 = sizes.values().sum();
            if limit.is_none_or(|limit| total <= limit) && !(self.occasion.is_disk_full)() {
                return total;
            }
            let Some(next) = left.iter().position(|found| match found {
                Candidate::Workspace(..) | Candidate::Setup(_) | Candidate::Template(_) => true,
                Candidate::Mirror(version) => !is_borrowed(&borrowed, &version.path),
            }) else {
                return total;
            };
            let found = left.remove(next);
            if self.remove(&found, swept).await {
                sizes.remove(found.path());
                borrowed.remove(found.path());
            }
        }
    }

    /// True when it is gone; false when it is in use or can't be removed.
    async fn remove(&self, found: &Candidate, swept: &mut Swept) -> bool {
        match found {
            Candidate::Workspace(task, path, _) => {
                if self.occasion.live.contains(task) {
                    return false;
                }
                // The next attempt does not wait for the deletion.
                let doomed = match self.locks.try_lock(*task) {
                    Some(_lock) => self.layout.set_aside(path).await,
                    None => None,
                };
                let Some(doomed) = doomed else {
                    return false;
                };
                delete(&doomed).await;
                swept.removed.push(*task);
                true
            }
            Candidate::Mirror(version) => {
                let removed = self.mirrors.delete(version).await;
                swept.mirrors += usize::from(removed);
                removed
            }
            Candidate::Setup(entry) => {
                let removed = self.setups.delete(&entry.path).await;
                swept.setups += usize::from(removed);
                removed
            }
            Candidate::Template(entry) => {
                let removed = self.templates.delete(&entry.path).await;
                swept.templates += usize::from(removed);
                removed
            }
        }
    }

    /// The folders of tasks, finished or not, with the objects that each of them borrows.
    async fn borrowed(&self) -> BTreeMap<PathBuf, String> {
        let tasks = self.layout.tasks();
        let found = tokio::task::spawn_blocking(move || {
            let folders = folders(&tasks).into_iter().filter(|it| !is_doomed(it));
            folders
                .filter_map(|folder| {
                    let store = TaskLayout::at(folder.clone()).object_store();
                    let alternates = store.join("objects/info/alternates");
                    Some((folder, std::fs::read_to_string(alternates).ok()?))
                })
                .collect()
        });
        found.await.unwrap_or_default()
    }
}

fn is_doomed(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with(DOOMED)
}

fn is_borrowed(borrowed: &BTreeMap<PathBuf, String>, mirror: &Path) -> bool {
    let objects = mirror.join("objects");
    let mut lines = borrowed.values().flat_map(|alternates| alternates.lines());
    lines.any(|line| Path::new(line) == objects)
}

async fn measured(paths: Vec<PathBuf>) -> BTreeMap<PathBuf, u64> {
    let sizes = tokio::task::spawn_blocking(move || {
        let sizes = paths.into_iter().map(|path| {
            let bytes = size(&path);
            (path, bytes)
        });
        sizes.collect()
    });
    sizes.await.unwrap_or_default()
}

async fn workspaces(tasks: &Path) -> io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    let mut folders = tokio::fs::read_dir(tasks).await?;
    while let Some(folder) = folders.next_entry().await? {
        let name = folder.file_name();
        let task = name.to_str().and_then(|name| name.strip_prefix("task-"));
        let Some(task) = task.and_then(|task| task.parse().ok()) else {
            continue;
        };
        let path = folder.path();
        let last_used = match Metadata::read(&path.join("metadata.json")).await {
            Ok(metadata) => metadata.finished_at.unwrap_or(metadata.created_at),
            Err(error) => {
                tracing::debug!(folder = %path.display(), %error, "a workspace has no usable note");
                let made = folder.metadata().await.and_then(|it| it.modified());
                made.map_or(Timestamp::MIN_UTC, Into::into)
            }
        };
        found.push(Candidate::Workspace(task, path, last_used));
    }
    Ok(found)
}
