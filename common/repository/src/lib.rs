//! `.patchfleet.yaml`, or `.patchfleet.yml`: how Patchfleet works on a repository.
//!
//! Unknown fields and values that can't be are errors that name line, column and field; a default
//! never silently takes the place of what was written. An absent file means defaults.
//!
//! Absent: where the file is read from, and fields for triggers, reviewers and flow, which come
//! with their stages.

mod author;
mod budget;
mod command;
mod commands;
mod config;
mod error;
mod fields;
mod globs;
pub mod hosts;
mod misnamed;
mod recheck;
mod text;

pub use author::Author;
pub use command::split_command;
pub use config::{DEFAULT_TEST_TIMEOUT, RepositoryConfig};
pub use error::{ConfigError, Found};
pub use globs::Globs;
pub use misnamed::is_misnamed;

/// The names of the file, in the root of the default branch; there is one of them at most.
pub const FILES: [&str; 2] = [".patchfleet.yaml", ".patchfleet.yml"];

#[cfg(test)]
mod tests;
