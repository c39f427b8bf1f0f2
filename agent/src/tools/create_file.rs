//! `create_file`: a new file, where nothing is.

use patchfleet_guard::find_secrets;
use patchfleet_repository::RepositoryConfig;
use serde::Deserialize;
use serde_json::json;

use super::read_file::blob;
use super::text::MASK;
use super::{Answer, Call, Definition, Failed, Tools, view};
use crate::nodes::path_refusal;

/// Rights of a new file, less what the agent's umask takes.
pub(super) const MODE: u32 = 0o666;
const EXECUTABLE: u32 = 0o777;

/// The arguments of `create_file`, as its schema has them.
#[derive(Debug, Deserialize)]
struct Arguments {
    path: String,
    content: String,
    executable: Option<bool>,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "create_file",
        description: "Makes a new file with this content, and the folders that it needs. Fails when \
                      the file exists: existing files are changed by `edit_file`.",
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Relative to the repository's root"},
                "content": {"type": "string", "description": "All of the file"},
                "executable": {"type": "boolean"},
            },
            "required": ["path", "content"],
            "additionalProperties": false,
        }),
    }
}

pub(super) async fn run(tools: &mut Tools<'_>, call: Call<'_>) -> Result<Answer, Failed> {
    let Arguments {
        path,
        content,
        executable,
    } = call.read()?;
    let mode = if executable.unwrap_or_default() {
        EXECUTABLE
    } else {
        MODE
    };
    make(tools, (&path, content), mode).await
}

/// Makes a file where nothing is, and says what it is.
pub(super) async fn make(
    tools: &Tools<'_>,
    (path, content): (&str, String),
    mode: u32,
) -> Result<Answer, Failed> {
    let path = writable(path, tools.scope.config)?;
    without_secrets(&content)?;
    let content = content.into_bytes();
    let written = tools.on_disk(move |view| {
        view.is_free(&path)?;
        view.write(&path, &content, mode)?;
        let source = view.read(&path)?;
        if source.content != content {
            return Err(format!("`{path}` is not as it was written; read it"));
        }
        let lines = content.split(|byte| *byte == b'\n').count();
        let lines = lines - usize::from(content.ends_with(b"\n") || content.is_empty());
        let note = if view.is_ignored(&path)? {
            "; `.gitignore` leaves it out, so that it will be no part of the change"
        } else {
            ""
        };
        Ok(format!(
            "`{path}` was made: {lines} lines, blob {}{note}\n",
            blob(&content)
        ))
    });
    Ok(Answer::new(written.await?))
}

/// A path that a change may touch, by the same rules that drafts are held to.
pub(super) fn writable(path: &str, config: &RepositoryConfig) -> Result<String, String> {
    let path = view::plain(path)?;
    match path_refusal(path, config) {
        None => Ok(path.to_owned()),
        Some(reason) => Err(format!(
            "`{path}` is refused: {reason}. A change that touches it would be thrown away as a \
             whole; solve the task without it"
        )),
    }
}

/// Refuses text that no change may bring.
pub(super) fn without_secrets(text: &str) -> Result<(), String> {
    if text.contains(MASK) {
        return Err(format!(
            "`{MASK}` stands for what looks like a secret and is not shown; nothing can be written \
             with it. Leave those lines as they are"
        ));
    }
    match find_secrets(text).first() {
        None => Ok(()),
        Some(secret) => Err(format!(
            "it holds what looks like a secret ({}), which no change may bring: read it from the \
             environment, or use a value that is plainly made up",
            secret.kind.as_str()
        )),
    }
}
