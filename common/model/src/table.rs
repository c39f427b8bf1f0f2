//! What is known of models: prices, window, output limit, accepted parameters, features.
//!
//! The table has the form of genai-prices, whose data it can import, with a member `patchfleet` for
//! what that form does not say. Some models are shipped; a table of the user's own stands over them.
//! Invariant: a price that is not known is never zero; "free" is a statement of its own. Absent:
//! what a budget allows.

mod clause;
mod form;
mod price;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use self::form::Provider;
pub use self::form::{ImportError, TableEntry as Entry};
pub use self::price::{Bill, UnknownPrice};
use crate::{Origin, Parameter, Target, Usage};

/// The models that every installation knows.
const SHIPPED: &str = include_str!("../data/models.json");

/// The largest file that is imported; genai-prices' has 2 MB.
const LARGEST: usize = 32 * 1024 * 1024;

/// How a model writes changes best in `diff` mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditFormat {
    /// Blocks of search and replace.
    Diff,
    /// Whole files; for models that get blocks wrong.
    #[default]
    Whole,
}

/// Models by provider. What was added last stands first.
#[derive(Debug, Clone)]
pub struct Table {
    providers: Vec<Provider>,
}

impl Table {
    /// The models that are shipped.
    pub fn shipped() -> Self {
        Self::import(SHIPPED).expect("a test reads what is shipped")
    }

    /// Reads a table in the form of genai-prices.
    ///
    /// # Errors
    /// [`ImportError`] says where the text is wrong.
    pub fn import(text: &str) -> Result<Self, ImportError> {
        if text.len() > LARGEST {
            return Err(ImportError::TooLarge { limit: LARGEST });
        }
        let providers = form::read(text)?;
        Ok(Self { providers })
    }

    /// This table with another one over it, whose entries are found first.
    #[must_use]
    pub fn under(self, mut over: Self) -> Self {
        over.providers.extend(self.providers);
        over
    }

    /// The same as JSON, as it can be imported again.
    pub fn export(&self) -> String {
        form::write(&self.providers)
    }

    /// All entries with the provider that has them, those that are found first first.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.providers.iter().flat_map(|provider| {
            let entries = provider.models.iter();
            entries.map(|entry| (provider.id.as_str(), entry))
        })
    }

    /// The entry of a model at a provider, by any name that the provider has for it.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Entry> {
        let providers = self
            .providers
            .iter()
            .filter(|known| known.is_called(provider));
        let mut found = providers.filter_map(|known| known.model(model));
        found.next()
    }

    /// The entry of a model at a server: the provider is known by its address, and by its name
    /// where the address is nobody's.
    pub fn lookup(&self, target: &Target) -> Option<&Entry> {
        let Origin { provider, model } = &target.origin;
        let by_address = self
            .providers
            .iter()
            .find(|known| known.is_at(&target.base_url));
        let name = match by_address {
            Some(known) => known.id.as_str(),
            None if target.base_url == target.protocol.default_base_url() => target.protocol.name(),
            None => provider,
        };
        self.find(name, model)
    }

    /// A target that sends what the model takes, as far as the table knows it.
    #[must_use]
    pub fn fit(&self, mut target: Target) -> Target {
        let Some(entry) = self.lookup(&target) else {
            return target;
        };
        if let Some(takes) = &entry.more.takes {
            target.takes.clone_from(takes);
        }
        target.window = target.window.or(entry.context_window);
        target
    }
}

impl Entry {
    /// The most tokens of an answer.
    pub const fn output_limit(&self) -> Option<u64> {
        self.more.output_limit
    }

    /// The tokens of request and answer together.
    pub const fn window(&self) -> Option<u64> {
        self.context_window
    }

    /// True when the model can call tools.
    pub const fn tools(&self) -> bool {
        self.more.tools
    }

    /// How the model writes changes best.
    pub const fn edit_format(&self) -> EditFormat {
        self.more.edit_format
    }

    /// The optional parameters that it takes, if that is known.
    pub const fn takes(&self) -> Option<&BTreeSet<Parameter>> {
        self.more.takes.as_ref()
    }

    /// True when the model costs nothing, which is a statement and no gap.
    pub const fn is_free(&self) -> bool {
        self.more.free
    }

    /// What a call cost, in US dollars.
    ///
    /// # Errors
    /// [`UnknownPrice`] when a class that was used has no price.
    pub fn cost(&self, usage: &Usage, at: DateTime<Utc>) -> Result<Decimal, UnknownPrice> {
        if self.is_free() {
            return Ok(Decimal::ZERO);
        }
        self.prices.cost(usage, at).ok_or_else(|| self.unknown())
    }

    /// What a call cost in millionths of a US dollar, rounded up; nothing when that is not known.
    pub fn micro_dollars(&self, usage: &Usage, at: DateTime<Utc>) -> Option<u64> {
        let cost = self.cost(usage, at).ok()?;
        let micro = cost.saturating_mul(Decimal::from(1_000_000)).ceil();
        Some(u64::try_from(micro).unwrap_or(u64::MAX))
    }

    /// The most that a call can cost: each token of the request at the dearest class that it can
    /// fall into, and an answer of full length.
    ///
    /// # Errors
    /// [`UnknownPrice`] when input or output has no price.
    pub fn ceiling(
        &self,
        prompt: u64,
        max_output: u64,
        at: DateTime<Utc>,
    ) -> Result<Decimal, UnknownPrice> {
        if self.is_free() {
            return Ok(Decimal::ZERO);
        }
        let most = self.prices.ceiling(prompt, max_output, at);
        most.ok_or_else(|| self.unknown())
    }

    /// The prices of a moment, one bill for each size of prompt; none when none is known.
    pub fn bill(&self, at: DateTime<Utc>) -> Vec<Bill> {
        self.prices.bill(at)
    }

    fn unknown(&self) -> UnknownPrice {
        UnknownPrice {
            model: self.id.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
