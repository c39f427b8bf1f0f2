//! Guardrails for text: what leaves is redacted, what comes from outside is marked as data,
//! and what people read can't act on their terminal.
//!
//! Detection goes by known formats first and by names such as `password =` with a random-looking
//! value second; commit hashes and UUIDs are left alone. Secrets that the process itself holds are
//! registered and masked whatever they look like. Passages that speak to a model are marked for whoever
//! judges a change. Absent: policy. What to do about a
//! finding is the caller's decision.

mod injection;
mod known;
mod markdown;
mod pattern;
mod redact;
mod stream;
mod untrusted;
mod visible;

pub use injection::{InjectionMark, injection_marks};
pub use known::{has_registered_secret, register_secret, register_temporary_secret};
pub use markdown::{Passage, PassageKind, Span, passages, strip_hidden_markdown};
pub use pattern::{Finding, SecretKind, find_secrets};
pub use redact::{redact, redact_registered};
pub use stream::StreamRedactor;
pub use untrusted::{
    Stripped, delimit_untrusted, strip_hidden, strip_invisible, without_references,
};
pub use visible::{visible_json, visible_line, visible_text};
