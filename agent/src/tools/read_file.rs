//! `read_file`: lines of a file, with the name of its content.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::json;

use super::cap::cut_line;
use super::edit::numbered;
use super::text::shown;
use super::{Answer, Call, Definition, Tools, as_data, view};

/// Most lines that are shown at once.
const LINES: usize = 800;

/// The arguments of `read_file`, as its schema has them.
#[derive(Debug, Deserialize)]
struct Arguments {
    path: String,
    start_line: Option<usize>,
    end_line: Option<usize>,
}

/// Lines of a file that the model was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    path: String,
    blob: String,
    lines: (usize, usize),
    /// The call whose result has them.
    pub(super) call: u32,
    turn: u32,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "read_file",
        description: "Reads lines of a text file, numbered, with the hash of its content. Also \
                      takes `output:N`, the whole of a result that was cut.",
        parameters: json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Relative to the repository's root"},
                "start_line": {"type": "integer", "minimum": 1, "description": "First line, 1 by default"},
                "end_line": {"type": "integer", "minimum": 1, "description": "Last line"},
            },
            "required": ["path"],
            "additionalProperties": false,
        }),
    }
}

pub(super) async fn run(tools: &mut Tools<'_>, call: Call<'_>) -> Result<Answer, String> {
    let arguments: Arguments = call.read()?;
    let range = range(&arguments)?;
    if let Some(output) = tools.outputs.get(&arguments.path) {
        let text = output?.to_owned();
        let page = page(&text, range, call.room)?;
        return Ok(Answer::new(format!(
            "`{}`, {}{}",
            arguments.path, page.title, page.text
        )));
    }
    let path = view::plain(&arguments.path)?.to_owned();
    let (name, tracked) = (path.clone(), tools.tracked.clone());
    let read = tools.on_disk(move |view| {
        let source = view
            .read(&name)
            .map_err(|why| with_others(why, &name, &tracked))?;
        let seen = shown(&name, &source.content)?;
        Ok((blob(&source.content), seen))
    });
    let (blob, file) = read.await?;
    let page = page(&file.text, range, call.room)?;
    let seen = Seen {
        path,
        blob,
        lines: page.lines,
        call: call.number,
        turn: call.turn,
    };
    // Also what was taken out of sight is no news.
    let is_new = tools.read.insert((seen.path.clone(), seen.blob.clone()));
    if let Some(known) = tools.seen.iter().find(|it| it.covers(&seen)) {
        let place = match known.turn {
            0 => "the first message".to_owned(),
            turn => format!("the result of turn {turn}"),
        };
        return Ok(Answer::new(format!(
            "`{}` is unchanged (blob {}); its lines {} to {} are in {place}\n",
            seen.path, seen.blob, seen.lines.0, seen.lines.1
        )));
    }
    let mut notes = String::new();
    for note in &file.notes {
        let _ = writeln!(notes, "[{note}]");
    }
    let title = format!("`{}`, blob {}, {}{notes}", seen.path, seen.blob, page.title);
    tools.seen.push(seen);
    Ok(Answer {
        is_news: is_new,
        ..Answer::new(format!("{title}{}", as_data(&page.text)))
    })
}

impl Seen {
    fn covers(&self, other: &Self) -> bool {
        (&self.path, &self.blob) == (&other.path, &other.blob)
            && self.lines.0 <= other.lines.0
            && other.lines.1 <= self.lines.1
    }
}

/// The name that git gives to a content; enough of it to tell it from others.
pub(super) fn blob(content: &[u8]) -> String {
    let id = git2::Oid::hash_object(git2::ObjectType::Blob, content);
    id.map_or_else(|_| String::new(), |id| id.to_string()[..12].to_owned())
}

fn range(arguments: &Arguments) -> Result<(usize, usize), String> {
    let start = arguments.start_line.unwrap_or(1);
    let end = arguments.end_line.unwrap_or(usize::MAX);
    if end < start {
        return Err(format!(
            "`end_line` ({end}) is before `start_line` ({start})"
        ));
    }
    Ok((start, end))
}

/// Lines that fit into a result.
struct Page {
    title: String,
    text: String,
    lines: (usize, usize),
}

fn page(text: &str, (start, end): (usize, usize), room: usize) -> Result<Page, String> {
    let count = text.lines().count();
    if count == 0 {
        return Ok(Page {
            title: "empty\n".to_owned(),
            text: String::new(),
            lines: (1, 0),
        });
    }
    if start > count {
        return Err(format!("there is no line {start}: it has {count} lines"));
    }
    let (mut shown, mut last) = (String::new(), start - 1);
    let lines = text.lines().enumerate().skip(start - 1);
    for (number, line) in lines.take_while(|(number, _)| *number < end).take(LINES) {
        let line = numbered(number + 1, &cut_line(line));
        if shown.len() + line.len() > room && !shown.is_empty() {
            break;
        }
        shown.push_str(&line);
        last = number + 1;
    }
    let wanted = end.min(count);
    let mut title = format!("lines {start} to {last} of {count}\n");
    if last < wanted {
        title = format!(
            "lines {start} to {last} of {count}; the lines {} to {wanted} are left out, read them \
             with `start_line` {}\n",
            last + 1,
            last + 1
        );
        let _ = writeln!(shown, "[the lines from {} on are left out here]", last + 1);
    }
    Ok(Page {
        title,
        text: shown,
        lines: (start, last),
    })
}

/// The refusal with files of the same name, which may be meant.
fn with_others(why: String, path: &str, tracked: &std::collections::BTreeSet<String>) -> String {
    if !why.starts_with("there is no") {
        return why;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let end = format!("/{name}");
    let same = tracked
        .iter()
        .filter(|it| it.ends_with(&end) || *it == name);
    let named: Vec<_> = same.take(5).map(|it| format!("`{it}`")).collect();
    match named.as_slice() {
        [] => why,
        named => format!("{why}; there is {}", named.join(", ")),
    }
}
