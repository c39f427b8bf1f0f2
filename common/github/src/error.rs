//! What GitHub answers when it does not do what was asked, as callers need to tell it apart.

use std::error::Error as StdError;
use std::time::Duration;

use http::StatusCode;
use octocrab::Error as Octo;

use crate::limit;

/// Why a proxy lets nothing through.
const AUTHORIZATION: &str = "it wants another user and password, or any at all; write them into \
                             its address, http://USER:PASSWORD@HOST:PORT";

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitHubError {
    /// It does not exist, or these credentials may not know that it does.
    #[error("GitHub knows no such thing, or hides it from these credentials")]
    NotFound,
    /// The credentials are good but may not do this.
    #[error("GitHub forbids it: {message}")]
    Forbidden {
        /// GitHub's words.
        message: String,
    },
    /// The credentials are unknown, revoked or expired.
    #[error("GitHub does not accept the credentials")]
    Unauthorized,
    /// What was asked for makes no sense to GitHub.
    #[error("GitHub can't do that: {message}{}", listed(errors))]
    Invalid {
        /// GitHub's words.
        message: String,
        /// What exactly, one finding each.
        errors: Vec<String>,
    },
    /// Too many requests; nothing happened.
    #[error("GitHub's rate limit is reached; next try in {} s", retry_after.as_secs())]
    RateLimited {
        /// How long to leave GitHub alone.
        retry_after: Duration,
    },
    /// GitHub is away or broke off; the request may or may not have had its effect.
    #[error("GitHub is unavailable: {message}")]
    Unavailable {
        /// What happened.
        message: String,
        /// How long GitHub asked to be left alone, if it did.
        retry_after: Option<Duration>,
    },
    /// An answer that this client does not understand.
    #[error("unexpected answer from GitHub: {message}")]
    Unexpected {
        /// What is wrong with it.
        message: String,
    },
}

impl GitHubError {
    /// The word for metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Forbidden { .. } => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Invalid { .. } => "invalid",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
            Self::Unexpected { .. } => "unexpected",
        }
    }

    /// True when the same call may succeed later without anybody's doing.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable { .. })
    }

    /// True when GitHub says that there is one already.
    pub fn already_exists(&self) -> bool {
        let Self::Invalid { message, errors } = self else {
            return false;
        };
        let mut texts = std::iter::once(message).chain(errors);
        texts.any(|text| text.contains("already exists") || text.contains("already_exists"))
    }

    /// True when GitHub does not know the branch of a new pull request, which it may not have seen yet
    /// right after the push.
    pub fn is_head_unknown(&self) -> bool {
        let Self::Invalid { errors, .. } = self else {
            return false;
        };
        errors.iter().any(|text| {
            let finding: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            let (field, code) = (finding["field"].as_str(), finding["code"].as_str());
            let said = text.to_lowercase();
            matches!(
                (field, code),
                (Some("head"), Some("invalid")) | (Some("head_sha"), Some("missing_field"))
            ) || said.contains("head sha can't be blank")
                || said.contains("head ref must be a branch")
        })
    }

    /// True of a refusal that may be taken back without a change of what was granted: the account's
    /// network rules, its sign-on, or a suspended App; not of a right that is missing.
    pub fn may_be_taken_back(&self) -> bool {
        let Self::Forbidden { message } = self else {
            return false;
        };
        let message = message.to_lowercase();
        let missing = [
            "not accessible by",
            "must have",
            "permission",
            "not permitted to create",
            "protected branch",
        ];
        !missing.iter().any(|words| message.contains(words)) || refuses_for_now(&message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable {
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same error, which names the proxy between here and GitHub: it may be the one that
    /// failed, and answers in GitHub's place when it wants to know who asks.
    pub(crate) fn behind(self, proxy: &str, status: Option<StatusCode>) -> Self {
        let named = |text: &str| format!("through the proxy {proxy}: {text}");
        match self {
            _ if status == Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
                Self::unavailable(named(AUTHORIZATION))
            }
            Self::Unavailable {
                message,
                retry_after,
            } => Self::Unavailable {
                message: named(if message.contains("proxy authorization required") {
                    AUTHORIZATION
                } else {
                    &message
                }),
                retry_after,
            },
            other => other,
        }
    }

    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::Unexpected {
            message: message.into(),
        }
    }
}

fn listed(errors: &[String]) -> String {
    if errors.is_empty() {
        return String::new();
    }
    format!(" ({})", errors.join("; "))
}

