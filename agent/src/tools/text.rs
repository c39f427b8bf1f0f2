//! Files as a model reads them: text, without secrets and without what no person would see.

use patchfleet_guard::{find_secrets, strip_invisible};

/// What stands where a secret stood.
pub(super) const MASK: &str = "[redacted]";

/// A file's text, line for line that of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) text: String,
    /// What differs from the file.
    pub(super) notes: Vec<String>,
}

/// The text that is shown of a file; the error says why it has none.
pub(super) fn shown(path: &str, content: &[u8]) -> Result<Shown, String> {
    if content.contains(&0) {
        return Err(format!("`{path}` is no text ({} bytes)", content.len()));
    }
    let mut notes = Vec::new();
    let text = String::from_utf8_lossy(content);
    if text.contains('\u{fffd}') && std::str::from_utf8(content).is_err() {
        notes.push("bytes that are not UTF-8 are shown as \u{fffd}; edits keep them".to_owned());
    }
    let plain = text.replace("\r\n", "\n");
    if plain.len() < text.len() {
        notes.push("lines end with CRLF, which edits keep".to_owned());
    }
    let (masked, secrets) = masked(&plain);
    if secrets > 0 {
        notes.push(format!(
            "{secrets} passages look like secrets and are shown as `{MASK}`, which no edit can match"
        ));
    }
    let (text, invisible) = strip_invisible(&masked);
    if invisible > 0 {
        notes.push(format!(
            "{invisible} invisible characters are not shown; an edit of their lines does not match"
        ));
    }
    Ok(Shown { text, notes })
}

/// The text with its secrets masked and as many lines as before, and how many there were.
pub(super) fn masked(text: &str) -> (String, usize) {
    let secrets = find_secrets(text);
    let (mut clean, mut at) = (String::with_capacity(text.len()), 0);
    for secret in &secrets {
        let hidden = &text[secret.span.clone()];
        clean.push_str(&text[at..secret.span.start]);
        clean.push_str(MASK);
        clean.extend(hidden.chars().filter(|c| *c == '\n'));
        at = secret.span.end;
    }
    clean.push_str(&text[at..]);
    (clean, secrets.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_not_shown() {
        let error = shown("logo.png", b"\x89PNG\0\0").unwrap_err();
        assert_eq!(error, "`logo.png` is no text (6 bytes)");
    }

    #[test]
    fn secrets_are_masked_over_lines_and_lines_keep_their_numbers() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA75iq\nabcdefgh\n-----END RSA PRIVATE KEY-----";
        let text = format!("a = 1\n{key}\nb = 2\n");
        let seen = shown("a", text.as_bytes()).unwrap();
        assert!(!seen.text.contains("MIIE"), "{}", seen.text);
        assert_eq!(seen.text.lines().nth(5), Some("b = 2"));
        assert_eq!(seen.text.lines().count(), text.lines().count());
        assert!(seen.notes[0].contains("secrets"), "{:?}", seen.notes);
    }

    #[test]
    fn encodings_line_ends_and_hidden_characters_are_told() {
        let seen = shown("a", b"caf\xe9\r\nx\xe2\x80\x8by\r\n").unwrap();
        assert_eq!(seen.text, "caf\u{fffd}\nxy\n");
        assert_eq!(seen.notes.len(), 3, "{:?}", seen.notes);
    }
}
