//! Control groups: limits of a run as a whole, and the kernel's counters of what it used.
//!
//! Each run has a group of its own in each tree that is needed, made before it and removed after
//! it. The stage outside joins it before it becomes bubblewrap; the agent and its supervisors are
//! never inside, so that memory that runs out is never theirs. A new group's counters begin at
//! zero.
//!
//! Where the host lets no groups be made, limits of single processes are what is left, and each
//! run says which limits nothing enforced.

mod places;
mod seen;
mod texts;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use self::places::Tree;
pub(super) use self::seen::{Seen, remove_of_container};
pub(super) use self::texts::Allowance;
use self::texts::Version;
use super::{Limit, Usage};
use crate::process;

/// How names of groups begin. A process's mark follows, which says whose it is.
const PREFIX: &str = "patchfleet-";
/// The group that an agent moves itself to: in version 2, only groups without processes of their
/// own can hand controllers down.
const LEAF: &str = "patchfleet.agent";
/// The file with the processes of a group, by which one joins.
const MEMBERS: &str = "cgroup.procs";
/// The file by which a thread joins a group of version 1. To move a whole process the kernel first has
/// all processes of the host stand still, which takes it a grace period of RCU, 10 ms and more; a thread
/// that moves itself does without.
const THREADS: &str = "tasks";
/// How long a group may take to become empty; only what hangs in the kernel takes that long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after a SIGKILL is looked again.
const AGAIN: Duration = Duration::from_millis(5);
/// How deep groups of earlier agents are looked for.
const DEPTH: usize = 12;

/// A folder in which groups can be made, and the limits that they enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    version: Version,
    limits: Vec<Limit>,
}

/// Where this host lets groups be made.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    places: Vec<Place>,
    /// Limits that no place enforces, and why.
    missing: BTreeMap<Limit, String>,
}

/// The groups of one run. They end with this value.
#[derive(Debug)]
pub(super) struct Group {
    members: Vec<Member>,
    missing: BTreeMap<Limit, String>,
}

/// A run's group in one tree.
#[derive(Debug, Clone)]
struct Member {
    folder: PathBuf,
    version: Version,
    limits: Vec<Limit>,
}

impl Groups {
    /// Looks where groups can be made, by making one.
    pub(super) fn find() -> Self {
        let trees = trees();
        let mut found = Self::default();
        let mut why: BTreeMap<Limit, String> = BTreeMap::new();
        for limit in Limit::ALL {
            let controller = texts::controller(limit);
            let reason = match trees.as_deref() {
                Err(error) => format!("control groups can't be looked at: {error}"),
                Ok(trees) => match place(trees, controller) {
                    Ok((folder, version)) => {
                        found.add(folder, version, limit);
                        continue;
                    }
                    Err(reason) => reason,
                },
            };
            why.insert(limit, reason);
        }
        found.missing = why;
        found.probe();
        found
    }

    /// Nowhere, for this reason.
    #[cfg(test)]
    pub(super) fn none(why: &str) -> Self {
        Self {
            places: Vec::new(),
            missing: Limit::ALL
                .map(|limit| (limit, why.to_owned()))
                .into_iter()
                .collect(),
        }
    }

    /// Limits that nothing enforces, and why.
    pub(super) const fn missing(&self) -> &BTreeMap<Limit, String> {
        &self.missing
    }

    fn add(&mut self, folder: PathBuf, version: Version, limit: Limit) {
        match self.places.iter_mut().find(|it| it.folder == folder) {
            Some(place) => place.limits.push(limit),
            None => self.places.push(Place {
                folder,
                version,
                limits: vec![limit],
            }),
        }
    }

    /// Takes out what can't be made after all, as on file systems that are read-only.
    fn probe(&mut self) {
        let least = Allowance {
            memory: 1 << 30,
            processes: 64,
            cpu_percent: 100,
        };
        let missing = match self.make(least) {
            Ok(group) => group.missing.clone(),
            Err(error) => Limit::ALL
                .map(|limit| (limit, error.to_string()))
                .into_iter()
                .collect(),
        };
        for place in &mut self.places {
            place.limits.retain(|limit| !missing.contains_key(limit));
        }
        self.places.retain(|place| !place.limits.is_empty());
        self.missing = missing;
    }

