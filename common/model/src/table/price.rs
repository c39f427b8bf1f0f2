//! Prices: by class, by the size of the prompt, by the day, and exactly.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::Usage;

/// Prices are per million tokens.
const MILLION: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);

/// A model has no price that is known, so that no budget can be kept to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the price of `{model}` is not known: import one with `patchfleet model import`, or declare the \
     model free"
)]
pub struct UnknownPrice {
    /// The model.
    pub model: String,
}

/// The prices of a model over time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Pricing {
    /// The same at all times.
    Always(Rates),
    /// Several, of which the last one in force counts, or the first if none is.
    Dated(Vec<Dated>),
}

/// Prices that hold on a condition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Dated {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    constraint: Option<Constraint>,
    prices: Rates,
}

/// When prices are in force, in UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Constraint {
    /// From a day on.
    Start {
        /// The first day.
        start_date: NaiveDate,
    },
    /// At some hours of each day.
    Daily {
        /// The first moment.
        start_time: Time,
        /// The first moment that is not meant any more.
        end_time: Time,
    },
}

/// A time of day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Time(NaiveTime);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // An offset moves the time; days are of no concern.
        let moment = DateTime::parse_from_rfc3339(&format!("2000-01-02T{text}"));
        let moment =
            moment.or_else(|_| DateTime::parse_from_rfc3339(&format!("2000-01-02T{text}Z")));
        let moment = moment.map_err(|_| format!("`{text}` is no time of day"))?;
        Ok(Self(moment.with_timezone(&Utc).time()))
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.0.format("%H:%M:%SZ").to_string()
    }
}

/// Prices in US dollars per million tokens.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Rates {
    #[serde(
        default,
        rename = "input_mtok",
        skip_serializing_if = "Option::is_none"
    )]
    input: Option<Rate>,
    #[serde(
        default,
        rename = "cache_read_mtok",
        skip_serializing_if = "Option::is_none"
    )]
    cache_read: Option<Rate>,
    #[serde(
        default,
        rename = "cache_write_mtok",
        skip_serializing_if = "Option::is_none"
    )]
    cache_write: Option<Rate>,
    #[serde(
        default,
        rename = "output_mtok",
        skip_serializing_if = "Option::is_none"
    )]
    output: Option<Rate>,
}

/// The price of a class.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Rate {
    /// The same for every size of prompt.
    Flat(Price),
    /// A larger prompt makes every token dearer.
    Tiered { base: Price, tiers: Vec<Tier> },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tier {
    /// Prompts of more tokens pay this price, for all of their tokens.
    start: u64,
    price: Price,
}

/// A price that is not negative.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "Decimal", into = "serde_json::Number")]
struct Price(Decimal);

impl TryFrom<Decimal> for Price {
    type Error = String;

    fn try_from(price: Decimal) -> Result<Self, String> {
        if price.is_sign_negative() && !price.is_zero() {
            return Err(format!("the price {price} is negative"));
        }
        Ok(Self(price))
    }
}

impl From<Price> for serde_json::Number {
    fn from(price: Price) -> Self {
        let text = price.0.normalize().to_string();
        serde_json::from_str(&text).unwrap_or_else(|_| Self::from(0))
    }
}

/// The prices of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bill {
    /// Prompts of more tokens than this pay these prices; zero is the ordinary one.
    pub above: u64,
    /// US dollars per million tokens of input that no cache knew.
    pub input: Option<Decimal>,
    /// Per million tokens that were read from the cache.
    pub cache_read: Option<Decimal>,
    /// Per million tokens that were written to the cache.
    pub cache_write: Option<Decimal>,
    /// Per million tokens of the answer.
    pub output: Option<Decimal>,
}

impl Default for Pricing {
    fn default() -> Self {
        Self::Always(Rates::default())
    }
}

impl Constraint {
    fn holds(&self, at: DateTime<Utc>) -> bool {
        match self {
            Self::Start { start_date } => at.date_naive() >= *start_date,
            Self::Daily {
                start_time,
                end_time,
            } => {
                let now = Time(at.time());
                if end_time < start_time {
                    // Over midnight.
                    now >= *start_time || now < *end_time
                } else {
                    (*start_time..*end_time).contains(&now)
                }
            }
        }
    }
}

