//! A model whose answers are checkpoints: an attempt that takes a draft over goes through the turns that
//! were paid for once more, and pays only for what comes after them.
//!
//! A turn is durable before anything is made of it. What is taken over is the model's answer and not
//! what the tools said to it: they do their work again, on a work tree of the same commit, and come to
//! the same files; whoever works in turns compares ([`record`]). Turns count only for the request that
//! they were an answer to: the same instructions, tools and issue.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use patchfleet_domain::report::Checkpoint;
use patchfleet_model::{Answer, Broken, Conversation, Model, ModelError, Origin};
use patchfleet_proto::v1;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::charges::Price;
use super::kept_work::is_kept_work;
use super::record::{self, Record, Turn};
use crate::process::OnLine;
use crate::session::reporter::{NotKept, Reporter};

/// How the nodes of turns begin; the stage of the work follows, such as the round of the draft.
const NODE: &str = "turn/";

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
    price: Box<dyn Price>,
    reporter: Reporter,
    on_line: OnLine,
    node: String,
    record: Arc<Record>,
}

impl<M: Model> Recorded<M> {
    /// The model of a stage of the work, with what earlier attempts have of that stage.
    pub(crate) fn new(
        (model, price): (M, Box<dyn Price>),
        (stage, turns): (&str, &Turns),
        (reporter, on_line): (Reporter, OnLine),
    ) -> Self {
        let node = format!("{NODE}{stage}");
        let known = turns.0.get(&node).cloned().unwrap_or_default();
        Self {
            model,
            price,
            reporter,
            on_line,
            node,
            record: Arc::new(Record::new(known)),
        }
    }

    /// Where the stage stands.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record)
    }

    /// Keeps an answer that was paid for.
    async fn keep(&self, turn: Turn) -> Result<(), ModelError> {
        let output = without_secrets(&turn).map_err(|error| ModelError::Malformed {
            what: format!("it can't be kept: {error}"),
        })?;
        let Some(visit) = self.record.number(output.to_string().len()) else {
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
        let task = record::task_of(conversation);
        if let Some((answer, cost)) = self.record.take_over(&task) {
            let cost = cost.map_or_else(String::new, |cost| format!("; it cost {cost} then"));
            (self.on_line)(&format!(
                "an answer of an earlier attempt is used again{cost}"
            ));
            return Ok(answer);
        }
        let answer = self.model.answer(conversation, cancel).await?;
        let turn = Turn {
            task,
            request: record::digest(conversation),
            cost: self.price.cost(&answer.usage),
            attempt: self.reporter.work().attempt.0,
            answer: answer.clone(),
            asked: self.record.asked(),
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

#[cfg(test)]
mod tests;
