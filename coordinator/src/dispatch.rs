//! The coordinator's end of the session with agents: who is connected, what they are given, what
//! they report.
//!
//! One gRPC stream per agent, one task per stream. A report is acknowledged only after the store
//! has it; what is not acknowledged is said again, and the store counts it once. Leases belong to
//! the store: after a lost stream they go on for a grace, so that an agent that comes back goes on.
//! Absent: the choice of agent, which is `scheduler`'s, and TLS; the address is the loopback
//! unless told otherwise.

mod auth;
pub mod credentials;
mod github_tokens;
mod lookout;
mod outgoing;
mod reconcile;
mod registration;
mod registry;
mod service;
mod session;

pub use credentials::{CredentialScope, Credentials, IssuedToken, Requested};
pub use github_tokens::GitHubTokens;
pub use registry::{Handover, Registry};
pub use service::{FleetOptions, FleetService, serve};
