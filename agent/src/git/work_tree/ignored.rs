//! What is left out of a snapshot: the rules of `.gitignore`, and what tools leave behind.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The name of a file with rules.
pub(crate) const FILE: &str = ".gitignore";

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

/// The rules that hold in a folder, its own first.
#[derive(Clone)]
pub(crate) struct Rules(Arc<Layer>);

/// The rules of one file.
struct Layer {
    around: Option<Rules>,
    /// The length of the folder's path.
    start: usize,
    text: Vec<u8>,
    /// Made when a file is met that the repository does not have.
    rules: OnceLock<Gitignore>,
}

impl Rules {
    /// Those of no repository.
    pub(crate) fn new() -> Self {
        static OWN: LazyLock<Rules> = LazyLock::new(|| Rules::of(None, 0, DROPPINGS.into()));
        OWN.clone()
    }

    /// With those of a folder, which stand above those around it. Its path ends with `/`, or is
    /// empty.
    pub(crate) fn within(&self, folder: &[u8], text: Vec<u8>) -> Self {
        Self::of(Some(self.clone()), folder.len(), text)
    }

    fn of(around: Option<Self>, start: usize, text: Vec<u8>) -> Self {
        Self(Arc::new(Layer {
            around,
            start,
            text,
            rules: OnceLock::new(),
        }))
    }

    /// True for a path that is to be left out.
    pub(crate) fn ignore(&self, path: &[u8], is_folder: bool) -> bool {
        let layers = std::iter::successors(Some(self), |it| it.0.around.as_ref());
        let matched = layers.map(|layer| {
            let path = OsStr::from_bytes(&path[layer.0.start..]);
            layer.0.rules().matched(Path::new(path), is_folder)
        });
        let mut matched = matched.filter(|found| !found.is_none());
        matched.next().is_some_and(|found| found.is_ignore())
    }
}

impl Layer {
    fn rules(&self) -> &Gitignore {
        self.rules.get_or_init(|| {
            let text = String::from_utf8_lossy(&self.text);
            rules(text.trim_start_matches('\u{feff}'))
        })
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
