//! What a round found wrong: the input of the next one, and the failure after the last.

use patchfleet_domain::FailureKind;
use serde::{Deserialize, Serialize};

/// Who found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The draft does not apply or touches what it must not.
    Patch,
    /// The tests are red.
    Tests,
    /// The review said no.
    Review,
}

impl Source {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Tests => "tests",
            Self::Review => "review",
        }
    }
}

/// Something that has to be mended in the next round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Who found it.
    pub source: Source,
    /// The failure that it is if no further round mends it.
    pub code: FailureKind,
    /// What exactly.
    pub message: String,
}
