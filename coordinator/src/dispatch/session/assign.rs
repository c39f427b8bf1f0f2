//! An assignment as a message, which is never longer than the stream takes.

use patchfleet_proto::{MAX_MESSAGE_BYTES, encoded_len, v1};

use crate::store::Assignment;

/// Most bytes of the checkpoints in an assignment: the task itself needs room in the message too.
const MAX_CHECKPOINT_BYTES: usize = MAX_MESSAGE_BYTES - (1 << 20);
/// Most bytes of the tag and the length that stand before a checkpoint.
const FRAME: usize = 16;

/// The message that gives an assignment to an agent.
pub(super) fn message(assignment: &Assignment) -> v1::Assign {
    let all = assignment.checkpoints.iter().cloned().map(Into::into);
    let checkpoints = fitting(all, MAX_CHECKPOINT_BYTES);
    let left_out = assignment.checkpoints.len() - checkpoints.len();
    if left_out > 0 {
        tracing::warn!(
            work = %assignment.work, left_out,
            "the checkpoints are longer than a message may be; the attempt goes on from the last that fits"
        );
    }
    v1::Assign {
        work: Some(assignment.work.into()),
        task: Some(v1::Task::from(&assignment.task)),
        checkpoints,
        traceparent: assignment.task.traceparent.clone().unwrap_or_default(),
        spent: Some(&assignment.task.spent)
            .filter(|it| !it.is_nothing())
            .map(Into::into),
    }
}

/// The first checkpoints, as far as they fit into so many bytes. An attempt goes on from the last of
/// them as if its predecessor had ended there; a message that is too long would never arrive.
fn fitting(
    checkpoints: impl Iterator<Item = v1::Checkpoint>,
    mut room: usize,
) -> Vec<v1::Checkpoint> {
    let fits = |checkpoint: &v1::Checkpoint| {
        let left = room.checked_sub(encoded_len(checkpoint) + FRAME);
        room = left.unwrap_or(0);
        left.is_some()
    };
    checkpoints.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checkpoint(node: &str, bytes: usize) -> v1::Checkpoint {
        v1::Checkpoint {
            node: node.to_owned(),
            visit: 1,
            output: "x".repeat(bytes),
        }
    }

    fn nodes(checkpoints: &[v1::Checkpoint]) -> Vec<&str> {
        checkpoints.iter().map(|it| it.node.as_str()).collect()
    }

    #[test]
    fn checkpoints_of_many_rounds_are_cut_to_those_that_fit_and_come_first() {
        let rounds = ["inspect", "draft", "patch", "test"];
        let all = || rounds.iter().map(|node| checkpoint(node, 12 << 20));
        let kept = fitting(all(), MAX_CHECKPOINT_BYTES);
        assert_eq!(nodes(&kept), ["inspect", "draft"]);
        let message = v1::Assign {
            checkpoints: kept,
            ..v1::Assign::default()
        };
        assert!(encoded_len(&message) <= MAX_MESSAGE_BYTES);
    }

    proptest! {
        #[test]
        fn what_fits_is_a_beginning_that_keeps_within_the_room(
            sizes in prop::collection::vec(0_usize..3000, 0..12), room in 0_usize..10_000,
        ) {
            let all: Vec<_> = sizes.iter().map(|&bytes| checkpoint("n", bytes)).collect();
            let kept = fitting(all.iter().cloned(), room);
            prop_assert_eq!(&all[..kept.len()], &kept[..]);
            let message = v1::Assign { checkpoints: kept.clone(), ..v1::Assign::default() };
            prop_assert!(encoded_len(&message) <= room);
            // Nothing is left out that there was room for.
            let next = all.get(kept.len()).cloned();
            let with_next: Vec<_> = kept.into_iter().chain(next.clone()).collect();
            let frames = with_next.len() * FRAME;
            let message = v1::Assign { checkpoints: with_next, ..v1::Assign::default() };
            prop_assert!(next.is_none() || encoded_len(&message) + frames > room);
        }
    }
}
