//! A draft applied to what the base has.

use std::collections::{BTreeMap, BTreeSet};

use patchfleet_flow::NodeError;

use super::binary::BinaryPatch;
use super::files::FileVersions;
use super::parse::FileDiff;
use super::{
    MAX_FILE, MAX_READ, NodeDeps, Rejection, apply, encoding, refused, secret_in, too_large,
    with_registered_secret,
};
use crate::git::{Entry, EntryKind, ObjectId};
use crate::nodes::context::git;

/// What the base has at the places that a draft touches.
pub(super) struct Base {
    entries: BTreeMap<String, Entry>,
    texts: BTreeMap<String, Vec<u8>>,
}

impl Base {
    pub(super) async fn read(deps: &NodeDeps, diffs: &[FileDiff]) -> Result<Self, NodeError> {
        let workspace = &deps.workspace;
        let entries = workspace
            .repository
            .entries(&workspace.base)
            .await
            .map_err(git)?;
        let entries: BTreeMap<_, _> = entries
            .into_iter()
            .map(|entry| (entry.path.clone(), entry))
            .collect();
        let wanted: Vec<&Entry> = diffs
            .iter()
            .flat_map(|diff| diff.old.iter().chain(&diff.new))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter_map(|path| entries.get(path))
            .filter(|entry| is_file(entry.kind) && entry.size <= MAX_FILE as u64)
            .collect();
        let bytes: u64 = wanted.iter().map(|entry| entry.size).sum();
        let given = diffs.iter().filter_map(|diff| diff.binary.as_ref());
        let given = given.map(|patch| patch.size() as u64);
        let bytes = given.fold(bytes, u64::saturating_add);
        if bytes > MAX_READ {
            let reason = format!(
                "it touches files of {bytes} bytes together; at most {MAX_READ} are allowed. Split \
                 the issue"
            );
            return Err(refused(Vec::new(), vec![Rejection::whole(reason)]));
        }
        let ids: Vec<_> = wanted.iter().map(|entry| entry.id.clone()).collect();
        let blobs = workspace.repository.blobs(&ids).await.map_err(git)?;
        let texts = wanted
            .iter()
            .map(|entry| entry.path.clone())
            .zip(blobs)
            .collect();
        Ok(Self { entries, texts })
    }

    /// The files that a draft leads to, and why some are refused.
    pub(super) fn apply_all(&self, diffs: &[FileDiff]) -> (Vec<FileVersions>, Vec<Rejection>) {
        let (mut files, mut rejected) = (Vec::new(), Vec::new());
        let leaving = leaving(diffs);
        for diff in diffs {
            match self.apply(diff, &leaving) {
                Ok(patched) => files.extend(patched),
                Err(rejection) => rejected.push(rejection),
            }
        }
        files.retain(|file| self.differs(file));
        rejected.extend(files.iter().filter_map(too_large));
        rejected.extend(files.iter().filter_map(with_registered_secret));
        (files, rejected)
    }

    /// The files that a diff of one file leads to: two for a rename.
    fn apply(
        &self,
        diff: &FileDiff,
        leaving: &BTreeSet<&str>,
    ) -> Result<Vec<FileVersions>, Rejection> {
        let path = diff.path();
        if let Some(removed) = self.without_text(diff) {
            return Ok(vec![removed]);
        }
        let kind = diff
            .kind()
            .map_err(|reason| Rejection::file(path, reason))?;
        let (original, kind_before) = match &diff.old {
            Some(old) => self.text(old)?,
            None => (String::new(), EntryKind::File),
        };
        if let Some(new) = diff
            .new
            .as_ref()
            .filter(|new| diff.old.as_ref() != Some(*new))
        {
            self.free(new, leaving)?;
        }
        let patched = match &diff.binary {
            Some(contents) => self.binary(diff, contents)?,
            None => apply::apply(&original, &diff.hunks).map_err(|misfit| Rejection {
                hunk: Some(misfit.header),
                ..Rejection::file(path, misfit.reason)
            })?,
        };
        let kind = kind.unwrap_or(kind_before);
        let removed =
            |old: &String| FileVersions::new(old, Some(original.clone()), None, kind_before);
        match (&diff.old, &diff.new) {
            (Some(old), None) if patched.is_empty() => Ok(vec![removed(old)]),
            (Some(old), None) => Err(Rejection::file(old, "it is deleted, but not all of it")),
            (Some(old), Some(new)) if old != new => {
                let added = FileVersions::new(new, None, Some(patched), kind);
                let removed = (!diff.is_copy).then(|| removed(old));
                Ok(removed.into_iter().chain([added]).collect())
            }
            (Some(_), Some(new)) => Ok(vec![FileVersions::new(
                new,
                Some(original),
                Some(patched),
                kind,
            )]),
            (None, _) => Ok(vec![FileVersions::new(path, None, Some(patched), kind)]),
        }
    }

