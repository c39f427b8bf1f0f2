//! What a draft command had changed when a budget stopped it, kept with the task: the attempt that
//! goes on after the budget was raised begins with it.
//!
//! The turns of a model that drafts by tools are kept one by one ([`super::recorded`]). A command has no
//! turns that could be gone through again; what it did is in the work tree.

use std::collections::BTreeMap;

use patchfleet_domain::report::Checkpoint;
use patchfleet_proto::v1;
use serde_json::json;

use crate::process::OnLine;
use crate::session::reporter::{NotKept, Reporter};

/// How the nodes of kept work begin; the round of the draft follows. They pass as turns, so that an
/// agent of an earlier release takes them for none of its flow's.
const NODE: &str = "turn/work/";
/// The most bytes that are kept: all checkpoints come with the next assignment, in one message.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Work of earlier attempts by round, as unified diffs against the base.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptWork(BTreeMap<u32, (u32, String)>);

impl KeptWork {
    /// The work among an assignment's checkpoints; of several attempts the last one's.
    pub(crate) fn among(checkpoints: &[v1::Checkpoint]) -> Self {
        let mut kept = BTreeMap::new();
        for checkpoint in checkpoints {
            let round = checkpoint.node.strip_prefix(NODE);
            let Some(round) = round.and_then(|round| round.parse().ok()) else {
                continue;
            };
            let output: serde_json::Value =
                serde_json::from_str(&checkpoint.output).unwrap_or_default();
            let Some(diff) = output["diff"].as_str() else {
                tracing::warn!("the work of an earlier attempt is unreadable");
                continue;
            };
            let last = kept.entry(round).or_insert((0, String::new()));
            if checkpoint.visit >= last.0 {
                *last = (checkpoint.visit, diff.to_owned());
            }
        }
        Self(kept)
    }

    /// The diff that a round was stopped with.
    pub(crate) fn of(&self, round: u32) -> Option<&str> {
        self.0.get(&round).map(|(_, diff)| diff.as_str())
    }
}

/// True of a checkpoint that is kept work.
pub(crate) fn is_kept_work(checkpoint: &v1::Checkpoint) -> bool {
    checkpoint.node.starts_with(NODE)
}

/// Keeps what a round was stopped with. What can't be kept is said: the next attempt does it again.
pub(crate) async fn keep(reporter: &Reporter, (round, diff): (u32, &str), on_line: &OnLine) {
    let lost = |why: &str| on_line(&format!("the work so far is not kept: {why}"));
    if patchfleet_guard::has_registered_secret(diff.as_bytes()) {
        return lost("it holds a secret of this agent");
    }
    if diff.len() > MOST_BYTES {
        return lost("it is too large");
    }
    let checkpoint = Checkpoint {
        node: format!("{NODE}{round}"),
        visit: reporter.work().attempt.0,
        output: json!({ "diff": diff }),
    };
    match reporter.checkpoint(checkpoint).await {
        Ok(()) => on_line("the work so far is kept; the next attempt goes on from it"),
        Err(NotKept::Gone) => {}
        Err(NotKept::TooLarge { .. }) => lost("it is too large"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::session::heard::heard;

    #[tokio::test]
    async fn work_is_kept_by_round_and_attempt_and_nothing_else_is_taken_for_it() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        let on_line: OnLine = Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()));
        let keeping = async |reporter: Reporter| {
            keep(&reporter, (1, "first"), &on_line).await;
            keep(&reporter, (2, &"x".repeat(MOST_BYTES + 1)), &on_line).await;
        };
        let ((), heard) = heard(Vec::new(), keeping).await;
        let mut all: Vec<v1::Checkpoint> = heard.checkpoints.into_iter().map(Into::into).collect();
        assert_eq!(all.len(), 1);
        assert!(said.lock().unwrap()[1].contains("too large"));
        assert!(all.iter().all(crate::model::recorded::is_turn));
        let later = |visit: u32, output: &str| v1::Checkpoint {
            node: all[0].node.clone(),
            visit,
            output: output.to_owned(),
        };
        let more = [
            later(3, r#"{"diff": "third"}"#),
            later(2, r#"{"diff": "second"}"#),
            later(4, "cut off {"),
        ];
        all.extend(more);
        let kept = KeptWork::among(&all);
        assert_eq!((kept.of(1), kept.of(2)), (Some("third"), None));
    }
}
