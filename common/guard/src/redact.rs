//! Text that leaves, without the secrets in it.

use std::borrow::Cow;

use secrecy::{ExposeSecret as _, SecretString};

use crate::pattern::find_secrets;

/// What stands where a secret stood.
const MASK: &str = "[redacted]";

/// The text with everything that looks like a secret replaced.
pub fn redact(text: &str) -> Cow<'_, str> {
    let findings = find_secrets(text);
    if findings.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    for finding in findings {
        clean.push_str(&text[at..finding.span.start]);
        clean.push_str(MASK);
        at = finding.span.end;
    }
    clean.push_str(&text[at..]);
    Cow::Owned(clean)
}

/// Redacts what looks like a secret and what is known to be one.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    known: Vec<SecretString>,
}

impl Redactor {
    /// Shortest value that is masked wherever it stands; a shorter one would hit ordinary words.
    const SHORTEST: usize = 8;

    /// A redactor that knows these values.
    pub fn new(mut known: Vec<SecretString>) -> Self {
        known.retain(|value| value.expose_secret().len() >= Self::SHORTEST);
        // The longest first: a value within another must not leave the other's ends standing.
        known.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
        Self { known }
    }

    /// The text without secrets.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let hit = |value: &&SecretString| text.contains(value.expose_secret());
        if !self.known.iter().any(|value| hit(&value)) {
            return redact(text);
        }
        let masked = self.known.iter().fold(text.to_owned(), |text, value| {
            text.replace(value.expose_secret(), MASK)
        });
        Cow::Owned(redact(&masked).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_is_replaced() {
        let text = "clone https://x-access-token:abcdef123456@host/a/b.git failed";
        assert_eq!(redact(text), "clone https://[redacted]@host/a/b.git failed");
        assert!(matches!(redact("nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn known_values_are_masked_whatever_they_look_like() {
        let redactor = Redactor::new(vec![
            "correct horse".to_owned().into(),
            "ab".to_owned().into(),
        ]);
        assert_eq!(
            redactor.redact("say correct horse, cab"),
            "say [redacted], cab"
        );
        assert!(!format!("{redactor:?}").contains("correct horse"));
    }

    #[test]
    fn a_value_within_another_leaves_nothing_of_it() {
        let value = |text: &str| SecretString::from(text.to_owned());
        let redactor = Redactor::new(vec![value("correct horse"), value("correct horse battery")]);
        assert_eq!(
            redactor.redact("say correct horse battery now"),
            "say [redacted] now"
        );
    }
}
