//! Priority: 1 (lowest) to 10 (highest), default 5.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::InvalidId;

/// How soon a task is wanted, 1 (lowest) to 10 (highest).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// 3, the word `low`.
    pub const LOW: Self = Self(3);
    /// 5, the word `normal`.
    pub const NORMAL: Self = Self(5);
    /// 8, the word `high`.
    pub const HIGH: Self = Self(8);
    /// 10, the word `critical`.
    pub const CRITICAL: Self = Self(10);

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

const EXPECTED: &str = "1 to 10, or low, normal, high, critical";

fn invalid(text: String) -> InvalidId {
    InvalidId {
        what: "priority",
        text,
        expected: EXPECTED,
    }
}

impl TryFrom<u8> for Priority {
    type Error = InvalidId;

    fn try_from(number: u8) -> Result<Self, InvalidId> {
        match number {
            1..=10 => Ok(Self(number)),
            _ => Err(invalid(number.to_string())),
        }
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl FromStr for Priority {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "low" => Ok(Self::LOW),
            "normal" => Ok(Self::NORMAL),
            "high" => Ok(Self::HIGH),
            "critical" => Ok(Self::CRITICAL),
            _ => text
                .parse::<u8>()
                .ok()
                .and_then(|n| n.try_into().ok())
                .ok_or_else(|| invalid(text.to_owned())),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers() {
        assert_eq!("high".parse(), Ok(Priority::HIGH));
        assert_eq!("7".parse::<Priority>().map(Priority::get), Ok(7));
        for bad in ["0", "11", "urgent", "-1", ""] {
            assert!(bad.parse::<Priority>().is_err(), "{bad:?} was accepted");
        }
    }
}
