//! `[agents.draft] record`: drafts that are kept in a folder of the operator's.
//!
//! A draft is kept as `replay` reads it, so that a folder that was recorded today drafts the same for nothing
//! tomorrow: `<dir>/<fingerprint>/<round>.diff`. What passed the gateway for it lies beside it, in
//! `<round>.calls.jsonl`. What can't be kept fails no draft, and is said.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::{DraftRequest, Drafted, fingerprint};
use crate::gateway::CallLog;
use crate::process::OnLine;

/// Keeps a round's draft, if it is one.
pub(super) async fn keep(dir: &Path, request: &DraftRequest, drafted: &Drafted, on_line: &OnLine) {
    if drafted.refused.is_some() {
        return;
    }
    let path = match place(dir, request, "diff") {
        Ok(path) => path,
        Err(error) => return not_kept(dir, &error, on_line),
    };
    // Whoever reads it meanwhile reads the old one or the new one.
    let new = path.with_extension("diff.new");
    let written = async {
        tokio::fs::write(&new, &drafted.diff).await?;
        tokio::fs::rename(&new, &path).await
    };
    match written.await {
        Ok(()) => on_line(&format!("recorded as {}", path.display())),
        Err(error) => not_kept(&path, &error, on_line),
    }
}

/// The file for the calls of a round, begun anew.
pub(super) fn calls(dir: &Path, request: &DraftRequest, on_line: &OnLine) -> Option<CallLog> {
    let path = place(dir, request, "calls.jsonl");
    match path.and_then(|path| CallLog::create(&path)) {
        Ok(log) => Some(log),
        Err(error) => {
            not_kept(dir, &error, on_line);
            None
        }
    }
}

/// Where something of a round is kept. Only the agent's user reads the folder: there is code in it.
fn place(dir: &Path, request: &DraftRequest, ending: &str) -> io::Result<PathBuf> {
    let folder = dir.join(fingerprint(&request.title, &request.body));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    Ok(folder.join(format!("{}.{ending}", request.round)))
}

fn not_kept(path: &Path, error: &io::Error, on_line: &OnLine) {
    tracing::warn!(path = %path.display(), %error, "a draft is not recorded");
    on_line(&format!("not recorded in {}: {error}", path.display()));
}
