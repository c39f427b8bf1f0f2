//! What people add to a task while it is worked on.

use patchfleet_coordinator::store::{Act, Acted, Commanded, LiveFollowUp, WorkEvent};
use patchfleet_domain::{FollowUp, IssueNumber, Phase, TaskId, TaskState};

use crate::fixture::{Fixture, LEASE, agent, failure, pull_request, repository};

fn follow_up(comment: u64, text: &str) -> FollowUp {
    FollowUp {
        comment,
        author: "mona".to_owned(),
        text: text.to_owned(),
    }
}

/// Somebody writes a comment on issue 1.
pub(crate) async fn say(fixture: &Fixture, comment: u64, text: &str) -> Acted {
    let act = Act::FollowUp {
        repository: repository(),
        issue: IssueNumber(1),
        follow_up: follow_up(comment, text),
    };
    fixture.act(act).await
}

/// The comments of a task, by their numbers.
async fn of(fixture: &Fixture, task: TaskId) -> Vec<u64> {
    let all = fixture.store.follow_ups(task).await.unwrap();
    all.into_iter().map(|it| it.comment).collect()
}

pub(crate) async fn a_comment_counts_once_while_an_attempt_can_hear_of_it(fixture: &Fixture) {
    assert_eq!(say(fixture, 1, "too early").await, Acted::Nothing);
    let queued = fixture.queued(1).await;
    let id = queued.id;
    assert_eq!(say(fixture, 2, "before").await, Acted::Noted(id));
    let work = fixture.claim(&queued, LEASE).await.work;
    fixture.applied(work, 1, WorkEvent::Accepted).await;
    assert_eq!(say(fixture, 9, "while\0 at it").await, Acted::Noted(id));
    assert_eq!(say(fixture, 9, "said again").await, Acted::Nothing);
    assert_eq!(say(fixture, 3, "after").await, Acted::Noted(id));
    let all = fixture.store.follow_ups(id).await.unwrap();
    let kept = [(2, "before"), (9, "while at it"), (3, "after")];
    assert_eq!(all, kept.map(|(comment, text)| follow_up(comment, text)));
    let history = fixture.store.history(id, 0).await.unwrap();
    let note = history.iter().find(|it| it.detail.contains("comment 9"));
    assert_eq!(note.unwrap().actor, "mona");

    // The next attempt has them, too.
    fixture
        .applied(work, 2, WorkEvent::Finished(failure(true, true)))
        .await;
    assert_eq!(of(fixture, id).await, [2, 9, 3]);
}

pub(crate) async fn whoever_works_on_a_task_is_told(fixture: &Fixture) {
    let store = &fixture.store;
    let (began, none) = store.live_follow_ups(None).await.unwrap();
    assert_eq!(none, []);
    let work = fixture.started(1).await;
    let other = fixture.started(2).await;
    say(fixture, 7, "Round up.").await;
    let (later, live) = store.live_follow_ups(Some(began)).await.unwrap();
    let told = LiveFollowUp {
        work,
        agent: agent("backend-1"),
        follow_up: follow_up(7, "Round up."),
    };
    assert_eq!(live, std::slice::from_ref(&told), "not {other:?}");
    // What becomes durable late is seen all the same: a look reaches back.
    let (_, again) = store.live_follow_ups(Some(later)).await.unwrap();
    assert_eq!(again, [told]);
    let long_ago = "UPDATE follow_ups SET said_at = said_at - 60000000".to_owned();
    fixture.place.execute(long_ago).await;
    let (_, none) = store.live_follow_ups(Some(later)).await.unwrap();
    assert_eq!(none, []);
}

pub(crate) async fn what_comes_when_the_work_is_done_is_not_kept(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let testing = WorkEvent::Progress {
        phase: Phase::Test,
        detail: String::new(),
    };
    fixture.applied(work, 2, testing).await;
    assert_eq!(say(fixture, 1, "Wait!").await, Acted::Noted(work.task));
    fixture
        .applied(work, 3, WorkEvent::Finished(pull_request(7)))
        .await;
    assert_eq!(say(fixture, 2, "Too late.").await, Acted::Nothing);
    assert_eq!(of(fixture, work.task).await, [1]);
    let (_, live) = fixture.store.live_follow_ups(None).await.unwrap();
    assert_eq!(live, [], "the attempt is over");
}

/// Most advice about a failure is to say more and to retry.
pub(crate) async fn what_comes_after_a_failure_is_there_for_the_retry(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let failed = WorkEvent::Finished(failure(false, true));
    fixture.applied(work, 2, failed).await;
    let added = say(fixture, 1, "Halves go up.").await;
    assert_eq!(added, Acted::Noted(work.task));
    let (_, live) = fixture.store.live_follow_ups(None).await.unwrap();
    assert_eq!(live, [], "nobody works on it");
    let retried = fixture.store.retry(work.task, "mona").await.unwrap();
    assert_eq!(retried, Commanded::Done(TaskState::Queued));
    assert_eq!(of(fixture, work.task).await, [1]);
    fixture.store.cancel(work.task, "mona").await.unwrap();
    assert_eq!(say(fixture, 2, "Or down.").await, Acted::Nothing);
}

pub(crate) async fn with_its_task_a_comment_goes(fixture: &Fixture) {
    let work = fixture.started(1).await;
    say(fixture, 1, "And the tests.").await;
    fixture.answered_and_removed(work, 2).await;
    assert_eq!(of(fixture, work.task).await, [0_u64; 0]);
}
