//! Hosts as a configuration names them, and lists of those that are allowed.

mod allow;
mod ecosystems;
mod name;

pub use allow::{AllowList, Entry, EntryError};
pub use ecosystems::Ecosystem;
pub use name::{HostName, NameError};
