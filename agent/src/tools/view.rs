//! The work tree as runs see it, read and written by the agent below a directory handle.
//!
//! Untrusted code was in it (`run`, `run_tests`), so no link is followed, nothing but plain files
//! is opened, and a name is one part of a path. Where the work tree is the upper layer of an
//! overlay, what it does not have is seen in the layers below, by the kernel's rules
//! (`Documentation/filesystems/overlayfs.rst`), and what is written goes into the upper layer.
//! Nothing of a run is alive while this is used; see [`crate::process`].

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nix::unistd::geteuid;
use uuid::Uuid;

use crate::disk::{Folder, Kind, Owner, Stat, resolve_redirects};
use crate::git::{IGNORE_FILE, IgnoreRules, is_git_name};
use crate::nodes::hostile;

/// Largest file that is read or written, as for drafts.
pub(super) const MAX_FILE: u64 = 8 << 20;
/// Longest `.gitignore` that is read.
const MAX_RULES: u64 = 1 << 20;
/// Most files that a listing has.
const MAX_FILES: usize = 100_000;
/// How deep folders are listed.
const MAX_DEPTH: usize = 200;

/// A work tree, with the layers below it from the top.
#[derive(Debug, Clone)]
pub(super) struct View {
    top: PathBuf,
    below: Vec<PathBuf>,
}

/// A plain file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
}

/// A file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) is_link: bool,
}

/// The files below a folder, in the order of their paths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) files: Vec<Listed>,
    /// There are more than were looked at.
    pub(super) is_cut: bool,
}

/// The folders that are seen as one.
#[derive(Clone)]
struct Level {
    upper: Option<Arc<Folder>>,
    below: Vec<Arc<Folder>>,
    is_layered: bool,
}

/// What is seen at a name.
enum Found {
    Nothing,
    Folder(Level),
    Other(Arc<Folder>, Stat),
}

impl View {
    pub(super) const fn new(top: PathBuf, below: Vec<PathBuf>) -> Self {
        Self { top, below }
    }

    /// Makes the upper layer readable by itself after something ran in it.
    pub(super) fn settle(&self) -> io::Result<()> {
        if self.below.is_empty() {
            return Ok(());
        }
        resolve_redirects(&self.top, &self.below)
    }

    /// Reads a plain file; the error says in words why not.
    pub(super) fn read(&self, path: &str) -> Result<Source, String> {
        let found = self.find(path).map_err(|error| failed(path, &error))?;
        let (folder, stat) = match found {
            Found::Other(folder, stat) if stat.kind == Kind::File => (folder, stat),
            found => return Err(no_file(path, &found)),
        };
        if stat.size > MAX_FILE {
            return Err(format!(
                "`{path}` has {} bytes; at most {MAX_FILE} are read. A program such as `python3` \
                 can look at a part of it by `run`",
                stat.size
            ));
        }
        let name = OsStr::new(last(path));
        let read = folder.read(name, MAX_FILE);
        let content = read.map_err(|error| failed(path, &error))?;
        Ok(Source {
            content,
            mode: stat.mode & 0o777,
        })
    }

    /// True when nothing is seen at a path.
    pub(super) fn is_free(&self, path: &str) -> Result<(), String> {
        match self.find(path).map_err(|error| failed(path, &error))? {
            Found::Nothing => Ok(()),
            Found::Folder(_) => Err(format!("`{path}` is a folder")),
            Found::Other(_, stat) if stat.kind == Kind::File => {
                Err(format!("`{path}` exists already; change it by `edit_file`"))
            }
            found @ Found::Other(..) => Err(no_file(path, &found)),
        }
    }

    /// Writes a file, in the place of a plain file or of nothing. Folders that are missing are
    /// made; a link is neither followed nor replaced.
    pub(super) fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<(), String> {
        if content.len() as u64 > MAX_FILE {
            return Err(format!(
                "`{path}` would have {} bytes; at most {MAX_FILE} are written",
                content.len()
            ));
        }
        match self.find(path).map_err(|error| failed(path, &error))? {
            Found::Nothing => {}
            Found::Other(_, stat) if stat.kind == Kind::File => {}
            found => return Err(no_file(path, &found)),
        }
        let put = self.put(path, content, mode);
        put.map_err(|error| failed(path, &error))
    }

