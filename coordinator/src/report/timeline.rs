//! What happened, a line each, from a task's history.

use patchfleet_domain::Phase;

use super::markdown::inline;
use crate::store::TaskEvent;

/// Most lines that are shown; the newest.
const MAX_LINES: usize = 60;
/// Longest detail, in bytes.
const MAX_DETAIL: usize = 200;

/// The history as a list; checkpoints and usage are for machines.
pub(super) fn timeline(history: &[TaskEvent]) -> Option<String> {
    let shown: Vec<_> = history.iter().filter_map(line).collect();
    if shown.is_empty() {
        return None;
    }
    let left_out = shown.len().saturating_sub(MAX_LINES);
    let mut lines = shown[left_out..].to_vec();
    if left_out > 0 {
        lines.insert(0, format!("- … {left_out} earlier"));
    }
    Some(lines.join("\n"))
}

fn line(event: &TaskEvent) -> Option<String> {
    let at = event.at.format("%Y-%m-%d %H:%M:%S");
    let what = match (event.kind.as_str(), event.to) {
        ("created" | "state", Some(state)) => {
            let detail = inline(&event.detail, MAX_DETAIL);
            let detail = if detail.is_empty() {
                detail
            } else {
                format!(": {detail}")
            };
            format!("**{state}**{detail}")
        }
        ("phase", _) => {
            let (phase, detail) = event.detail.split_once(':').unwrap_or((&event.detail, ""));
            let known = phase.parse::<Phase>().is_ok();
            let phase = if known {
                format!("*{phase}*")
            } else {
                inline(phase, MAX_DETAIL)
            };
            format!("{phase} {}", inline(detail, MAX_DETAIL))
        }
        ("note", _) => inline(&event.detail, MAX_DETAIL),
        _ => return None,
    };
    Some(format!(
        "- `{at}` {} ({})",
        what.trim_end(),
        inline(&event.actor, 64)
    ))
}
