//! Which variables that are passed to the draft command hold secrets.
//!
//! Closed when unsure: every value is one, but for those that evidently are not. A value that is
//! masked although it is none costs a few words in a log; one that is not masked costs a key.

/// Names, or ends of names after `_`, of variables that say where or how and not who.
const PLAIN_NAMES: &[&str] = &[
    "HOME", "PATH", "PWD", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TZ", "TMPDIR", "DIR",
    "FOLDER", "FILE", "HOST", "PORT", "REGION", "MODEL", "ENV", "LEVEL", "MODE", "VERSION",
    "PROVIDER", "LOCALE", "COLOR", "EDITOR",
];

/// Parts of names of variables that hold secrets, whatever the value looks like.
const SECRET_NAMES: &[&str] = &[
    "KEY",
    "TOKEN",
    "SECRET",
    "PASS",
    "CREDENTIAL",
    "AUTH",
    "COOKIE",
];

/// Whether a variable's value has to be masked wherever it shows up.
pub(super) fn may_be_secret(name: &str, value: &str) -> bool {
    let value = value.trim();
    let last = name.rsplit('_').next().unwrap_or(name);
    let named = PLAIN_NAMES
        .iter()
        .any(|plain| last.eq_ignore_ascii_case(plain))
        || name.starts_with("LC_");
    let a_path = value.starts_with('/');
    let a_word = value
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_uppercase());
    let a_number = value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let upper = name.to_ascii_uppercase();
    let suspicious = SECRET_NAMES.iter().any(|part| upper.contains(part));
    !(a_path || a_number || (!suspicious && (named || a_word)))
}

#[cfg(test)]
mod tests {
    use super::may_be_secret;

    #[test]
    fn what_is_not_evidently_plain_may_be_secret() {
        for (name, value) in [
            ("ANTHROPIC_API_KEY", "sk-ant-api03-abc"),
            ("PROVIDER_PASSWORD", "swordfish"),
            ("GATEWAY", "correct horse battery"),
            ("MODEL_ACCESS", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
            ("DATABASE_URL", "postgres://a:b@host/x"),
        ] {
            assert!(may_be_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("HOME", "/home/fleet"),
            ("ANTHROPIC_MODEL", "claude-sonnet-4-5-20250929"),
            ("AWS_REGION", "eu-central-1"),
            ("NODE_ENV", "production"),
            ("CODEX_HOME", "/var/lib/codex"),
            ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "32000"),
            ("LC_ALL", "en_US.UTF-8"),
            ("SOME_FLAG", "enabled"),
        ] {
            assert!(!may_be_secret(name, value), "{name}");
        }
    }
}
