//! `finish`: the model says that its work is done.

use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, Definition, Failed, Finish, Tools};

/// The arguments of `finish`, as its schema has them.
#[derive(Debug, Deserialize)]
struct Arguments {
    summary: String,
    no_change_needed: Option<bool>,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "finish",
        description: "Ends the work. The change is taken from the files as they are; the tests are \
                      run once more afterwards.",
        parameters: json!({
            "type": "object",
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 8000, "description": "What was changed and why, for the reviewer"},
                "no_change_needed": {"type": "boolean", "description": "The request is met already, or needs no change of a file; `summary` says why"},
            },
            "required": ["summary"],
            "additionalProperties": false,
        }),
    }
}

pub(super) async fn run(tools: &mut Tools<'_>, call: Call<'_>) -> Result<Answer, Failed> {
    let arguments: Arguments = call.read()?;
    let is_changed = tools.tree().await? != tools.start;
    let finish = match (is_changed, arguments.no_change_needed.unwrap_or_default()) {
        (true, false) => Finish::Changed(arguments.summary),
        (false, true) => Finish::NotNeeded(arguments.summary),
        (false, false) => {
            let why = "no file differs from how it was at the start, so there is nothing to finish. \
                       Make the change; or, if none is needed, say so by `no_change_needed`";
            return Err(Failed::Refused(why.to_owned()));
        }
        (true, true) => {
            let why = "files were changed, so `no_change_needed` can't be right: leave it out, or \
                       undo the changes first";
            return Err(Failed::Refused(why.to_owned()));
        }
    };
    Ok(Answer {
        finish: Some(finish),
        ..Answer::new("finished\n".to_owned())
    })
}
