//! Text in any encoding as a string, without loss.
//!
//! Drafts and files travel as strings, and not every source is UTF-8. A byte that is not a part of
//! UTF-8 is written as one of 128 characters at the very end of Unicode's private use, which nobody
//! uses; where a file has one of these itself, its bytes are written so as well. Thus each sequence
//! of bytes has one string and comes back from it as it was, and strings that have none of these
//! characters are their own bytes. Python's `surrogateescape` (PEP 383) does the same.

use std::borrow::Cow;
use std::str;

/// Stands for a byte of the value 0; bytes below 0x80 are always a part of UTF-8.
const FIRST: u32 = 0x10_FF00;

/// Bytes as a string; [`to_bytes`] gives them back.
pub(crate) fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(is_escape) => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(bytes)),
    }
}

/// The bytes that a string stands for.
pub(crate) fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + bytes.len() / 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_escape(c) {
                text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(escape));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(escape));
    }
    text
}

fn escape(byte: u8) -> char {
    char::from_u32(FIRST + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_escape(c: char) -> bool {
    byte_of(c).is_some()
}

fn byte_of(c: char) -> Option<u8> {
    let byte = u8::try_from(u32::from(c).checked_sub(FIRST)?).ok()?;
    (!byte.is_ascii()).then_some(byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_back_as_they_were(bytes: Vec<u8>) {
            prop_assert_eq!(to_bytes(&to_text(&bytes)), bytes);
        }

        #[test]
        fn text_stays_text(text: String) {
            prop_assume!(!text.chars().any(is_escape));
            prop_assert_eq!(to_text(text.as_bytes()), text.as_str());
            prop_assert_eq!(to_bytes(&text), text.as_bytes());
        }

        /// Where lines begin and end is the same for both.
        #[test]
        fn lines_are_the_lines_of_the_bytes(lines in prop::collection::vec("\\PC*", 0..5), byte in 0x80..=0xff_u8) {
            let bytes: Vec<_> = lines.iter().flat_map(|line| [line.as_bytes(), &[byte], b"\n"].concat()).collect();
            let text = to_text(&bytes);
            prop_assert_eq!(text.matches('\n').count(), lines.len());
        }
    }

    #[test]
    fn characters_that_stand_for_bytes_are_bytes_in_a_file_too() {
        for c in (0x80..=0xff_u8).map(escape) {
            let bytes = format!("a{c}b").into_bytes();
            let text = to_text(&bytes);
            assert_eq!(text.chars().count(), 6, "each of its bytes has a character");
            assert_eq!(to_bytes(&text), bytes);
        }
    }
}
