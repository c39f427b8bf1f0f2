//! What the coordinator writes to GitHub: one status comment per task, labels, replies.
//!
//! All of it leaves through the outbox, in order per issue, and is told from the store at the
//! moment it is sent, so it tells the latest. Exactly once in effect: each comment carries a
//! hidden mark and is looked for before it is written. Everything is redacted, bounded and
//! quiet: it notifies nobody.
//! Absent: deciding what is to be told; the store enqueues that with the change itself.

mod markdown;
mod publisher;
mod render;
mod returns;
mod send;
mod timeline;

pub use publisher::{Publisher, run};
pub use render::{Told, answer, problem, status, status_label};

#[cfg(test)]
mod tests;
