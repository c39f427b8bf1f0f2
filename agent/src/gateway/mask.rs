//! One known key masked in a stream of bytes, wherever the stream is split.
//!
//! A server that quotes a request's headers would otherwise hand the key to the sandbox. Masks are
//! as long as the key, so that lengths stay right; what can't be the key's beginning passes at once.

/// Masks a key in pieces of a stream.
#[derive(Default)]
pub(super) struct KeyMask {
    key: Vec<u8>,
    /// The end of what came in, as long as it may be the key's beginning.
    pending: Vec<u8>,
}

impl KeyMask {
    /// A mask for a key; for an empty one nothing is masked.
    pub(super) fn new(key: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            pending: Vec::new(),
        }
    }

    /// Takes a piece; what may leave of it and of what came before.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.pending);
        bytes.extend_from_slice(piece);
        if self.key.is_empty() {
            return bytes;
        }
        let mut at = 0;
        while at + self.key.len() <= bytes.len() {
            if bytes[at..].starts_with(&self.key) {
                bytes[at..at + self.key.len()].fill(b'*');
                at += self.key.len();
            } else {
                at += 1;
            }
        }
        let open = (at..bytes.len()).find(|&at| self.key.starts_with(&bytes[at..]));
        self.pending = bytes.split_off(open.unwrap_or(bytes.len()));
        bytes
    }

    /// What is left at the end, which is no key.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_masked_wherever_the_stream_is_split(
            text in "[ab]{0,40}",
            key in "[ab]{1,5}",
            sizes in prop::collection::vec(1_usize..6, 1..40),
        ) {
            let mut mask = KeyMask::new(key.as_bytes());
            let (mut rest, mut out) = (text.as_bytes(), Vec::new());
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at((*size).min(rest.len()));
                out.extend(mask.push(piece));
                // What is kept back is never more than could become the key.
                prop_assert!(mask.pending.len() < key.len());
                rest = more;
            }
            out.extend(mask.finish());
            let expected = text.replace(&key, &"*".repeat(key.len()));
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn without_a_key_everything_passes() {
        assert_eq!(KeyMask::default().push(b"all"), b"all");
    }
}
