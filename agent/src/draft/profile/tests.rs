mod runs;

use std::sync::{Arc, Mutex};

use patchfleet_model::Entry;

use super::transcript::Ending;
use super::*;
use crate::config::LanguageModelConfig;
use crate::process::OnLine;
use crate::sandbox::egress::URL_PLACEHOLDER;

const ALL: [Profile; 5] = [
    Profile::ClaudeCode,
    Profile::Codex,
    Profile::Gemini,
    Profile::Opencode,
    Profile::Aider,
];

/// What a program's lines come to.
fn heard(profile: Profile, said: &[&str]) -> (Vec<String>, Option<Ending>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let on_line: OnLine = Arc::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    let transcript = Transcript::new(profile);
    let listen = transcript.listen(on_line);
    for line in said {
        listen(line);
    }
    let lines = lines.lock().unwrap().clone();
    (lines, transcript.ended())
}

#[test]
fn the_documentation_has_how_each_program_is_installed_and_its_oldest_version() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIGURATION.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for profile in ALL {
        let start = format!("| `{}` |", profile.name());
        let row = docs.lines().find(|line| line.starts_with(&start)).unwrap();
        assert!(row.contains(profile.install()), "{row}");
        let end = format!("| {} |", profile.oldest());
        assert!(row.ends_with(&end), "{row}");
    }
}

/// A program, what it says, what people read of it, and how it ended by its own word.
type Case<'a> = (Profile, &'a [&'a str], &'a [&'a str], Option<Ending>);

#[test]
fn events_are_told_as_people_read_them_and_the_end_is_the_programs_own_word() {
    let failed = |why: &str| Some(Ending::Failed(why.to_owned()));
    let cases: &[Case<'_>] = &[
        (
            Profile::ClaudeCode,
            &[
                r#"{"type":"system","subtype":"init","tools":["Bash"]}"#,
                r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I look.\n\nNow."},{"type":"tool_use","name":"Edit","input":{"file_path":"/workspace/a.py","old_string":"x"}}]}}"#,
                r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"ok"}]}}"#,
                r#"{"type":"result","subtype":"success","is_error":false,"result":"Done."}"#,
            ],
            &["I look.", "Now.", "Edit /workspace/a.py"],
            Some(Ending::Done),
        ),
        (
            Profile::ClaudeCode,
            &[
                r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: 402 spent"}"#,
            ],
            &[],
            failed("API Error: 402 spent"),
        ),
        (
            Profile::ClaudeCode,
            &[r#"{"type":"result","subtype":"error_max_turns","is_error":true}"#],
            &[],
            failed("error_max_turns"),
        ),
        (
            Profile::Codex,
            &[
                r#"{"type":"thread.started","thread_id":"1"}"#,
                r#"{"type":"error","message":"Reconnecting... 1/5"}"#,
                r#"{"type":"item.started","item":{"type":"command_execution","command":"make test"}}"#,
                r#"{"type":"item.completed","item":{"type":"command_execution","command":"make test","exit_code":2}}"#,
                r#"{"type":"item.completed","item":{"type":"file_change","changes":[{"path":"a.py","kind":"update"}]}}"#,
                r#"{"type":"item.completed","item":{"type":"agent_message","text":"Done."}}"#,
                r#"{"type":"turn.completed","usage":{}}"#,
            ],
            &[
                "Reconnecting... 1/5",
                "$ make test",
                "exit code 2",
                "update a.py",
                "Done.",
            ],
            Some(Ending::Done),
        ),
        (
            Profile::Codex,
            &[r#"{"type":"turn.failed","error":{"message":"unexpected status 402"}}"#],
            &[],
            failed("unexpected status 402"),
        ),
        (
            Profile::Gemini,
            &[
                r#"{"type":"init","model":"m"}"#,
                r#"{"type":"message","role":"user","content":"the request"}"#,
                r#"{"type":"message","role":"assistant","content":"I look at the di","delta":true}"#,
                r#"{"type":"message","role":"assistant","content":"scounts.\nThen at","delta":true}"#,
                r#"{"type":"message","role":"assistant","content":" money.","delta":true}"#,
                r#"{"type":"tool_use","tool_name":"replace","parameters":{"file_path":"a.py"}}"#,
                r#"{"type":"result","status":"success","stats":{}}"#,
            ],
            &["I look at the discounts.", "Then at money.", "replace a.py"],
            Some(Ending::Done),
        ),
        (
            Profile::Opencode,
            &[
                r#"{"type":"tool_use","part":{"tool":"edit","state":{"input":{"filePath":"a.py"}}}}"#,
                r#"{"type":"error","error":{"name":"APIError","data":{"message":"no budget"}}}"#,
            ],
            &["edit a.py"],
            failed("no budget"),
        ),
        (
            Profile::Aider,
            &["Applied edit to a.py", "{\"not\": \"an event\"}"],
            &["Applied edit to a.py", "{\"not\": \"an event\"}"],
            None,
        ),
    ];
    for (profile, said, lines, end) in cases {
        let heard = heard(*profile, said);
        assert_eq!(heard.0, *lines, "{said:?}");
        assert_eq!(heard.1, *end, "{said:?}");
    }
}

