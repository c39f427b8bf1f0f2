//! Secrets that this process holds, whatever they look like.
//!
//! Whoever obtains a secret registers it; from then on [`find_secrets`](crate::find_secrets) and
//! [`redact`](crate::redact) know it. The registry is one for the process, so that no log, report
//! or error text needs to be handed a list. Absent: secrets that a repository's tests make up;
//! those are found by their format only.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use aho_corasick::AhoCorasick;
use percent_encoding::percent_decode_str;

/// Shortest value that is masked wherever it stands; a shorter one would hit ordinary words.
const SHORTEST: usize = 8;
/// Shortest line of a secret of many lines, such as a key in PEM, that is masked by itself.
const SHORTEST_LINE: usize = 16;
/// Most temporary secrets; the oldest makes way.
const TEMPORARY: usize = 256;

static KNOWN: RwLock<Known> = RwLock::new(Known::new());

/// Registers a secret for the life of the process: a key or password of the configuration.
///
/// Of a URL only the credentials within it are secret. A value that is too short to be told from
/// ordinary words is not registered.
pub fn register_secret(value: &str) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let before = known.lasting.len();
    known.lasting.extend(forms(value));
    if known.lasting.len() != before {
        known.rebuild();
    }
}

/// Registers a secret that ends by itself, such as an access token of an hour. A bounded number
/// of them is remembered, the newest.
pub fn register_temporary_secret(value: &str) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let mut changed = false;
    for form in forms(value) {
        if !known.lasting.contains(&form) && !known.temporary.contains(&form) {
            known.temporary.push_back(form);
            changed = true;
        }
    }
    let excess = known.temporary.len().saturating_sub(TEMPORARY);
    known.temporary.drain(..excess);
    if changed {
        known.rebuild();
    }
}

/// Where registered secrets stand in a text.
pub(crate) fn spans(text: &str) -> Vec<Range<usize>> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.spans(text)
}

/// True when a registered secret stands in data that need not be text.
pub fn has_registered_secret(data: &[u8]) -> bool {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.automaton.as_ref().is_some_and(|it| it.is_match(data))
}

/// The length of the longest registered secret, in bytes.
pub(crate) fn longest() -> usize {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.longest
}

/// What is registered. Has no `Debug`, because it holds secrets.
struct Known {
    lasting: BTreeSet<String>,
    temporary: VecDeque<String>,
    automaton: Option<AhoCorasick>,
    longest: usize,
}

impl Known {
    const fn new() -> Self {
        Self {
            lasting: BTreeSet::new(),
            temporary: VecDeque::new(),
            automaton: None,
            longest: 0,
        }
    }

    fn rebuild(&mut self) {
        let all = || self.lasting.iter().chain(&self.temporary);
        self.longest = all().map(String::len).max().unwrap_or(0);
        self.automaton = Some(AhoCorasick::new(all()).expect("a few thousand short patterns fit"));
    }

    /// All occurrences, in order. Those that overlap become one: a secret within another must
    /// not leave the other's ends.
    fn spans(&self, text: &str) -> Vec<Range<usize>> {
        let automaton = self.automaton.iter();
        let mut spans: Vec<_> = automaton
            .flat_map(|automaton| automaton.find_overlapping_iter(text))
            .map(|found| found.range())
            .collect();
        spans.sort_unstable_by_key(|span| span.start);
        spans.dedup_by(|next, span| {
            let overlap = next.start < span.end;
            if overlap {
                span.end = span.end.max(next.end);
            }
            overlap
        });
        spans
    }
}

/// The forms in which a secret may show up: as it is, in JSON, decoded, and line by line.
fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    for secret in secret_parts(value.trim()) {
        let lines = secret.lines().map(str::trim);
        let lines = lines.filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with("-----"));
        for part in lines.chain([secret.as_str()]) {
            forms.insert(part.replace('\\', "\\\\").replace('"', "\\\""));
            forms.insert(part.to_owned());
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// The value itself, or of a URL its credentials, as written and decoded.
fn secret_parts(value: &str) -> Vec<String> {
    let Some((scheme, rest)) = value.split_once("://") else {
        let in_a_file = value.starts_with("sqlite:");
        return (!in_a_file).then(|| value.to_owned()).into_iter().collect();
    };
    let is_url = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    if !is_url {
        return vec![value.to_owned()];
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else {
        return Vec::new();
    };
    let secret = match user.split_once(':') {
        Some((_, password)) => password,
        // GitHub takes a token in place of a user; a database's user is no secret.
        None if scheme.starts_with("http") => user,
        None => return Vec::new(),
    };
    let decoded = percent_decode_str(secret).decode_utf8_lossy().into_owned();
    vec![secret.to_owned(), decoded]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact;

    #[test]
    fn registered_values_are_masked_whatever_they_look_like() {
        register_secret("correct horse");
        register_secret("ab");
        assert_eq!(redact("say correct horse, cab"), "say [redacted], cab");
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_of_each_other() {
        register_secret("correct horse battery");
        register_temporary_secret("horse battery staple");
        register_secret("correct horse");
        assert_eq!(
            redact("say correct horse battery staple now"),
            "say [redacted] now"
        );
    }

    #[test]
    fn of_a_url_the_credentials_alone_are_secret() {
        register_secret("postgres://fleet:p%40ssw0rd-one@db.example/fleet");
        register_secret("https://models.example.com/v1");
        register_secret("https://a-token-as-user@host.example/v1");
        register_secret("postgres://patchfleet@db.example/patchfleet");
        register_secret("sqlite:patchfleet.db");
        let text = "p%40ssw0rd-one p@ssw0rd-one a-token-as-user patchfleet db.example/fleet \
                    https://models.example.com/v1 sqlite:patchfleet.db";
        assert_eq!(
            redact(text),
            "[redacted] [redacted] [redacted] patchfleet db.example/fleet \
             https://models.example.com/v1 sqlite:patchfleet.db"
        );
    }

    #[test]
    fn a_secret_of_many_lines_is_masked_line_by_line_and_escaped() {
        register_secret("first line of the key\nsecond \"line\" of the key\nend\n");
        assert_eq!(redact("| first line of the key"), "| [redacted]");
        assert_eq!(
            redact(r#"{"a":"first line of the key\nsecond \"line\" of the key"}"#),
            r#"{"a":"[redacted]\n[redacted]"}"#
        );
        assert_eq!(redact("second \"line\" of the key"), "[redacted]");
    }

    #[test]
    fn temporary_secrets_do_not_grow_without_bound() {
        for number in 0..TEMPORARY + 2 {
            register_temporary_secret(&format!("temporary value {number:05}"));
        }
        assert_eq!(redact("temporary value 00000"), "temporary value 00000");
        let last = TEMPORARY + 1;
        assert_eq!(redact(&format!("temporary value {last:05}")), "[redacted]");
    }
}
