//! Path patterns of a repository, read as `.gitignore` and filters of workflows read them.

use std::cell::Cell;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer};

use super::text::ListOf;

/// Path patterns, as written and compiled. `*` stays within a folder, `**` does not. A pattern after
/// `!` takes out what those before it match; the last one that matches decides.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
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
        let mut set = GlobSetBuilder::new();
        for pattern in &patterns {
            let glob = excluded(pattern).unwrap_or(pattern);
            let glob = GlobBuilder::new(glob).literal_separator(true).build();
            set.add(glob.map_err(|error| error.to_string())?);
        }
        let set = set.build().map_err(|error| error.to_string())?;
        Ok(Self { patterns, set })
    }

    /// True without patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// True when the last pattern that matches the path lets it in.
    pub fn matches(&self, path: &str) -> bool {
        let last = self.set.matches(path).into_iter().max();
        let last = last.and_then(|index| self.patterns.get(index));
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
            let glob = excluded(text).unwrap_or(text);
            let checked = GlobBuilder::new(glob).build();
            checked.map_err(|error| error.to_string())?;
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
    }

    #[test]
    fn an_exclusion_from_nothing_is_refused() {
        let error = Globs::new(vec!["!secret/**".to_owned()]).unwrap_err();
        assert!(error.contains("`**` before it"), "{error}");
    }
}
