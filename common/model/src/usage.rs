//! What a call used, in classes that never overlap.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// Tokens by the classes that are priced differently.
///
/// `input`, `cache_read`, `cache_write` and `output` are disjoint: each token is counted in one of
/// them. `reasoning` is a part of `output`. Sums saturate, as a provider may claim any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the request that no cache knew.
    pub input: u64,
    /// Tokens of the request that were read from the provider's prompt cache.
    pub cache_read: u64,
    /// Tokens of the request that were written to the provider's prompt cache.
    pub cache_write: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// Tokens of the answer that were reasoning; never more than `output`.
    pub reasoning: u64,
    /// True when a part of this was estimated, because the provider did not report it.
    pub estimated: bool,
}

impl Usage {
    /// All tokens of the request.
    pub const fn prompt(&self) -> u64 {
        let read = self.input.saturating_add(self.cache_read);
        read.saturating_add(self.cache_write)
    }

    /// All tokens of request and answer.
    pub const fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output)
    }

    /// True when nothing was used.
    pub const fn is_zero(&self) -> bool {
        self.total() == 0
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            estimated: self.estimated || other.estimated,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_and_an_estimate_stays_one() {
        let huge = Usage {
            input: u64::MAX,
            output: 5,
            reasoning: 2,
            ..Usage::default()
        };
        let estimate = Usage {
            input: 7,
            cache_read: 1,
            estimated: true,
            ..Usage::default()
        };
        let sum: Usage = [huge, estimate].into_iter().sum();
        assert_eq!(sum.input, u64::MAX);
        assert_eq!(sum.total(), u64::MAX);
        assert_eq!((sum.cache_read, sum.output, sum.reasoning), (1, 5, 2));
        assert!(sum.estimated);
        assert!(Usage::default().is_zero());
    }
}
