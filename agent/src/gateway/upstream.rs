//! Where a model is, and the key that its server is shown.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::sandbox::egress::is_this_host;

/// How the upstream is shown the key.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    /// The key goes in the header `x-api-key`.
    ApiKey(SecretString),
    /// The key goes in the header `x-goog-api-key`.
    GoogleKey(SecretString),
    /// The key goes in the header `authorization`, as a bearer token.
    Bearer(SecretString),
    /// The upstream wants no key.
    None,
}

/// A model's address and key.
#[derive(Debug, Clone)]
pub(crate) struct ModelUpstream {
    url: Url,
    credential: Credential,
}

/// An upstream that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModelUpstreamError {
    /// Not HTTP, or more than a base.
    #[error(
        "`{0}` is not a model's address; write `https://HOST`, with a path where the interface has one"
    )]
    NotBase(Url),
    /// The key would go over the network in the clear.
    #[error("`{0}` is not encrypted: a key goes only to `https` addresses and to this host itself")]
    NotEncrypted(Url),
    /// The key can't stand in a header.
    #[error("the model's key has characters that no header can have, such as a line end")]
    Key,
}

impl ModelUpstream {
    /// An upstream below whose address the interface's paths are.
    ///
    /// # Errors
    /// When the address is no base of one, or the key would be readable on the way.
    pub(crate) fn new(base: &Url, credential: Credential) -> Result<Self, ModelUpstreamError> {
        let is_base = matches!(base.scheme(), "http" | "https")
            && base.has_host()
            && base.query().is_none()
            && base.fragment().is_none()
            && base.username().is_empty()
            && base.password().is_none();
        if !is_base {
            return Err(ModelUpstreamError::NotBase(base.clone()));
        }
        let has_key = !matches!(credential, Credential::None);
        if base.scheme() == "http" && has_key && !is_this_host(base) {
            return Err(ModelUpstreamError::NotEncrypted(base.clone()));
        }
        let upstream = Self {
            url: base.clone(),
            credential,
        };
        upstream.show(&mut HeaderMap::new())?;
        Ok(upstream)
    }

    /// The address below which the interface's paths are.
    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// The same, for a path to follow.
    pub(super) fn base(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    pub(super) fn key(&self) -> &str {
        match &self.credential {
            Credential::ApiKey(key) | Credential::GoogleKey(key) | Credential::Bearer(key) => {
                key.expose_secret()
            }
            Credential::None => "",
        }
    }

    /// Adds the key to a request.
    pub(super) fn show(&self, headers: &mut HeaderMap) -> Result<(), ModelUpstreamError> {
        let (name, value) = match &self.credential {
            Credential::ApiKey(key) => ("x-api-key", key.expose_secret().to_owned()),
            Credential::GoogleKey(key) => ("x-goog-api-key", key.expose_secret().to_owned()),
            Credential::Bearer(key) => (
                AUTHORIZATION.as_str(),
                format!("Bearer {}", key.expose_secret()),
            ),
            Credential::None => return Ok(()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| ModelUpstreamError::Key)?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }
}
