//! Where secrets are in a text.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::known;

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
    /// A secret that this process holds, whatever it looks like.
    Registered,
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
            Self::Registered => "secret of this host",
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

/// What of a text in a known format makes it a secret.
type Judge = fn(&str) -> bool;

/// A format. The first group of the expression is the secret itself.
struct Pattern {
    kind: SecretKind,
    regex: Regex,
    judge: Judge,
}

/// Where a token may start: at a word, after the `_` of a name, and after an escaped line end as
/// JSON within a log line has it.
const START: &str = r"(?:\b|_|\\[nrt])";

/// A quotation mark, or an escaped one, or none.
const QUOTE: &str = r#"\\?["']?"#;

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    use SecretKind::{
        Assignment, Authorization, AwsKey, GitHubToken, Jwt, ModelKey, PrivateKey, SlackToken,
        UrlCredentials,
    };
    let always: Judge = |_| true;
    // A closed block whatever is in it, else the base64 lines that follow: a text that only
    // names the first line of a key keeps its rest.
    let pem = concat!(
        r"(-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
        r"(?:(?:[^-]|-[^-])*-{5,6}END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
        r"|(?:(?:\s|\\[nr])+[A-Za-z0-9+/=]{40,80})*(?:(?:\s|\\[nr])+[A-Za-z0-9+/=]{8,})?))",
    );
    let names = "password|passwd|secret|token|api[_-]?key|access[_-]?key";
    let gives = r"\s*(?::\s*[\w\[\]&]+\s*=|=>|:?=|:)\s*";
    [
        (PrivateKey, pem.to_owned(), always),
        (GitHubToken, format!(r"{START}(gh[pousr]_[A-Za-z0-9_]{{20,255}}|github_pat_[A-Za-z0-9_]{{22,255}})"), always),
        (AwsKey, format!(r"{START}((?:AKIA|ASIA)[A-Z0-9]{{16}})\b"), always),
        (SlackToken, format!(r"{START}(xox[abeoprs]-[A-Za-z0-9-]{{10,}})"), always),
        (ModelKey, format!(r"{START}(sk-[A-Za-z0-9_-]{{20,}}|AIza[A-Za-z0-9_-]{{35}})"), looks_like_model_key),
        (Jwt, format!(r"{START}(eyJ[A-Za-z0-9_-]{{8,}}\.eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{8,}})"), always),
        (Authorization, format!(r"(?i)authorization{QUOTE}\s*[:=]\s*{QUOTE}(?:bearer|basic|token)\s+([A-Za-z0-9._~+/=-]{{8,}})"), always),
        (Authorization, r"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{16,})".to_owned(), looks_random),
        (UrlCredentials, r#"\b[a-zA-Z][a-zA-Z0-9+.-]*://([^\s/@:"'`<>]*:[^\s/@"'`]+)@"#.to_owned(), is_written_out),
        (UrlCredentials, r"\b[a-zA-Z][a-zA-Z0-9+.-]*://([A-Za-z0-9_.~-]{16,})@".to_owned(), looks_random),
        (Assignment, format!(r"(?i)[A-Za-z0-9_.-]*(?:{names}){QUOTE}{gives}{QUOTE}([A-Za-z0-9+/=_!@#$%^&*.-]{{16,}})"), looks_random),
    ]
    .into_iter()
    .map(|(kind, text, judge)| Pattern {
        kind,
        regex: Regex::new(&text).expect("the patterns are constants and tested"),
        judge,
    })
    .collect()
});

/// Shannon entropy in bits per character above which a value looks random. English words and
/// identifiers stay below it; 16 random base64 characters are above it.
const RANDOM_BITS: f64 = 3.3;

/// Finds what looks like a secret or is registered as one, in the order of the text, without
/// overlaps: findings that overlap become one, of the kind that starts first.
pub fn find_secrets(text: &str) -> Vec<Finding> {
    let registered = known::spans(text).into_iter();
    let registered = registered.map(|span| (span, SecretKind::Registered));
    let mut spans: Vec<(Range<usize>, SecretKind)> = PATTERNS
        .iter()
        .flat_map(|pattern| {
            pattern.regex.captures_iter(text).filter_map(|found| {
                let secret = found.get(1)?;
                (pattern.judge)(secret.as_str()).then(|| (secret.range(), pattern.kind))
            })
        })
        .chain(registered)
        .collect();
    spans.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    spans.dedup_by(|(next, kind), (span, _)| {
        let overlap = next.start < span.end;
        // A guess does not stretch a format that knows its end, as that of a URL's credentials.
        if overlap && *kind != SecretKind::Assignment {
            span.end = span.end.max(next.end);
        }
        overlap
    });
    let (mut line, mut counted) = (1, 0);
    spans
        .into_iter()
        .map(|(span, kind)| {
            line += text[counted..span.start].matches('\n').count();
            counted = span.start;
            Finding { kind, line, span }
        })
        .collect()
}

