//! The coordinator's REST API, as the command line uses it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use patchfleet_domain::Task;
use patchfleet_proxy::Proxies;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::config::ConfigArgs;

/// Where the API is and what it wants to know.
#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// The coordinator's address; from the configuration when left out.
    #[arg(long, env = "PATCHFLEET_URL", global = true, display_order = 100)]
    url: Option<Url>,
    /// The API's key; from the configuration when left out. It is better kept in the environment:
    /// other users of a machine see the arguments of its processes.
    #[arg(
        long = "api-key",
        value_name = "KEY",
        env = "PATCHFLEET_API_KEY",
        hide_env_values = true,
        global = true,
        display_order = 101
    )]
    key: Option<SecretString>,
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
        match (self.url, self.key) {
            (Some(url), Some(key)) => ApiClient::new(url, key),
            // The configuration's key is for no other coordinator than the configuration's.
            (Some(url), None) => bail!(
                "the key of the coordinator at {url} is missing; set PATCHFLEET_API_KEY, or give --api-key"
            ),
            (None, key) => {
                let file = self.config.file();
                if !file.exists() {
                    bail!(
                        "there is no configuration {}; name one with --config, or the coordinator \
                         with --url and PATCHFLEET_API_KEY",
                        file.display()
                    );
                }
                let config = self.config.load()?;
                let coordinator = config.coordinator(file)?;
                let key = match key {
                    Some(key) => key,
                    None => coordinator.api.key.reveal("coordinator.api.key")?,
                };
                ApiClient::new(root(coordinator.listen)?, key)
            }
        }
    }
}

/// Where the API of a coordinator that listens there is, as this host reaches it.
pub(crate) fn root(listen: SocketAddr) -> anyhow::Result<Url> {
    Ok(Url::parse(&format!("http://{}", reachable(listen)))?)
}

/// An address that can be connected to, where one listens on all.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
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
        let answer = request.send().await.map_err(|error| {
            // The innermost cause is what somebody can do something about.
            let cause = anyhow::Error::from(error).root_cause().to_string();
            anyhow!(
                "can't reach the coordinator at {}: {cause}; is it running, and is that its address?",
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
        if status == StatusCode::UNAUTHORIZED {
            bail!(
                "the coordinator at {} does not accept the key; it wants that of `coordinator.api.key`, \
                 which PATCHFLEET_API_KEY or --api-key can give",
                self.root
            );
        }
        let problem: Problem = answer.json().await.unwrap_or(Problem {
            title: None,
            detail: None,
        });
        match problem.detail.or(problem.title) {
            Some(why) => bail!("the coordinator answered {status}: {why}"),
            None => bail!("{} answered {status}; is that the coordinator?", self.root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_on_all_addresses_is_asked_on_the_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
