//! Redaction of a stream of bytes that is seen in pieces, such as a child's output.
//!
//! Lines leave as soon as they are whole, each redacted with the end of what came before it in
//! view. Two things reach across lines and are carried along: a private key in PEM, whose body
//! looks like nothing in particular, and a line that is longer than the buffer.

use std::sync::LazyLock;

use regex::Regex;

use crate::known;
use crate::pattern::find_secrets;
use crate::redact::MASK;

/// How much of what has left is looked at again with what follows.
const OVERLAP: usize = 512;
/// Longest secret that is recognized as a whole in a line without an end.
const LONGEST_SECRET: usize = 8 * 1024;
/// Most lines of a key that is never closed.
const PEM_LINES: u32 = 256;
/// Shortest run of base64 that is masked within a key.
const RUN: usize = 16;

static PEM_BEGIN: LazyLock<Regex> =
    LazyLock::new(|| pattern("-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"));
static PEM_END: LazyLock<Regex> =
    LazyLock::new(|| pattern("-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"));
static PEM_RUN: LazyLock<Regex> = LazyLock::new(|| pattern(&format!("[A-Za-z0-9+/=_-]{{{RUN},}}")));
/// A whole line of a key: a word of base64, whatever a log puts around it.
static PEM_LINE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"^[^A-Za-z0-9]*[A-Za-z0-9+/=]*[\\nr"',\s]*$"#));
static PEM_HEADER: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Z][A-Za-z-]+: "));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are constants and tested")
}

/// Redacts a stream piece by piece. Invalid UTF-8 is replaced.
#[derive(Default)]
pub struct StreamRedactor {
    /// What came in and has not left.
    pending: Vec<u8>,
    /// How much of `pending` has no line end.
    searched: usize,
    /// The end of what has left, as it came in.
    overlap: String,
    /// The key in PEM whose body is passing.
    pem: Option<Pem>,
    /// The rest of the word that comes next belongs to a secret that was masked.
    swallowing: bool,
}

/// A key in PEM that has begun.
struct Pem {
    /// What a log put before its first line, and puts before the others.
    prefix: String,
    /// Lines that it may still have.
    left: u32,
}

