//! Making accounts, repositories, tokens, Apps and webhooks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::Simulator;
use super::account::{self, Installation, NewApp};
use super::bare;
use super::git::Signature;
use super::hook::payload::ping;
use super::hook::{Hook, HookId};
use super::model::{AccountKind, Permission, Repository, RepositoryId};
use super::state::State;

impl Simulator {
    /// Creates `owner/name` with the files of a folder as the first commit on
    /// `main`. The owner administers it; the bot may write.
    pub fn create_repository(&self, full_name: &str, seed: &Path) -> Result<()> {
        let mut state = self.shared.state();
        let (owner, folder) = vacant(&state, full_name)?;
        bare::create(&folder, seed, &Signature::of(&owner, state.now()))?;
        register(&mut state, full_name, folder)
    }

    /// Creates `owner/name` as a copy of another repository: a path or any
    /// address that git knows. Its HEAD names the default branch.
    pub fn import_repository(&self, full_name: &str, source: &str) -> Result<()> {
        let (_, folder) = vacant(&self.shared.state(), full_name)?;
        // May take long, so not under the lock.
        bare::import(&folder, source)?;
        register(&mut self.shared.state(), full_name, folder)
    }

    /// Hides a repository from those without a permission, or shows it again.
    pub fn set_private(&self, repository: &str, private: bool) -> Result<()> {
        let mut state = self.shared.state();
        let id = find(&state, repository)?;
        state.repository_mut(id).private = private;
        Ok(())
    }

    /// Adds a person, unless there is one of that name.
    pub fn add_user(&self, login: &str) {
        self.shared.state().add_user(login, AccountKind::User);
    }

    /// Gives an account, added if need be, a permission.
    pub fn set_permission(
        &self,
        repository: &str,
        login: &str,
        permission: Permission,
    ) -> Result<()> {
        let mut state = self.shared.state();
        let id = find(&state, repository)?;
        state.add_user(login, AccountKind::User);
        let repository = state.repository_mut(id);
        repository
            .permissions
            .insert(login.to_lowercase(), permission);
        Ok(())
    }

    /// Makes a personal token with all rights of an account, added if need be.
    pub fn issue_token(&self, login: &str) -> String {
        account::issue_token(&mut self.shared.state(), login)
    }

    /// Makes a personal token of the bot.
    pub fn bot_token(&self) -> String {
        let login = self.bot_login();
        self.issue_token(&login)
    }

    /// Login of the bot.
    pub fn bot_login(&self) -> String {
        self.shared.state().bot_login.clone()
    }

    /// Makes a token worthless.
    pub fn revoke_token(&self, token: &str) {
        self.shared.state().tokens.remove(token);
    }

    /// Registers a GitHub App of an owner; its bot is `<slug>[bot]`.
    pub fn create_app(&self, slug: &str, owner: &str) -> Result<NewApp> {
        account::create_app(&mut self.shared.state(), slug, owner)
    }

    /// Installs an App on repositories of one owner; returns the installation.
    pub fn install_app(&self, app: u64, repositories: &[&str]) -> Result<u64> {
        let mut state = self.shared.state();
        ensure!(
            account::find_app(&state, app).is_some(),
            "there is no App {app}"
        );
        let found = repositories.iter().map(|name| find(&state, name));
        let found = found.collect::<Result<Vec<RepositoryId>>>()?;
        let first = found
            .first()
            .context("an App is installed on at least one repository")?;
        let installation = Installation {
            id: state.next_id(),
            app,
            account: state.repository(*first).owner.clone(),
            repositories: found,
            created_at: state.now(),
        };
        let id = installation.id;
        state.installations.push(installation);
        Ok(id)
    }

    /// Has every event of every repository delivered to an address; a ping
    /// comes first.
    pub fn add_webhook(&self, url: &str, secret: &str) -> HookId {
        let mut state = self.shared.state();
        let hook = Hook {
            id: HookId(state.next_id()),
            url: url.to_owned(),
            secret: secret.to_owned(),
            created_at: state.now(),
        };
        let id = hook.id;
        state.hooks.targets.push(hook);
        ping(&mut state, id);
        id
    }
}

/// Makes an empty repository of an account.
pub(super) fn create_empty(
    state: &mut State,
    full_name: &str,
    private: bool,
) -> Result<RepositoryId> {
    let (_, folder) = vacant(state, full_name)?;
    bare::init(&folder)?;
    register(state, full_name, folder)?;
    let id = find(state, full_name)?;
    state.repository_mut(id).private = private;
    Ok(id)
}

/// The repository of that name, or an error that says what to do.
pub(super) fn find(state: &State, full_name: &str) -> Result<RepositoryId> {
    state.find_repository(full_name).with_context(|| {
        format!("the simulator has no repository {full_name}; call create_repository first")
    })
}

/// Owner and folder for a new repository.
fn vacant(state: &State, full_name: &str) -> Result<(String, PathBuf)> {
    let proper = |part: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(letter)
    };
    let Some((owner, name)) = full_name.split_once('/') else {
        bail!("a repository is called owner/name, not {full_name:?}");
    };
    ensure!(
        proper(owner) && proper(name),
        "{full_name:?} has characters that GitHub does not allow"
    );
    ensure!(
        state.find_repository(full_name).is_none(),
        "there is a repository {full_name} already"
    );
    Ok((
        owner.to_owned(),
        state.root.join(format!("{full_name}.git")),
    ))
}

fn register(state: &mut State, full_name: &str, folder: PathBuf) -> Result<()> {
    let (owner, name) = full_name
        .split_once('/')
        .context("a name without an owner")?;
    let now = state.now();
    state.add_user(owner, AccountKind::User);
    let permissions = BTreeMap::from([
        (state.bot_login.to_lowercase(), Permission::Write),
        (owner.to_lowercase(), Permission::Admin),
    ]);
    let id = RepositoryId(state.next_id());
    let repository = Repository {
        id,
        owner: owner.to_owned(),
        name: name.to_owned(),
        private: false,
        default_branch: bare::default_branch(&folder)?,
        created_at: now,
        pushed_at: now,
        permissions,
        labels: Vec::new(),
        issues: BTreeMap::new(),
        left: BTreeMap::new(),
        is_deleted: false,
        checks: Vec::new(),
        statuses: Vec::new(),
        refs: bare::refs(&folder)?,
        folder,
    };
    // An old name that is given anew leads nowhere else any more.
    state.redirects.remove(&full_name.to_lowercase());
    state.repositories.insert(id, repository);
    Ok(())
}
