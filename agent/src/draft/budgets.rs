//! Budgets over the calls of a model within one attempt.

use std::fmt;
use std::sync::Arc;

use patchfleet_domain::Money;
use patchfleet_domain::outcome::Failure;
use patchfleet_model::{Model, Usage};

use crate::budgeted::{Budgeted, Price};
use crate::process::OnLine;
use crate::recorded::{Recorded, Turns};
use crate::session::reporter::Reporter;

/// Who allows the calls of an attempt, is told what they used, and keeps what they answered.
#[derive(Clone)]
pub struct Budgets(Option<Kept>);

#[derive(Clone)]
struct Kept {
    reporter: Reporter,
    /// What earlier attempts were answered.
    turns: Arc<Turns>,
}

/// A model whose calls are allowed one by one.
pub(super) struct Allowed {
    pub(super) model: Arc<dyn Model>,
    budgeted: Option<Arc<Budgeted<Arc<dyn Model>>>>,
}

/// A model of which nobody knows the price.
struct Unpriced;

impl Budgets {
    /// Those that the coordinator keeps for the attempt of this reporter.
    pub(crate) fn of(reporter: Reporter, turns: Turns) -> Self {
        let turns = Arc::new(turns);
        Self(Some(Kept { reporter, turns }))
    }

    /// None: every call is allowed.
    #[cfg(test)]
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// The model behind the budgets, for a round of the draft. What an earlier attempt paid for in that
    /// round is not asked again.
    pub(super) fn over(&self, model: Arc<dyn Model>, (round, on_line): (u32, &OnLine)) -> Allowed {
        let Some(Kept { reporter, turns }) = &self.0 else {
            return Allowed {
                model,
                budgeted: None,
            };
        };
        let budgeted = Budgeted::new(model, Box::new(Unpriced), reporter.clone());
        let budgeted = Arc::new(budgeted);
        let recorded = Recorded::new(
            budgeted.clone(),
            (round, turns),
            (reporter.clone(), on_line.clone()),
        );
        Allowed {
            model: Arc::new(recorded),
            budgeted: Some(budgeted),
        }
    }
}

impl Allowed {
    /// How the attempt ends, if a call was not allowed.
    pub(super) fn stopped(&self) -> Option<Failure> {
        self.budgeted.as_ref()?.stopped()
    }
}

impl Price for Unpriced {
    fn cost(&self, _usage: &Usage) -> Option<Money> {
        None
    }
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Budgets").field(&self.0.is_some()).finish()
    }
}
