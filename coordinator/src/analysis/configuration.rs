//! What repositories say of themselves in `.patchfleet.yaml`, read when their tasks are analyzed.
//!
//! A repository is asked once for all of its tasks that are analyzed together: for the file that it had last,
//! or for the names in the root of its default branch when it had none, both of which cost nothing of
//! GitHub's limit while nothing there has changed. A GitHub that does not say it holds nobody up: the
//! agent reads the file too, and refuses a mistake then.
//!
//! Absent: what only an agent can judge, such as the hosts that its operator allows.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use lru::LruCache;
use patchfleet_domain::{AgentType, RepositoryName, Task};
use patchfleet_github::{ContentKind, GitHub, GitHubError, RequestPriority};
use patchfleet_repository::{ConfigError, FILES, Found, RepositoryConfig};

/// How many repositories are asked at once.
const CONCURRENT: usize = 16;
/// How long a repository may take to answer: its tasks, and all that are analyzed with them, wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of how many repositories it is remembered which file they had.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("a constant above zero");

/// What a repository says.
#[derive(Debug, Clone, Default)]
pub enum Configuration {
    /// It has no file.
    #[default]
    Absent,
    /// It has this one.
    File(Arc<ReadFile>),
    /// It has one that can't be used.
    Wrong(ConfigError),
    /// GitHub does not say, for this reason.
    Unknown(String),
}

/// A file that can be used.
#[derive(Debug)]
pub struct ReadFile {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub config: RepositoryConfig,
    text: String,
}

/// What a file that is there comes to.
type Read = Result<Arc<ReadFile>, ConfigError>;

/// The files of all repositories.
#[derive(Debug)]
pub struct Configurations {
    github: GitHub,
    /// The name of the file that a repository had last, if it had one.
    places: Mutex<LruCache<RepositoryName, Option<&'static str>>>,
}

impl ReadFile {
    pub(super) fn of(name: &'static str, bytes: &[u8]) -> Result<Arc<Self>, ConfigError> {
        let text = ConfigError::check_text(bytes)?;
        let config = RepositoryConfig::parse(&text)?;
        Ok(Arc::new(Self { name, config, text }))
    }
}

impl Configuration {
    /// The agent type that tasks of the repository want, as it says.
    pub fn agent_type(&self) -> Option<(&'static str, &AgentType)> {
        match self {
            Self::File(file) => Some((file.name, file.config.agent_type.as_ref()?)),
            Self::Absent | Self::Wrong(_) | Self::Unknown(_) => None,
        }
    }

    /// Refuses a file that names an agent type which is none of these.
    ///
    /// # Errors
    /// Where it does.
    pub fn check_agent_type(&self, types: &BTreeSet<AgentType>) -> Result<(), ConfigError> {
        let Self::File(file) = self else {
            return Ok(());
        };
        let checked = file.config.check_agent_type(&file.text, types);
        checked.map_err(|error| error.in_file(file.name))
    }
}

impl Configurations {
    /// Those that this GitHub has.
    pub fn new(github: GitHub) -> Self {
        Self {
            github: github.with_priority(RequestPriority::Agent),
            places: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    /// What the repositories of these tasks say.
    pub async fn of_all(&self, tasks: &[Task]) -> BTreeMap<RepositoryName, Configuration> {
        let repositories: BTreeSet<_> = tasks.iter().map(|task| task.repository.clone()).collect();
        let asking = futures::stream::iter(repositories).map(|repository| async move {
            let said = self.of(&repository).await;
            (repository, said)
        });
        asking.buffer_unordered(CONCURRENT).collect().await
    }

    async fn of(&self, repository: &RepositoryName) -> Configuration {
        let why = match tokio::time::timeout(PATIENCE, self.read(repository)).await {
            Ok(Ok(said)) => return said,
            // Nor can it be cloned: the agent says so, in its own words.
            Ok(Err(GitHubError::NotFound)) => return Configuration::Absent,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("GitHub did not answer within {PATIENCE:?}"),
        };
        tracing::info!(%repository, why, "what the repository says of itself can't be read now");
        Configuration::Unknown(why)
    }

    async fn read(&self, repository: &RepositoryName) -> Result<Configuration, GitHubError> {
        let last = self.places().get(repository).copied();
        let read = match last.unwrap_or(Some(FILES[0])) {
            Some(name) => match self.file(repository, name).await {
                // Or a folder, which is no file's answer.
                Err(GitHubError::NotFound | GitHubError::Unexpected { .. }) => {
                    self.found(repository).await?
                }
                file => Some((name, file?)),
            },
            None => self.found(repository).await?,
        };
        let name = read.as_ref().map(|(name, _)| *name);
        self.places().put(repository.clone(), name);
        Ok(match read {
            None => Configuration::Absent,
            Some((_, Ok(file))) => Configuration::File(file),
            Some((_, Err(error))) => Configuration::Wrong(error),
        })
    }

    /// The file, wherever it is.
    async fn found(
        &self,
        repository: &RepositoryName,
    ) -> Result<Option<(&'static str, Read)>, GitHubError> {
        let entries = self.github.root_entries(repository).await?;
        let at = |name: &'static str| {
            let entry = entries.iter().find(|entry| entry.name == name);
            entry.map(|entry| (name, entry))
        };
        let present: Vec<_> = FILES.into_iter().filter_map(at).collect();
        let (name, entry) = match present[..] {
            [] => return Ok(None),
            [one] => one,
            _ => return Ok(Some((FILES[0], Err(ConfigError::doubled())))),
        };
        let read = match ConfigError::check_place(name, found(entry.kind, entry.size)) {
            Ok(()) => self.file(repository, name).await?,
            Err(error) => Err(error),
        };
        Ok(Some((name, read)))
    }

    /// A file of that name.
    async fn file(
        &self,
        repository: &RepositoryName,
        name: &'static str,
    ) -> Result<Read, GitHubError> {
        let content = self.github.root_file(repository, name).await?;
        let size = content.bytes.len() as u64;
        let read = ConfigError::check_place(name, found(content.kind, size))
            .and_then(|()| ReadFile::of(name, &content.bytes));
        Ok(read.map_err(|error| error.in_file(name)))
    }

    fn places(&self) -> MutexGuard<'_, LruCache<RepositoryName, Option<&'static str>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a repository has at the file's place.
const fn found(kind: ContentKind, size: u64) -> Found {
    match kind {
        ContentKind::Dir => Found::Folder,
        ContentKind::Symlink => Found::Symlink,
        ContentKind::Submodule => Found::Submodule,
        ContentKind::File => Found::File { size },
    }
}
