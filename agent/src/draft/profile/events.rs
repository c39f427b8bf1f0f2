//! The events of each program, a JSON object a line, as people read them. What is no event passes as it
//! is; events and fields that are not known are left out, as programs change with every week.

use serde_json::Value;

use super::Profile;
use super::transcript::{Ending, Meaning};

/// The longest text of one event, in characters.
const LONGEST: usize = 2000;
/// The fields that say what the call of a tool is about, the most telling first.
const TELLING: &[&str] = &[
    "command",
    "cmd",
    "file_path",
    "filePath",
    "path",
    "pattern",
    "query",
    "description",
];

/// What a line of a program's output means.
pub(super) fn meaning(profile: Profile, line: &str) -> Meaning {
    let event = match serde_json::from_str::<Value>(line) {
        Ok(event) if event.is_object() && profile != Profile::Aider => event,
        _ => return said(line.to_owned()),
    };
    match profile {
        Profile::ClaudeCode => claude_code(&event),
        Profile::Codex => codex(&event),
        Profile::Gemini => gemini(&event),
        Profile::Opencode => opencode(&event),
        Profile::Aider => said(line.to_owned()),
    }
}

fn claude_code(event: &Value) -> Meaning {
    match text(&event["type"]) {
        "assistant" => {
            let blocks = event["message"]["content"].as_array();
            let lines = blocks
                .into_iter()
                .flatten()
                .flat_map(|block| match text(&block["type"]) {
                    "text" => lines(text(&block["text"])),
                    "tool_use" => vec![call(text(&block["name"]), &block["input"])],
                    _ => Vec::new(),
                });
            log_lines(lines.collect())
        }
        "result" => {
            let words = text(&event["result"]);
            let subtype = text(&event["subtype"]);
            // `success` may well be an error: an answer of the model's server, for one.
            if subtype == "success" && event["is_error"] != true {
                return ended(Ending::Done);
            }
            let why = if words.is_empty() { subtype } else { words };
            ended(Ending::Failed(short(why)))
        }
        _ => Meaning::default(),
    }
}

fn codex(event: &Value) -> Meaning {
    let item = &event["item"];
    match (text(&event["type"]), text(&item["type"])) {
        ("item.completed", "agent_message") => said(text(&item["text"]).to_owned()),
        ("item.started", "command_execution") => said(format!("$ {}", text(&item["command"]))),
        ("item.completed", "command_execution") => match item["exit_code"].as_i64() {
            Some(0) | None => Meaning::default(),
            Some(code) => said(format!("exit code {code}")),
        },
        ("item.completed", "file_change") => {
            let changes = item["changes"].as_array().into_iter().flatten();
            let lines = changes.map(|it| format!("{} {}", text(&it["kind"]), text(&it["path"])));
            log_lines(lines.collect())
        }
        ("item.completed", "error") => said(text(&item["message"]).to_owned()),
        // "Reconnecting…" is one, so that it ends nothing.
        ("error", _) => said(text(&event["message"]).to_owned()),
        ("turn.completed", _) => ended(Ending::Done),
        ("turn.failed", _) => ended(Ending::Failed(short(text(&event["error"]["message"])))),
        _ => Meaning::default(),
    }
}

fn gemini(event: &Value) -> Meaning {
    match text(&event["type"]) {
        "message" if event["role"] == "assistant" => {
            let words = text(&event["content"]).to_owned();
            if event["delta"] == true {
                return Meaning {
                    piece: words,
                    ..Meaning::default()
                };
            }
            said(words)
        }
        "tool_use" => said(call(text(&event["tool_name"]), &event["parameters"])),
        "error" => said(text(&event["message"]).to_owned()),
        "result" if event["status"] == "success" => ended(Ending::Done),
        "result" => {
            let why = text(&event["error"]["message"]);
            ended(Ending::Failed(short(if why.is_empty() {
                text(&event["status"])
            } else {
                why
            })))
        }
        _ => Meaning::default(),
    }
}

fn opencode(event: &Value) -> Meaning {
    let part = &event["part"];
    match text(&event["type"]) {
        "text" => said(text(&part["text"]).to_owned()),
        "tool_use" => said(call(text(&part["tool"]), &part["state"]["input"])),
        "error" => {
            let error = &event["error"];
            let words = [&error["data"]["message"], &error["message"], &error["name"]];
            let words = words.into_iter().map(text).find(|it| !it.is_empty());
            ended(Ending::Failed(short(words.unwrap_or("it met an error"))))
        }
        _ => Meaning::default(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn said(words: String) -> Meaning {
    log_lines(lines(&words))
}

fn log_lines(lines: Vec<String>) -> Meaning {
    Meaning {
        lines,
        ..Meaning::default()
    }
}

fn ended(end: Ending) -> Meaning {
    Meaning {
        end: Some(end),
        ..Meaning::default()
    }
}

/// The lines of a text, without the empty ones.
pub(super) fn lines(words: &str) -> Vec<String> {
    let words = short(words);
    let lines = words.lines().filter(|line| !line.trim().is_empty());
    lines.map(str::to_owned).collect()
}

/// A call of a tool in one line.
fn call(name: &str, input: &Value) -> String {
    let mut subjects = TELLING.iter().map(|field| text(&input[*field]));
    let subject = subjects.find(|it| !it.is_empty());
    match subject.and_then(|it| it.lines().next()) {
        Some(subject) => format!("{name} {}", short(subject)),
        None => name.to_owned(),
    }
}

fn short(words: &str) -> String {
    let words = words.trim();
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}
