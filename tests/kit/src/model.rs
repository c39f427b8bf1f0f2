//! A provider of models that runs inside the process: five protocols on the wire, answers by a
//! script, as strict as the real ones, with every fault that they are known for.
//!
//! Anthropic Messages, `OpenAI` Responses and Chat Completions, Gemini and Ollama are served on one
//! address, streaming and not. `Script` says what is answered; `Simulator` is the handle.
//!
//! Invariants: a request is answered once, unless the first answer was a fault; a history is taken
//! only if the provider would take it; everything that a provider would charge is counted. Absent:
//! any model, web sockets, batches, files, stored responses.

mod answer;
mod asked;
mod book;
mod cache;
mod connection;
mod deliver;
mod history;
mod problem;
mod route;
pub mod script;
mod seal;
mod server;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use book::{RequestRecord, State};
pub use script::{Script, ScriptError, Usage};
pub use wire::Protocol;

use book::Book;
use connection::{Acceptor, Connection, Door};
use server::Shared;

/// How long a shutdown waits for what is under way.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A running simulator; dropping it stops it.
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Simulator {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(script: Script) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// Starts one at an address.
    ///
    /// # Errors
    /// When it can't listen there.
    pub async fn start_at(listen: SocketAddr, script: Script) -> Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("the model simulator can't listen on {listen}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script,
            book: Mutex::new(Book::default()),
            changed: watch::Sender::new(0),
            door: Door::new(),
            is_paused: watch::Sender::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let acceptor = Acceptor::new(listener, shared.door.clone())?;
        let service: IntoMakeServiceWithConnectInfo<_, Connection> =
            server::router(Arc::clone(&shared)).into_make_service_with_connect_info();
        let stop = shared.stop.clone();
        let serve = axum::serve(acceptor, service)
            .with_graceful_shutdown(async move { stop.cancelled().await });
        shared.tasks.spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the model simulator stopped serving");
            }
        });
        Ok(Self { shared, address })
    }

    /// Its root, without a slash at the end: the base URL of Anthropic's, Gemini's and Ollama's
    /// clients. Those of `OpenAI` want `/v1` after it.
    pub fn base_url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{address}")
    }

    /// The key that clients have to send.
    pub fn key(&self) -> &str {
        &self.shared.script.key
    }

    /// What it has counted so far.
    pub fn state(&self) -> State {
        self.shared.book().state.clone()
    }

    /// Waits until what it has counted is as wanted; bound it from outside.
    pub async fn wait(&self, wanted: impl Fn(&State) -> bool) -> State {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let there = wanted(&self.shared.book().state);
            if there || changed.changed().await.is_err() {
                return self.state();
            }
        }
    }

    /// Gives no answer from now on until they are released; requests are taken and counted.
    pub fn hold_answers(&self) {
        self.shared.is_paused.send_replace(true);
    }

    /// Gives the answers that wait, and all further ones at once.
    pub fn release_answers(&self) {
        self.shared.is_paused.send_replace(false);
    }

    /// Refuses connections until it is told to accept them, and resets those that are there.
    pub async fn refuse_connections(&self) {
        self.shared.door.close().await;
    }

    /// Accepts connections again.
    pub fn accept_connections(&self) {
        self.shared.door.open();
    }

    /// Stops serving and waits, within bounds, for what is under way.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.door.open();
        self.shared.tasks.close();
        if tokio::time::timeout(SHUTDOWN, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("the model simulator left requests unanswered");
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
