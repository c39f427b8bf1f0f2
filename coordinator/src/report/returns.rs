//! Why no agent takes a task, and when it goes on.

use std::fmt::Write as _;

use patchfleet_domain::{Task, WaitReason};

use super::markdown::inline;

/// Longest reason that is shown, in bytes: a model's has what its provider said, and what mends it.
const MAX_REASON: usize = 800;

/// What people have to know of a task that waits because no agent takes it.
pub(super) fn push(text: &mut String, task: &Task) {
    if task.wait_reason != Some(WaitReason::Agent) {
        return;
    }
    let returns = &task.returns;
    let title = match returns.count {
        0 => "All agents that could take it are unfit to work:".to_owned(),
        count => format!("It was given out {count} times in a row and came back without work:"),
    };
    let _ = write!(text, "\n**No agent takes this task.** {title}\n\n");
    for returned in &returns.by {
        let (agent, reason) = (&returned.agent, inline(&returned.reason, MAX_REASON));
        let _ = writeln!(text, "- `{agent}`: {reason}");
    }
    let again = returns.until.map_or_else(
        || "later".to_owned(),
        |until| format!("at {}", until.format("%Y-%m-%d %H:%M UTC")),
    );
    let _ = write!(
        text,
        "\nIt is offered to the agents again {again} by itself, and sooner when another agent is \
         there or fit again. `/patchfleet retry` offers it at once.\n"
    );
}
