//! The one GitHub client: typed calls, one door, one set of rules for what goes wrong.
//!
//! Every request goes through a [`patchfleet_resilience::Remote`] and keeps to GitHub's limits
//! (`Retry-After`, secondary limits, `x-ratelimit-reset`), of which a part is left to requests that
//! come first ([`RequestPriority`]). A call that creates something is never
//! repeated after an answer that leaves open whether it happened; the caller looks first.
//! Acts as a person (token) or as a GitHub App (one installation token per repository's
//! installation, renewed by itself). What GitHub said before is asked for again only if it has changed,
//! where there is a [`Keeper`]. Tokens and keys show in no `Debug` output and no error.
//! Absent: webhooks, git over HTTP and any knowledge of tasks.

mod ask;
mod budget;
mod client;
mod comment;
mod content;
mod credentials;
mod delivery;
mod door;
mod ensure;
mod error;
mod identity;
mod installation;
mod issue;
mod kept;
mod label;
mod limit;
mod permission;
mod pull;
mod redirect;
mod repository;
mod skew;
mod token;

pub use budget::{Budget, RequestPriority};
pub use client::{GitHub, GitHubOptions, Observation, Settings};
pub use comment::Comment;
pub use content::{ContentKind, FileContent, FolderEntry};
pub use credentials::{Credentials, SetupError};
pub use delivery::{FailedDeliveries, FailedDelivery};
pub use error::{GitHubError, refuses_for_now};
pub use identity::{Identity, IdentityKind};
pub use issue::{Issue, IssueEvent, OpenIssues, OpenState};
pub use kept::{Keeper, KeptAnswer};
pub use permission::Permission;
pub use pull::{NewPullRequest, PullRequest, PullRequestEdit};
pub use repository::{ListedRepository, Repository};
pub use token::{ShortLivedToken, TokenAccess};

/// What a call to GitHub comes to.
pub type GitHubResult<T> = Result<T, GitHubError>;
