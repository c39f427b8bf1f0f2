//! Who may connect: those who show the fleet's key. Everyone else learns nothing but that.

use patchfleet_config::ApiKey;
use patchfleet_listen::Source;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

/// Refuses streams that do not show the fleet's key.
#[derive(Debug, Clone)]
pub(super) struct KeyCheck {
    key: ApiKey,
}

impl KeyCheck {
    pub(super) const fn new(key: ApiKey) -> Self {
        Self { key }
    }

    pub(super) fn check<T>(&self, request: &Request<T>, source: Source) -> Result<(), Status> {
        let shown = request.metadata().get("authorization");
        if self.key.admits(shown.map(MetadataValue::as_bytes)) {
            return Ok(());
        }
        tracing::warn!(%source, "an agent showed no or a wrong key");
        Err(Status::unauthenticated("authentication failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_with_the_key_is_let_in() {
        let key = "fleet-key".parse().unwrap();
        let check = KeyCheck::new(key);
        let shows = |header: Option<&'static str>| {
            let mut request = Request::new(());
            if let Some(header) = header {
                let metadata = request.metadata_mut();
                metadata.insert("authorization", header.parse().unwrap());
            }
            check.check(&request, Source::UNKNOWN).is_ok()
        };
        assert!(shows(Some("Bearer fleet-key")));
        for wrong in [None, Some("Bearer "), Some(""), Some("Bearer fleet-keys")] {
            assert!(!shows(wrong), "{wrong:?}");
        }
    }
}
