//! The coordinator: takes in webhooks, keeps tasks, assigns them to agents, reports to GitHub.
//!
//! The modules stand in the order of the data: a delivery enters at `webhook`, becomes tasks in
//! `intake`, is kept by `store` (with `cache` beside it), looked at by `analysis`, planned by `scheduler` and sent by
//! `dispatch`; what agents answer re-enters through the store, and `report` reads it there.
//! Absent here: anything an agent does with a repository.

pub mod webhook;

pub mod intake;

pub mod store;

pub mod cache;

pub mod analysis;

pub mod scheduler;

pub mod dispatch;

pub mod report;

pub mod retention;

pub mod tally;

pub mod api;

mod budget;
pub mod config;
mod guesses;
pub mod problem;
pub mod stages;
mod wake;
mod wiring;

pub use wiring::{Coordinator, check_database, check_github, check_redis};
