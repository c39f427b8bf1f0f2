//! Comments of people on their way to the agent that is at work.

use patchfleet_domain::{FollowUp, Work};

use super::{InvalidMessage, present};
use crate::v1;

/// A comment about an attempt's task, as it goes over the wire.
pub fn follow_up(work: Work, follow_up: FollowUp) -> v1::FollowUp {
    v1::FollowUp {
        work: Some(work.into()),
        comment: follow_up.comment,
        author: follow_up.author,
        text: follow_up.text,
    }
}

impl TryFrom<v1::FollowUp> for (Work, FollowUp) {
    type Error = InvalidMessage;

    fn try_from(message: v1::FollowUp) -> Result<Self, InvalidMessage> {
        let work = present("follow_up.work", message.work)?.try_into()?;
        let follow_up = FollowUp {
            comment: message.comment,
            author: message.author,
            text: message.text,
        };
        Ok((work, follow_up))
    }
}

#[cfg(test)]
mod tests {
    use patchfleet_domain::{AttemptNumber, TaskId};

    use super::*;

    #[test]
    fn a_comment_arrives_as_it_was_sent_and_names_its_work() {
        let work = Work {
            task: TaskId::new(),
            attempt: AttemptNumber(2),
        };
        let said = FollowUp {
            comment: u64::MAX,
            author: "mona".to_owned(),
            text: "Round up.\n".to_owned(),
        };
        let message = follow_up(work, said.clone());
        assert_eq!(message.clone().try_into(), Ok((work, said)));
        let lost = v1::FollowUp {
            work: None,
            ..message
        };
        let refused = <(Work, FollowUp)>::try_from(lost);
        assert_eq!(refused, Err(InvalidMessage::Missing("follow_up.work")));
    }
}
