//! Where a stage of the work stands among the turns that earlier attempts were answered.
//!
//! Whoever works in turns shares it with the [`Recorded`](super::recorded::Recorded) model that it asks,
//! so that what entered a conversation from outside enters it again at the same place, and the same
//! requests come about. Where the files are others than they were then, the turns are left: their edits
//! are not for these files.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use patchfleet_domain::{FollowUp, Money};
use patchfleet_model::{Answer, Conversation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Most bytes of the turns of one stage: all of them come with the next assignment, in one message.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// An answer that was paid for, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    /// What the answer belongs to: the instructions, the tools and the first message.
    pub(super) task: String,
    /// The whole request.
    pub(super) request: String,
    pub(super) answer: Answer,
    /// What the answer cost when it was given; absent when nobody knew. This and what follows is absent
    /// also in what an agent of an earlier release kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Money>,
    /// The attempt that paid for it.
    #[serde(default)]
    pub(super) attempt: u32,
    #[serde(default)]
    pub(super) asked: Asked,
}

/// What a turn was asked with that does not follow from the turns before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// What people added right before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) follow_ups: Vec<FollowUp>,
    /// The tree that the files of the work were then, where it is known; what programs left beside them is
    /// no part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tree: Option<String>,
    /// It asked for a summary of so many old messages, and is no step of the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summarized: Option<usize>,
}

/// The record of one stage of the work.
#[derive(Debug)]
pub(crate) struct Record(Mutex<Place>);

#[derive(Debug)]
struct Place {
    /// The turns that earlier attempts were answered, by their numbers.
    earlier: BTreeMap<u32, Turn>,
    next: u32,
    bytes: usize,
    /// The attempt that paid for the turn before the next.
    attempt: u32,
    /// What the next turn is asked with.
    asked: Asked,
}

impl Place {
    /// The next turn, if an earlier attempt has paid for it. An attempt that left the turns of those
    /// before it went another way; what they have beyond that place answers other requests.
    fn earlier_turn(&self, task: &str) -> Option<&Turn> {
        let turn = self.earlier.get(&self.next)?;
        (turn.task == task && turn.attempt >= self.attempt).then_some(turn)
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl Record {
    /// A record with the turns of earlier attempts, by their numbers.
    pub(super) fn new(earlier: BTreeMap<u32, Turn>) -> Self {
        Self(Mutex::new(Place {
            earlier,
            next: 1,
            bytes: 0,
            attempt: 0,
            asked: Asked::default(),
        }))
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next turn of a conversation was asked with, if an earlier attempt has paid for it.
    pub(crate) fn next(&self, conversation: &Conversation) -> Option<Asked> {
        let place = self.place();
        let turn = place.earlier_turn(&task_of(conversation))?;
        Some(turn.asked.clone())
    }

    /// Says what the next turn is asked with.
    pub(crate) fn enter(&self, asked: Asked) {
        self.place().asked = asked;
    }

    /// Leaves the turns of earlier attempts: the next one is asked, and so is all that follows. Returns
    /// its number.
    pub(crate) fn leave(&self) -> u32 {
        let mut place = self.place();
        place.earlier.clear();
        place.next
    }

    /// The answer that an earlier attempt paid for, if it is one to this work, and what it cost.
    pub(super) fn take_over(&self, task: &str) -> Option<(Answer, Option<Money>)> {
        let mut place = self.place();
        let Some(turn) = place.earlier_turn(task).cloned() else {
            // What came after a turn that is not the same is no answer to what comes now.
            place.earlier.clear();
            return None;
        };
        place.next += 1;
        // It comes with the next assignment again.
        place.bytes = place.bytes.saturating_add(size_of_kept(&turn));
        place.attempt = turn.attempt;
        Some((turn.answer, turn.cost))
    }

    /// What the turn was asked with that was answered now.
    pub(super) fn asked(&self) -> Asked {
        std::mem::take(&mut self.place().asked)
    }

    /// The number of a turn of so many bytes; none where there is no room for another one.
    pub(super) fn number(&self, bytes: usize) -> Option<u32> {
        let mut place = self.place();
        let number = place.next;
        place.next += 1;
        place.bytes = place.bytes.saturating_add(bytes);
        (place.bytes <= MOST_BYTES).then_some(number)
    }
}

/// The bytes that a turn takes up among the checkpoints of a task.
fn size_of_kept(turn: &Turn) -> usize {
    serde_json::to_vec(turn).map_or(usize::MAX, |it| it.len())
}

/// What the turns of a conversation belong to: what never changes in it.
pub(super) fn task_of(conversation: &Conversation) -> String {
    digest(&(
        &conversation.system,
        &conversation.tools,
        conversation.messages.first(),
    ))
}

pub(super) fn digest(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}
