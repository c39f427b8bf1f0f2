//! What models cost: money, the budgets that bound it, and sums of what was used.
//!
//! A call is reserved before it is made, at the most that it can cost, and settled with what it did
//! cost. While it is open it counts as if all of the reservation were spent, so a call whose end nobody
//! reports is never forgotten.

use serde::{Deserialize, Serialize};

use crate::id::InvalidId;
use crate::report::Usage;
use crate::state::words;

/// An amount of money in millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(pub u64);

impl Money {
    /// What one dollar is made of.
    const DOLLAR: u64 = 1_000_000;

    /// The sum; the most that can be said rather than an overflow.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::fmt::Display for Money {
    /// Dollars with cents, and with what is below a cent where there is something.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fraction = format!("{:06}", self.0 % Self::DOLLAR);
        let (cents, rest) = fraction.split_at(2);
        let rest = rest.trim_end_matches('0');
        write!(f, "${}.{cents}{rest}", self.0 / Self::DOLLAR)
    }
}

impl std::str::FromStr for Money {
    type Err = InvalidId;

    /// Reads dollars as a decimal with at most six places, with or without `$`.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let read = || {
            let text = text.trim();
            let text = text.strip_prefix('$').unwrap_or(text);
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            let is_number = !whole.is_empty() && are_digits(whole) && are_digits(fraction);
            if !is_number || fraction.is_empty() || fraction.len() > 6 {
                return None;
            }
            let whole: u64 = whole.parse().ok()?;
            let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
            whole
                .checked_mul(Self::DOLLAR)?
                .checked_add(fraction)
                .map(Self)
        };
        read().ok_or_else(|| InvalidId {
            what: "amount of money",
            text: text.to_owned(),
            expected: "dollars with at most six decimal places, such as 5 or 2.50",
        })
    }
}

impl Serialize for Money {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.to_string().trim_start_matches('$'))
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written<'a> {
            Whole(u64),
            Fraction(f64),
            Text(std::borrow::Cow<'a, str>),
        }
        let text = match Written::deserialize(from)? {
            Written::Whole(dollars) => dollars.to_string(),
            // The shortest text that reads as the same number: what was written.
            Written::Fraction(dollars) => dollars.to_string(),
            Written::Text(text) => text.into_owned(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

words! {
    /// What a budget is for.
    BudgetScope: "budget scope" {
        /// One task, in all its attempts.
        Task = "task",
        /// The tasks of a repository, in a day.
        Repository = "repository",
        /// The tasks that a person triggered, in a day.
        User = "user",
        /// All tasks, in a day.
        Day = "day",
    }
}

impl BudgetScope {
    /// True where the limit is one for each day.
    pub const fn is_daily(self) -> bool {
        !matches!(self, Self::Task)
    }
}

/// The most that a scope may spend; what is absent is not limited. A day is one of UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// The most in money.
    pub usd: Option<Money>,
    /// The most in tokens of all classes.
    pub tokens: Option<u64>,
}

impl Limit {
    /// The limit that keeps both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        /// The lesser of those that are there.
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            usd: least(self.usd, other.usd),
            tokens: least(self.tokens, other.tokens),
        }
    }
}

/// The limits of all scopes, as the configuration says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// The limit of each task, over all its attempts.
    pub task: Limit,
    /// The limit of each repository in a day.
    pub repository: Limit,
    /// The limit of each person who triggers tasks, in a day.
    pub user: Limit,
    /// The limit of all tasks together in a day.
    pub day: Limit,
}

impl Budgets {
    /// The limit of a scope.
    pub const fn of(&self, scope: BudgetScope) -> Limit {
        match scope {
            BudgetScope::Task => self.task,
            BudgetScope::Repository => self.repository,
            BudgetScope::User => self.user,
            BudgetScope::Day => self.day,
        }
    }
}

