//! A repository's main language, by its files, and which files are shown for it.

use std::collections::BTreeMap;

use super::file_name;
use crate::git::Entry;

/// A language that has files of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Language(&'static Known);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    name: &'static str,
    /// Files that tell the language.
    sources: &'static [&'static str],
    /// Files that are shown besides.
    others: &'static [&'static str],
}

const KNOWN: &[Known] = &[
    Known {
        name: "python",
        sources: &["py", "pyi"],
        others: &["cfg", "toml", "ini"],
    },
    Known {
        name: "rust",
        sources: &["rs"],
        others: &["toml"],
    },
    Known {
        name: "typescript",
        sources: &["ts", "tsx", "mts"],
        others: &[
            "js", "jsx", "mjs", "cjs", "json", "css", "html", "vue", "svelte",
        ],
    },
    Known {
        name: "javascript",
        sources: &["js", "jsx", "mjs", "cjs"],
        others: &["json", "css", "html", "vue", "svelte"],
    },
    Known {
        name: "go",
        sources: &["go"],
        others: &["mod"],
    },
    Known {
        name: "java",
        sources: &["java"],
        others: &["xml", "gradle", "properties"],
    },
    Known {
        name: "kotlin",
        sources: &["kt", "kts"],
        others: &["gradle", "properties"],
    },
    Known {
        name: "ruby",
        sources: &["rb"],
        others: &["gemspec", "erb", "rake"],
    },
    Known {
        name: "php",
        sources: &["php"],
        others: &["json", "twig"],
    },
    Known {
        name: "csharp",
        sources: &["cs"],
        others: &["csproj", "sln", "json"],
    },
    Known {
        name: "c",
        sources: &["c", "h"],
        others: &["cmake"],
    },
    Known {
        name: "cpp",
        sources: &["cpp", "cc", "cxx", "hpp", "hh"],
        others: &["h", "cmake"],
    },
    Known {
        name: "swift",
        sources: &["swift"],
        others: &[],
    },
    Known {
        name: "elixir",
        sources: &["ex", "exs"],
        others: &["eex", "heex"],
    },
    Known {
        name: "shell",
        sources: &["sh", "bash"],
        others: &[],
    },
];

/// Shown whatever the language is.
const ALWAYS: &[&str] = &["py", "txt", "md", "rst", "yaml", "yml"];

impl Language {
    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        self.0.name
    }
}

/// The language with the most bytes.
pub(super) fn detect(entries: &[Entry]) -> Option<Language> {
    let mut bytes = BTreeMap::<Language, u64>::new();
    for entry in entries {
        let Some(extension) = extension(file_name(entry)) else {
            continue;
        };
        let known = KNOWN
            .iter()
            .find(|known| known.sources.contains(&extension.as_str()));
        if let Some(known) = known {
            *bytes.entry(Language(known)).or_default() += entry.size.max(1);
        }
    }
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.map(|(language, _)| language)
}

/// Extensions that are shown for a language.
pub(super) fn extensions(language: Option<Language>) -> Vec<String> {
    let own = language.map(|Language(known)| known.sources.iter().chain(known.others));
    let all = ALWAYS.iter().chain(own.into_iter().flatten());
    all.map(|&extension| extension.to_owned()).collect()
}

/// The extension of a file name, in lower case.
pub(super) fn extension(name: &str) -> Option<String> {
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty()).then(|| extension.to_lowercase())
}
