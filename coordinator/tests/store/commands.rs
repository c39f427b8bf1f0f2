//! Commands in comments: done once, and never passed over in silence.

use std::time::Duration;

use patchfleet_coordinator::store::{Act, Acted, Commanded, Effect, Reply};
use patchfleet_domain::{IssueNumber, TaskState};

use crate::fixture::{Fixture, repository};

fn reply(message: &str) -> Act {
    Act::Reply {
        repository: repository(),
        issue: IssueNumber(1),
        reply: Reply::Problem {
            message: message.to_owned(),
        },
    }
}

fn command(comment: u64, act: Act) -> Act {
    Act::Command {
        repository: repository(),
        comment,
        act: act.into(),
        otherwise: Some(reply("too late").into()),
    }
}

fn cancel() -> Act {
    Act::CancelIssue {
        repository: repository(),
        issue: IssueNumber(1),
        actor: "mona".to_owned(),
    }
}

/// The replies that the outbox holds.
async fn replies(fixture: &Fixture) -> usize {
    let hold = Duration::from_mins(1);
    let mut replies = 0;
    loop {
        let entries = fixture.store.take_outbox(50, hold).await.unwrap();
        if entries.is_empty() {
            return replies;
        }
        for entry in entries {
            replies += usize::from(matches!(entry.effect, Effect::Reply(_)));
            let done = patchfleet_coordinator::store::Sent::Done { comment: None };
            fixture.store.settle_outbox(&entry, &done).await.unwrap();
        }
    }
}

pub(crate) async fn a_command_counts_once_and_is_answered_when_it_changes_nothing(
    fixture: &Fixture,
) {
    let new = || Act::Create(Box::new(fixture.new_task(1)));
    let Acted::Created(id) = fixture.act(command(10, new())).await else {
        panic!("there was no task");
    };
    assert_eq!(fixture.act(command(10, new())).await, Acted::Nothing);
    assert_eq!(replies(fixture).await, 0);

    // Decided while there was no task, and overtaken by the one that is there now.
    assert_eq!(fixture.act(command(11, new())).await, Acted::Replied);
    assert_eq!(fixture.act(command(11, new())).await, Acted::Nothing);
    assert_eq!(replies(fixture).await, 1);

    let cancelled = fixture.store.cancel(id, "api").await.unwrap();
    assert_eq!(cancelled, Commanded::Done(TaskState::Cancelled));
    assert_eq!(fixture.act(command(12, cancel())).await, Acted::Replied);
    assert_eq!(fixture.act(command(13, reply("no"))).await, Acted::Replied);
    assert_eq!(fixture.act(command(13, reply("no"))).await, Acted::Nothing);
    assert_eq!(replies(fixture).await, 2);
    assert!(fixture.store.delivery_seen("comment-13").await.unwrap());
}