/// A call of a model that is about to be made, at the most that it can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The call, unique within the attempt; asked for again under the same name it is the same call.
    pub call: String,
    /// The provider's name, as configured.
    pub provider: String,
    /// The model's name, as the provider has it.
    pub model: String,
    /// Tokens in and out, at most.
    pub tokens: u64,
    /// What it costs at most, at the dearest class that can apply; `None` when nobody knows the price.
    pub cost: Option<Money>,
    /// What the repository lets a task spend in all its attempts; it only tightens the operator's limit.
    pub task_limit: Limit,
}

/// What becomes of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// The call may be made.
    Granted,
    /// It may not: a budget would be exceeded.
    Refused(Exceeded),
}

/// Why a call may not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose budget it is.
    pub scope: BudgetScope,
    /// What people read: what was spent of which limit, and what can be done.
    pub message: String,
    /// Tokens that the tightest budget has left, if any limits them: a smaller call may fit.
    pub tokens_left: Option<u64>,
    /// The same for money.
    pub money_left: Option<Money>,
}

/// What was used, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// How many calls of models were made.
    pub calls: u64,
    /// Tokens in that no cache had.
    pub input_tokens: u64,
    /// Tokens in that came from the provider's cache.
    pub cache_read_tokens: u64,
    /// Tokens in that were written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Tokens out, reasoning among them.
    pub output_tokens: u64,
    /// Of the tokens out, those that were reasoning.
    pub reasoning_tokens: u64,
    /// Money, of the calls whose price is known.
    pub usd: Money,
    /// Some of it is an estimate: an answer was cut, or a call's end was never reported.
    pub estimated: bool,
    /// Calls whose price nobody knows.
    pub unpriced_calls: u64,
}

impl Spent {
    /// True before the first call.
    pub const fn is_nothing(&self) -> bool {
        self.calls == 0
    }

    /// Tokens of all classes.
    pub const fn tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_read_tokens)
            .saturating_add(self.cache_write_tokens)
            .saturating_add(self.output_tokens)
    }

    /// What people read of it; nothing before the first call.
    pub fn words(&self) -> Option<String> {
        if self.is_nothing() {
            return None;
        }
        let about = if self.estimated { "about " } else { "" };
        let unpriced = match self.unpriced_calls {
            0 => String::new(),
            count => format!(", {count} of them without a known price"),
        };
        let calls = match self.calls {
            1 => "1 call".to_owned(),
            count => format!("{count} calls"),
        };
        Some(format!(
            "{about}{} in {calls}{unpriced}; {} tokens in ({} from the cache), {} out",
            self.usd,
            self.tokens().saturating_sub(self.output_tokens),
            self.cache_read_tokens,
            self.output_tokens
        ))
    }

    /// Adds what one call used.
    pub const fn add(&mut self, usage: &Usage) {
        self.calls = self.calls.saturating_add(1);
        self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens);
        self.cache_read_tokens = self
            .cache_read_tokens
            .saturating_add(usage.cache_read_tokens);
        self.cache_write_tokens = self
            .cache_write_tokens
            .saturating_add(usage.cache_write_tokens);
        self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(usage.reasoning_tokens);
        self.estimated |= usage.estimated;
        match usage.cost {
            Some(cost) => self.usd = self.usd.plus(cost),
            None => self.unpriced_calls = self.unpriced_calls.saturating_add(1),
        }
    }
}

/// What one scope has spent and may spend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Money spent or reserved.
    pub usd: Money,
    /// Tokens spent or reserved.
    pub tokens: u64,
    /// The most that the scope may spend.
    pub limit: Limit,
}

impl Account {
    /// True when the call fits beside what was spent.
    pub fn admits(&self, call: &Reservation) -> bool {
        let tokens = self.tokens.checked_add(call.tokens);
        let fits_tokens = self
            .limit
            .tokens
            .is_none_or(|most| tokens.is_some_and(|tokens| tokens <= most));
        let fits_money = self.limit.usd.is_none_or(|most| {
            let sum = call.cost.and_then(|cost| self.usd.0.checked_add(cost.0));
            sum.is_some_and(|sum| sum <= most.0)
        });
        fits_tokens && fits_money
    }

