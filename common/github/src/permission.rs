//! What somebody may do in a repository.

use patchfleet_domain::RepositoryName;
use serde::{Deserialize, Serialize};

use crate::GitHubResult;
use crate::ask::Ask;
use crate::client::GitHub;

/// What an account may do, from nothing to everything. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Nothing.
    None,
    /// Look, open issues, comment.
    Read,
    /// Also label and close.
    Triage,
    /// Also push and merge.
    Write,
    /// Also most settings.
    Maintain,
    /// Everything.
    Admin,
}

#[derive(Debug, Deserialize)]
struct Answer {
    permission: String,
    #[serde(default)]
    role_name: Option<String>,
}

impl Permission {
    fn of_word(word: &str) -> Option<Self> {
        match word {
            "none" => Some(Self::None),
            "read" | "pull" => Some(Self::Read),
            "triage" => Some(Self::Triage),
            "write" | "push" => Some(Self::Write),
            "maintain" => Some(Self::Maintain),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    /// `permission` knows four words only; `role_name` knows all, and an organization's own,
    /// for which `permission` names what they are based on. What neither names is nothing.
    fn of(answer: &Answer) -> Self {
        let role = answer.role_name.as_deref().and_then(Self::of_word);
        role.or_else(|| Self::of_word(&answer.permission))
            .unwrap_or(Self::None)
    }
}

impl GitHub {
    /// What an account may do in a repository, as it is now.
    ///
    /// # Errors
    /// [`crate::GitHubError::NotFound`] for an unknown account or repository,
    /// [`crate::GitHubError::Forbidden`] when the client may not ask.
    pub async fn permission(
        &self,
        repository: &RepositoryName,
        login: &str,
    ) -> GitHubResult<Permission> {
        let (owner, name) = (repository.owner(), repository.name());
        let path = ["repos", owner, name, "collaborators", login, "permission"];
        let answer: Answer = self
            .ask(repository, &Ask::get(&path).authoritative())
            .await?;
        Ok(Permission::of(&answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finer_word_wins_and_unknown_ones_give_nothing() {
        let of = |permission: &str, role: Option<&str>| {
            Permission::of(&Answer {
                permission: permission.to_owned(),
                role_name: role.map(str::to_owned),
            })
        };
        assert_eq!(of("read", Some("triage")), Permission::Triage);
        assert_eq!(of("write", Some("maintain")), Permission::Maintain);
        assert_eq!(of("write", Some("release-engineer")), Permission::Write);
        assert_eq!(of("write", None), Permission::Write);
        assert_eq!(of("root", Some("god")), Permission::None);
        assert!(Permission::Triage < Permission::Write);
    }
}
