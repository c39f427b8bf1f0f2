//! The history of a task and its bound: an agent that reports in a loop can't fill the database.
//!
//! Progress, checkpoints and usage are written as long as there is room for them, then one row says
//! that there is none. Changes of state are always written. Agents can make some of those themselves,
//! by saying that they test and that they don't: their progress moves the task until twice the room is
//! used up.

use super::log::{ROW, cut};
use super::{Event, Held, TaskState};

/// Volume of what agents write to the history of a task over all its attempts, in bytes.
const MAX_VOLUME: u64 = 4 * 1024 * 1024;
/// The last row that there is room for.
const FULL: &str = "the history is full: progress, checkpoints and usage are no longer kept";

impl Held {
    /// Writes what an agent did to the history; false when there is no room for it.
    pub(in crate::store) fn record(
        &mut self,
        kind: &'static str,
        (actor, detail): (&str, &str),
    ) -> bool {
        let before = self.history_volume();
        let length = u64::try_from(cut(detail).len()).unwrap_or(u64::MAX);
        let after = self.grow_history(length.saturating_add(ROW));
        let has_room = after <= MAX_VOLUME;
        if has_room {
            self.note(kind, (actor, detail));
        } else if before <= MAX_VOLUME {
            self.note("note", ("coordinator", FULL));
        }
        has_room
    }

    /// Counts in that progress moves the task; false when it has done so too often.
    pub(super) fn may_move(&mut self) -> bool {
        self.history_volume() <= 2 * MAX_VOLUME && self.grow_history(ROW) <= 2 * MAX_VOLUME
    }

    fn history_volume(&self) -> u64 {
        self.attempt.as_ref().map_or(0, |it| it.history_volume)
    }

    fn grow_history(&mut self, by: u64) -> u64 {
        let Some(attempt) = &mut self.attempt else {
            return 0;
        };
        attempt.history_volume = attempt.history_volume.saturating_add(by);
        attempt.history_volume
    }

    /// Writes something else than a change of state to the history.
    pub(in crate::store) fn note(&mut self, kind: &'static str, told: (&str, &str)) {
        self.event(kind, (None, None), told);
    }

    pub(super) fn event(
        &mut self,
        kind: &'static str,
        (from, to): (Option<TaskState>, Option<TaskState>),
        (actor, detail): (&str, &str),
    ) {
        self.changes.events.push(Event {
            attempt: self.task.attempt,
            kind,
            from,
            to,
            actor: actor.to_owned(),
            detail: cut(detail),
        });
    }
}
