//! A token for one host, on its way to git and nowhere else.
//!
//! Git asks a credential helper when the host wants to know who is there, and that helper reads
//! the token from a socket that only this one git has. Arguments, variables and files can be read
//! by every process of the user; a socket of another process can't be opened, and what was read
//! from it is gone.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

/// Who a token says it is.
const USER: &str = "x-access-token";
/// The descriptor that the helper reads.
const DESCRIPTOR: i32 = 3;
/// The credential helper: reads the socket when it is asked for a credential, and keeps nothing.
const HELPER: &str = "!f() { test \"$1\" = get && cat <&3; }; f";

/// A token was to go over a network without encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unencrypted;

/// A short-lived token for the host of one clone URL.
#[derive(Debug, Clone)]
pub struct Credential {
    base: String,
    token: SecretString,
}

impl Credential {
    /// Binds a token to the host of an `http` or `https` URL; `None` for anything else, because
    /// a local repository takes no token.
    ///
    /// # Errors
    /// When the token would go over a network without encryption.
    pub fn for_url(url: &str, token: SecretString) -> Result<Option<Self>, Unencrypted> {
        let Ok(url) = Url::parse(url) else {
            return Ok(None);
        };
        let host = url
            .host_str()
            .filter(|_| matches!(url.scheme(), "http" | "https"));
        let Some(host) = host else {
            return Ok(None);
        };
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(Unencrypted);
        }
        let port = url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let base = format!("{}://{host}{port}", url.scheme());
        let credential = Self { base, token };
        patchfleet_guard::register_temporary_secret(credential.token.expose_secret());
        patchfleet_guard::register_temporary_secret(&credential.basic());
        Ok(Some(credential))
    }

    /// The entries that have git ask for the token when it talks to that host, and to no other.
    pub(super) fn configuration(&self) -> [(String, OsString); 2] {
        [
            (self.helper_key(), HELPER.into()),
            // Git 2.46 and later need not be turned away first.
            (format!("http.{}.proactiveAuth", self.base), "basic".into()),
        ]
    }

    /// The socket that the token is read from, once, and the number that the helper knows it by.
    pub(super) fn socket(&self) -> std::io::Result<(i32, OwnedFd)> {
        let (mut ours, theirs) = UnixStream::pair()?;
        // It fits into the socket's buffer, so that nobody has to read meanwhile.
        ours.write_all(&self.answer())?;
        Ok((DESCRIPTOR, theirs.into()))
    }

    /// The key under which git looks for who has the token, when it talks to that host.
    pub(super) fn helper_key(&self) -> String {
        format!("credential.{}.helper", self.base)
    }

    /// What git is told that asks for the token.
    pub(super) fn answer(&self) -> Vec<u8> {
        let token = self.token.expose_secret();
        format!("username={USER}\npassword={token}\n").into_bytes()
    }

    /// Takes the token out of a text.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(self.token.expose_secret(), "***")
            .replace(&self.basic(), "***")
    }

    fn basic(&self) -> String {
        BASE64_STANDARD.encode(format!("{USER}:{}", self.token.expose_secret()))
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
