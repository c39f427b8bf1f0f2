//! The coordinator's REST API, as the command line uses it.

use anyhow::{Context as _, bail};
use clap::Args;
use patchfleet_domain::Task;
use patchfleet_proxy::Proxies;
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::config::ConfigArgs;

/// Where the API is and what it wants to know.
#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// The coordinator's address; from the configuration when left out.
    #[arg(long, env = "PATCHFLEET_URL", requires = "api_key")]
    url: Option<Url>,
    /// The API's key; from the configuration when left out.
    #[arg(
        long = "api-key",
        id = "api_key",
        env = "PATCHFLEET_API_KEY",
        hide_env_values = true
    )]
    key: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A client of one coordinator.
#[derive(Debug, Clone)]
pub(crate) struct ApiClient {
    root: Url,
    key: SecretString,
    http: reqwest::Client,
}

/// A page of tasks.
#[derive(Debug, Deserialize)]
pub(crate) struct TaskPage {
    /// Newest first.
    pub(crate) tasks: Vec<Task>,
}

/// A problem document, as far as it is shown (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl ApiArgs {
    /// A client for what the arguments or the configuration name.
    pub(crate) fn client(self) -> anyhow::Result<ApiClient> {
        if let (Some(url), Some(key)) = (self.url, self.key) {
            return ApiClient::new(url, key.into());
        }
        let config = self.config.load()?;
        let coordinator = config.coordinator(self.config.file())?;
        let url = Url::parse(&format!("http://{}", coordinator.listen))?;
        let key = coordinator.api.key.reveal("coordinator.api.key")?;
        ApiClient::new(url, key)
    }
}

impl ApiClient {
    /// A client of the coordinator at `root`, through the environment's proxy if it is elsewhere.
    pub(crate) fn new(root: Url, key: SecretString) -> anyhow::Result<Self> {
        let mut builder = Proxies::from_environment()?.client();
        if root.scheme() == "http" {
            // A host without certificates can ask its own coordinator all the same.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().context("the HTTP client can't start")?;
        Ok(Self { root, key, http })
    }

    /// Fetches a document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(self.request(Method::GET, path)?).await
    }

    /// Has something done.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(self.request(Method::POST, path)?).await
    }

    /// Has something done that takes a document.
    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &serde_json::Value,
    ) -> anyhow::Result<T> {
        self.call(self.request(Method::POST, path)?.json(document))
            .await
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.root.join(path);
        let url = url.with_context(|| format!("bad path {path}"))?;
        let request = self.http.request(method, url);
        Ok(request.bearer_auth(self.key.expose_secret()))
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let answer = request.send().await.with_context(|| {
            format!(
                "can't reach the coordinator at {}; is it running?",
                self.root
            )
        })?;
        let status = answer.status();
        if status.is_success() {
            return answer
                .json()
                .await
                .context("the coordinator's answer can't be read");
        }
        let problem: Problem = answer.json().await.unwrap_or(Problem {
            title: None,
            detail: None,
        });
        let why = problem.detail.or(problem.title).unwrap_or_default();
        bail!("the coordinator answered {status}: {why}")
    }
}
