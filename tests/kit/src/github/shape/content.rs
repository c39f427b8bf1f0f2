//! Files and folders.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::super::bare::tree::Entry;
use super::super::model::Repository;
use super::super::state::State;
use super::account::merge;
use super::{api_url, html_url};

/// A file with its content.
pub(crate) fn file(state: &State, of: &Repository, at: &At<'_>, content: &[u8]) -> Value {
    let entry = Entry {
        kind: "file",
        sha: at.blob.to_owned(),
        size: content.len() as u64,
        path: at.path.to_owned(),
    };
    let mut body = self::entry(state, of, at.reference, &entry);
    let more = json!({ "encoding": "base64", "content": wrapped(content) });
    merge(&mut body, more);
    body
}

/// Where a file was found.
pub(crate) struct At<'a> {
    pub(crate) reference: &'a str,
    pub(crate) path: &'a str,
    pub(crate) blob: &'a str,
}

/// Base64 in lines of sixty characters, as GitHub sends it.
fn wrapped(content: &[u8]) -> String {
    let mut text = String::new();
    for line in BASE64.encode(content).as_bytes().chunks(60) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text
}

/// An entry of a folder. Submodules are listed as files, as on GitHub.
pub(crate) fn listed(state: &State, of: &Repository, reference: &str, entry: &Entry) -> Value {
    let mut body = self::entry(state, of, reference, entry);
    if entry.kind == "submodule" {
        body["type"] = json!("file");
    }
    body
}

/// What lies at a path, without its content.
pub(crate) fn entry(state: &State, of: &Repository, reference: &str, entry: &Entry) -> Value {
    let (api, html) = (api_url(state, of), html_url(state, of));
    let (path, sha) = (&entry.path, &entry.sha);
    let url = format!("{api}/contents/{path}?ref={reference}");
    let (page, git) = if entry.kind == "dir" {
        ("tree", "trees")
    } else {
        ("blob", "blobs")
    };
    let html = format!("{html}/{page}/{reference}/{path}");
    let git = format!("{api}/git/{git}/{sha}");
    let download =
        matches!(entry.kind, "file" | "symlink").then(|| html.replacen("/blob/", "/raw/", 1));
    json!({
        "type": entry.kind,
        "name": path.rsplit('/').next(),
        "path": path,
        "sha": sha,
        "size": entry.size,
        "url": url,
        "html_url": html,
        "git_url": git,
        "download_url": download,
        "_links": { "self": url, "git": git, "html": html },
    })
}
