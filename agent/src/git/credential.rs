//! A token for one host, on its way to git and nowhere else.

use std::ffi::OsString;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// A short-lived token for the host of one clone URL.
#[derive(Debug, Clone)]
pub struct Credential {
    base: String,
    token: SecretString,
}

impl Credential {
    /// Binds a token to the host of an `http` or `https` URL; `None` for anything else, because
    /// a local repository takes no token.
    pub fn for_url(url: &str, token: SecretString) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let host = url.host_str()?;
        let port = url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let base = format!("{}://{host}{port}/", url.scheme());
        let credential = Self { base, token };
        patchfleet_guard::register_temporary_secret(credential.token.expose_secret());
        patchfleet_guard::register_temporary_secret(&credential.basic());
        Some(credential)
    }

    /// The configuration entry that has git send the token to that host alone.
    pub(super) fn header(&self) -> (String, OsString) {
        let key = format!("http.{}.extraHeader", self.base);
        (key, format!("Authorization: Basic {}", self.basic()).into())
    }

    /// Takes the token out of a text.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(self.token.expose_secret(), "***")
            .replace(&self.basic(), "***")
    }

    fn basic(&self) -> String {
        BASE64_STANDARD.encode(format!("x-access-token:{}", self.token.expose_secret()))
    }
}
