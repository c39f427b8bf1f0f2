//! The client itself: made once, cloned freely.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use http::Uri;
use octocrab::Octocrab;
use patchfleet_domain::RepositoryName;
use patchfleet_proxy::Proxies;
use patchfleet_resilience::{Health, Policy, Remote};
use tokio::sync::OnceCell;
use url::Url;

use crate::GitHubResult;
use crate::budget::{Budget, Budgets, RequestPriority, Spender};
use crate::credentials::{Credentials, SetupError};
use crate::error::chain;
use crate::identity::Identity;
use crate::installation::Installations;
use crate::kept::Keeper;
use crate::redirect::Redirects;
use crate::skew::Skew;

/// Longest time for making a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Which GitHub, and as whom.
#[derive(Debug, Clone)]
pub struct GitHubOptions {
    /// Root of the REST API, such as `https://api.github.com`.
    pub api_url: Url,
    /// As whom to act.
    pub credentials: Credentials,
}

/// How patient the client is, and how it gets there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How calls are tried again and when GitHub is left alone.
    pub policy: Policy,
    /// How long one try may take.
    pub timeout: Duration,
    /// The proxies between here and GitHub.
    pub proxies: Proxies,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            timeout: Duration::from_secs(30),
            proxies: Proxies::default(),
        }
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// `ok`, `not_modified` when GitHub had said the same before, or the word of its error.
    pub outcome: &'static str,
    /// How many more may be made until GitHub's limit is reset, if it said so.
    pub remaining: Option<u64>,
}

type Observer = Arc<dyn Fn(Observation) + Send + Sync>;

/// The GitHub client. Cheap to clone; clones share tokens, breaker and connections.
#[derive(Clone)]
pub struct GitHub {
    pub(crate) shared: Arc<Shared>,
    pub(crate) keeper: Option<Arc<dyn Keeper>>,
    pub(crate) priority: RequestPriority,
    observer: Option<Observer>,
}

pub(crate) struct Shared {
    pub(crate) octocrab: Arc<Octocrab>,
    pub(crate) credentials: Credentials,
    pub(crate) remote: Remote,
    pub(crate) timeout: Duration,
    /// The proxy between here and GitHub, as it may be shown.
    pub(crate) proxy: Option<String>,
    pub(crate) redirects: Redirects,
    pub(crate) skew: Skew,
    pub(crate) identity: OnceCell<Identity>,
    pub(crate) installations: Installations,
    pub(crate) budgets: Budgets,
}

/// As whom a request is made, and whose limit it is spent from.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Shared, because a clone of the client itself would not share its token.
    pub(crate) octocrab: Arc<Octocrab>,
    pub(crate) spender: Spender,
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHub")
            .field("credentials", &self.shared.credentials)
            .finish_non_exhaustive()
    }
}

impl GitHub {
    /// Makes a client that uses the environment's proxies; nothing is asked yet. Has to be called
    /// inside a runtime.
    ///
    /// # Errors
    /// [`SetupError`] when address, credentials or a proxy can't be used.
    pub fn new(options: GitHubOptions) -> Result<Self, SetupError> {
        let settings = Settings {
            proxies: Proxies::from_environment()?,
            ..Settings::default()
        };
        Self::with_settings(options, settings)
    }

    /// Makes a client that is more or less patient than usual, or uses other proxies.
    ///
    /// # Errors
    /// [`SetupError`] when address or credentials can't be used.
    pub fn with_settings(options: GitHubOptions, settings: Settings) -> Result<Self, SetupError> {
        let octocrab = octocrab(&options, &settings)?;
        let proxy = settings.proxies.between(&options.api_url);
        let name = options.api_url.host_str().unwrap_or("github").to_owned();
        Ok(Self {
            shared: Arc::new(Shared {
                octocrab: Arc::new(octocrab),
                credentials: options.credentials,
                remote: Remote::new(name, settings.policy),
                timeout: settings.timeout,
                proxy: proxy.map(ToString::to_string),
                redirects: Redirects::below(options.api_url),
                skew: Skew::default(),
                identity: OnceCell::new(),
                installations: Installations::default(),
                budgets: Budgets::default(),
            }),
            keeper: None,
            priority: RequestPriority::default(),
            observer: None,
        })
    }

    /// The same client for requests of that priority.
    #[must_use]
    pub fn with_priority(mut self, priority: RequestPriority) -> Self {
        self.priority = priority;
        self
    }

    /// Has answers kept there.
    #[must_use]
    pub fn kept_by(mut self, keeper: Arc<dyn Keeper>) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// Has told what came of every request.
    pub fn observed(mut self, observer: impl Fn(Observation) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// How GitHub is doing, as seen from here.
    pub fn health(&self) -> Health {
        self.shared.remote.health()
    }

    /// How far this host's clock is ahead of GitHub's, by its last answer; negative when it is behind.
    pub fn clock_skew(&self) -> Option<TimeDelta> {
        self.shared.skew.get()
    }

    /// The proxy between here and GitHub, without its credentials.
    pub fn proxy(&self) -> Option<&str> {
        self.shared.proxy.as_deref()
    }

    /// What is left of the limit that requests about a repository are spent from; nothing before
    /// the first.
    ///
    /// # Errors
    /// What GitHub answers when it has to be asked whose repository that is.
    pub async fn budget_for(&self, repository: &RepositoryName) -> GitHubResult<Option<Budget>> {
        let caller = self.client_for(repository).await?;
        Ok(self.shared.budgets.get(caller.spender))
    }

    /// What is left of the token's limit, or of the App's own.
    pub fn own_budget(&self) -> Option<Budget> {
        self.shared.budgets.get(Spender::Own)
    }

    /// The caller itself: the token's account, or the App.
    pub(crate) fn own(&self) -> Caller {
        Caller {
            octocrab: Arc::clone(&self.shared.octocrab),
            spender: Spender::Own,
        }
    }

    pub(crate) fn observe(&self, observation: Observation) {
        if let Some(observer) = &self.observer {
            observer(observation);
        }
    }
}

fn octocrab(options: &GitHubOptions, settings: &Settings) -> Result<Octocrab, SetupError> {
    let address = options.api_url.as_str().trim_end_matches('/');
    let bad_address = || SetupError::Address(options.api_url.to_string());
    let uri: Uri = address.parse().map_err(|_| bad_address())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad_address());
    }
    let builder = match options.credentials.auth()? {
        octocrab::auth::Auth::App(app) => Octocrab::builder().app(app.app_id, app.key),
        octocrab::auth::Auth::PersonalToken(token) => Octocrab::builder().personal_token(token),
        _ => Octocrab::builder(),
    };
    let client = |error: octocrab::Error| SetupError::Client(error.to_string());
    builder
        .base_uri(uri)
        .map_err(client)?
        .add_header(http::header::USER_AGENT, "patchfleet".to_owned())
        .build_with_reqwest(http_client(settings)?)
        .map_err(client)
}

fn http_client(settings: &Settings) -> Result<reqwest::Client, SetupError> {
    // Followed in one place, which knows where credentials may go (`redirect`).
    let builder = settings
        .proxies
        .client()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(settings.timeout);
    let built = builder.build();
    built.map_err(|error| SetupError::Client(chain(&error)))
}
