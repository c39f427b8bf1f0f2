//! Which proxy a request goes through, as the environment says.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in small letters or capitals, mean here
//! what they mean to curl and git. Invariants: loopback is never reached through a proxy, as that
//! would be the proxy's own host; a variable that can't be understood is an error and never "no
//! proxy"; and credentials in a proxy's address are sent to that proxy alone, and never shown.
//! Absent: what a system has configured elsewhere, and automatic configuration (PAC).

mod no_proxy;

use std::fmt;
use std::sync::Arc;

use reqwest::ClientBuilder;
use url::{Host, Url};

use self::no_proxy::NoProxy;
pub use self::no_proxy::exceptions;

/// Schemes that a proxy's address may have; curl's.
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// A proxy. It is shown without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Url);

/// The proxies that the environment names, and for which hosts none is used. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    except: Arc<NoProxy>,
}

/// A variable holds no address of a proxy. Its value is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the environment variable {0} is not the address of a proxy: write http://HOST:PORT or \
     http://USER:PASSWORD@HOST:PORT (https, socks5 and socks5h as well), with special characters \
     of a password as %XX"
)]
pub struct InvalidProxy(&'static str);

impl Proxies {
    /// The proxies that this process's environment names.
    ///
    /// # Errors
    /// When a variable that should name a proxy does not.
    pub fn from_environment() -> Result<Self, InvalidProxy> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The proxies that some variables name.
    ///
    /// # Errors
    /// When a variable that should name a proxy does not.
    pub fn from_variables(value: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidProxy> {
        // An empty variable counts as absent, and small letters come first, as they do for curl.
        let first = |names: &[&'static str]| {
            let set = |name: &&'static str| {
                let value = value(name)?.trim().to_owned();
                (!value.is_empty()).then_some((*name, value))
            };
            names.iter().find_map(set)
        };
        let proxy = |names: &[&'static str]| {
            let named = first(names);
            named.map(|(name, value)| Proxy::parse(&value).ok_or(InvalidProxy(name)))
        };
        let all = ["all_proxy", "ALL_PROXY"];
        let http = ["http_proxy", "HTTP_PROXY", all[0], all[1]];
        let https = ["https_proxy", "HTTPS_PROXY", all[0], all[1]];
        let except = first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| NoProxy::new(&value));
        Ok(Self {
            http: proxy(&http).transpose()?.map(Arc::new),
            https: proxy(&https).transpose()?.map(Arc::new),
            except: Arc::new(except.unwrap_or_default()),
        })
    }

    /// The proxy for an address; nothing when it is reached directly.
    pub fn between(&self, address: &Url) -> Option<&Proxy> {
        let proxy = match address.scheme() {
            "http" => self.http.as_deref(),
            "https" => self.https.as_deref(),
            _ => None,
        }?;
        let direct = is_this_host(address) || self.except.contains(address);
        (!direct).then_some(proxy)
    }

    /// What builds an HTTP client that uses these proxies, and no others.
    pub fn client(&self) -> ClientBuilder {
        let proxies = self.clone();
        // The address with its credentials, which reqwest sends as `Proxy-Authorization`.
        let chosen = move |address: &Url| Some(proxies.between(address)?.0.clone());
        reqwest::Client::builder().proxy(reqwest::Proxy::custom(chosen))
    }
}

impl Proxy {
    fn parse(text: &str) -> Option<Self> {
        let has_scheme = text.contains("://");
        let url = if has_scheme {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.ok().filter(|url| SCHEMES.contains(&url.scheme()))?;
        url.host_str().filter(|host| !host.is_empty())?;
        Some(Self(url))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.0.scheme())?;
        match self.0.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// True for loopback, and for "any address", which is loopback to whoever connects to it.
fn is_this_host(address: &Url) -> bool {
    match address.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(Host::Ipv6(ip)) => {
            let inner = ip.to_ipv4_mapped();
            ip.is_loopback() || ip.is_unspecified() || inner.is_some_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
