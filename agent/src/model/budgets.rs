//! Budgets over the calls of a model within one attempt.

use std::fmt;
use std::sync::Arc;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{Money, Spent};
use patchfleet_model::{Entry, Model, Origin, Retrying, Usage};
use patchfleet_resilience::Remote;

use super::budgeted::Budgeted;
use super::charges::{Charges, Price};
use super::kept_work::{self, KeptWork};
use super::language_model::LanguageModel;
use super::record::Record;
use super::recorded::{Recorded, Turns};
use crate::process::OnLine;
use crate::session::reporter::Reporter;

/// Who allows the calls of an attempt, is told what they used, and keeps what they answered.
#[derive(Clone)]
pub struct Budgets(Option<Kept>);

#[derive(Clone)]
struct Kept {
    reporter: Reporter,
    /// What earlier attempts were answered.
    turns: Arc<Turns>,
    /// What commands of earlier attempts had changed.
    work: Arc<KeptWork>,
}

/// A model whose calls are allowed one by one.
pub(crate) struct Allowed {
    pub(crate) model: Arc<dyn Model>,
    /// Where its turns stand among those of earlier attempts.
    pub(crate) record: Arc<Record>,
    budgeted: Option<Arc<Budgeted<Arc<dyn Model>>>>,
}

/// What a model costs by its table; nobody knows where that has no entry for it.
struct Listed(Option<Entry>);

impl Budgets {
    /// Those that the coordinator keeps for the attempt of this reporter.
    pub(crate) fn of(reporter: Reporter, (turns, work): (Turns, KeptWork)) -> Self {
        let (turns, work) = (Arc::new(turns), Arc::new(work));
        Self(Some(Kept {
            reporter,
            turns,
            work,
        }))
    }

    /// None: every call is allowed.
    #[cfg(test)]
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// What the task used of models so far, in this attempt and those before it.
    pub(crate) fn spent(&self) -> Spent {
        let kept = self.0.as_ref();
        kept.map(|it| it.reporter.spent()).unwrap_or_default()
    }

    /// The diff against the base that a round of an earlier attempt was stopped with.
    pub(crate) fn kept_work(&self, round: u32) -> Option<&str> {
        self.0.as_ref()?.work.of(round)
    }

    /// Keeps what a round is stopped with.
    pub(crate) async fn keep_work(&self, work: (u32, &str), on_line: &OnLine) {
        if let Some(Kept { reporter, .. }) = &self.0 {
            kept_work::keep(reporter, work, on_line).await;
        }
    }

    /// What the calls of a model are charged that another program makes; nothing where there are no
    /// budgets.
    pub(crate) fn charges(&self, origin: Origin, entry: Option<Entry>) -> Option<Charges> {
        let Kept { reporter, .. } = self.0.as_ref()?;
        let price = Box::new(Listed(entry));
        Some(Charges::new(origin, price, reporter.clone()))
    }

    /// The model behind the budgets, for a stage of the work such as a round of the draft: each try of a
    /// call is allowed by itself, and what an earlier attempt paid for in that stage is not asked again.
    pub(crate) fn over(&self, asked: &LanguageModel, (stage, on_line): (&str, &OnLine)) -> Allowed {
        let LanguageModel {
            model,
            remote,
            entry,
            ..
        } = asked.clone();
        let Some(Kept {
            reporter, turns, ..
        }) = &self.0
        else {
            let model = retrying(model, remote);
            return Allowed {
                model,
                record: Arc::default(),
                budgeted: None,
            };
        };
        let price = || -> Box<dyn Price> { Box::new(Listed(entry.clone())) };
        let budgeted = Budgeted::new(model, price(), reporter.clone());
        let budgeted = Arc::new(budgeted);
        let recorded = Recorded::new(
            (retrying(budgeted.clone(), remote), price()),
            (stage, turns),
            (reporter.clone(), on_line.clone()),
        );
        Allowed {
            record: recorded.record(),
            model: Arc::new(recorded),
            budgeted: Some(budgeted),
        }
    }
}

impl Allowed {
    /// How the attempt ends, if a call was not allowed.
    pub(crate) fn stopped(&self) -> Option<Failure> {
        self.budgeted.as_ref()?.stopped()
    }
}

fn retrying(model: Arc<dyn Model>, remote: Option<Remote>) -> Arc<dyn Model> {
    match remote {
        Some(remote) => Arc::new(Retrying::new(model, remote)),
        None => model,
    }
}

impl Price for Listed {
    fn cost(&self, usage: &Usage) -> Option<Money> {
        let entry = self.0.as_ref()?;
        entry.micro_dollars(usage, chrono::Utc::now()).map(Money)
    }
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Budgets").field(&self.0.is_some()).finish()
    }
}
