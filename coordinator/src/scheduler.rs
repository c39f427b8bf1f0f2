//! Queued tasks in, claims out: who gets which task, and what happens when a lease runs out.
//!
//! [`plan`](plan::plan) decides and is pure; [`Scheduler`] asks the store, plans, claims and hands
//! the assignment to the agent's session; [`leases`] ends what nobody renewed, [`unfit`] sets aside
//! what no agent takes. The loops take no
//! input and are idempotent: a wake-up too many costs a query, one too few a second.
//! Absent: the stream itself, which is `dispatch`'s.

mod backlog;
pub mod experience;
pub mod leases;
pub mod plan;
mod tick;
pub mod turns;
pub mod unfit;

pub use tick::{Scheduler, SchedulerOptions};