    fn put(&self, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let root = Folder::open(&self.top)?;
        let owner = root.owner()?;
        let owner = (geteuid().is_root() && owner.uid != 0).then_some(owner);
        let mut folder = root;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            folder = self.make(&folder, OsStr::new(part), owner)?;
        }
        // Whole or not at all, whoever looks meanwhile.
        let new = format!(".patchfleet-{}", Uuid::now_v7());
        let (new, name) = (OsStr::new(&new), OsStr::new(name));
        let placed = folder
            .write(new, content, mode, owner)
            .and_then(|_| folder.rename(new, &folder, name));
        if placed.is_err() {
            let _ = folder.remove(new);
        }
        placed
    }

    /// Enters a folder of the upper layer, which is made where it is only below or nowhere.
    fn make(&self, folder: &Folder, name: &OsStr, owner: Option<Owner>) -> io::Result<Folder> {
        let found = folder.stat(name)?;
        let is_hidden =
            !self.below.is_empty() && found.is_some_and(|found| found.kind == Kind::Whiteout);
        if is_hidden {
            folder.remove(name)?;
        }
        let made = folder.make(name)?;
        if is_hidden {
            // Else what the layers below have at this name would be seen again.
            made.make_opaque()?;
        }
        if let (None, Some(owner)) = (found.filter(|_| !is_hidden), owner) {
            made.give(owner)?;
        }
        Ok(made)
    }

    /// The files below a folder. What the repository's rules ignore is left out, but for what is
    /// tracked, unless all of it is asked for; git's own files never appear.
    pub(super) fn files(
        &self,
        folder: &str,
        (tracked, is_all): (&BTreeSet<String>, bool),
    ) -> Result<Listing, String> {
        let level = match self.find(folder).map_err(|error| failed(folder, &error))? {
            Found::Folder(level) => level,
            Found::Other(_, stat) if stat.kind == Kind::File => {
                let file = Listed::new(folder, &stat);
                let files = vec![file];
                return Ok(Listing {
                    files,
                    is_cut: false,
                });
            }
            found => return Err(no_file(folder, &found)),
        };
        let rules = if is_all {
            None
        } else {
            Some(self.rules(folder))
        };
        let walk = Walk { tracked };
        let mut listing = Listing::default();
        let rules = rules.transpose().map_err(|error| failed(folder, &error))?;
        let listed = walk.list((folder, level), rules, &mut listing);
        listed.map_err(|error| failed(folder, &error))?;
        listing
            .files
            .sort_by(|one, other| one.path.cmp(&other.path));
        Ok(listing)
    }

    /// The rules that hold around a folder.
    fn rules(&self, folder: &str) -> io::Result<IgnoreRules> {
        let mut rules = IgnoreRules::new();
        let mut level = self.root()?;
        let mut path = String::new();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            rules = within(&level, &path, rules)?;
            let Found::Folder(next) = level.find(OsStr::new(part))? else {
                break;
            };
            level = next;
            path = format!("{path}{part}/");
        }
        Ok(rules)
    }

    /// True for a path that the repository's rules leave out of a change, if it is not tracked.
    pub(super) fn is_ignored(&self, path: &str) -> Result<bool, String> {
        let look = || {
            let ends = path.match_indices('/').map(|(end, _)| (end, true));
            for (end, is_folder) in ends.chain([(path.len(), false)]) {
                let part = &path[..end];
                let around = part.rsplit_once('/').map_or("", |(folder, _)| folder);
                let rules = self.rules(around)?;
                let rules = match self.find(around)? {
                    Found::Folder(level) if around.is_empty() => within(&level, "", rules)?,
                    Found::Folder(level) => within(&level, &format!("{around}/"), rules)?,
                    _ => rules,
                };
                if rules.ignore(part.as_bytes(), is_folder) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        look().map_err(|error: io::Error| failed(path, &error))
    }

    fn root(&self) -> io::Result<Level> {
        let open = |path: &PathBuf| Folder::open(path).map(Arc::new);
        Ok(Level {
            upper: Some(open(&self.top)?),
            below: self.below.iter().map(open).collect::<io::Result<_>>()?,
            is_layered: !self.below.is_empty(),
        })
    }

    fn find(&self, path: &str) -> io::Result<Found> {
        let mut level = self.root()?;
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            match level.find(OsStr::new(part))? {
                Found::Folder(next) => level = next,
                found if parts.peek().is_none() => return Ok(found),
                // Below a file there is nothing, and a link is not followed.
                Found::Other(folder, stat) if stat.kind == Kind::Link => {
                    return Ok(Found::Other(folder, stat));
                }
                _ => return Ok(Found::Nothing),
            }
        }
        Ok(Found::Folder(level))
    }
}

