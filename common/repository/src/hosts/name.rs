//! Host names in one canonical form, read once: policy, resolver and TLS see the same labels.

use std::fmt;

/// A DNS name of at least two labels in its canonical form: ASCII, lower case, no final dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// A text is not a host name that the proxy would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no text.
    #[error("the host name is empty")]
    Empty,
    /// A character that no host name has, such as NUL, `%`, `[`, `_` or a space.
    #[error("a host name can't have the character {0:?}")]
    Character(char),
    /// An IP address, in any of the spellings that some program takes for one.
    #[error("an IP address is not a host name")]
    Address,
    /// A name such as `localhost`, which means something else on each machine.
    #[error("a host name needs a domain, as in `example.org`")]
    OneLabel,
    /// An empty or overlong label, a hyphen at its end, or invalid punycode.
    #[error("the host name is not valid")]
    Invalid,
}

impl HostName {
    /// Reads a name as a user or a client writes it: any case, Unicode or punycode, one final dot.
    ///
    /// # Errors
    /// When the text has no canonical form or is an address.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let is_plain =
            |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(other) = text.chars().find(|&c| !is_plain(c)) {
            return Err(NameError::Character(other));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        // Checks hyphens, lengths and punycode, and maps case and compatible characters.
        let name = idna::domain_to_ascii_strict(text).map_err(|_| NameError::Invalid)?;
        let Some((_, last)) = name.rsplit_once('.') else {
            return Err(if is_number(&name) {
                NameError::Address
            } else {
                NameError::OneLabel
            });
        };
        if is_number(last) {
            return Err(NameError::Address);
        }
        // Mapping may leave a final dot, as of U+3002, which the length check lets pass.
        if last.is_empty() {
            return Err(NameError::Invalid);
        }
        Ok(Self(name))
    }

    /// The name in its canonical form: lower case, IDNA as ASCII, no trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domains above, from the nearest: `b.c` and `c` for `a.b.c`.
    pub(super) fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('.').map(|(at, _)| &self.0[at + 1..])
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As browsers and `inet_aton` do it: a name whose last label is a number is an address.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x");
    (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_name_has_one_form() {
        for text in ["example.org", "EXAMPLE.org", "example.org.", "Example.ORG."] {
            assert_eq!(
                HostName::parse(text).unwrap().as_str(),
                "example.org",
                "{text}"
            );
        }
        for text in ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example"] {
            let name = HostName::parse(text).unwrap();
            assert_eq!(name.as_str(), "xn--bcher-kva.example", "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let character = NameError::Character;
        let cases = [
            ("", NameError::Empty),
            ("example.org\0", character('\0')),
            ("example.org\0.evil.test", character('\0')),
            ("example.org%00", character('%')),
            ("example.org:443", character(':')),
            ("user@example.org", character('@')),
            ("[::1]", character('[')),
            ("a b.org", character(' ')),
            ("a_b.org", character('_')),
            ("example.org..", NameError::Invalid),
            (".example.org", NameError::Invalid),
            ("a..org", NameError::Invalid),
            ("-a.org", NameError::Invalid),
            ("a-.org", NameError::Invalid),
            ("xn--zzzzzzzz99999.org", NameError::Invalid),
            (".", NameError::Invalid),
            ("localhost", NameError::OneLabel),
            ("localhost.", NameError::OneLabel),
            ("127.0.0.1", NameError::Address),
            ("127.1", NameError::Address),
            ("2130706433", NameError::Address),
            ("0x7f000001", NameError::Address),
            ("0x7f.1", NameError::Address),
            ("1.0x", NameError::Address),
            ("127.0.0.1.", NameError::Address),
            ("a.1", NameError::Address),
            ("１２７．０．０．１", NameError::Address),
        ];
        for (text, error) in cases {
            assert_eq!(HostName::parse(text), Err(error), "{text:?}");
        }
        let long = format!("{}.org", "a".repeat(64));
        assert_eq!(HostName::parse(&long), Err(NameError::Invalid));
        let long = "a.".repeat(127) + "org";
        assert_eq!(HostName::parse(&long), Err(NameError::Invalid));
    }
}