fn model<'a>(protocol: Protocol, name: &'a str, entry: Option<&'a Entry>) -> AskedModel<'a> {
    AskedModel {
        protocol,
        name,
        entry,
    }
}

#[test]
fn each_profile_leads_to_the_gateway_and_holds_no_key() {
    for profile in ALL {
        for protocol in profile.protocols() {
            let asked = model(*protocol, "the-model", None);
            let variables = profile.variables(asked);
            let arguments = profile.arguments(asked);
            let leads = variables
                .iter()
                .any(|(_, value)| value.contains(URL_PLACEHOLDER));
            assert!(leads, "{profile:?}: {variables:?}");
            let named = arguments.iter().any(|it| it.ends_with("the-model"));
            assert!(named, "{profile:?}: {arguments:?}");
            let keys = variables.iter().filter(|(name, _)| name.ends_with("KEY"));
            for (name, value) in keys {
                assert_eq!(value, super::invocation::NO_KEY, "{name}");
            }
        }
    }
}

#[test]
fn the_arguments_of_those_that_are_tried_end_to_end() {
    let claude = Profile::ClaudeCode
        .arguments(model(Protocol::Anthropic, "m", None))
        .join(" ");
    assert!(
        claude.starts_with("--print --output-format stream-json --verbose"),
        "{claude}"
    );
    assert!(
        claude.contains("--setting-sources user --strict-mcp-config"),
        "{claude}"
    );
    let codex = Profile::Codex
        .arguments(model(Protocol::Responses, "m", None))
        .join(" ");
    assert!(codex.starts_with("exec --json --ephemeral"), "{codex}");
    assert!(
        codex.contains("base_url=\"http://127.0.0.1:3128/v1\""),
        "{codex}"
    );
    assert!(codex.ends_with(" -"), "{codex}");
}

#[test]
fn a_model_that_the_table_knows_is_asked_as_it_works_best() {
    let known = LanguageModelConfig::new(Protocol::Anthropic, "claude-haiku-4-5".to_owned());
    let entry = known.entry().unwrap();
    let asked = model(Protocol::Anthropic, "claude-haiku-4-5", Some(entry));
    let aider = Profile::Aider.arguments(asked).join(" ");
    assert!(aider.ends_with("--edit-format diff"), "{aider}");
    let config = |asked| {
        let variables = Profile::Opencode.variables(asked);
        let text = variables
            .into_iter()
            .find(|it| it.0 == "OPENCODE_CONFIG_CONTENT");
        let config: serde_json::Value = serde_json::from_str(&text.unwrap().1).unwrap();
        config["provider"]["patchfleet"]["models"].clone()
    };
    let limits = &config(asked)["claude-haiku-4-5"]["limit"];
    let (window, output) = (entry.window().unwrap(), entry.output_limit().unwrap());
    assert_eq!(
        limits,
        &serde_json::json!({"context": window, "output": output})
    );
    let unknown = model(Protocol::Chat, "mine", None);
    assert_eq!(config(unknown), serde_json::json!({"mine": {}}));
    let aider = Profile::Aider.arguments(unknown).join(" ");
    assert!(!aider.contains("--edit-format"), "{aider}");
}