impl Level {
    fn find(&self, name: &OsStr) -> io::Result<Found> {
        let (mut upper, mut is_open) = (None, true);
        if let Some(folder) = &self.upper {
            match folder.stat(name)? {
                None => {}
                Some(stat) if stat.kind == Kind::Folder => {
                    let inner = folder.for_reading(name)?;
                    is_open = self.is_layered && !inner.is_opaque()?;
                    upper = Some(Arc::new(inner));
                }
                Some(stat) if self.is_layered && stat.kind == Kind::Whiteout => {
                    return Ok(Found::Nothing);
                }
                Some(stat) => return Ok(Found::Other(Arc::clone(folder), stat)),
            }
        }
        let mut below = Vec::new();
        for folder in self.below.iter().filter(|_| is_open) {
            match folder.stat(name)? {
                None => {}
                Some(stat) if stat.kind == Kind::Folder => {
                    below.push(Arc::new(folder.look_into(name)?));
                }
                Some(stat) if upper.is_none() && below.is_empty() => {
                    return Ok(match stat.kind {
                        Kind::Whiteout => Found::Nothing,
                        _ => Found::Other(Arc::clone(folder), stat),
                    });
                }
                // It hides what is further down.
                Some(_) => break,
            }
        }
        if upper.is_none() && below.is_empty() {
            return Ok(Found::Nothing);
        }
        Ok(Found::Folder(Self {
            upper,
            below,
            is_layered: self.is_layered,
        }))
    }

    fn names(&self) -> io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        for folder in self.upper.iter().chain(&self.below) {
            names.extend(folder.names()?);
        }
        Ok(names)
    }
}

/// A listing in the making.
struct Walk<'a> {
    tracked: &'a BTreeSet<String>,
}

impl Walk<'_> {
    fn list(
        &self,
        (start, level): (&str, Level),
        rules: Option<IgnoreRules>,
        listing: &mut Listing,
    ) -> io::Result<()> {
        let start = match start {
            "" => String::new(),
            start => format!("{start}/"),
        };
        let mut todo = vec![(start, level, rules, (0, false))];
        while let Some((path, level, rules, (depth, is_ignored))) = todo.pop() {
            let rules = match rules {
                Some(rules) => Some(within(&level, &path, rules)?),
                None => None,
            };
            for name in level.names()? {
                if listing.files.len() >= MAX_FILES {
                    listing.is_cut = true;
                    return Ok(());
                }
                let Some(text) = name.to_str().filter(|_| !is_git_name(&name)) else {
                    continue;
                };
                let inner = format!("{path}{text}");
                let is_left_out = |is_folder| {
                    let ignores = |rules: &IgnoreRules| rules.ignore(inner.as_bytes(), is_folder);
                    // Of a folder that is left out, only what is tracked is there.
                    is_ignored || rules.as_ref().is_some_and(ignores)
                };
                match level.find(&name)? {
                    Found::Nothing => {}
                    Found::Folder(_) if depth == MAX_DEPTH => listing.is_cut = true,
                    Found::Folder(next) => {
                        let is_ignored = is_left_out(true);
                        let inner = format!("{inner}/");
                        if !is_ignored || self.has_tracked(&inner) {
                            todo.push((inner, next, rules.clone(), (depth + 1, is_ignored)));
                        }
                    }
                    Found::Other(_, facts) => {
                        if !is_left_out(false) || self.tracked.contains(&inner) {
                            listing.files.push(Listed::new(&inner, &facts));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn has_tracked(&self, folder: &str) -> bool {
        let mut from = self.tracked.range(folder.to_owned()..);
        from.next().is_some_and(|path| path.starts_with(folder))
    }
}

impl Listed {
    fn new(path: &str, stat: &Stat) -> Self {
        Self {
            path: path.to_owned(),
            size: stat.size,
            is_link: stat.kind == Kind::Link,
        }
    }
}

/// The rules with those of a folder, whose path is empty or ends with `/`.
fn within(level: &Level, path: &str, rules: IgnoreRules) -> io::Result<IgnoreRules> {
    let name = OsStr::new(IGNORE_FILE);
    Ok(match level.find(name)? {
        Found::Other(folder, stat) if stat.kind == Kind::File => {
            rules.within(path.as_bytes(), folder.read(name, MAX_RULES)?)
        }
        _ => rules,
    })
}

/// The path in its plain form, or why it can be none; `.` and nothing are the root.
pub(super) fn plain(path: &str) -> Result<&str, String> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = path.trim_end_matches('/');
    if path.is_empty() || path == "." {
        return Ok("");
    }
    match hostile(path) {
        None => Ok(path),
        Some(reason) => Err(format!(
            "`{path}` is refused: {reason}. Paths are relative to the repository's root, such as \
             `src/main.rs`"
        )),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn failed(path: &str, error: &io::Error) -> String {
    format!("`{path}` can't be used: {error}")
}

fn no_file(path: &str, found: &Found) -> String {
    match found {
        Found::Nothing => format!("there is no `{path}`"),
        Found::Folder(_) => format!("`{path}` is a folder; see what is in it by `list_files`"),
        Found::Other(_, stat) if stat.kind == Kind::Link => {
            format!("`{path}` is a symbolic link or lies behind one; links are not followed")
        }
        Found::Other(..) => format!(
            "`{path}` is no plain file but a pipe, a socket or a device, which is not opened"
        ),
    }
}

#[cfg(test)]
mod tests;