    /// A link, or a file that is no text, that goes: what is in it does not matter.
    fn without_text(&self, diff: &FileDiff) -> Option<FileVersions> {
        let path = diff.old.as_ref().filter(|_| diff.new.is_none())?;
        let kind = self.entries.get(path)?.kind;
        let is_text = is_file(kind) && !diff.is_binary;
        if is_text || kind == EntryKind::Submodule {
            return None;
        }
        Some(FileVersions::new(path, Some(String::new()), None, kind))
    }

    fn text(&self, path: &str) -> Result<(String, EntryKind), Rejection> {
        let reject = |reason: &str| Rejection::file(path, reason);
        let Some(entry) = self.entries.get(path) else {
            return Err(reject("there is no such file"));
        };
        if !is_file(entry.kind) {
            return Err(reject(
                "it is no plain file but a symbolic link or a submodule",
            ));
        }
        let bytes = self
            .texts
            .get(path)
            .ok_or_else(|| reject("it is too large to be changed"))?;
        Ok((encoding::to_text(bytes).into_owned(), entry.kind))
    }

    /// The content that a patch gives to a file that is no text. What is there has to be what the
    /// patch was made for, and what comes out what it was made from.
    fn binary(&self, diff: &FileDiff, patch: &BinaryPatch) -> Result<String, Rejection> {
        let reject = |reason: &str| Rejection::file(diff.path(), reason);
        let (old, new) = diff
            .ids
            .as_ref()
            .ok_or_else(|| reject("it names no contents"))?;
        let there = diff.old.as_ref().and_then(|path| self.entries.get(path));
        if there.is_some_and(|entry| entry.id != *old) {
            return Err(reject(
                "its content is not that for which the diff was made",
            ));
        }
        let before = diff.old.as_ref().and_then(|path| self.texts.get(path));
        let content = patch.content(before.map_or(&[], Vec::as_slice));
        let content = content.map_err(|reason| reject(&reason))?;
        if ObjectId::of_blob(&content).as_ref() != Some(new) {
            return Err(reject("what the diff gives is not what it says to give"));
        }
        let text = encoding::to_text(&content).into_owned();
        match secret_in(&text) {
            Some(reason) => Err(reject(&reason)),
            None => Ok(text),
        }
    }

    /// A new file needs a free place, in folders that are folders, once what leaves has left.
    fn free(&self, path: &str, leaving: &BTreeSet<&str>) -> Result<(), Rejection> {
        let stays = |path: &str| self.entries.contains_key(path) && !leaving.contains(path);
        if stays(path) {
            return Err(Rejection::file(path, "the file is there already"));
        }
        let mut folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        if let Some(folder) = folders.find(|folder| stays(folder)) {
            let reason = format!("`{folder}` is no folder");
            return Err(Rejection::file(path, reason));
        }
        let below = format!("{path}/");
        let inside = self.entries.range(below.clone()..).map(|(name, _)| name);
        let mut inside = inside.take_while(|name| name.starts_with(&below));
        if inside.any(|name| !leaving.contains(name.as_str())) {
            Err(Rejection::file(path, "there is a folder of that name"))
        } else {
            Ok(())
        }
    }

    /// Whether the file is another one than in the base.
    fn differs(&self, file: &FileVersions) -> bool {
        let before = self.entries.get(&file.path);
        let content = file.after.as_deref().map(encoding::to_bytes);
        let kind = content.as_ref().map(|_| file.kind_after());
        let id = content.and_then(|bytes| ObjectId::of_blob(&bytes));
        before.map(|entry| (entry.kind, &entry.id)) != kind.zip(id.as_ref())
    }
}

/// The places that a draft makes free.
fn leaving(diffs: &[FileDiff]) -> BTreeSet<&str> {
    let leaving = diffs
        .iter()
        .filter(|diff| !diff.is_copy && diff.old != diff.new)
        .filter_map(|diff| diff.old.as_deref());
    leaving.collect()
}

const fn is_file(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::File | EntryKind::Executable)
}