impl StreamRedactor {
    /// Takes bytes; gives what may leave, which are whole lines mostly.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut clean = String::new();
        let mut begin = 0;
        let pending = std::mem::take(&mut self.pending);
        while let Some(found) = pending[self.searched..].iter().position(|it| *it == b'\n') {
            let end = self.searched + found + 1;
            clean.push_str(&self.line(&String::from_utf8_lossy(&pending[begin..end])));
            (begin, self.searched) = (end, end);
        }
        self.pending = pending;
        self.pending.drain(..begin);
        self.searched = self.pending.len();
        let longest = LONGEST_SECRET.max(known::longest());
        if self.pending.len() > 2 * longest {
            clean.push_str(&self.part_of_a_line(longest));
        }
        clean
    }

    /// Gives what is left at the end of the stream.
    pub fn finish(&mut self) -> String {
        self.searched = 0;
        let rest = std::mem::take(&mut self.pending);
        self.line(&String::from_utf8_lossy(&rest))
    }

    fn line(&mut self, line: &str) -> String {
        let line = self.without_rest_of_secret(line);
        match self.pem.take() {
            Some(pem) => self.within_key(pem, line),
            None => self.ordinary(line),
        }
    }

    /// A line after the first of a key: masked as long as it can belong to the key.
    fn within_key(&mut self, mut pem: Pem, line: &str) -> String {
        if let Some(end) = PEM_END.find(line) {
            let (key, rest) = line.split_at(end.end());
            let key = PEM_RUN.replace_all(&key[..end.start()], MASK) + end.as_str();
            return key.into_owned() + &self.ordinary(rest);
        }
        let prefix = if line.starts_with(&pem.prefix) {
            pem.prefix.len()
        } else {
            0
        };
        let (before, body) = line.split_at(prefix);
        let clean = if PEM_LINE.is_match(body) && !body.trim().is_empty() {
            let end = if body.ends_with('\n') { "\n" } else { "" };
            format!("{before}{MASK}{end}")
        } else {
            PEM_RUN.replace_all(line, MASK).into_owned()
        };
        let belongs = clean != line || body.trim().is_empty() || PEM_HEADER.is_match(body);
        if pem.left == 0 || !belongs {
            return self.ordinary(line);
        }
        pem.left -= 1;
        self.pem = Some(pem);
        self.remember(line);
        clean
    }

    fn ordinary(&mut self, line: &str) -> String {
        let clean = self.masked(line, line.len());
        self.remember(line);
        if let Some(begin) = PEM_BEGIN.find_iter(line).last()
            && !PEM_END.is_match(&line[begin.end()..])
        {
            self.pem = Some(Pem {
                prefix: line[..begin.start()].to_owned(),
                left: PEM_LINES,
            });
        }
        clean
    }

    /// Lets go of the beginning of a line that has no end yet, but not of what may be the
    /// beginning of a secret.
    fn part_of_a_line(&mut self, longest: usize) -> String {
        let pending = std::mem::take(&mut self.pending);
        let (whole, incomplete) = split_incomplete(&pending);
        let text = String::from_utf8_lossy(whole);
        let text = self.without_rest_of_secret(&text).to_owned();
        let mut cut = text.floor_char_boundary(text.len().saturating_sub(longest));
        let clean = if self.pem.is_some() {
            MASK.to_owned()
        } else {
            let spans = self.spans(&text);
            let across = spans
                .into_iter()
                .find(|span| span.start < cut && span.end > cut);
            if let Some(span) = across {
                // A secret longer than any that is known: masked here, its end when it comes.
                self.swallowing = span.start == 0 && span.end == text.len();
                cut = if span.start == 0 {
                    span.end
                } else {
                    span.start
                };
            }
            self.masked(&text, cut)
        };
        self.remember(&text[..cut]);
        self.pending = [&text.as_bytes()[cut..], incomplete].concat();
        self.searched = self.pending.len();
        clean
    }

    fn without_rest_of_secret<'a>(&mut self, text: &'a str) -> &'a str {
        if !std::mem::take(&mut self.swallowing) {
            return text;
        }
        let in_secret = |c: char| c.is_ascii_alphanumeric() || "+/=_.~-".contains(c);
        let rest = text.trim_start_matches(in_secret);
        self.swallowing = rest.is_empty();
        rest
    }

    /// Secrets in the text, also those that began before it.
    fn spans(&self, text: &str) -> Vec<std::ops::Range<usize>> {
        let before = self.overlap.len();
        let joined = format!("{}{text}", self.overlap);
        let found = find_secrets(&joined).into_iter();
        found
            .filter(|finding| finding.span.end > before)
            .map(|finding| {
                finding.span.start.saturating_sub(before)..finding.span.end.saturating_sub(before)
            })
            .collect()
    }

    /// The first bytes of the text, with its secrets masked.
    fn masked(&self, text: &str, end: usize) -> String {
        let mut clean = String::with_capacity(end);
        let mut at = 0;
        for span in self.spans(text).into_iter().filter(|span| span.start < end) {
            clean.push_str(&text[at..span.start]);
            clean.push_str(MASK);
            at = span.end.min(end);
        }
        clean.push_str(&text[at..end]);
        clean
    }

    fn remember(&mut self, text: &str) {
        self.overlap.push_str(text);
        let excess = self.overlap.len().saturating_sub(OVERLAP);
        let excess = self.overlap.ceil_char_boundary(excess);
        self.overlap.drain(..excess);
    }
}

