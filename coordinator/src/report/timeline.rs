//! What happened, a line each, from a task's history.

use patchfleet_domain::Phase;

use super::markdown::inline;
use crate::store::TaskEvent;

/// Events that a history is made of at the most; the newest.
pub(super) const NEWEST_EVENTS: u32 = 500;
/// Most lines that are shown; the newest.
const MAX_LINES: usize = 60;
/// Longest detail, in bytes.
const MAX_DETAIL: usize = 200;
const MAX_ACTOR: usize = 64;

/// The history as a list; checkpoints and usage are for machines.
pub(super) fn timeline(history: &[TaskEvent]) -> Option<String> {
    let shown: Vec<_> = history.iter().filter(|event| is_told(event)).collect();
    let left_out = shown.len().saturating_sub(MAX_LINES);
    let mut lines: Vec<_> = shown[left_out..].iter().map(|event| line(event)).collect();
    if left_out > 0 {
        let at_least = if is_cut(history) { "more than " } else { "" };
        lines.insert(0, format!("- … {at_least}{left_out} earlier"));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// True when there may be older events than these.
fn is_cut(history: &[TaskEvent]) -> bool {
    u32::try_from(history.len()).is_ok_and(|count| count >= NEWEST_EVENTS)
}

fn is_told(event: &TaskEvent) -> bool {
    matches!(event.kind.as_str(), "created" | "state" | "phase" | "note")
}

fn line(event: &TaskEvent) -> String {
    let at = event.at.format("%Y-%m-%d %H:%M:%S");
    let actor = inline(&event.actor, MAX_ACTOR);
    let what = match (event.to, event.detail.split_once(':')) {
        (Some(state), _) if event.detail.is_empty() => format!("**{state}**"),
        (Some(state), _) => format!("**{state}**: {}", inline(&event.detail, MAX_DETAIL)),
        (None, Some((phase, detail))) if phase.parse::<Phase>().is_ok() => {
            format!("*{phase}* {}", inline(detail, MAX_DETAIL))
        }
        (None, _) => inline(&event.detail, MAX_DETAIL),
    };
    format!("- `{at}` {} ({actor})", what.trim_end())
}
