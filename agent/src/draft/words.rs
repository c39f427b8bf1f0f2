//! What a coding tool said last, and what that means.
//!
//! Tools write text, or a JSON object a line (`--output-format stream-json`, `exec --json`). Only
//! what they say at the end counts: a tool repeats much of what it reads on the way.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// How much of what was said a failure tells, in characters.
const LENGTH: usize = 2000;
/// How many of the last things said may tell the cause.
const DECISIVE: usize = 4;

/// Why a tool did not do its work, as far as its words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It has no key or login, or the provider does not take the one it has.
    NotLoggedIn,
    /// It was not allowed to do what it wanted to.
    NotPermitted,
    /// Its words do not tell.
    Unknown,
}

static LOGIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)not logged in|not authenticated|please run /login|please log ?in|codex login",
        r"|authentication_(?:failed|error)|authentication failed|invalid (?:x-)?api[- ]key",
        r"|incorrect api key|missing bearer|\b401 unauthorized|(?:no|missing) api key",
        r"|api[_ ]key\b.{0,40}(?:not set|missing|required|not found)|(?:oauth )?token has expired",
    ))
    .expect("a test compiles the pattern")
});
static PERMISSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)cannot be used with root|requires? (?:your )?approval|permission (?:was )?denied",
        r"|permissions? to (?:use|write|edit|run)|have(?:n't| not) granted|not permitted",
        r"|read-only sandbox|rejected by (?:user|policy)|blocked by (?:policy|sandbox)",
        r"|not inside a trusted directory",
    ))
    .expect("a test compiles the pattern")
});

static ARGUMENTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)unknown (?:option|argument|command|flag)|unrecognized (?:option|argument|subcommand)",
        r"|unexpected argument|invalid (?:option|choice|value) .*--|no such option",
    ))
    .expect("a test compiles the pattern")
});

/// What a command said in both of its outputs.
pub(super) struct Words {
    /// The last things said, the newest last.
    said: Vec<String>,
    /// The tool's own account lists calls of tools that were denied.
    denied: bool,
}

impl Words {
    /// Reads the end of both outputs.
    pub(super) fn read(stdout: &str, stderr: &str) -> Self {
        let mut denied = false;
        let mut said = Vec::new();
        for line in stderr.lines().chain(stdout.lines()) {
            let line = line.trim();
            let Ok(Value::Object(event)) = serde_json::from_str(line) else {
                said.push(line.to_owned());
                continue;
            };
            let event = Value::Object(event);
            denied |= event["permission_denials"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            said.extend(human_text(&event));
        }
        said.retain(|text| !text.trim().is_empty());
        said.dedup();
        Self { said, denied }
    }

    /// The end of what was said, for people.
    pub(super) fn tail(&self) -> String {
        let text = self.said.join("\n");
        let skipped = text.chars().count().saturating_sub(LENGTH);
        text.chars().skip(skipped).collect()
    }

    /// True when the last words are about arguments that the tool does not know.
    pub(super) fn are_about_arguments(&self) -> bool {
        let mut last = self.said.iter().rev().take(DECISIVE);
        last.any(|text| ARGUMENTS.is_match(text))
    }

    /// What the last words mean.
    pub(super) fn cause(&self) -> Cause {
        let last = || self.said.iter().rev().take(DECISIVE);
        if last().any(|text| LOGIN.is_match(text)) {
            Cause::NotLoggedIn
        } else if self.denied || last().any(|text| PERMISSION.is_match(text)) {
            Cause::NotPermitted
        } else {
            Cause::Unknown
        }
    }
}

/// What an event has for people: a result, a message, or the text of an item.
fn human_text(event: &Value) -> Option<String> {
    let places = [
        "/result",
        "/error/message",
        "/message",
        "/error",
        "/item/text",
        "/item/message",
        "/message/content/0/text",
        "/text",
    ];
    let texts = places
        .iter()
        .filter_map(|place| event.pointer(place)?.as_str());
    texts.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(stdout: &str) -> Words {
        Words::read(stdout, "")
    }

    #[test]
    fn what_tools_really_say_is_understood() {
        for (output, cause, tail) in [
            (
                "Not logged in · Please run /login\n",
                Cause::NotLoggedIn,
                "Not logged in · Please run /login",
            ),
            (
                concat!(
                    r#"{"type":"system","subtype":"init","cwd":"/x"}"#,
                    "\n",
                    r#"{"type":"assistant","message":{"content":[{"type":"text","text":"Not logged in · Please run /login"}]},"error":"authentication_failed"}"#,
                    "\n",
                    r#"{"type":"result","subtype":"success","is_error":true,"result":"Not logged in · Please run /login","permission_denials":[]}"#,
                    "\n",
                ),
                Cause::NotLoggedIn,
                "authentication_failed\nNot logged in · Please run /login",
            ),
            (
                concat!(
                    r#"{"type":"error","message":"unexpected status 401 Unauthorized: Missing bearer or basic authentication in header"}"#,
                    "\n",
                    r#"{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized: Missing bearer or basic authentication in header"}}"#,
                    "\n",
                ),
                Cause::NotLoggedIn,
                "unexpected status 401 Unauthorized: Missing bearer or basic authentication in header",
            ),
            (
                "--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons\n",
                Cause::NotPermitted,
                "--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons",
            ),
            (
                r#"{"type":"result","subtype":"success","is_error":false,"result":"I could not write the file.","permission_denials":[{"tool_name":"Write"}]}"#,
                Cause::NotPermitted,
                "I could not write the file.",
            ),
            (
                r#"{"type":"item.completed","item":{"id":"item_2","type":"agent_message","text":"Done: add adds."}}"#,
                Cause::Unknown,
                "Done: add adds.",
            ),
            ("", Cause::Unknown, ""),
        ] {
            assert_eq!(words(output).cause(), cause, "{output}");
            assert_eq!(words(output).tail(), tail);
        }
    }

    #[test]
    fn a_tool_that_does_not_know_its_arguments_is_of_another_version() {
        for said in [
            "error: unknown option '--strict-mcp-config'\n",
            "error: unexpected argument '--json' found\n\nUsage: codex [OPTIONS]\n",
            "aider: error: unrecognized arguments: --no-show-release-notes\n",
        ] {
            assert!(Words::read("", said).are_about_arguments(), "{said}");
        }
        assert!(!words("the option is unknown to me").are_about_arguments());
    }

    #[test]
    fn what_a_tool_read_on_the_way_is_not_the_cause() {
        let output = "the test says: 401 Unauthorized\none\ntwo\nthree\nall done\n";
        assert_eq!(words(output).cause(), Cause::Unknown);
        assert!(words(&"ü".repeat(5000)).tail().chars().count() == LENGTH);
    }
}
