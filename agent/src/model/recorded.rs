//! A model whose answers are checkpoints: an attempt that takes a draft over goes through the turns that
//! were paid for once more, and pays only for what comes after them.
//!
//! A turn is durable before anything is made of it. What is taken over is the model's answer and not
//! what the tools said to it: they do their work again, on a work tree of the same commit, and come to
//! the same files. Turns count only for the request that they were an answer to: the same instructions,
//! tools and issue.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use patchfleet_domain::report::Checkpoint;
use patchfleet_model::{Answer, Broken, Conversation, Model, ModelError, Origin};
use patchfleet_proto::v1;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::kept_work::is_kept_work;
use crate::process::OnLine;
use crate::session::reporter::{NotKept, Reporter};

/// How the nodes of turns begin; the stage of the work follows, such as the round of the draft.
const NODE: &str = "turn/";
/// Most bytes of the turns of one draft: all of them come with the next assignment, in one message.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// An answer that was paid for, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Turn {
    /// What the answer belongs to: the instructions, the tools and the first message.
    task: String,
    /// The whole request.
    request: String,
    answer: Answer,
}

/// Turns of earlier attempts, by the stage of the work and the turn in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(BTreeMap<String, BTreeMap<u32, Turn>>);

impl Turns {
    /// The turns among an assignment's checkpoints. What can't be read is left out: it is paid for again.
    pub(crate) fn among(checkpoints: &[v1::Checkpoint]) -> Self {
        let mut turns = Self::default();
        let all = checkpoints
            .iter()
            .filter(|it| is_turn(it) && !is_kept_work(it));
        for checkpoint in all {
            match serde_json::from_str(&checkpoint.output) {
                Ok(turn) => {
                    let round = turns.0.entry(checkpoint.node.clone()).or_default();
                    round.insert(checkpoint.visit, turn);
                }
                Err(error) => tracing::warn!(%error, "a turn of an earlier attempt is unreadable"),
            }
        }
        turns
    }
}

/// True of a checkpoint that is a turn of a draft and not the output of a node.
pub(crate) fn is_turn(checkpoint: &v1::Checkpoint) -> bool {
    checkpoint.node.starts_with(NODE)
}

/// A model whose answers are kept and taken over. It belongs above whatever tries again or pays.
pub(crate) struct Recorded<M> {
    model: M,
    reporter: Reporter,
    on_line: OnLine,
    node: String,
    place: Mutex<Place>,
}

/// Where a draft stands.
#[derive(Debug)]
struct Place {
    /// Turns that are not gone through yet.
    known: BTreeMap<u32, Turn>,
    next: u32,
    bytes: usize,
}

