//! GitHub's signature: HMAC-SHA256 over the raw bytes.

use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// True when one of the secrets made the signature (`sha256=` and hexadecimal digits). The
/// comparison takes the same time wherever the difference is.
pub(super) fn is_valid(secrets: &[SecretString], given: Option<&str>, body: &[u8]) -> bool {
    let Some(given) = given
        .and_then(|given| given.strip_prefix("sha256="))
        .and_then(|digits| hex::decode(digits).ok())
    else {
        return false;
    };
    secrets.iter().any(|secret| made_by(secret, &given, body))
}

fn made_by(secret: &SecretString, given: &[u8], body: &[u8]) -> bool {
    let key = secret.expose_secret().as_bytes();
    // An empty secret would let everybody in.
    if key.is_empty() {
        return false;
    }
    Hmac::<Sha256>::new_from_slice(key)
        .is_ok_and(|mac| mac.chain_update(body).verify_slice(given).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's documentation.
    const SIGNATURE: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn secrets(values: &[&str]) -> Vec<SecretString> {
        values
            .iter()
            .map(|value| (*value).to_owned().into())
            .collect()
    }

    #[test]
    fn the_documented_example_is_valid_with_either_secret() {
        let body = b"Hello, World!";
        let right = "It's a Secret to Everybody";
        assert!(is_valid(&secrets(&[right]), Some(SIGNATURE), body));
        assert!(is_valid(&secrets(&["new", right]), Some(SIGNATURE), body));
        assert!(!is_valid(&secrets(&["new"]), Some(SIGNATURE), body));
        assert!(!is_valid(
            &secrets(&[right]),
            Some(SIGNATURE),
            b"Hello, World"
        ));
    }

    #[test]
    fn nothing_else_is() {
        let upper = SIGNATURE.replace("sha256", "SHA256");
        let short = &SIGNATURE[..40];
        for given in [
            None,
            Some(""),
            Some("sha256="),
            Some("sha1=00"),
            Some(&upper),
            Some(short),
        ] {
            assert!(!is_valid(
                &secrets(&["It's a Secret to Everybody", ""]),
                given,
                b"Hello, World!"
            ));
        }
        assert!(!is_valid(&[], Some(SIGNATURE), b"Hello, World!"));
    }
}
