//! Sealed parts: what a model gives out that only its server can check.
//!
//! A seal holds for the text that it was made for and for nothing else, so that a part that was
//! changed, moved or made up is found without keeping what was given out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

const SECRET: &str = "the simulator's own";
const NONCE: usize = 12;

/// A seal for a text; `seed` makes it differ from another one for the same text.
pub(crate) fn seal(bound: &str, seed: &str) -> String {
    let nonce = &digest(&[seed.as_bytes(), bound.as_bytes()])[..NONCE];
    let code = digest(&[SECRET.as_bytes(), nonce, bound.as_bytes()]);
    BASE64_STANDARD.encode([nonce, &code[..]].concat())
}

/// Whether it is a seal for that text.
pub(crate) fn holds(seal: &str, bound: &str) -> bool {
    let Ok(bytes) = BASE64_STANDARD.decode(seal) else {
        return false;
    };
    let Some((nonce, code)) = bytes.split_at_checked(NONCE) else {
        return false;
    };
    digest(&[SECRET.as_bytes(), nonce, bound.as_bytes()]) == code
}

fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_holds_for_its_own_text_alone() {
        let made = seal("thought", "1");
        assert!(holds(&made, "thought"));
        assert!(!holds(&made, "thoughts"));
        assert_ne!(made, seal("thought", "2"));
        for other in ["", "AAAA", "no base64!"] {
            assert!(!holds(other, "thought"), "{other}");
        }
    }
}
