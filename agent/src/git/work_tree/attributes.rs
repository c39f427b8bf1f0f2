//! What `.gitattributes` say of a path.
//!
//! The files are those of a tree or of a work tree as it was walked; libgit2 is given them as
//! entries of an index in memory, so that it opens none itself.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use git2::{AttrCheckFlags, AttrValue, Index, IndexEntry, IndexTime, Oid};

use super::convert::{Conversion, LineEnds};

/// The name of such a file.
pub(super) const FILE: &[u8] = b".gitattributes";

/// The attributes of a tree.
pub(super) struct Attributes<'a> {
    repository: &'a git2::Repository,
    is_empty: bool,
}

/// What the attributes say of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) conversion: Conversion,
    /// A program that the content goes through.
    pub(super) filter: Option<String>,
    /// An encoding that the work tree has it in, other than UTF-8.
    pub(super) encoding: Option<String>,
}

impl<'a> Attributes<'a> {
    /// Those in these files. The repository is for no other attributes from then on.
    pub(super) fn new(
        repository: &'a git2::Repository,
        files: impl IntoIterator<Item = (Vec<u8>, Oid)>,
    ) -> Result<Self, git2::Error> {
        let mut index = Index::new()?;
        for (path, id) in files {
            let id = macros_first(repository, id)?;
            index.add(&entry(path, id))?;
        }
        repository.set_index(&mut index)?;
        Ok(Self {
            repository,
            is_empty: index.is_empty(),
        })
    }

    /// What they say of a file.
    pub(super) fn of(&self, path: &[u8]) -> Result<Said, git2::Error> {
        if self.is_empty {
            return Ok(Said::default());
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let flags = AttrCheckFlags::INDEX_ONLY | AttrCheckFlags::NO_SYSTEM;
        let value = |name: &str| -> Result<AttrValue<'_>, git2::Error> {
            let value = self.repository.get_attr_bytes(path, name, flags)?;
            Ok(AttrValue::always_bytes(value))
        };
        let text = |value: AttrValue<'_>| match value {
            AttrValue::Bytes(value) => Some(String::from_utf8_lossy(value).into_owned()),
            AttrValue::String(value) => Some(value.to_owned()),
            _ => None,
        };
        let encoding = text(value("working-tree-encoding")?);
        Ok(Said {
            conversion: Conversion {
                line_ends: line_ends(value("text")?, value("crlf")?, value("eol")?),
                ident: value("ident")? == AttrValue::True,
            },
            filter: text(value("filter")?),
            encoding: encoding.filter(|name| !is_utf8(name)),
        })
    }
}

/// The same file with its macros before what uses them: git knows all macros of a file on each of its
/// lines, and libgit2 those above.
fn macros_first(repository: &git2::Repository, id: Oid) -> Result<Oid, git2::Error> {
    const MACRO: &[u8] = b"[attr]";
    let blob = repository.find_blob(id)?;
    let lines = blob.content().split_inclusive(|byte| *byte == b'\n');
    let (macros, rest): (Vec<_>, Vec<_>) =
        lines.partition(|line| line.trim_ascii_start().starts_with(MACRO));
    if macros.is_empty() || rest.is_empty() {
        return Ok(id);
    }
    let mut sorted = macros.join(&b'\n');
    sorted.push(b'\n');
    sorted.extend(rest.concat());
    repository.blob(&sorted)
}

/// An entry of an index of which only path and content matter.
fn entry(path: Vec<u8>, id: Oid) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path,
    }
}

fn is_utf8(name: &str) -> bool {
    name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("utf8")
}

/// `text`, else its old name `crlf`, and then `eol`.
fn line_ends(text: AttrValue<'_>, crlf: AttrValue<'_>, eol: AttrValue<'_>) -> LineEnds {
    let eol = value(&eol);
    let Some(ends) = kind(&text).or_else(|| kind(&crlf)) else {
        return match eol {
            Some(b"lf") => LineEnds::Lf,
            Some(b"crlf") => LineEnds::Crlf,
            _ => LineEnds::AsTheyAre,
        };
    };
    match (ends, eol) {
        (LineEnds::AutoLf, Some(b"crlf")) => LineEnds::AutoCrlf,
        (LineEnds::Lf, Some(b"crlf")) => LineEnds::Crlf,
        (ends, _) => ends,
    }
}

/// What `text` or `crlf` alone says; `None` when it says nothing.
fn kind(text: &AttrValue<'_>) -> Option<LineEnds> {
    match text {
        AttrValue::True => Some(LineEnds::Lf),
        AttrValue::False => Some(LineEnds::AsTheyAre),
        text => match value(text) {
            Some(b"input") => Some(LineEnds::Lf),
            Some(b"auto") => Some(LineEnds::AutoLf),
            _ => None,
        },
    }
}

fn value<'a>(value: &AttrValue<'a>) -> Option<&'a [u8]> {
    match value {
        AttrValue::Bytes(value) => Some(value),
        AttrValue::String(value) => Some(value.as_bytes()),
        _ => None,
    }
}
