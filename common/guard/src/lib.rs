//! Guardrails for text: what leaves is redacted, what comes from outside is marked as data.
//!
//! Detection goes by known formats first and by names such as `password =` with a random-looking
//! value second; commit hashes and UUIDs are left alone. Absent: policy. What to do about a
//! finding is the caller's decision.

mod pattern;
mod redact;
mod untrusted;

pub use pattern::{Finding, SecretKind, find_secrets};
pub use redact::{Redactor, redact};
pub use untrusted::{Stripped, delimit_untrusted, strip_hidden};
