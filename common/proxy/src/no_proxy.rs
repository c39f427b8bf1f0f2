//! For whom no proxy is used.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

/// This host, as curl and git understand it in `no_proxy`.
const LOOPBACK: &str = "localhost,127.0.0.1,::1";

/// The hosts of `NO_PROXY`, matched by curl's rules: a name with all below it, an address, a
/// network, or `*`.
#[derive(Default)]
pub(crate) struct NoProxy(Option<Matcher>);

impl NoProxy {
    pub(crate) fn new(list: &str) -> Self {
        let list = normalized(list).join(",");
        // The matcher knows the rules; which proxy it would choose is of no interest.
        Self(Some(
            Matcher::builder().all("http://proxy").no(list).build(),
        ))
    }

    pub(crate) fn contains(&self, address: &Url) -> bool {
        let Some(matcher) = &self.0 else { return false };
        let host = address.host_str().unwrap_or_default();
        let uri = format!("{}://{host}/", address.scheme()).parse();
        uri.is_ok_and(|uri| matcher.intercept(&uri).is_none())
    }
}

impl fmt::Debug for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The value of `no_proxy` for a program that does not leave out this host by itself, such as git:
/// what the environment says, and loopback.
pub fn exceptions() -> String {
    let mut names = ["no_proxy", "NO_PROXY"].iter();
    let list = names.find_map(|name| std::env::var(name).ok().filter(|list| !list.is_empty()));
    with_loopback(&list.unwrap_or_default())
}

pub(crate) fn with_loopback(list: &str) -> String {
    let hosts = normalized(list);
    hosts
        .iter()
        .map(String::as_str)
        .chain([LOOPBACK])
        .collect::<Vec<_>>()
        .join(",")
}

/// The entries without what people write around them: spaces instead of commas, `*.` before a
/// domain, brackets around an IPv6 address, a port.
fn normalized(list: &str) -> Vec<String> {
    let entries = list.split(|it: char| it == ',' || it.is_whitespace());
    let entries = entries.filter(|entry| !entry.is_empty());
    entries.map(entry).collect()
}

fn entry(text: &str) -> String {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default().to_owned();
    }
    let text = text.strip_prefix("*.").unwrap_or(text);
    match text.split_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
        _ => text.to_owned(),
    }
}