    /// Makes the groups of one run. What can't be enforced is missing in it.
    ///
    /// # Errors
    /// When this process has no mark.
    pub(super) fn make(&self, allowance: Allowance) -> io::Result<Group> {
        let name = format!("{PREFIX}{}", process::new_mark()?);
        let mut group = Group {
            members: Vec::new(),
            missing: self.missing.clone(),
        };
        for place in &self.places {
            let folder = place.folder.join(&name);
            if let Err(error) = fs::create_dir(&folder) {
                let why = format!("{}: {error}", folder.display());
                let lost = place.limits.iter().map(|limit| (*limit, why.clone()));
                group.missing.extend(lost);
                continue;
            }
            // From here on it is removed, whatever happens.
            group.members.push(Member {
                folder: folder.clone(),
                version: place.version,
                limits: Vec::new(),
            });
            for limit in &place.limits {
                match set(&folder, place.version, *limit, allowance) {
                    Ok(()) => group
                        .members
                        .last_mut()
                        .map_or((), |it| it.limits.push(*limit)),
                    Err(why) => drop(group.missing.insert(*limit, why)),
                }
            }
        }
        Ok(group)
    }
}

impl Group {
    /// Files that a process with one thread writes `0` into to join.
    pub(super) fn joins(&self) -> Vec<PathBuf> {
        let files = self.members.iter().map(|it| match it.version {
            Version::One => it.folder.join(THREADS),
            Version::Two => it.folder.join(MEMBERS),
        });
        files.collect()
    }

    /// Limits that nothing enforces.
    pub(super) fn missing(&self) -> Vec<Limit> {
        self.missing.keys().copied().collect()
    }

    /// What was used so far.
    pub(super) fn usage(&self) -> Usage {
        usage(&self.members)
    }

    /// Kills whoever is left, removes the groups and says what was used.
    ///
    /// # Errors
    /// Which group still has processes, or may have.
    pub(super) async fn end(mut self) -> Result<Usage, String> {
        let usage = self.usage();
        let members = std::mem::take(&mut self.members);
        let removed = tokio::task::spawn_blocking(move || remove_all(&members)).await;
        let left = removed.map_err(|error| error.to_string())?;
        match left.into_iter().next() {
            Some(left) => Err(left),
            None => Ok(usage),
        }
    }
}

/// What the counters of groups say.
fn usage(members: &[Member]) -> Usage {
    let mut usage = Usage::default();
    for member in members {
        for limit in &member.limits {
            for file in texts::counters(member.version, *limit) {
                if let Ok(text) = fs::read_to_string(member.folder.join(file)) {
                    texts::count(file, &text, &mut usage);
                }
            }
        }
    }
    usage
}

impl Drop for Group {
    fn drop(&mut self) {
        let members = std::mem::take(&mut self.members);
        if !members.is_empty() {
            // Killing may take a while, and this may be a thread that serves others. What is left
            // when the process ends first is removed at the next start.
            let _ = thread::Builder::new().spawn(move || remove_all(&members));
        }
    }
}

/// Removes groups of processes that live no more; gives their number.
pub(super) fn sweep() -> usize {
    let mut removed = 0;
    for tree in trees().unwrap_or_default() {
        let mut open = vec![(tree.root, 0)];
        while let Some((folder, depth)) = open.pop() {
            for path in folders(&folder) {
                let name = path.file_name().and_then(|name| name.to_str());
                match name.and_then(|name| name.strip_prefix(PREFIX)) {
                    Some(mark) if process::is_orphaned(mark) => {
                        removed += usize::from(remove(&path, tree.version).is_ok());
                    }
                    None if depth < DEPTH => open.push((path, depth + 1)),
                    // Another living one's, or too deep.
                    Some(_) | None => {}
                }
            }
        }
    }
    removed
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let folders = entries
        .flatten()
        .filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|it| it.path()).collect()
}

fn trees() -> io::Result<Vec<Tree>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(places::trees(
        &mounts,
        &fs::read_to_string("/proc/self/cgroup")?,
    ))
}

