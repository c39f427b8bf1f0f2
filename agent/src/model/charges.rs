//! What an attempt's calls of one model are charged: reserved with the coordinator at the most that a
//! call can use, and replaced by what it did use.

use patchfleet_domain::outcome::{Failure, FailureKind};
use patchfleet_domain::{BudgetScope, Exceeded, Money, Reservation, Reserved};
use patchfleet_model::{Origin, Usage};
use uuid::Uuid;

use crate::session::reporter::Reporter;

/// Fewer bytes make no token of text that people and programs write; an estimate to the safe side.
const BYTES_PER_TOKEN: u64 = 2;

/// What a model's calls cost.
pub(crate) trait Price: Send + Sync {
    /// What so much usage costs, rounded up; `None` when nobody knows.
    fn cost(&self, usage: &Usage) -> Option<Money>;
}

/// The charges of one attempt for one model.
pub(crate) struct Charges {
    origin: Origin,
    price: Box<dyn Price>,
    reporter: Reporter,
}

impl Charges {
    /// The charges for the attempt of that reporter.
    pub(crate) const fn new(origin: Origin, price: Box<dyn Price>, reporter: Reporter) -> Self {
        Self {
            origin,
            price,
            reporter,
        }
    }

    /// Reserves a call with at most so many tokens in, of whichever class is the dearest, and so many
    /// out: the name under which it is allowed, or the budget that has no room for it.
    ///
    /// # Errors
    /// When nobody could say whether there is room.
    pub(crate) async fn reserve(
        &self,
        prompt: u64,
        output: u64,
    ) -> Result<Result<String, Exceeded>, Failure> {
        let Origin { provider, model } = self.origin.clone();
        let call = Reservation {
            call: Uuid::now_v7().to_string(),
            provider,
            model,
            tokens: prompt.saturating_add(output),
            cost: self.dearest(prompt, output),
            task_limit: self.reporter.task_limit(),
        };
        Ok(match self.reporter.reserve(&call).await? {
            Reserved::Granted => Ok(call.call),
            Reserved::Refused(exceeded) => Err(exceeded),
        })
    }

    /// The most that so many tokens can cost.
    pub(crate) fn dearest(&self, prompt: u64, output: u64) -> Option<Money> {
        let plain = Usage {
            input: prompt,
            output,
            ..Usage::default()
        };
        let cached = Usage {
            input: 0,
            cache_write: prompt,
            ..plain
        };
        let plain = self.price.cost(&plain)?;
        // A class that has no price of its own is not used.
        Some(self.price.cost(&cached).map_or(plain, |it| it.max(plain)))
    }

    /// Replaces a reservation by what was used. Returns when that is durable, so that the next call is
    /// reserved against what is left.
    pub(crate) async fn settle(&self, call: String, usage: Usage) {
        let Origin { provider, model } = self.origin.clone();
        let cost = self.price.cost(&usage);
        let usage = patchfleet_domain::Usage {
            call,
            provider,
            model,
            input_tokens: usage.input,
            cache_read_tokens: usage.cache_read,
            cache_write_tokens: usage.cache_write,
            output_tokens: usage.output,
            reasoning_tokens: usage.reasoning,
            estimated: usage.estimated,
            cost,
        };
        // When the attempt is gone the reservation stays in full, and the next attempt shows it.
        let _ = self.reporter.usage(usage).await;
    }
}

/// The most tokens that so many bytes of a request can be.
pub(crate) const fn most_tokens(bytes: u64) -> u64 {
    bytes / BYTES_PER_TOKEN + 1
}

/// How an attempt ends that a budget has no room for.
pub(crate) fn spent(exceeded: Exceeded) -> Failure {
    let kind = match exceeded.scope {
        BudgetScope::Task => FailureKind::BudgetSpent,
        BudgetScope::Repository | BudgetScope::User | BudgetScope::Day => {
            FailureKind::DailyBudgetSpent
        }
    };
    Failure {
        kind,
        message: exceeded.message,
        retryable: false,
        discard_checkpoints: false,
    }
}
