//! Renaming, transferring and deleting: repositories keep their ids, issues do not keep their numbers.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::super::bare;
use super::super::model::{Left, OpenState, RepositoryId};
use super::super::problem::Problem;
use super::super::shape;
use super::Act;

impl Act<'_> {
    /// Gives the repository another name or another owner; the old name leads to it.
    pub(crate) fn rename_repository(&mut self, full_name: &str) -> Result<(), Problem> {
        let (owner, name) = full_name
            .split_once('/')
            .context("a repository is called owner/name")?;
        if self.state.find_repository(full_name).is_some() {
            return Err(Problem::invalid("Repository", "name", "already_exists"));
        }
        let was = (self.repo().owner.clone(), self.repo().name.clone());
        let folder = self.state.root.join(format!("{full_name}.git"));
        if let Some(parent) = folder.parent() {
            std::fs::create_dir_all(parent).context("the owner's folder")?;
        }
        std::fs::rename(self.folder(), &folder).context("the repository's folder")?;
        let repository = self.repo_mut();
        (repository.owner, repository.name) = (owner.to_owned(), name.to_owned());
        repository.folder = folder;
        let id = self.repository;
        let redirects = &mut self.state.redirects;
        redirects.remove(&full_name.to_lowercase());
        redirects.insert(format!("{}/{}", was.0, was.1).to_lowercase(), id);
        let body = if was.0 == owner {
            let changes = json!({ "repository": { "name": { "from": was.1 } } });
            json!({ "action": "renamed", "changes": changes })
        } else {
            let from = shape::account::user(self.state, &was.0);
            let changes = json!({ "owner": { "from": { "user": from } } });
            json!({ "action": "transferred", "changes": changes })
        };
        self.announce("repository", body);
        Ok(())
    }

    /// Deletes the repository with all that is in it.
    pub(crate) fn delete_repository(&mut self) {
        self.announce("repository", json!({ "action": "deleted" }));
        self.repo_mut().is_deleted = true;
    }

    /// Renames the default branch; open pull requests into it go into the new one.
    pub(crate) fn rename_default_branch(&mut self, to: &str) -> Result<(), Problem> {
        let (folder, from) = (self.folder(), self.repo().default_branch.clone());
        let sha = self.repo().branch_sha(&from).map(str::to_owned);
        let sha = sha.context("the repository has no commit")?;
        bare::set_ref(&folder, &format!("refs/heads/{to}"), &sha)?;
        bare::set_default_branch(&folder, to)?;
        bare::delete_ref(&folder, &format!("refs/heads/{from}"))?;
        let refs = bare::refs(&folder)?;
        let repository = self.repo_mut();
        to.clone_into(&mut repository.default_branch);
        repository.refs = refs;
        let pulls = repository.issues.values_mut();
        let pulls = pulls.filter(|issue| issue.state == OpenState::Open);
        for pull in pulls.filter_map(|issue| issue.pull.as_mut()) {
            if pull.base == from {
                to.clone_into(&mut pull.base);
            }
        }
        let changes = json!({ "default_branch": { "from": from } });
        self.announce(
            "repository",
            json!({ "action": "edited", "changes": changes }),
        );
        Ok(())
    }

    /// Deletes an issue.
    pub(crate) fn delete_issue(&mut self, number: u64) -> Result<(), Problem> {
        self.announce_issue(number, "deleted", Value::Null)?;
        let repository = self.repo_mut();
        repository.issues.remove(&number);
        repository.left.insert(number, Left::Deleted);
        Ok(())
    }

    /// Moves an issue to another repository, where it gets the next number.
    pub(crate) fn transfer_issue(&mut self, number: u64, to: RepositoryId) -> Result<u64, Problem> {
        self.announce_issue(number, "transferred", Value::Null)?;
        let mut issue = self.state.issue(self.repository, number)?.clone();
        let repository = self.repo_mut();
        repository.issues.remove(&number);
        let next = self.state.repository(to).next_number();
        self.repo_mut().left.insert(number, Left::MovedTo(to, next));
        issue.number = next;
        let target = self.state.repository_mut(to);
        target.issues.insert(next, issue);
        Ok(next)
    }
}
