//! Guardrails for text: what leaves is redacted, what comes from outside is marked as data.
//!
//! Detection goes by known formats first and by names such as `password =` with a random-looking
//! value second; commit hashes and UUIDs are left alone. Secrets that the process itself holds are
//! registered and masked whatever they look like. Absent: policy. What to do about a
//! finding is the caller's decision.

mod known;
mod pattern;
mod redact;
mod stream;
mod untrusted;

pub use known::{register_secret, register_temporary_secret};
pub use pattern::{Finding, SecretKind, find_secrets};
pub use redact::{redact, redact_registered};
pub use stream::StreamRedactor;
pub use untrusted::{Stripped, delimit_untrusted, strip_hidden, without_references};
