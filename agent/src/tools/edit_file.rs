//! `edit_file`: one passage of a file, exact and unique, replaced by another.

use serde::Deserialize;
use serde_json::json;

use super::cap::cut_line;
use super::create_file::{without_secrets, writable};
use super::edit::{self, Unit, numbered};
use super::read_file::blob;
use super::text::shown;
use super::{Answer, Call, Definition, Failed, Tools, as_data};

/// Lines that are shown around what is new.
const AROUND: usize = 3;
/// Most lines that are shown of the result.
const LINES: usize = 60;

/// The arguments of `edit_file`, as its schema has them.
#[derive(Debug, Deserialize)]
struct Arguments {
    path: String,
    old: String,
    new: String,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "edit_file",
        description: "Replaces `old` by `new` in a file. `old` has to stand in it exactly and once; \
                      give as many lines as make it so. Line ends and encoding stay. To add lines, \
                      repeat the line before them in both.",
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Relative to the repository's root"},
                "old": {"type": "string", "description": "What is there, without line numbers"},
                "new": {"type": "string", "description": "What comes in its place"},
            },
            "required": ["path", "old", "new"],
            "additionalProperties": false,
        }),
    }
}

pub(super) async fn run(tools: &mut Tools<'_>, call: Call<'_>) -> Result<Answer, Failed> {
    let Arguments { path, old, new } = call.read()?;
    apply(tools, (&path, old, new), Unit::Text).await
}

/// Replaces a passage of a file, and says what the file is now.
pub(super) async fn apply(
    tools: &Tools<'_>,
    (path, old, new): (&str, String, String),
    unit: Unit,
) -> Result<Answer, Failed> {
    let path = writable(path, tools.scope.config)?;
    without_secrets(&new)?;
    let edited = tools.on_disk(move |view| {
        let source = view.read(&path)?;
        // What is shown of a file is what can be asked for.
        shown(&path, &source.content)?;
        let done = edit::replace(&source.content, (&old, &new), unit);
        let done = done.map_err(|why| format!("`{path}` was not changed: {why}"))?;
        view.write(&path, &done.content, source.mode)?;
        let now = view.read(&path)?;
        if now.content != done.content {
            return Err(format!("`{path}` is not as it was written; read it"));
        }
        let note = if done.is_shifted {
            "[found with another indentation, which the new lines were given too]\n"
        } else {
            ""
        };
        let title = format!(
            "`{path}` was changed, blob {} now\n{note}",
            blob(&now.content)
        );
        let text = shown(&path, &now.content)?.text;
        Ok((title, around(&text, done.line, done.count)))
    });
    let (title, lines) = edited.await?;
    Ok(Answer::new(format!("{title}{}", as_data(&lines))))
}

/// The lines that are new, with some around them.
fn around(text: &str, line: usize, count: usize) -> String {
    let first = line.saturating_sub(AROUND).max(1);
    let last = line + count + AROUND - 1;
    let lines = text.lines().enumerate().skip(first - 1);
    let mut around = String::new();
    for (number, line) in lines.take((last + 1 - first).min(LINES)) {
        around.push_str(&numbered(number + 1, &cut_line(line)));
    }
    around
}