/// The folder in which groups with this controller can be made: of version 2 where it is handed
/// down there, else of version 1.
fn place(trees: &[Tree], controller: &str) -> Result<(PathBuf, Version), String> {
    let mut why = format!("no control groups with the controller `{controller}` are mounted");
    for tree in trees {
        match tree.version {
            Version::One if tree.controllers.iter().any(|it| it == controller) => {
                return Ok((tree.own.clone(), Version::One));
            }
            Version::One => {}
            Version::Two => match delegated(&tree.own, controller) {
                Ok(folder) => return Ok((folder, Version::Two)),
                Err(Some(reason)) => why = reason,
                Err(None) => {}
            },
        }
    }
    Err(why)
}

/// The folder of version 2 whose groups have the controller; no reason when the tree has none
/// such at all.
fn delegated(own: &Path, controller: &str) -> Result<PathBuf, Option<String>> {
    let base = match own.parent() {
        Some(parent) if own.file_name().is_some_and(|name| name == LEAF) => parent,
        _ => own,
    };
    let has = |file: &str| {
        let text = fs::read_to_string(base.join(file)).unwrap_or_default();
        text.split_whitespace().any(|word| word == controller)
    };
    if !has("cgroup.controllers") {
        return Err(None);
    }
    let file = base.join("cgroup.subtree_control");
    let hand_down = || fs::write(&file, format!("+{controller}"));
    if has("cgroup.subtree_control") || hand_down().is_ok() {
        return Ok(base.to_owned());
    }
    let moved = move_to_leaf(base).and_then(|()| hand_down());
    moved.map_err(|error| {
        Some(format!(
            "the controller `{controller}` can't be handed down in {}: {error}",
            base.display()
        ))
    })?;
    Ok(base.to_owned())
}

/// Moves this program's processes out of a group that is theirs alone.
fn move_to_leaf(base: &Path) -> io::Result<()> {
    let pids = members(base)?;
    if let Some(other) = pids.iter().find(|pid| !process::is_own_program(**pid)) {
        return Err(io::Error::other(format!(
            "process {other} is in that group too, and is none of Patchfleet's"
        )));
    }
    let leaf = base.join(LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for pid in pids {
        fs::write(leaf.join(MEMBERS), pid.to_string())?;
    }
    Ok(())
}

fn set(folder: &Path, version: Version, limit: Limit, to: Allowance) -> Result<(), String> {
    for setting in texts::settings(version, limit, to) {
        let path = folder.join(setting.file);
        // Never made where it is missing, as `fs::write` would in a faked tree.
        let written = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, setting.text.as_bytes()));
        if let (Err(error), true) = (written, setting.is_needed) {
            return Err(format!("{}: {error}", path.display()));
        }
    }
    Ok(())
}

/// Removes groups; says which of them still have processes.
fn remove_all(members: &[Member]) -> Vec<String> {
    let mut left = Vec::new();
    for member in members {
        let Err(error) = remove(&member.folder, member.version) else {
            continue;
        };
        let group = member.folder.display();
        tracing::warn!(%group, %error, "a control group can't be removed");
        if !is_empty(&member.folder) {
            left.push(format!("the control group {group} still has processes"));
        }
    }
    left
}

/// True for a group that has nobody in it, whatever keeps it from being removed. Whom this
/// process's namespace does not know is somebody as well.
fn is_empty(folder: &Path) -> bool {
    match fs::read_to_string(folder.join(MEMBERS)) {
        Ok(text) => text.trim().is_empty(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Kills whoever is in a group until it can be removed.
fn remove(folder: &Path, version: Version) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
        if version == Version::Two {
            // Older kernels lack it.
            let _ = fs::write(folder.join("cgroup.kill"), "1");
        }
        let members = members(folder).unwrap_or_default();
        for pid in members.into_iter().filter(|pid| *pid != getpid()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "version 1 tells nobody when a group is empty"
        )]
        thread::sleep(AGAIN);
    }
}

/// Who is in a group. Processes that this one's namespace does not know are listed as 0, which to
/// `kill` would mean this process's own group.
fn members(folder: &Path) -> io::Result<Vec<Pid>> {
    let text = fs::read_to_string(folder.join(MEMBERS))?;
    let numbers = text.lines().filter_map(|line| line.parse().ok());
    Ok(numbers
        .filter(|number| *number > 0)
        .map(Pid::from_raw)
        .collect())
}

#[cfg(test)]
mod tests;