impl Rate {
    fn of(&self, prompt: u64) -> Decimal {
        match self {
            Self::Flat(price) => price.0,
            Self::Tiered { base, tiers } => {
                let reached = tiers.iter().filter(|tier| prompt > tier.start);
                let highest = reached.max_by_key(|tier| tier.start);
                highest.map_or(base.0, |tier| tier.price.0)
            }
        }
    }

    fn starts(&self) -> impl Iterator<Item = u64> {
        let tiers = match self {
            Self::Flat(_) => &[],
            Self::Tiered { tiers, .. } => tiers.as_slice(),
        };
        tiers.iter().map(|tier| tier.start)
    }
}

impl Rates {
    /// The prices for a size of prompt. A class of the prompt without a price of its own costs what
    /// input costs.
    fn bill(&self, prompt: u64) -> Bill {
        let of = |rate: &Option<Rate>| rate.as_ref().map(|rate| rate.of(prompt));
        let input = of(&self.input);
        Bill {
            above: 0,
            input,
            cache_read: of(&self.cache_read).or(input),
            cache_write: of(&self.cache_write).or(input),
            output: of(&self.output),
        }
    }
}

impl Pricing {
    fn at(&self, at: DateTime<Utc>) -> Option<&Rates> {
        let dated = match self {
            Self::Always(rates) => return Some(rates),
            Self::Dated(dated) => dated,
        };
        let holds = |dated: &&Dated| dated.constraint.as_ref().is_none_or(|when| when.holds(at));
        let last = dated.iter().rev().find(holds).or_else(|| dated.first());
        last.map(|dated| &dated.prices)
    }

    /// What usage costs; nothing when a class that was used has no price.
    pub(crate) fn cost(&self, usage: &Usage, at: DateTime<Utc>) -> Option<Decimal> {
        let bill = self.at(at)?.bill(usage.prompt());
        let classes = [
            (usage.input, bill.input),
            (usage.cache_read, bill.cache_read),
            (usage.cache_write, bill.cache_write),
            (usage.output, bill.output),
        ];
        // A model without any price is not one that costs nothing.
        bill.input.or(bill.output)?;
        let mut sum = Decimal::ZERO;
        for (tokens, price) in classes {
            if tokens > 0 {
                sum = sum.saturating_add(priced(tokens, price?));
            }
        }
        Some(sum)
    }

    /// The most that a request and its answer can cost.
    pub(crate) fn ceiling(&self, prompt: u64, output: u64, at: DateTime<Utc>) -> Option<Decimal> {
        let bill = self.at(at)?.bill(prompt);
        let dearest = bill.input?.max(bill.cache_write?).max(bill.cache_read?);
        let answer = priced(output, bill.output?);
        Some(priced(prompt, dearest).saturating_add(answer))
    }

    /// The prices of the moment for people, one bill for each size of prompt.
    pub(crate) fn bill(&self, at: DateTime<Utc>) -> Vec<Bill> {
        let Some(rates) = self.at(at) else {
            return Vec::new();
        };
        let all = [
            &rates.input,
            &rates.cache_read,
            &rates.cache_write,
            &rates.output,
        ];
        let starts = all.into_iter().flatten().flat_map(Rate::starts);
        let mut starts: Vec<_> = std::iter::once(0).chain(starts).collect();
        starts.sort_unstable();
        starts.dedup();
        let bill = |start: u64| Bill {
            above: start,
            ..rates.bill(start.saturating_add(u64::from(start > 0)))
        };
        let bills = starts.into_iter().map(bill);
        bills
            .filter(|bill| bill.input.is_some() || bill.output.is_some())
            .collect()
    }
}

fn priced(tokens: u64, per_million: Decimal) -> Decimal {
    let product = Decimal::from(tokens).checked_mul(per_million);
    product.map_or(Decimal::MAX, |product| product / MILLION)
}
