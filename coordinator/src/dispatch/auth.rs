//! Who may connect: those who show the fleet's key. Everyone else learns nothing but that.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Compares `authorization: Bearer KEY` in constant time.
#[derive(Debug, Clone)]
pub(super) struct KeyCheck {
    key: Arc<SecretString>,
}

impl KeyCheck {
    pub(super) fn new(key: SecretString) -> Self {
        Self { key: Arc::new(key) }
    }

    fn is_right(&self, shown: Option<&str>) -> bool {
        let wanted = self.key.expose_secret().as_bytes();
        let shown = shown.and_then(|header| header.strip_prefix("Bearer "));
        // An empty key lets nobody in, instead of everybody.
        !wanted.is_empty() && shown.is_some_and(|key| key.as_bytes().ct_eq(wanted).into())
    }
}

impl Interceptor for KeyCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization");
        if self.is_right(header.and_then(|value| value.to_str().ok())) {
            return Ok(request);
        }
        let address = request.remote_addr();
        tracing::warn!(?address, "an agent showed no or a wrong key");
        Err(Status::unauthenticated("authentication failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_itself_is_right() {
        let check = KeyCheck::new("fleet".into());
        assert!(check.is_right(Some("Bearer fleet")));
        for wrong in [
            "Bearer fleetx",
            "Bearer flee",
            "Bearer ",
            "fleet",
            "bearer fleet",
            "",
        ] {
            assert!(!check.is_right(Some(wrong)), "{wrong:?} was accepted");
        }
        assert!(!check.is_right(None));
    }

    #[test]
    fn an_empty_key_lets_nobody_in() {
        let check = KeyCheck::new("".into());
        assert!(!check.is_right(Some("Bearer ")));
        assert!(!check.is_right(None));
    }
}
