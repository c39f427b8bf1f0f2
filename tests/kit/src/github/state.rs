//! The simulator's memory behind one lock.
//!
//! Invariants: accounts and repositories are never removed, only marked as deleted; names compare
//! without regard to case; a number is never given twice. State changes happen
//! in `act`, which also announces them; this file only holds and finds.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::account::{App, Installation, Token};
use super::hook::Hooks;
use super::limit::Windows;
use super::model::{AccountKind, Comment, Issue, Permission, Pull, Repository, RepositoryId, User};
use super::problem::Problem;

/// GitHub's own stand-in for accounts that no longer exist.
const GHOST: u64 = 10_137;

/// Where the time comes from.
pub type Clock = std::sync::Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// All that the simulator knows.
pub(crate) struct State {
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub(crate) base_url: String,
    /// Where the bare repositories lie.
    pub(crate) root: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) repositories: BTreeMap<RepositoryId, Repository>,
    /// Old names of repositories, in lower case.
    pub(crate) redirects: HashMap<String, RepositoryId>,
    pub(crate) tokens: HashMap<String, Token>,
    pub(crate) apps: Vec<App>,
    pub(crate) installations: Vec<Installation>,
    pub(crate) hooks: Hooks,
    pub(crate) windows: Windows,
    /// Account that gets `write` on every new repository.
    pub(crate) bot_login: String,
    last_id: u64,
}

/// What a new state needs to know.
pub(crate) struct Seed {
    pub(crate) base_url: String,
    pub(crate) root: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) bot_login: String,
    pub(crate) windows: Windows,
}

impl State {
    pub(crate) fn new(seed: Seed) -> Self {
        let mut state = Self {
            base_url: seed.base_url,
            root: seed.root,
            clock: seed.clock,
            users: BTreeMap::new(),
            repositories: BTreeMap::new(),
            redirects: HashMap::new(),
            tokens: HashMap::new(),
            apps: Vec::new(),
            installations: Vec::new(),
            hooks: Hooks::default(),
            windows: seed.windows,
            bot_login: seed.bot_login.clone(),
            // Real ids are long numbers; short ones hide confusion with issue numbers.
            last_id: 1_000_000,
        };
        state.add_user(&seed.bot_login, AccountKind::User);
        state
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Adds an account unless one of that name exists.
    pub(crate) fn add_user(&mut self, login: &str, kind: AccountKind) {
        let key = login.to_lowercase();
        if self.users.contains_key(&key) {
            return;
        }
        let user = User {
            id: self.next_id(),
            login: login.to_owned(),
            kind,
            created_at: self.now(),
        };
        self.users.insert(key, user);
    }

    pub(crate) fn find_user(&self, login: &str) -> Option<&User> {
        self.users.get(&login.to_lowercase())
    }

    /// The account of that name, or GitHub's ghost.
    pub(crate) fn user(&self, login: &str) -> User {
        self.find_user(login).cloned().unwrap_or_else(|| User {
            id: GHOST,
            login: "ghost".to_owned(),
            kind: AccountKind::User,
            created_at: DateTime::UNIX_EPOCH,
        })
    }

    /// The repository called `owner/name`.
    pub(crate) fn find_repository(&self, full_name: &str) -> Option<RepositoryId> {
        self.repositories
            .values()
            .filter(|repository| !repository.is_deleted)
            .find(|repository| repository.full_name().eq_ignore_ascii_case(full_name))
            .map(|repository| repository.id)
    }

    /// The repository that was called so and has another name now.
    pub(crate) fn renamed(&self, full_name: &str) -> Option<RepositoryId> {
        let id = self.redirects.get(&full_name.to_lowercase())?;
        self.find_repository(full_name).is_none().then_some(*id)
    }

    pub(crate) fn repository(&self, id: RepositoryId) -> &Repository {
        self.repositories
            .get(&id)
            .expect("repository ids come from this state, which never removes one")
    }

    pub(crate) fn repository_mut(&mut self, id: RepositoryId) -> &mut Repository {
        self.repositories
            .get_mut(&id)
            .expect("repository ids come from this state, which never removes one")
    }

    pub(crate) fn issue(&self, id: RepositoryId, number: u64) -> Result<&Issue, Problem> {
        self.repository(id)
            .issues
            .get(&number)
            .ok_or(Problem::NotFound)
    }

    pub(crate) fn issue_mut(
        &mut self,
        id: RepositoryId,
        number: u64,
    ) -> Result<&mut Issue, Problem> {
        self.repository_mut(id)
            .issues
            .get_mut(&number)
            .ok_or(Problem::NotFound)
    }

    /// An issue that is a pull request, with that part of it.
    pub(crate) fn pull(&self, id: RepositoryId, number: u64) -> Result<(&Issue, &Pull), Problem> {
        let issue = self.issue(id, number)?;
        let pull = issue.pull.as_ref().ok_or(Problem::NotFound)?;
        Ok((issue, pull))
    }

    /// A comment with its issue.
    pub(crate) fn comment(
        &self,
        id: RepositoryId,
        comment: u64,
    ) -> Result<(&Issue, &Comment), Problem> {
        let all = self.repository(id).issues.values();
        let mut all = all.flat_map(|issue| issue.comments.iter().map(move |one| (issue, one)));
        all.find(|(_, one)| one.id == comment)
            .ok_or(Problem::NotFound)
    }

    pub(crate) fn pull_mut(&mut self, id: RepositoryId, number: u64) -> Result<&mut Pull, Problem> {
        self.issue_mut(id, number)?
            .pull
            .as_mut()
            .ok_or(Problem::NotFound)
    }

    /// What an account may do; everybody may read what is public.
    pub(crate) fn permission(&self, id: RepositoryId, login: &str) -> Permission {
        let repository = self.repository(id);
        let given = repository.permissions.get(&login.to_lowercase()).copied();
        let floor = if repository.private {
            Permission::None
        } else {
            Permission::Read
        };
        given.unwrap_or(floor).max(floor)
    }
}
