//! Whether a name is one of a model's.

use fancy_regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Steps back that an expression may take on one name.
const BACKTRACKS: usize = 10_000;

/// A condition on a name; capitals do not matter but in expressions, which see small letters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Clause {
    /// It is the same.
    Equals(String),
    /// It begins so.
    StartsWith(String),
    /// It ends so.
    EndsWith(String),
    /// It has this in it.
    Contains(String),
    /// The expression is found in it.
    Regex(Pattern),
    /// One condition is met.
    Or(Vec<Clause>),
    /// All conditions are met.
    And(Vec<Clause>),
}

/// An expression, which may look around: those of genai-prices do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let built = RegexBuilder::new(&text).backtrack_limit(BACKTRACKS).build();
        built
            .map(Self)
            .map_err(|error| format!("`{text}` is no regular expression: {error}"))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.as_str().to_owned()
    }
}

impl Pattern {
    /// Whether the expression is found in a text. One that takes too many steps is not.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text).unwrap_or(false)
    }

    /// Whether a text begins with what the expression finds.
    pub(crate) fn begins(&self, text: &str) -> bool {
        let found = self.0.find(text).ok().flatten();
        found.is_some_and(|found| found.start() == 0)
    }
}

impl Clause {
    /// Whether a name, in small letters, meets the condition.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Equals(text) => name == text.to_lowercase(),
            Self::StartsWith(text) => name.starts_with(&text.to_lowercase()),
            Self::EndsWith(text) => name.ends_with(&text.to_lowercase()),
            Self::Contains(text) => name.contains(&text.to_lowercase()),
            Self::Regex(pattern) => pattern.is_in(name),
            Self::Or(clauses) => clauses.iter().any(|clause| clause.matches(name)),
            Self::And(clauses) => clauses.iter().all(|clause| clause.matches(name)),
        }
    }
}
