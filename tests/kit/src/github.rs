//! A GitHub that runs inside the process: REST, git over HTTP, webhooks.
//!
//! Real protocol, real git, kept state: what one call changes, the next one
//! shows and a signed webhook tells. `Simulator` is the handle: `setup` makes
//! accounts and repositories, `person` acts as somebody, `read` looks without
//! leaving traces, `control` makes things go wrong.
//!
//! Invariants: it listens on loopback unless told otherwise; every change is announced before
//! the call that caused it is answered; webhooks go out in order, one at a time,
//! unless told otherwise. Absent: GraphQL, forks, organizations, branch
//! protection, review comments on lines, web pages.

mod account;
mod act;
mod bare;
mod control;
pub mod examples;
pub mod git;
mod hook;
mod interference;
mod journal;
mod limit;
mod model;
mod person;
mod problem;
mod read;
mod rest;
mod server;
mod setup;
mod shape;
mod shared;
mod smart_http;
mod state;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub use account::NewApp;
pub use bare::merge::MergeMethod;
pub use hook::signature::sign;
pub use hook::{Attempt, Delivery, HookId, Order};
pub use interference::{Fault, Gate, Matcher};
pub use journal::RequestRecord;
pub use model::{
    AccountKind, CheckRun, Comment, CommitStatus, Happened, Issue, Label, OpenState, Permission,
    Pull, PullSize, Repository, RepositoryId, Review, ReviewState, User,
};
pub use problem::{FieldError, Problem};
pub use state::Clock;

use limit::Windows;
use shared::Shared;
use state::{Seed, State};

/// How long a shutdown waits for what is under way.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// How a simulator differs from the usual one.
#[derive(Clone)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the time comes from.
    pub clock: Clock,
    /// Folder for the bare repositories; a temporary one when none is given.
    pub root: Option<PathBuf>,
    /// Account that may write to every repository.
    pub bot_login: String,
    /// Requests that each caller has in an hour.
    pub rate_limit: u64,
    /// How long that hour is.
    pub rate_window: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            clock: Arc::new(chrono::Utc::now),
            root: None,
            bot_login: "patchfleet-bot".to_owned(),
            rate_limit: 5000,
            rate_window: Duration::from_hours(1),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("root", &self.root)
            .field("bot_login", &self.bot_login)
            .field("rate_limit", &self.rate_limit)
            .field("rate_window", &self.rate_window)
            .finish_non_exhaustive()
    }
}

/// A running simulator; dropping it stops it.
pub struct Simulator {
    shared: Arc<Shared>,
    base_url: String,
    /// Keeps the repositories until the simulator is gone.
    _folder: Option<TempDir>,
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl Simulator {
    /// Starts one on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts one that differs from the usual.
    pub async fn start_with(options: Options) -> Result<Self> {
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("the simulator can't listen on {}", options.listen))?;
        let base_url = base_url(listener.local_addr()?);
        let (root, folder) = root_folder(options.root)?;
        let shared = Shared::new(State::new(Seed {
            base_url: base_url.clone(),
            root,
            clock: options.clock,
            bot_login: options.bot_login,
            windows: Windows::new(options.rate_limit, options.rate_window),
        }));
        let stop = shared.stop.clone();
        let serve = axum::serve(listener, server::router(Arc::clone(&shared)))
            .with_graceful_shutdown(async move { stop.cancelled().await });
        shared.tasks.spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the simulator stopped serving");
            }
        });
        shared.tasks.spawn(hook::deliver::run(Arc::clone(&shared)));
        Ok(Self {
            shared,
            base_url,
            _folder: folder,
        })
    }

    /// Root of the REST interface, without a slash at the end; git is served
    /// below it at `/<owner>/<repository>.git`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Address to clone a repository from.
    pub fn clone_url(&self, repository: &str) -> String {
        format!("{}/{repository}.git", self.base_url)
    }

    /// Every REST call that is answered: method and path template.
    pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
        rest::ROUTES
            .iter()
            .map(|(method, path, _)| (*method, *path))
    }

    /// Stops serving and waits, within bounds, for what is under way.
    pub async fn shutdown(self) {
        self.shared.interference.open_all();
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(SHUTDOWN, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("the simulator left requests unanswered");
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.interference.open_all();
        self.shared.stop.cancel();
    }
}

/// Where programs on this host reach it; everywhere is no address to go to.
fn base_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}

fn root_folder(given: Option<PathBuf>) -> Result<(PathBuf, Option<TempDir>)> {
    let Some(root) = given else {
        let folder = tempfile::Builder::new().prefix("github-").tempdir()?;
        return Ok((folder.path().to_owned(), Some(folder)));
    };
    std::fs::create_dir_all(&root)
        .with_context(|| format!("cannot create the simulator's folder {}", root.display()))?;
    let root = root.canonicalize()?;
    Ok((root, None))
}