impl<M: Model> Recorded<M> {
    /// The model of a stage of the work, with what earlier attempts have of that stage.
    pub(crate) fn new(
        model: M,
        (stage, turns): (&str, &Turns),
        (reporter, on_line): (Reporter, OnLine),
    ) -> Self {
        let node = format!("{NODE}{stage}");
        let known = turns.0.get(&node).cloned().unwrap_or_default();
        Self {
            model,
            reporter,
            on_line,
            node,
            place: Mutex::new(Place {
                known,
                next: 1,
                bytes: 0,
            }),
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer that an earlier attempt paid for, if it is one to this draft.
    fn take_over(&self, task: &str) -> Option<Answer> {
        let mut place = self.place();
        let turn = place.next;
        let known = place.known.remove(&turn).filter(|it| it.task == task);
        if known.is_none() {
            // What came after a turn that is not the same is no answer to what comes now.
            place.known.clear();
        }
        let answer = known?.answer;
        place.next += 1;
        Some(answer)
    }

    /// Keeps an answer that was paid for.
    async fn keep(&self, turn: Turn) -> Result<(), ModelError> {
        let output = without_secrets(&turn).map_err(|error| ModelError::Malformed {
            what: format!("it can't be kept: {error}"),
        })?;
        let number = {
            let mut place = self.place();
            let number = place.next;
            place.next += 1;
            place.bytes = place.bytes.saturating_add(output.to_string().len());
            (place.bytes <= MOST_BYTES).then_some(number)
        };
        let Some(visit) = number else {
            return Ok(());
        };
        let checkpoint = Checkpoint {
            node: self.node.clone(),
            visit,
            output,
        };
        match self.reporter.checkpoint(checkpoint).await {
            Ok(()) => Ok(()),
            Err(NotKept::Gone) => Err(ModelError::Cancelled),
            Err(NotKept::TooLarge { bytes }) => {
                (self.on_line)(&format!(
                    "an answer of {bytes} bytes is too large to be kept: another attempt would pay for it again"
                ));
                Ok(())
            }
        }
    }
}

#[async_trait]
impl<M: Model> Model for Recorded<M> {
    fn origin(&self) -> &Origin {
        self.model.origin()
    }

    async fn answer(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
    ) -> Result<Answer, Broken> {
        let task = digest(&(
            &conversation.system,
            &conversation.tools,
            conversation.messages.first(),
        ));
        if let Some(answer) = self.take_over(&task) {
            (self.on_line)("an answer of an earlier attempt is used again");
            return Ok(answer);
        }
        let answer = self.model.answer(conversation, cancel).await?;
        let turn = Turn {
            task,
            request: digest(conversation),
            answer: answer.clone(),
        };
        self.keep(turn).await?;
        Ok(answer)
    }
}

/// The turn as others may keep it: this process' secrets leave the host in no text.
fn without_secrets(turn: &Turn) -> serde_json::Result<Value> {
    let text = serde_json::to_string(turn)?;
    serde_json::from_str(&patchfleet_guard::redact(&text))
}

fn digest(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use patchfleet_model::{Message, Part, Stop, Usage};

    use super::*;
    use crate::session::heard::heard;

    /// Counts what it is asked, and says the number.
    struct Counting {
        origin: Origin,
        asked: Mutex<u32>,
    }

    impl Counting {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                origin: Origin {
                    provider: "test".to_owned(),
                    model: "counting".to_owned(),
                },
                asked: Mutex::default(),
            })
        }
    }

    #[async_trait]
    impl Model for Counting {
        fn origin(&self) -> &Origin {
            &self.origin
        }

        async fn answer(
            &self,
            _conversation: &Conversation,
            _cancel: &CancellationToken,
        ) -> Result<Answer, Broken> {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            Ok(Answer {
                parts: vec![Part::Text(format!("answer {asked}"))],
                stop: Stop::End,
                usage: Usage {
                    output: 7,
                    ..Usage::default()
                },
            })
        }
    }

    /// Asks so many turns of an attempt that has those turns of earlier ones; what it was answered, and
    /// all checkpoints after it.
    async fn attempt(
        model: &Arc<Counting>,
        (issue, round, turns): (&str, u32, u32),
        checkpoints: &[Checkpoint],
    ) -> (Vec<String>, Vec<Checkpoint>) {
        let mut kept = checkpoints.to_vec();
        let known: Vec<_> = kept.iter().cloned().map(v1::Checkpoint::from).collect();
        let known = Turns::among(&known);
        let asking = async |reporter| {
            let on_line: OnLine = Arc::new(|_| {});
            let stage = round.to_string();
            let recorded = Recorded::new(Arc::clone(model), (&stage, &known), (reporter, on_line));
            let mut said = Vec::new();
            let mut conversation = Conversation::question("system", issue, 1000);
            for _ in 0..turns {
                let cancel = CancellationToken::new();
                let answer = recorded.answer(&conversation, &cancel).await.unwrap();
                said.push(answer.text());
                conversation
                    .messages
                    .push(Message::Assistant(answer.into_turn()));
            }
            said
        };
        let (said, heard) = heard(Vec::new(), asking).await;
        kept.extend(heard.checkpoints);
        (said, kept)
    }

    #[tokio::test]
    async fn what_was_paid_for_is_used_again_and_the_rest_is_asked() {
        let model = Counting::new();
        let (said, kept) = attempt(&model, ("issue", 1, 2), &[]).await;
        assert_eq!(said, ["answer 1", "answer 2"]);
        assert_eq!(kept.len(), 2);
        for gone in [1, 2] {
            // Killed after each of the turns.
            let before = *model.asked.lock().unwrap();
            let (said, all) = attempt(&model, ("issue", 1, 3), &kept[..gone]).await;
            let expected: Vec<_> = (1..=gone).map(|it| format!("answer {it}")).collect();
            assert_eq!(said[..gone], expected[..]);
            let asked = *model.asked.lock().unwrap() - before;
            assert_eq!(usize::try_from(asked).unwrap(), 3 - gone);
            assert_eq!(all.len(), 3, "each turn is kept once");
        }
    }

    #[tokio::test]
    async fn an_answer_to_something_else_is_not_used() {
        let model = Counting::new();
        let (_, kept) = attempt(&model, ("issue", 1, 2), &[]).await;
        for (issue, round) in [("another issue", 1), ("issue", 2)] {
            let before = *model.asked.lock().unwrap();
            attempt(&model, (issue, round, 2), &kept).await;
            assert_eq!(*model.asked.lock().unwrap() - before, 2);
        }
        // After a gap nothing is known any more.
        let before = *model.asked.lock().unwrap();
        attempt(&model, ("issue", 1, 3), &kept[1..]).await;
        assert_eq!(*model.asked.lock().unwrap() - before, 3);
    }

    #[test]
    fn turns_that_cant_be_read_are_left_out() {
        let checkpoint = |node: &str, output: &str| v1::Checkpoint {
            node: node.to_owned(),
            visit: 1,
            output: output.to_owned(),
        };
        let all = [
            checkpoint("inspect", "{}"),
            checkpoint("turn/1", "{\"of\": \"another version\"}"),
            checkpoint("turn/2", "cut off {"),
        ];
        assert_eq!(all.each_ref().map(is_turn), [false, true, true]);
        assert!(Turns::among(&all).0.is_empty());
    }
}
