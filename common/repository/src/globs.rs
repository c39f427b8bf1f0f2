//! Path patterns of a repository, read as `.gitignore` and filters of workflows read them.

use std::cell::Cell;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer};

use super::text::ListOf;

/// Path patterns, as written and compiled. `*` stays within a folder, `**` does not. What names a folder
/// means all that is in it, with or without a slash at its end. A pattern after `!` takes out what those
/// before it match; the last one that matches decides.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
    /// Which pattern each glob of the set is of.
    origins: Vec<usize>,
}

impl Globs {
    /// Compiles patterns.
    ///
    /// # Errors
    /// The first pattern that is none, or that takes out what none before it lets in.
    pub fn new(patterns: Vec<String>) -> Result<Self, String> {
        if let Some(first) = patterns.first() {
            begins(first)?;
        }
        let (mut set, mut origins) = (GlobSetBuilder::new(), Vec::new());
        for (index, pattern) in patterns.iter().enumerate() {
            for glob in compiled(pattern)? {
                set.add(glob);
                origins.push(index);
            }
        }
        let set = set.build().map_err(|error| error.to_string())?;
        Ok(Self {
            patterns,
            set,
            origins,
        })
    }

    /// True without patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// True when the last pattern that matches the path lets it in.
    pub fn matches(&self, path: &str) -> bool {
        let last = self.set.matches(path).into_iter().max();
        let last = last.and_then(|index| self.patterns.get(*self.origins.get(index)?));
        last.is_some_and(|pattern| excluded(pattern).is_none())
    }

    /// The patterns as written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

/// What a pattern takes out. A file whose name begins with `!` is written `\!`.
fn excluded(pattern: &str) -> Option<&str> {
    pattern.strip_prefix('!')
}

/// The globs of a pattern, which is anchored at the repository's root.
fn compiled(pattern: &str) -> Result<Vec<Glob>, String> {
    if pattern.trim().is_empty() {
        return Err("a pattern must not be empty; `**` matches every path".to_owned());
    }
    let written = excluded(pattern).unwrap_or(pattern);
    let path = written.strip_prefix("./").unwrap_or(written);
    let path = path.trim_matches('/');
    let name = path.rsplit('/').next().unwrap_or_default();
    let globs = match path {
        "" | "." => vec!["**".to_owned()],
        path if written.ends_with('/') => vec![format!("{path}/**")],
        // It may be a file or a folder.
        path if !name.contains(['*', '?', '[', '{']) => vec![path.to_owned(), format!("{path}/**")],
        path => vec![path.to_owned()],
    };
    let compile = |glob: String| GlobBuilder::new(&glob).literal_separator(true).build();
    let globs: Result<_, _> = globs.into_iter().map(compile).collect();
    globs.map_err(|error| error.to_string())
}

/// A list can't begin by taking out.
fn begins(first: &str) -> Result<(), String> {
    if excluded(first).is_none() {
        return Ok(());
    }
    Err(format!(
        "`{first}` takes out what a pattern before it matches, and there is none; write `**` before \
         it to mean all the rest"
    ))
}

impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_first = Cell::new(true);
        let check = |text: &str| {
            if is_first.replace(false) {
                begins(text)?;
            }
            compiled(text)?;
            Ok(text.to_owned())
        };
        let patterns = deserializer.deserialize_seq(ListOf("a list of path patterns", check))?;
        Self::new(patterns).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(patterns: &[&str]) -> Globs {
        Globs::new(patterns.iter().map(|&it| it.to_owned()).collect()).unwrap()
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let all_but = globs(&["**", "!secret/**", "secret/README.md"]);
        for (path, matches) in [
            ("app.py", true),
            ("secret/key.txt", false),
            ("secret/deep/key.txt", false),
            ("secret/README.md", true),
            ("secrets/key.txt", true),
        ] {
            assert_eq!(all_but.matches(path), matches, "{path}");
        }
        let names = globs(&["src/*", "!*.lock", "\\!odd"]);
        assert!(names.matches("src/a.rs") && names.matches("!odd"));
        assert!(!names.matches("Cargo.lock") && !names.matches("src/deep/a.rs"));
        assert!(!Globs::default().matches("app.py"));
        let narrowed = globs(&["src/**", "!src/keys/", "src/keys/README.md", "!**/*.lock"]);
        assert!(narrowed.matches("src/app.rs") && narrowed.matches("src/keys/README.md"));
        assert!(!narrowed.matches("src/keys/deep/id") && !narrowed.matches("src/a/Cargo.lock"));
        let nothing = globs(&["src/**", "!src"]);
        assert!(!nothing.matches("src/app.rs"));
    }

    #[test]
    fn a_folder_is_meant_with_all_that_is_in_it_however_it_is_written() {
        for pattern in [
            "secret",
            "secret/",
            "/secret",
            "/secret/",
            "./secret",
            "./secret/",
            "secret/**",
        ] {
            let secret = globs(&[pattern]);
            for path in ["secret/key", "secret/deep/key"] {
                assert!(secret.matches(path), "{pattern}: {path}");
            }
            for path in ["secrets/key", "src/secret/key", "secret.txt"] {
                assert!(!secret.matches(path), "{pattern}: {path}");
            }
        }
        let file = globs(&["/docs/README.md"]);
        assert!(file.matches("docs/README.md") && !file.matches("README.md"));
        let anywhere = globs(&["**/keys"]);
        assert!(anywhere.matches("keys/a") && anywhere.matches("src/keys/a"));
        for all in ["/", "./", ".", "**"] {
            assert!(globs(&[all]).matches("src/a.rs"), "{all}");
        }
        for empty in ["", " "] {
            let error = Globs::new(vec![empty.to_owned()]).unwrap_err();
            assert!(error.contains("must not be empty"), "{error}");
        }
    }

    #[test]
    fn an_exclusion_from_nothing_is_refused() {
        let error = Globs::new(vec!["!secret/**".to_owned()]).unwrap_err();
        assert!(error.contains("`**` before it"), "{error}");
    }
}
