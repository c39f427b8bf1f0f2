//! The signature that proves a delivery to its receiver.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The value of `X-Hub-Signature-256` for a body: `sha256=` and HMAC-SHA256.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::sign;

    /// The example in GitHub's documentation of webhook validation.
    #[test]
    fn signs_as_github_documents() {
        let signature = sign("It's a Secret to Everybody", b"Hello, World!");
        assert_eq!(
            signature,
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