    /// How much of the limit is used, in hundredths; 0 where nothing is limited.
    pub fn percent(&self) -> u64 {
        let share = |used: u64, most: u64| match most {
            0 => 100,
            most => u64::try_from(u128::from(used) * 100 / u128::from(most)).unwrap_or(u64::MAX),
        };
        let money = self.limit.usd.map_or(0, |most| share(self.usd.0, most.0));
        let tokens = self.limit.tokens.map_or(0, |most| share(self.tokens, most));
        money.max(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn money_is_read_and_written_exactly() {
        assert_eq!(money("5"), Money(5_000_000));
        assert_eq!(money("$2.5"), Money(2_500_000));
        assert_eq!(money("0.000001"), Money(1));
        for (micros, text) in [
            (0, "$0.00"),
            (1, "$0.000001"),
            (2_500_000, "$2.50"),
            (1_234_567_890, "$1234.56789"),
        ] {
            assert_eq!(Money(micros).to_string(), text);
            assert_eq!(money(text), Money(micros));
        }
        for wrong in [
            "",
            "$",
            "-1",
            "1e3",
            "1.",
            ".5",
            "0.0000001",
            "5 USD",
            "18446744073710",
        ] {
            assert!(wrong.parse::<Money>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn configured_money_is_a_number_or_a_text() {
        let read = |json: &str| serde_json::from_str::<Money>(json);
        assert_eq!(read("5").unwrap(), Money(5_000_000));
        assert_eq!(read("0.07").unwrap(), Money(70_000));
        assert_eq!(read("\"2.50\"").unwrap(), Money(2_500_000));
        assert!(read("-1").is_err());
        assert!(read("\"much\"").is_err());
    }

    #[test]
    fn what_was_spent_is_said_with_what_is_not_known() {
        assert_eq!(Spent::default().words(), None);
        let mut spent = Spent::default();
        let usage = Usage {
            input_tokens: 100,
            cache_read_tokens: 20,
            output_tokens: 3,
            cost: Some(money("0.0125")),
            ..Usage::default()
        };
        spent.add(&usage);
        let said = "$0.0125 in 1 call; 120 tokens in (20 from the cache), 3 out";
        assert_eq!(spent.words().as_deref(), Some(said));
        spent.add(&Usage {
            cost: None,
            estimated: true,
            ..usage
        });
        let said = "about $0.0125 in 2 calls, 1 of them without a known price; 240 tokens in (40 from the \
                    cache), 6 out";
        assert_eq!(spent.words().as_deref(), Some(said));
    }

    #[test]
    fn of_two_limits_both_are_kept() {
        let limit = |usd: Option<u64>, tokens| Limit {
            usd: usd.map(Money),
            tokens,
        };
        let both = limit(Some(5), None).and(limit(Some(3), Some(7)));
        assert_eq!(both, limit(Some(3), Some(7)));
        assert_eq!(
            limit(None, Some(2)).and(limit(Some(0), Some(4))),
            limit(Some(0), Some(2))
        );
        assert_eq!(Limit::default().and(Limit::default()), Limit::default());
    }

    #[test]
    fn a_call_fits_until_the_last_millionth() {
        let call = |tokens, cost| Reservation {
            task_limit: Limit::default(),
            call: "1".to_owned(),
            provider: "p".to_owned(),
            model: "m".to_owned(),
            tokens,
            cost,
        };
        let account = Account {
            usd: Money(60),
            tokens: 5,
            limit: Limit {
                usd: Some(Money(100)),
                tokens: Some(10),
            },
        };
        assert!(account.admits(&call(5, Some(Money(40)))));
        assert!(!account.admits(&call(6, Some(Money(40)))));
        assert!(!account.admits(&call(5, Some(Money(41)))));
        assert!(!account.admits(&call(u64::MAX, Some(Money(u64::MAX)))));
        // What nobody knows the price of is not free.
        assert!(!account.admits(&call(1, None)));
        let unlimited = Account::default();
        assert!(unlimited.admits(&call(u64::MAX, None)));
        assert_eq!((account.percent(), unlimited.percent()), (60, 0));
    }
}