impl From<Octo> for GitHubError {
    fn from(error: Octo) -> Self {
        match error {
            Octo::GitHub { source, .. } => refused(&source),
            Octo::Json { source, .. } => {
                let at = source.path().to_string();
                malformed(&source.into_inner(), &at)
            }
            Octo::Serde { source, .. } => malformed(&source, "."),
            Octo::Service { source, .. } => Self::unavailable(chain(source.as_ref())),
            Octo::Hyper { source, .. } => Self::unavailable(chain(&source)),
            Octo::Reqwest { source, .. } if source.is_builder() => Self::unexpected(chain(&source)),
            Octo::Reqwest { source, .. } => Self::unavailable(chain(&source)),
            Octo::JWT { source, .. } => {
                Self::unexpected(format!("the App's private key can't sign: {source}"))
            }
            other => Self::unexpected(chain(&other)),
        }
    }
}

/// A broken-off answer is GitHub's trouble, a whole one of another shape is ours.
fn malformed(error: &serde_json::Error, at: &str) -> GitHubError {
    match error.classify() {
        serde_json::error::Category::Data => {
            GitHubError::unexpected(format!("the answer at `{at}`: {error}"))
        }
        _ => GitHubError::unavailable(format!("the answer is broken: {error}")),
    }
}

fn refused(refusal: &octocrab::GitHubError) -> GitHubError {
    let status = refusal.status_code.as_u16();
    if let Some(retry_after) = limit::told_to_wait(refusal) {
        return GitHubError::RateLimited { retry_after };
    }
    let message = refusal.message.clone();
    match status {
        401 => GitHubError::Unauthorized,
        403 | 451 => GitHubError::Forbidden { message },
        404 | 410 => GitHubError::NotFound,
        400 | 405 | 409 | 422 => GitHubError::Invalid {
            message,
            errors: findings(refusal),
        },
        408 | 500..=599 => GitHubError::Unavailable {
            message: format!("{status} {message}"),
            retry_after: limit::retry_after(refusal),
        },
        _ => GitHubError::unexpected(format!("{status} {message}")),
    }
}

fn findings(refusal: &octocrab::GitHubError) -> Vec<String> {
    let errors = refusal.errors.iter().flatten();
    errors
        .map(|error| match (&error["message"], error) {
            (serde_json::Value::String(message), _) | (_, serde_json::Value::String(message)) => {
                message.clone()
            }
            _ => error.to_string(),
        })
        .collect()
}

/// The error and its causes; libraries tend to hide the reason in the last one.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = first_line(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = first_line(error);
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Some of octocrab's errors show a backtrace after the first line.
fn first_line(error: &dyn StdError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// True of GitHub's words for a refusal of everything for a while, which says nothing of what was asked: the
/// account's network rules, a suspended App or account, or a repository that moves to another server.
pub fn refuses_for_now(words: &str) -> bool {
    let words = words.to_lowercase();
    let reasons = ["ip allow list", "suspended", "locked for migration"];
    reasons.iter().any(|reason| words.contains(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_that_github_has_not_seen_yet_is_told_from_one_without_commits() {
        let invalid = |finding: &str| GitHubError::Invalid {
            message: "Validation Failed".to_owned(),
            errors: vec![finding.to_owned()],
        };
        for unseen in [
            r#"{"resource":"PullRequest","field":"head","code":"invalid"}"#,
            r#"{"resource":"PullRequest","field":"head_sha","code":"missing_field"}"#,
            "Head sha can't be blank",
            "Head ref must be a branch",
        ] {
            assert!(invalid(unseen).is_head_unknown(), "{unseen}");
        }
        for other in [
            r#"{"resource":"PullRequest","field":"base","code":"invalid"}"#,
            "No commits between main and patchfleet/1-x",
            "A pull request already exists for acme:patchfleet/1-x.",
        ] {
            assert!(!invalid(other).is_head_unknown(), "{other}");
        }
    }

    #[test]
    fn refusals_that_may_pass_are_told_from_missing_rights() {
        let refused = |message: &str| GitHubError::Forbidden {
            message: message.to_owned(),
        };
        for passing in [
            "Although you appear to have the correct authorization credentials, the `acme` organization \
             has an IP allow list enabled, and your IP address is not permitted to access this resource.",
            "This installation has been suspended",
            "Resource protected by organization SAML enforcement. You must grant your token access.",
            "Forbidden",
            "",
        ] {
            assert!(refused(passing).may_be_taken_back(), "{passing}");
        }
        for missing in [
            "Resource not accessible by integration",
            "Resource not accessible by personal access token",
            "Must have admin rights to Repository.",
            "GitHub Actions is not permitted to create or approve pull requests.",
        ] {
            assert!(!refused(missing).may_be_taken_back(), "{missing}");
        }
        assert!(!GitHubError::NotFound.may_be_taken_back());
    }
}