/// Random enough to be a secret: letters and digits mixed, and high entropy. A commit, a UUID
/// and a path of names (`self.client2.get_access_token`) are not.
fn looks_random(value: &str) -> bool {
    let has = |test: fn(&char) -> bool| value.chars().any(|c| test(&c));
    let hex = value.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    has(char::is_ascii_digit)
        && has(char::is_ascii_alphabetic)
        && !hex
        && !is_path_of_names(value)
        && entropy(value) > RANDOM_BITS
}

/// Names joined by dots, with digits at the end of their words alone, as code reads an attribute.
fn is_path_of_names(value: &str) -> bool {
    let word = |word: &str| {
        let digits = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    value.contains('.') && value.split(['.', '_', '-']).all(word)
}

/// `sk-` starts words as well (`sk-learn-compatible-estimators`): a key has digits or capitals.
fn looks_like_model_key(value: &str) -> bool {
    value
        .bytes()
        .any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// Whether the password of `user:password` is the password and not the name of a variable.
fn is_written_out(credentials: &str) -> bool {
    static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?:\$\{.*\}|\$\(.*\)|\$[A-Z_][A-Z0-9_]*|\{.*\}|<.*>|%s|%\(.*\)s|\*+|\[redacted\])$",
        )
        .expect("a constant pattern")
    });
    let password = credentials.split_once(':').map_or("", |(_, after)| after);
    !PLACEHOLDER.is_match(password)
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
        assert_eq!(
            kinds("curl -H 'X: Bearer q8Zx7Lm2Rt9Wc4Vb'"),
            [SecretKind::Authorization]
        );
        assert_eq!(
            kinds("git clone https://q8Zx7Lm2Rt9Wc4Vb@host/a.git"),
            [SecretKind::UrlCredentials]
        );
        assert_eq!(
            kinds("API_KEY: str = \"q8Zx7Lm2Rt9Wc4Vb\""),
            [SecretKind::Assignment]
        );
    }

    #[test]
    fn secrets_within_escaped_json_are_found() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for (text, kind) in [
            (format!(r"first\n{token}\nlast"), SecretKind::GitHubToken),
            (
                r#"{\"token\":\"q8Zx7Lm2Rt9Wc4Vb\"}"#.to_owned(),
                SecretKind::Assignment,
            ),
            (
                r#"{\"authorization\":\"Basic eC1hY2Nlc3M6\"}"#.to_owned(),
                SecretKind::Authorization,
            ),
        ] {
            assert_eq!(kinds(&text), [kind], "{text}");
        }
    }

    #[test]
    fn a_key_that_is_not_closed_ends_with_its_lines() {
        let line = "MIIEpAIBAAKCAQEA".repeat(4);
        let text = format!("-----BEGIN PRIVATE KEY-----\n{line}\n{line}\nQUJD==\nand then?");
        let found = find_secrets(&text);
        assert_eq!(found.len(), 1);
        assert!(text[found[0].span.end..].ends_with("and then?"));
        let named = "the file starts with -----BEGIN PRIVATE KEY----- and goes on";
        assert!(named[find_secrets(named)[0].span.end..].ends_with("and goes on"));
    }

    #[test]
    fn findings_that_overlap_become_one() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        let text = format!("https://me:pass{token}@host");
        let found = find_secrets(&text);
        assert_eq!(found.len(), 1);
        assert_eq!(&text[found[0].span.clone()], format!("me:pass{token}"));
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in [
            "token = request.headers.authorization_token",
            "secret: 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "token: 67f1c42a9be0d3a1b5d9a7c6f0e1d2c3b4a59687",
            "PASSWORD = settings.DEFAULT_PASSWORD",
            "see https://example.org/a@b and a:b",
            "token = self.client2.get_access_token",
            "password = config2.database.password",
            "postgres://user:${DATABASE_PASSWORD}@db/app",
            "postgres://user:{{ password }}@db/app",
            r#"["http://a:8080", "me@host"]"#,
            "the sk-learn-compatible-estimators of this package",
            "the bearer authentication-of-the-service is on",
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
