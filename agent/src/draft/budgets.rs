//! Budgets over the calls of a model within one attempt.

use std::fmt;
use std::sync::Arc;

use patchfleet_domain::Money;
use patchfleet_domain::outcome::Failure;
use patchfleet_model::{Model, Usage};

use crate::budgeted::{Budgeted, Price};
use crate::session::reporter::Reporter;

/// Who allows the calls of an attempt, and is told what they used.
#[derive(Clone)]
pub struct Budgets(Option<Reporter>);

/// A model whose calls are allowed one by one.
pub(super) struct Allowed {
    pub(super) model: Arc<dyn Model>,
    budgeted: Option<Arc<Budgeted<Arc<dyn Model>>>>,
}

/// A model of which nobody knows the price.
struct Unpriced;

impl Budgets {
    /// Those that the coordinator keeps for the attempt of this reporter.
    pub(crate) const fn of(reporter: Reporter) -> Self {
        Self(Some(reporter))
    }

    /// None: every call is allowed.
    #[cfg(test)]
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// The model behind the budgets.
    pub(super) fn over(&self, model: Arc<dyn Model>) -> Allowed {
        let Some(reporter) = &self.0 else {
            return Allowed {
                model,
                budgeted: None,
            };
        };
        let budgeted = Budgeted::new(model, Box::new(Unpriced), reporter.clone());
        let budgeted = Arc::new(budgeted);
        Allowed {
            model: budgeted.clone(),
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
