//! Asking a model: which one, by whose leave, at whose charge, and what is kept of its answers.
//!
//! A call goes through three hands, the outer one first: what was answered before is taken from the
//! record ([`recorded`]), what fails is tried again, and each try is reserved and charged
//! ([`budgeted`], [`charges`]). [`Budgets`] puts them together. The gateway uses the charges alone,
//! as its calls are another program's. Absent: how a provider is spoken to, which `patchfleet_model`
//! knows, and what is asked, which is for whoever asks.

mod budgeted;
mod budgets;
pub(crate) mod charges;
pub(crate) mod fixed_answer;
pub(crate) mod kept_work;
pub(crate) mod language_model;
pub(crate) mod record;
pub(crate) mod recorded;
pub(crate) mod remedy;

pub(crate) use budgets::Allowed;
pub use budgets::Budgets;
pub use language_model::LanguageModel;
