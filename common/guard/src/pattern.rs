//! Where secrets are in a text.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What a secret looks like. The formats are those that the issuers document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretKind {
    /// `ghp_…`, `gho_…`, `ghu_…`, `ghs_…`, `ghr_…`, `github_pat_…`.
    GitHubToken,
    /// `AKIA…` and `ASIA…`.
    AwsKey,
    /// A PEM block.
    PrivateKey,
    /// `xoxb-…` and its kin.
    SlackToken,
    /// `sk-…`, `sk-ant-…`, `AIza…`.
    ModelKey,
    /// A JSON Web Token.
    Jwt,
    /// The credentials of an `Authorization` header.
    Authorization,
    /// User and password within a URL.
    UrlCredentials,
    /// A random-looking value given to a name such as `password` or `api_key`.
    Assignment,
}

impl SecretKind {
    /// A word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GitHubToken => "GitHub token",
            Self::AwsKey => "AWS key",
            Self::PrivateKey => "private key",
            Self::SlackToken => "Slack token",
            Self::ModelKey => "model provider key",
            Self::Jwt => "JSON Web Token",
            Self::Authorization => "authorization header",
            Self::UrlCredentials => "URL credentials",
            Self::Assignment => "secret value",
        }
    }
}

/// A secret that was found. Does not hold the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it looks like.
    pub kind: SecretKind,
    /// The line it starts on, from 1.
    pub line: usize,
    /// Where it stands, in bytes.
    pub span: Range<usize>,
}

/// A format, and the number of the group that holds the secret itself.
struct Pattern {
    kind: SecretKind,
    regex: Regex,
    group: usize,
}

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    use SecretKind::{
        Assignment, Authorization, AwsKey, GitHubToken, Jwt, ModelKey, PrivateKey, SlackToken,
        UrlCredentials,
    };
    [
        (PrivateKey, r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)", 0),
        (GitHubToken, r"\b(?:gh[pousr]_[A-Za-z0-9_]{20,255}|github_pat_[A-Za-z0-9_]{22,255})", 0),
        (AwsKey, r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", 0),
        (SlackToken, r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}", 0),
        (ModelKey, r"\b(?:sk-[A-Za-z0-9_-]{20,}|AIza[A-Za-z0-9_-]{35})", 0),
        (Jwt, r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", 0),
        (Authorization, r#"(?i)\bauthorization["']?\s*[:=]\s*["']?(?:bearer|basic|token)\s+([A-Za-z0-9._~+/=-]{8,})"#, 1),
        (UrlCredentials, r"\b[a-zA-Z][a-zA-Z0-9+.-]*://([^\s/@:]*:[^\s/@]+)@", 1),
        (Assignment, r#"(?i)\b[A-Za-z0-9_.-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)["']?\s*(?:=|:|=>)\s*["']?([A-Za-z0-9+/=_!@#$%^&*.-]{16,})"#, 1),
    ]
    .into_iter()
    .map(|(kind, text, group)| Pattern {
        kind,
        regex: Regex::new(text).expect("the patterns are constants and tested"),
        group,
    })
    .collect()
});

/// Shannon entropy in bits per character above which a value looks random. English words and
/// identifiers stay below it; 16 random base64 characters are above it.
const RANDOM_BITS: f64 = 3.3;

/// Finds what looks like a secret, in the order of the text, without overlaps.
pub fn find_secrets(text: &str) -> Vec<Finding> {
    let mut spans: Vec<(Range<usize>, SecretKind)> = PATTERNS
        .iter()
        .flat_map(|pattern| {
            pattern.regex.captures_iter(text).filter_map(|found| {
                let secret = found.get(pattern.group)?;
                let real = pattern.kind != SecretKind::Assignment || looks_random(secret.as_str());
                real.then(|| (secret.range(), pattern.kind))
            })
        })
        .collect();
    spans.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    let mut end = 0;
    spans.retain(|(span, _)| {
        let apart = span.start >= end;
        if apart {
            end = span.end;
        }
        apart
    });
    spans
        .into_iter()
        .map(|(span, kind)| Finding {
            kind,
            line: text[..span.start]
                .bytes()
                .filter(|byte| *byte == b'\n')
                .count()
                + 1,
            span,
        })
        .collect()
}

/// Random enough to be a secret: letters and digits mixed, and high entropy. Names in capitals
/// and dotted or hyphenated words (`settings.SECRET_TOKEN`, a UUID, a commit) are not.
fn looks_random(value: &str) -> bool {
    let has = |test: fn(&char) -> bool| value.chars().any(|c| test(&c));
    let hex = value.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    has(char::is_ascii_digit)
        && has(char::is_ascii_alphabetic)
        && !hex
        && entropy(value) > RANDOM_BITS
}

/// Shannon entropy in bits per character.
fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let total = f64::from(u32::try_from(value.len()).unwrap_or(u32::MAX));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|share| -share * share.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(text: &str) -> Vec<SecretKind> {
        find_secrets(text)
            .into_iter()
            .map(|finding| finding.kind)
            .collect()
    }

    #[test]
    fn known_formats_are_found() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        assert_eq!(
            kinds(&format!("push with {token} now")),
            [SecretKind::GitHubToken]
        );
        assert_eq!(kinds("AKIAIOSFODNN7EXAMPLE"), [SecretKind::AwsKey]);
        assert_eq!(
            kinds("https://me:hunter2@host/x"),
            [SecretKind::UrlCredentials]
        );
        assert_eq!(
            kinds("Authorization: Basic eC1hY2Nlc3M6"),
            [SecretKind::Authorization]
        );
        assert_eq!(
            kinds("db_password = 'q8Zx!7Lm2Rt9Wc4Vb'"),
            [SecretKind::Assignment]
        );
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----";
        assert_eq!(kinds(pem), [SecretKind::PrivateKey]);
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in [
            "token = request.headers.authorization_token",
            "secret: 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "token: 67f1c42a9be0d3a1b5d9a7c6f0e1d2c3b4a59687",
            "PASSWORD = settings.DEFAULT_PASSWORD",
            "see https://example.org/a@b and a:b",
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn commits_and_uuids_are_never_secrets(commit in "[0-9a-f]{40}", uuid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}") {
            prop_assert_eq!(kinds(&format!("commit {commit} token={uuid} key: {commit}")), vec![]);
        }

        #[test]
        fn spans_are_in_order_and_apart(text in ".{0,200}") {
            let mut end = 0;
            for finding in find_secrets(&text) {
                prop_assert!(finding.span.start >= end && finding.span.end <= text.len());
                end = finding.span.end;
            }
        }
    }
}
