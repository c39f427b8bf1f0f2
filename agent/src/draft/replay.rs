//! Recorded answers, found by the request's fingerprint.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{DraftError, DraftRequest, Drafted};

/// The fingerprint of a request: the first 16 hexadecimal digits of the SHA-256 of title, an
/// empty line and body. Space around them and the kind of line ends do not count: GitHub and its
/// web form change both.
pub fn fingerprint(title: &str, body: &str) -> String {
    let body = body.replace("\r\n", "\n");
    let digest = Sha256::digest(format!("{}\n\n{}", title.trim(), body.trim()));
    hex::encode(&digest[..8])
}

/// The answer that is recorded for a round, or for the last one before it.
pub(super) async fn draft(dir: &Path, request: &DraftRequest) -> Result<Drafted, DraftError> {
    let fingerprint = fingerprint(&request.title, &request.body);
    let folder = dir.join(&fingerprint);
    for round in (1..=request.round).rev() {
        let path = folder.join(format!("{round}.diff"));
        match tokio::fs::read_to_string(&path).await {
            Ok(diff) => {
                return Ok(Drafted {
                    diff,
                    refused: None,
                    isolation: None,
                    model: None,
                    // It was recorded before anybody said them.
                    comments: BTreeSet::new(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DraftError::File { path, source }),
        }
    }
    let path = folder.join(format!("{}.diff", request.round));
    Err(DraftError::NotRecorded { fingerprint, path })
}
