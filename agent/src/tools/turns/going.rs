//! Where the loop is.

use std::collections::BTreeSet;

use patchfleet_domain::FollowUp;
use patchfleet_model::{Answer as Said, ToolResult, Usage};
use tokio::time::Instant;

use super::End;
use crate::git::ObjectId;
use crate::tools::guard::Guard;
use crate::tools::transcript::{Answered, Transcript};

/// How many turns in a row may be of no use, such as those without a call.
const USELESS: u32 = 3;

/// Where the loop is.
pub(super) struct Going {
    pub(super) guard: Guard,
    pub(super) transcript: Transcript,
    pub(super) usage: Usage,
    pub(super) started: Instant,
    pub(super) step: u32,
    pub(super) useless: u32,
    /// The conversation was made shorter for this step.
    pub(super) has_shrunk: bool,
    /// Its old turns were summarized for this step.
    pub(super) has_compacted: bool,
    /// How often its old turns were summarized.
    pub(super) compactions: u32,
    /// The tree that the files of the work are, without what programs left beside them; nothing when they
    /// can be none.
    pub(super) tree: Option<ObjectId>,
    /// The comments of people that the conversation holds.
    pub(super) heard: BTreeSet<u64>,
    /// Those of them that entered since the last answer.
    pub(super) entered: Vec<FollowUp>,
}

impl Going {
    /// Counts a turn of no use; true when there were too many in a row.
    pub(super) const fn is_useless(&mut self) -> bool {
        self.useless += 1;
        self.useless >= USELESS
    }

    /// A turn of which nothing is done; its calls are told so.
    pub(super) fn leave_undone(&mut self, said: Said) {
        let turn = said.into_turn();
        let results = turn.calls().map(|call| Answered {
            result: ToolResult {
                call_id: call.id.clone(),
                content: "not executed: the answer was cut".to_owned(),
                is_error: true,
            },
            tool: call.name.clone(),
            call: 0,
        });
        let results = results.collect();
        self.transcript.turn(turn, self.step, results);
    }

    /// Says something to the model, which is no end.
    pub(super) fn tell(&mut self, text: String) -> Option<End> {
        self.transcript.say(text);
        None
    }
}
