//! Text that leaves, without the secrets in it.

use std::borrow::Cow;
use std::ops::Range;

use crate::known;
use crate::pattern::find_secrets;

/// What stands where a secret stood.
pub(crate) const MASK: &str = "[redacted]";

/// The text with everything replaced that looks like a secret or is registered as one.
pub fn redact(text: &str) -> Cow<'_, str> {
    let findings = find_secrets(text);
    masked(text, findings.into_iter().map(|finding| finding.span))
}

/// The text with registered secrets replaced, and whatever else it holds left as it is: for data
/// that programs read, where a guess must not change anything.
pub fn redact_registered(text: &str) -> Cow<'_, str> {
    masked(text, known::spans(text).into_iter())
}

/// The text with what stands at the spans, which come in order, replaced.
fn masked(text: &str, spans: impl Iterator<Item = Range<usize>>) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut at = 0;
    for span in spans {
        clean.push_str(&text[at..span.start]);
        clean.push_str(MASK);
        at = span.end;
    }
    if at == 0 {
        return Cow::Borrowed(text);
    }
    clean.push_str(&text[at..]);
    Cow::Owned(clean)
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
}
