//! What a coordinator remembers of a task is never believed against what is stored.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_coordinator::store::{Act, Acted, Cas, Commanded, Report, Store, WorkEvent};
use patchfleet_domain::{Phase, TaskState, Work};

use crate::fixture::{Fixture, LEASE, agent, pull_request, repository};

async fn say(store: &Arc<dyn Store>, work: Work, seq: u64, event: WorkEvent) -> Cas {
    let report = Report { work, seq, event };
    store.report(&report).await.unwrap()
}

fn line(text: &str) -> WorkEvent {
    WorkEvent::Log {
        lines: vec![text.to_owned()],
        dropped: 0,
    }
}

fn testing() -> WorkEvent {
    WorkEvent::Progress {
        phase: Phase::Test,
        detail: String::new(),
    }
}

/// The agent's stream goes from one replica to the other and back, with something said twice.
pub(crate) async fn an_agent_that_changes_replicas_is_understood(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let work = fixture.started(1).await;
    assert_eq!(say(&there, work, 2, line("two")).await, Cas::Applied(()));
    assert_eq!(say(&there, work, 3, testing()).await, Cas::Applied(()));
    assert_eq!(say(here, work, 2, line("two")).await, Cas::Applied(()));
    assert_eq!(say(here, work, 3, testing()).await, Cas::Applied(()));
    assert_eq!(say(here, work, 4, line("four")).await, Cas::Applied(()));
    assert_eq!(say(&there, work, 4, line("four")).await, Cas::Applied(()));
    assert_eq!(say(&there, work, 5, line("five")).await, Cas::Applied(()));
    assert_eq!(fixture.task(work.task).await.state, TaskState::Testing);
    let logs = here.logs(work.task).await.unwrap();
    assert_eq!(logs, ["two", "four", "five"]);
}

/// A line of log changes nothing of the task's row, which could show that it is not the same.
pub(crate) async fn what_another_took_away_is_not_reported_on(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    for (issue, event) in [(1, line("late")), (2, testing())] {
        let work = fixture.started(issue).await;
        let called_off = there.cancel(work.task, "maintainer").await.unwrap();
        assert!(matches!(called_off, Commanded::Done(_)), "{called_off:?}");
        assert_eq!(say(here, work, 2, event).await, Cas::Stale);
        let none: [&str; 0] = [];
        assert_eq!(here.logs(work.task).await.unwrap(), none);
        assert_eq!(fixture.task(work.task).await.state, TaskState::Cancelled);
    }
}

/// The second attempt was given away elsewhere, and its agent comes here.
pub(crate) async fn the_next_attempt_counts_and_the_last_one_does_not(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let queued = fixture.queued(1).await;
    let first = fixture.claim(&queued, Duration::ZERO).await.work;
    assert_eq!(there.expire().await.unwrap().len(), 1);
    let queued = fixture.in_queue(first.task).await;
    let other = agent("backend-2");
    let second = match there.claim(&queued, &other, LEASE).await.unwrap() {
        Cas::Applied(assignment) => assignment.work,
        Cas::Stale => panic!("nobody else claims it"),
    };
    let accepted = say(here, second, 1, WorkEvent::Accepted).await;
    assert_eq!(accepted, Cas::Applied(()));
    assert_eq!(say(here, first, 1, WorkEvent::Accepted).await, Cas::Stale);
    assert_eq!(say(here, first, 2, line("late")).await, Cas::Stale);
    let task = fixture.task(first.task).await;
    assert_eq!(
        (task.state, task.attempt),
        (TaskState::InProgress, second.attempt)
    );
}

/// What a webhook leaves with the task while it is at work changes neither state nor attempt.
pub(crate) async fn a_merge_that_another_heard_of_counts(fixture: &Fixture) {
    let (here, there) = (&fixture.store, fixture.place.open().await);
    let work = fixture.started(1).await;
    let merged = Act::PullRequestClosed {
        repository: repository(),
        number: 5,
        head: "patchfleet/1-fix".to_owned(),
        merged: true,
        actor: "maintainer".to_owned(),
    };
    let heard = there.record_delivery(&fixture.delivery(), &[merged]).await;
    let changed = Acted::Changed(work.task, TaskState::InProgress);
    assert!(format!("{:?}", heard.unwrap()).contains(&format!("{changed:?}")));
    let opened = WorkEvent::Finished(pull_request(5));
    assert_eq!(say(here, work, 2, opened).await, Cas::Applied(()));
    assert_eq!(fixture.task(work.task).await.state, TaskState::Completed);
}
