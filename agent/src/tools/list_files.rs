//! `list_files`: what the work tree has, folded where it is much.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use serde_json::json;

use super::view::Listed;
use super::{Answer, Call, Definition, Tools, as_data, view};

/// Most lines of a listing.
const LINES: usize = 300;

/// The arguments of `list_files`, as its schema has them.
#[derive(Debug, Deserialize)]
struct Arguments {
    path: Option<String>,
    glob: Option<String>,
    ignored: Option<bool>,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "list_files",
        description: "Lists the files of the repository or of one of its folders, with their sizes. \
                      Where there are many, folders stand with the count of their files.",
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "A folder; the whole repository by default"},
                "glob": {"type": "string", "description": "Only files that match, such as `**/*.rs`"},
                "ignored": {"type": "boolean", "description": "Also what `.gitignore` leaves out, such as installed packages"},
            },
            "additionalProperties": false,
        }),
    }
}

pub(super) async fn run(tools: &mut Tools<'_>, call: Call<'_>) -> Result<Answer, String> {
    let arguments: Arguments = call.read()?;
    let path = view::plain(arguments.path.as_deref().unwrap_or(""))?.to_owned();
    let glob = arguments.glob.as_deref().map(glob).transpose()?;
    let (folder, tracked) = (path.clone(), tools.tracked.clone());
    let is_all = arguments.ignored.unwrap_or_default();
    let listed = tools.on_disk(move |view| view.files(&folder, (&tracked, is_all)));
    let mut listing = listed.await?;
    listing
        .files
        .retain(|file| is_match(glob.as_ref(), &file.path));
    let more = if listing.is_cut {
        "; there are more, which were not looked at"
    } else {
        ""
    };
    let title = format!("{} files{more}\n", listing.files.len());
    let (lines, is_folded) = folded(&path, &listing.files);
    let title = if is_folded {
        format!("{title}[folders stand for their files; list one of them to see more]\n")
    } else {
        title
    };
    let text = tools.outputs.show(lines, call.room, super::cap::Keep::Ends);
    Ok(Answer::new(format!("{title}{}", as_data(&text))))
}

/// A pattern for paths; one without `/` is about names wherever they are.
pub(super) fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    let anywhere = if pattern.contains('/') {
        pattern.to_owned()
    } else {
        format!("**/{pattern}")
    };
    let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
    let glob = glob.map_err(|error| format!("`glob` is no pattern: {error}"))?;
    Ok(glob.compile_matcher())
}

pub(super) fn is_match(glob: Option<&GlobMatcher>, path: &str) -> bool {
    glob.is_none_or(|glob| glob.is_match(path))
}

/// The listing in at most so many lines: the deepest folders are folded first.
pub(super) fn folded(root: &str, files: &[Listed]) -> (String, bool) {
    let whole = files.iter().map(line).collect::<String>();
    if files.len() <= LINES {
        return (whole, false);
    }
    let start = if root.is_empty() { 0 } else { root.len() + 1 };
    let mut shown = at_depth(files, start, 1);
    for depth in 2.. {
        let deeper = at_depth(files, start, depth);
        if deeper.len() > LINES || deeper.len() == shown.len() {
            break;
        }
        shown = deeper;
    }
    (shown.concat(), true)
}

/// The files down to a depth, and the folders there with the count of what is in them.
fn at_depth(files: &[Listed], start: usize, depth: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files {
        let below = file.path.get(start..).unwrap_or_default();
        match below.match_indices('/').nth(depth - 1) {
            None => lines.push(line(file)),
            Some((end, _)) => *folders.entry(&file.path[..=start + end]).or_default() += 1,
        }
    }
    lines.extend(
        folders
            .iter()
            .map(|(folder, count)| format!("{folder} ({count} files)\n")),
    );
    lines.sort();
    lines
}

fn line(file: &Listed) -> String {
    if file.is_link {
        format!("{} (a link)\n", file.path)
    } else {
        format!("{} ({} bytes)\n", file.path, file.size)
    }
}
