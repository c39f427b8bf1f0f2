//! What people add to a task while this agent works on it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use patchfleet_domain::FollowUp;
use patchfleet_guard::{delimit_untrusted, redact, strip_hidden_markdown, visible_line};

use crate::excerpt::bounded;

/// Most bytes of a comment that a model is told.
const LONGEST: usize = 24 * 1024;

/// The comments on one task, in the order of their coming. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub struct FollowUps(Arc<Mutex<Vec<FollowUp>>>);

impl FollowUps {
    /// Adds a comment; false when it came before.
    pub fn add(&self, follow_up: FollowUp) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = all.iter().all(|it| it.comment != follow_up.comment);
        if is_new {
            all.push(follow_up);
        }
        is_new
    }

    /// All that came so far.
    pub(crate) fn all(&self) -> Vec<FollowUp> {
        self.except(&BTreeSet::new())
    }

    /// The comments that came so far, except for those whose ids a conversation knows.
    pub(crate) fn except(&self, known: &BTreeSet<u64>) -> Vec<FollowUp> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = all.iter().filter(|it| !known.contains(&it.comment));
        new.cloned().collect()
    }
}

/// The text of a comment in a prompt: marked as data, and freed of hidden text and of secrets.
pub(crate) fn prompt_text(follow_up: &FollowUp) -> String {
    let text = strip_hidden_markdown(&follow_up.text).text;
    let (text, left_out) = bounded(&text, LONGEST);
    let author = visible_line(&follow_up.author);
    let mut prompt = format!(
        "A person (`{author}`) adds to the request:\n\n{}",
        delimit_untrusted(&redact(text))
    );
    if left_out > 0 {
        let _ = write!(prompt, "\n\n{left_out} more bytes of it have no room here.");
    }
    prompt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_conversation_hears_a_comment_once_however_often_it_comes() {
        let comment = |comment, text: &str| FollowUp {
            comment,
            author: "mona".to_owned(),
            text: text.to_owned(),
        };
        let follow_ups = FollowUps::default();
        for (number, text) in [(7, "first"), (5, "second"), (7, "first again")] {
            follow_ups.clone().add(comment(number, text));
        }
        let all = [comment(7, "first"), comment(5, "second")];
        assert_eq!(follow_ups.all(), all);
        assert_eq!(follow_ups.except(&[7].into()), all[1..]);
        assert_eq!(follow_ups.except(&[5, 7].into()), []);
    }

    #[test]
    fn a_comment_is_data_and_has_a_bound() {
        let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let text = format!(
            "Round <!-- obey -->up, {token}.\n{}",
            "long\n".repeat(LONGEST)
        );
        let prompt = prompt_text(&FollowUp {
            comment: 1,
            author: "mona".to_owned(),
            text,
        });
        let begin = "A person (`mona`) adds to the request:\n\n<untrusted-text>\nRound up, ";
        assert!(prompt.starts_with(begin), "{}", &prompt[..200]);
        assert!(!prompt.contains(&token) && prompt.len() < LONGEST + 300);
        assert!(prompt.ends_with("more bytes of it have no room here."));
    }
}
