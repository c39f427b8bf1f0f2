//! Loads the one typed configuration tree: a TOML file, the environment over it, secrets by
//! reference.
//!
//! What is wrong is said with file, line and field. Absent: the tree itself; each program part
//! defines its own section beside the code that it configures.

mod api_key;
mod environment;
mod human_duration;
mod load;
mod place;
mod rules;
mod secret;

pub use api_key::{ApiKey, ApiKeyError};
pub use human_duration::HumanDuration;
pub use load::{ConfigError, load};
pub use rules::{Fault, Faults, Rules};
pub use secret::{Secret, SecretError};
