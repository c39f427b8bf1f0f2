//! What is left out of a snapshot: the rules of `.gitignore`, and what tools leave behind.

use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The name of a file with rules.
pub(super) const FILE: &str = ".gitignore";

/// What drafts, tests and coding tools leave in a work tree for themselves, where a repository
/// says nothing else. Only new files are left out; those that the repository has are changed like
/// any other.
const DROPPINGS: &str = "
__pycache__/
*.py[cod]
.pytest_cache/
.mypy_cache/
.ruff_cache/
.hypothesis/
.tox/
.nox/
.coverage
node_modules/
.npm/
.DS_Store
.aider.*
.claude/settings.local.json
.claude/projects/
.claude/todos/
.codex/sessions/
.codex/log/
.gemini/tmp/
.opencode/session*
.specstory/
";

/// What a folder with this file in it is: a cache that can be made again (bford.info/cachedir).
pub(super) const CACHE_TAG: &str = "CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// True for the content of a cache's tag.
pub(super) fn is_cache_tag(content: &[u8]) -> bool {
    content.starts_with(CACHE_SIGNATURE)
}

/// The rules that hold where a walk is, those of the outermost folder first.
pub(super) struct Rules(Vec<(usize, Gitignore)>);

impl Rules {
    /// Those of no repository.
    pub(super) fn new() -> Self {
        Self(vec![(0, rules(DROPPINGS))])
    }

    /// Adds a folder's own, which stand above those around it. Its path ends with `/`, or is
    /// empty. Gives how many there were before, for [`Rules::leave`].
    pub(super) fn enter(&mut self, folder: &[u8], text: Option<&[u8]>) -> usize {
        let before = self.0.len();
        if let Some(text) = text {
            let text = String::from_utf8_lossy(text);
            self.0
                .push((folder.len(), rules(text.trim_start_matches('\u{feff}'))));
        }
        before
    }

    /// Forgets the rules of a folder.
    pub(super) fn leave(&mut self, before: usize) {
        self.0.truncate(before);
    }

    /// True for a path that is to be left out.
    pub(super) fn ignore(&self, path: &[u8], is_folder: bool) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let matched = self.0.iter().rev().map(|(start, rules)| {
            let path = std::ffi::OsStr::from_bytes(&path[*start..]);
            rules.matched(Path::new(path), is_folder)
        });
        let mut matched = matched.filter(|found| !found.is_none());
        matched.next().is_some_and(|found| found.is_ignore())
    }
}

fn rules(text: &str) -> Gitignore {
    let mut builder = GitignoreBuilder::new("");
    for line in text.lines() {
        // A line that is no rule is none for git either.
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}
