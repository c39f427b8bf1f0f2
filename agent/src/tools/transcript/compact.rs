//! A summary in the place of old turns.
//!
//! It is asked for with the conversation as far as it is to be taken out, so that the provider's cache
//! has read most of the question before. Only whole messages go, from the second on: a turn with its
//! results is one of them.

use std::collections::BTreeSet;

use patchfleet_model::{Conversation, Message};

use super::{Masked, SHRINK, Transcript, bytes, bytes_of};

/// Newest turns that stay, whatever their length.
const TURNS: usize = 2;
/// The share of the window that the newest turns may fill and stay, in hundredths.
const KEPT: u64 = 30;
/// Bytes of a token, to the safe side.
const BYTES_PER_TOKEN: u64 = 3;
/// Most and fewest tokens of a summary, thinking included, and its share of the window.
const SUMMARY: (u64, u64, u64) = (16_000, 1_000, 8);

impl Transcript {
    /// How many messages after the first may go: all but the newest turns, as far as a question about
    /// them fits into a window of so many tokens. Nothing, when too little would go.
    pub(in crate::tools) fn old_messages(&self, window: u64) -> Option<usize> {
        let sizes: Vec<_> = self.conversation.messages.iter().map(bytes_of).collect();
        let kept = to_bytes(self.window.min(window) * KEPT / 100);
        let (mut newest, mut turns, mut end) = (0, 0, 0);
        for (place, message) in self.conversation.messages.iter().enumerate().skip(1).rev() {
            newest += sizes[place];
            if turns >= TURNS && newest > kept {
                break;
            }
            // What stays begins with a turn.
            if matches!(message, Message::Assistant(_)) {
                turns += 1;
                end = place;
            }
        }
        let room = to_bytes(window.saturating_sub(u64::from(self.summary_output(window))));
        let mut asked = self.fixed_bytes() + sizes.first().copied().unwrap_or_default();
        let fits = |size: &&usize| {
            asked += **size;
            asked <= room
        };
        let old = sizes.get(1..end).unwrap_or_default();
        let count = old.iter().take_while(fits).count();
        let gone: usize = old[..count].iter().sum();
        let is_enough = gone as u64 * 100 >= bytes(&self.conversation) as u64 * SHRINK * 2;
        is_enough.then_some(count)
    }

    /// The question for a summary of so many messages after the first.
    pub(in crate::tools) fn about_old(
        &self,
        (count, window): (usize, u64),
        instructions: String,
    ) -> Conversation {
        let mut messages = self.conversation.messages.clone();
        messages.truncate(count + 1);
        messages.push(Message::User(instructions));
        Conversation {
            messages,
            max_output: self.summary_output(window),
            ..self.conversation.clone()
        }
    }

    /// Puts a summary in the place of so many messages after the first, but for those of people. Nothing,
    /// when the conversation does not get shorter by a tenth.
    pub(in crate::tools) fn compact(&mut self, count: usize, summary: String) -> Option<Masked> {
        let before = bytes(&self.conversation);
        let messages = &self.conversation.messages;
        let (old, new) = messages.get(1..)?.split_at_checked(count)?;
        let people = old.iter().enumerate();
        let people = people.filter(|(place, _)| self.said_by_people.contains(&(place + 1)));
        let people: Vec<_> = people.map(|(_, message)| message.clone()).collect();
        let first = messages.first().cloned();
        let shift = people.len() + 1;
        let said = 1..=people.len();
        let all = first
            .into_iter()
            .chain(people)
            .chain([Message::User(summary)])
            .chain(new.iter().cloned());
        let shorter = Conversation {
            messages: all.collect(),
            ..self.conversation.clone()
        };
        let after = bytes(&shorter);
        if after as u64 * 100 > before as u64 * (100 - SHRINK) {
            return None;
        }
        let later = self.said_by_people.iter().filter(|place| **place > count);
        self.said_by_people = said
            .chain(later.map(|place| place - count + shift))
            .collect();
        let gone = self.results.iter().filter(|kept| kept.message <= count);
        let calls: BTreeSet<u32> = gone.map(|kept| kept.call).collect();
        self.results.retain(|kept| kept.message > count);
        for kept in &mut self.results {
            kept.message = kept.message - count + shift;
        }
        self.conversation = shorter;
        // Nobody has counted what is left.
        self.counted = 0;
        self.added = after;
        Some(Masked {
            calls,
            bytes: (before, after),
        })
    }

    /// Most tokens of a summary.
    fn summary_output(&self, window: u64) -> u32 {
        let (most, fewest, share) = SUMMARY;
        let tokens = (window / share).clamp(fewest, most);
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        tokens.min(self.conversation.max_output)
    }

    /// Bytes of what stands before all messages.
    fn fixed_bytes(&self) -> usize {
        let messages: usize = self.conversation.messages.iter().map(bytes_of).sum();
        bytes(&self.conversation) - messages
    }
}

fn to_bytes(tokens: u64) -> usize {
    usize::try_from(tokens.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(usize::MAX)
}
