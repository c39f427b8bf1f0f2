//! A simulator with one repository, a client, and an inbox for webhooks.

use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use patchfleet_testkit::github::{Options, Permission, Simulator, git};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) const REPO: &str = "octo/app";
pub(crate) const SECRET: &str = "It's a Secret to Everybody";
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A simulator with one repository and a client with a token.
pub(crate) struct World {
    pub(crate) github: Simulator,
    pub(crate) client: reqwest::Client,
    pub(crate) token: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// First of `errors[]`, in words or as a code.
    pub(crate) fn error(&self) -> &str {
        let error = &self.body["errors"][0];
        let text = error["message"].as_str().or(error["code"].as_str());
        text.unwrap_or_default()
    }
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Result<Self> {
        let seed = tempfile::tempdir()?;
        std::fs::write(seed.path().join("README.md"), "# App\n")?;
        let github = Simulator::start_with(options).await?;
        github.create_repository(REPO, seed.path())?;
        github.set_permission(REPO, "maria", Permission::Maintain)?;
        Ok(Self {
            token: github.bot_token(),
            client: reqwest::Client::new(),
            github,
        })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let path = path.replace("REPO", &format!("/repos/{REPO}"));
        let url = format!("{}{path}", self.github.base_url());
        self.client.request(method, url).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Reply> {
        reply(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Reply> {
        reply(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Result<Reply> {
        reply(self.request(Method::PATCH, path).json(&body)).await
    }

    /// Pushes a branch that has one more file than `main`.
    pub(crate) async fn push(&self, branch: &str) -> Result<()> {
        let url = self.github.clone_url(REPO);
        let url = url.replace("http://", &format!("http://x:{}@", self.token));
        let branch = branch.to_owned();
        tokio::task::spawn_blocking(move || push(&url, &branch)).await?
    }
}

/// The body that opens a pull request.
pub(crate) fn pull(title: &str, head: &str) -> Value {
    json!({ "title": title, "head": head, "base": "main", "body": "Fixes #1" })
}

fn push(url: &str, branch: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let git = |args: &[&str]| git::run(folder.path(), args);
    git(&["clone", "--quiet", url, "."])?;
    std::fs::write(folder.path().join(branch.replace('/', "-")), "new\n")?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "Change it"])?;
    git(&[
        "push",
        "--quiet",
        "origin",
        &format!("HEAD:refs/heads/{branch}"),
    ])?;
    Ok(())
}

pub(crate) async fn reply(request: reqwest::RequestBuilder) -> Result<Reply> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await?;
    let body = match text.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?,
    };
    Ok(Reply {
        status,
        headers,
        body,
    })
}

/// A webhook as received.
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `event action`.
    pub(crate) fn kind(&self) -> String {
        let body = self.json();
        let action = body["action"].as_str().unwrap_or_default();
        format!("{} {action}", self.header("x-github-event"))
            .trim()
            .to_owned()
    }
}

/// A server that takes webhooks.
pub(crate) struct Inbox {
    pub(crate) url: String,
    received: mpsc::Receiver<Received>,
    _server: JoinSet<()>,
}

impl Inbox {
    pub(crate) async fn start() -> Result<Self> {
        let (sender, received) = mpsc::channel(1000);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/webhooks", listener.local_addr()?);
        let take = async |State(sender): State<mpsc::Sender<Received>>,
                          headers: HeaderMap,
                          body: Bytes| {
            let taken = sender.send(Received { headers, body }).await;
            taken.map_or(StatusCode::GONE, |()| StatusCode::ACCEPTED)
        };
        let router = Router::new().fallback(take).with_state(sender);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            url,
            received,
            _server: server,
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Received> {
        let next = tokio::time::timeout(LONG, self.received.recv()).await?;
        next.context("the inbox is closed")
    }

    /// The kinds of the next so many webhooks.
    pub(crate) async fn kinds(&mut self, count: usize) -> Result<Vec<String>> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.next().await?.kind());
        }
        Ok(kinds)
    }
}