/// Whole characters, and the bytes of one that has not come to its end.
fn split_incomplete(bytes: &[u8]) -> (&[u8], &[u8]) {
    let last = bytes.iter().rposition(|byte| !(0x80..0xC0).contains(byte));
    match last {
        Some(at) if bytes.len() - at < 4 && bytes[at] >= 0xC0 => bytes.split_at(at),
        _ => (bytes, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{redact, register_secret};
    use proptest::prelude::*;

    const UNKNOWN_FORM: &str = "Tr0ub4dor and three";

    fn in_pieces(text: &[u8], ends: &[usize]) -> String {
        let mut stream = StreamRedactor::default();
        let mut clean = String::new();
        let mut at = 0;
        for end in ends.iter().copied().chain([text.len()]) {
            clean.push_str(&stream.push(&text[at..end]));
            at = end;
        }
        clean + &stream.finish()
    }

    /// A key in PEM whose body no other rule knows.
    fn pem() -> (String, Vec<String>) {
        let line = |seed: u8| -> String {
            let letter = |at: u8| char::from(b'A' + (at.wrapping_mul(7).wrapping_add(seed)) % 26);
            (0..64).map(letter).collect()
        };
        let lines: Vec<_> = (0..20).map(line).chain(["QUJD==".to_owned()]).collect();
        let text = lines.join("\n");
        let kind = "PRIVATE KEY";
        (
            format!("-----BEGIN RSA {kind}-----\n{text}\n-----END RSA {kind}-----\n"),
            lines,
        )
    }

    #[test]
    fn a_secret_is_masked_wherever_the_stream_is_split() {
        register_secret(UNKNOWN_FORM);
        let token = format!("ghp_{}", "a1B2".repeat(9));
        let (key, lines) = pem();
        let text = format!("begin\nuse {token} or {UNKNOWN_FORM}\n{key}the end");
        for at in 0..=text.len() {
            let clean = in_pieces(text.as_bytes(), &[at]);
            for secret in [token.as_str(), UNKNOWN_FORM]
                .into_iter()
                .chain(lines.iter().map(String::as_str))
            {
                assert!(!clean.contains(secret), "split at {at}: {clean}");
            }
            assert!(clean.starts_with("begin\nuse [redacted] or [redacted]\n"));
            assert!(clean.ends_with("PRIVATE KEY-----\nthe end"), "{clean}");
        }
    }

    #[test]
    fn a_key_is_masked_line_by_line_whatever_a_log_puts_before_them() {
        let (key, lines) = pem();
        for before in ["", "    ", "web-1  | ", "E   > "] {
            let text: Vec<_> = key
                .lines()
                .map(|line| format!("{before}{line}\n"))
                .collect();
            let text = text.concat();
            let clean = in_pieces(format!("{text}and then\n").as_bytes(), &[]);
            for line in &lines {
                assert!(!clean.contains(line.as_str()), "{clean}");
            }
            assert!(clean.ends_with("\nand then\n"), "{clean}");
        }
    }

    #[test]
    fn a_text_that_only_names_a_key_goes_on() {
        let text = "it starts with -----BEGIN PRIVATE KEY----- they say\n\
                    and the next line has many words\nlong_name_of_a_function_with_underscores(1)\n";
        let clean = in_pieces(text.as_bytes(), &[]);
        assert!(
            clean.ends_with("has many words\nlong_name_of_a_function_with_underscores(1)\n"),
            "{clean}"
        );
    }

    #[test]
    fn a_value_on_the_line_after_its_name_is_masked() {
        let clean = in_pieces(b"password =\n  q8Zx7Lm2Rt9Wc4Vb\nend\n", &[11]);
        assert_eq!(clean, "password =\n  [redacted]\nend\n");
    }

    #[test]
    fn a_line_without_an_end_leaves_in_bounded_pieces_and_keeps_its_secrets_masked() {
        register_secret(UNKNOWN_FORM);
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for filler in [100, 8_100, 8_190, 16_300, 16_380, 40_000] {
            let text = format!(
                "{} {token} {UNKNOWN_FORM} {}",
                ". ".repeat(filler / 2),
                ", ".repeat(20_000)
            );
            let ends: Vec<_> = (0..text.len()).step_by(1000).collect();
            let clean = in_pieces(text.as_bytes(), &ends);
            assert!(clean.contains(" [redacted] [redacted] "));
            assert!(!clean.contains("ghp_") && !clean.contains("Tr0ub4dor"));
        }
        let mut stream = StreamRedactor::default();
        for _ in 0..1000 {
            stream.push(&[b'.'; 1000]);
            assert!(stream.pending.len() <= 3 * LONGEST_SECRET);
        }
        let endless = format!("sk-A1{}", "c3D4".repeat(20_000));
        let ends: Vec<_> = (0..endless.len()).step_by(700).collect();
        assert_eq!(in_pieces(endless.as_bytes(), &ends), "[redacted]");
    }

    proptest! {
        #[test]
        fn whole_lines_come_out_as_they_are_redacted_at_once(
            lines in prop::collection::vec("[ -~ü]{0,40}", 0..6),
            mut ends in prop::collection::vec(0_usize..200, 0..8),
        ) {
            let text = lines.join("\n");
            for end in &mut ends {
                *end = (*end).min(text.len());
            }
            ends.sort_unstable();
            let once = in_pieces(text.as_bytes(), &[]);
            prop_assert_eq!(in_pieces(text.as_bytes(), &ends), once.clone());
            if redact(&text) == text {
                prop_assert_eq!(once, text);
            }
        }
    }
}
