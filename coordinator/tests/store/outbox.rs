//! The outbox between a first try and a last one.

use std::time::Duration;

use patchfleet_coordinator::store::{OutboxEntry, Sent, SentStatus, WorkEvent};
use patchfleet_domain::{Outcome, Phase, TaskState};

use crate::fixture::Fixture;

const HOLD: Duration = Duration::from_secs(10);

async fn take(fixture: &Fixture) -> OutboxEntry {
    let mut entries = fixture.store.take_outbox(10, HOLD).await.unwrap();
    entries.pop().expect("an entry is due")
}

pub(crate) async fn an_entry_knows_since_when_it_is_tried_and_is_held_for_longer(
    fixture: &Fixture,
) {
    fixture.create(1).await;
    let first = take(fixture).await;
    assert_eq!(
        (first.tries, first.hold, first.trying_for),
        (1, HOLD, Duration::ZERO)
    );
    let mut last = first.clone();
    for hold in [20, 40, 80, 80] {
        let again = Sent::Again {
            after: Duration::ZERO,
            error: "slow".to_owned(),
        };
        fixture.store.settle_outbox(&last, &again).await.unwrap();
        let next = take(fixture).await;
        assert_eq!(next.first_tried_at, first.first_tried_at);
        assert!(next.trying_for >= last.trying_for);
        assert_eq!(next.hold, Duration::from_secs(hold));
        last = next;
    }
}

pub(crate) async fn one_whose_publisher_died_is_not_held_for_longer(fixture: &Fixture) {
    fixture.create(1).await;
    let hold = Duration::from_millis(1);
    for tries in 1..=5 {
        let mut looks = tokio::time::interval(hold);
        let taken = loop {
            looks.tick().await;
            if let Some(entry) = fixture.store.take_outbox(10, hold).await.unwrap().pop() {
                break entry;
            }
        };
        assert_eq!((taken.tries, taken.hold), (tries, hold));
    }
}

pub(crate) async fn what_the_issue_was_told_is_remembered(fixture: &Fixture) {
    let id = fixture.create(1).await;
    let known = async || fixture.store.sent_status(id).await.unwrap();
    assert_eq!(known().await, SentStatus::default());
    let status = |comment, label: Option<&str>| SentStatus {
        comment,
        label: label.map(str::to_owned),
    };
    let first = status(Some(77), Some("patchfleet:queued"));
    let entry = take(fixture).await;
    let sent = Sent::Status(first.clone());
    fixture.store.settle_outbox(&entry, &sent).await.unwrap();
    assert_eq!(known().await, first);
    assert_eq!(fixture.store.outbox_pending().await.unwrap(), 0);
    // A conversation that is locked by then keeps its comment.
    let _ = fixture.store.cancel(id, "mona").await.unwrap();
    let entry = take(fixture).await;
    let sent = Sent::Status(status(None, None));
    fixture.store.settle_outbox(&entry, &sent).await.unwrap();
    assert_eq!(known().await, status(Some(77), None));
}

/// The label is the same before and after, so it costs no request to GitHub.
pub(crate) async fn rounds_of_drafting_and_testing_are_told_with_what_comes_next(
    fixture: &Fixture,
) {
    let work = fixture.started(1).await;
    let told = async || {
        let entries = fixture.store.take_outbox(10, HOLD).await.unwrap();
        for entry in &entries {
            let done = Sent::Done { comment: None };
            fixture.store.settle_outbox(entry, &done).await.unwrap();
        }
        entries.len()
    };
    assert_eq!(told().await, 1);
    let rounds = [
        (Phase::Test, TaskState::Testing),
        (Phase::Generate, TaskState::InProgress),
        (Phase::Test, TaskState::Testing),
    ];
    for (seq, (phase, state)) in (2..).zip(rounds) {
        let detail = String::new();
        let progress = WorkEvent::Progress { phase, detail };
        fixture.applied(work, seq, progress).await;
        assert_eq!(fixture.task(work.task).await.state, state);
        assert_eq!(told().await, 0, "{phase}");
    }
    let stopped = Outcome::Cancelled { by_operator: true };
    fixture.applied(work, 5, WorkEvent::Finished(stopped)).await;
    assert_eq!(told().await, 1);
}

/// Most tasks are accepted within seconds: that is told, at once, and not that they waited.
pub(crate) async fn what_waits_for_an_agent_is_told_after_a_while_and_what_is_at_work_at_once(
    fixture: &Fixture,
) {
    fixture.create(1).await;
    fixture.queued(2).await;
    fixture.started(3).await;
    let hour = Duration::from_hours(1);
    let calm = fixture
        .store
        .take_calm_outbox(10, HOLD, hour)
        .await
        .unwrap();
    let issues: Vec<_> = calm.iter().map(|entry| entry.issue.0).collect();
    assert_eq!(issues, [3]);
    let rest = fixture.store.take_outbox(10, HOLD).await.unwrap();
    assert_eq!(rest.len(), 2, "{rest:?}");
}

pub(crate) async fn what_was_dropped_is_in_the_history(fixture: &Fixture) {
    let id = fixture.create(1).await;
    let dropped = Sent::Dropped {
        error: "GitHub forbids it: the issue is locked".to_owned(),
    };
    let entry = take(fixture).await;
    fixture.store.settle_outbox(&entry, &dropped).await.unwrap();
    assert_eq!(fixture.store.outbox_pending().await.unwrap(), 0);
    let history = fixture.store.history(id, 0).await.unwrap();
    let last = history.last().unwrap();
    assert_eq!(
        (last.kind.as_str(), last.actor.as_str()),
        ("note", "coordinator")
    );
    let told = "the issue was not told: GitHub forbids it: the issue is locked";
    assert_eq!(last.detail, told);
}
