//! How tasks end, and what is left of it for a person and for the next attempt.

use patchfleet_coordinator::store::{Act, Acted, Cas, Commanded, Look, WorkEvent};
use patchfleet_domain::outcome::{Failure, Outcome};
use patchfleet_domain::{FailureKind, Phase, Priority, TaskAnalysis, TaskId, TaskState, Work};

use crate::fixture::{Fixture, LEASE, analysis, failure, pull_request, repository};

fn progress(phase: Phase) -> WorkEvent {
    WorkEvent::Progress {
        phase,
        detail: String::new(),
    }
}

fn closed(issue: u64, number: u64, merged: bool) -> Act {
    Act::PullRequestClosed {
        repository: repository(),
        number,
        head: format!("patchfleet/{issue}-fix"),
        merged,
        actor: "maintainer".to_owned(),
    }
}

pub(crate) async fn every_state_that_is_not_over_can_be_cancelled(fixture: &Fixture) {
    let pending = fixture.create(1).await;
    let queued = fixture.queued(2).await.id;
    let assigned = fixture.claimed(3).await.work.task;
    let in_progress = fixture.started(4).await.task;
    let testing = fixture.started(5).await;
    fixture.applied(testing, 2, progress(Phase::Test)).await;
    let review = fixture.started(6).await;
    let opened = WorkEvent::Finished(pull_request(6));
    fixture.applied(review, 2, opened).await;
    for (id, state) in [
        (pending, TaskState::Pending),
        (queued, TaskState::Queued),
        (assigned, TaskState::Assigned),
        (in_progress, TaskState::InProgress),
        (testing.task, TaskState::Testing),
        (review.task, TaskState::Review),
    ] {
        assert_eq!(fixture.task(id).await.state, state);
        let cancelled = fixture.store.cancel(id, "maintainer").await.unwrap();
        assert_eq!(cancelled, Commanded::Done(TaskState::Cancelled), "{state}");
        let attempts = fixture.store.attempts(id).await.unwrap();
        assert!(attempts.iter().all(|it| it.ended_at.is_some()), "{state}");
    }
    let failed = fixture.started(7).await;
    let permanent = WorkEvent::Finished(failure(false, false));
    fixture.applied(failed, 2, permanent).await;
    let again = fixture.store.cancel(failed.task, "maintainer").await;
    assert_eq!(again.unwrap(), Commanded::NotAllowed(TaskState::Failed));
}

pub(crate) async fn an_attempt_tells_its_own_failure_and_success_forgets_it(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let permanent = WorkEvent::Finished(failure(false, false));
    fixture.applied(work, 2, permanent).await;
    let next = again(fixture, work.task).await;
    let lost = fixture.store.lose(next, "test").await.unwrap();
    assert_eq!(lost, Cas::Applied(TaskState::Queued));
    let waiting = fixture.in_queue(work.task).await;
    let third = fixture.claim(&waiting, LEASE).await.work;
    fixture.applied(third, 1, WorkEvent::Accepted).await;
    let opened = WorkEvent::Finished(pull_request(1));
    fixture.applied(third, 2, opened).await;
    let attempts = fixture.store.attempts(work.task).await.unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|it| (it.outcome.as_deref(), it.failure.as_ref().map(|it| it.kind)))
        .collect();
    let expected = [
        (Some("failed"), Some(FailureKind::PushRefused)),
        (Some("lost"), None),
        (Some("pull_request"), None),
    ];
    assert_eq!(told, expected);
    assert_eq!(fixture.task(work.task).await.failure, None);
}

/// A person's retry, claimed and accepted.
async fn again(fixture: &Fixture, id: TaskId) -> Work {
    let retried = fixture.store.retry(id, "maintainer").await.unwrap();
    assert_eq!(retried, Commanded::Done(TaskState::Queued));
    let queued = fixture.in_queue(id).await;
    let work = fixture.claim(&queued, LEASE).await.work;
    fixture.applied(work, 1, WorkEvent::Accepted).await;
    work
}

pub(crate) async fn a_pull_request_of_an_earlier_attempt_decides_nothing(fixture: &Fixture) {
    for (issue, merged) in [(1, true), (2, false)] {
        let work = fixture.started(issue).await;
        let early = closed(issue, 10 + issue, merged);
        let remembered = Acted::Changed(work.task, TaskState::InProgress);
        assert_eq!(fixture.act(early).await, remembered);
        let opened = WorkEvent::Finished(pull_request(20 + issue));
        fixture.applied(work, 2, opened).await;
        let task = fixture.task(work.task).await;
        assert_eq!((task.state, task.failure), (TaskState::Review, None));
        assert!(!task.pull_request.unwrap().merged);
    }
}

pub(crate) async fn a_retry_after_a_closed_pull_request_leads_to_its_own(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let opened = WorkEvent::Finished(pull_request(5));
    fixture.applied(work, 2, opened).await;
    let failed = Acted::Changed(work.task, TaskState::Failed);
    assert_eq!(fixture.act(closed(1, 5, false)).await, failed);
    let task = fixture.task(work.task).await;
    assert_eq!(task.failure.unwrap().kind, FailureKind::PullRequestClosed);
    let next = again(fixture, work.task).await;
    // Merged before the agent could report it; then GitHub tells of the first one again.
    let working = Acted::Changed(work.task, TaskState::InProgress);
    assert_eq!(fixture.act(closed(1, 6, true)).await, working);
    let opened = WorkEvent::Finished(pull_request(6));
    fixture.applied(next, 2, opened).await;
    let task = fixture.task(work.task).await;
    assert_eq!(task.state, TaskState::Completed);
    assert!(task.pull_request.unwrap().merged);
    assert_eq!(fixture.act(closed(1, 5, false)).await, Acted::Nothing);
}

pub(crate) async fn an_answer_completes_from_any_working_state(fixture: &Fixture) {
    for (issue, phase) in [(1, Phase::Generate), (2, Phase::Test)] {
        let work = fixture.started(issue).await;
        fixture.applied(work, 2, progress(phase)).await;
        let summary = "Because.".to_owned();
        let answer = WorkEvent::Finished(Outcome::Answer {
            summary: summary.clone(),
        });
        fixture.applied(work, 3, answer).await;
        let task = fixture.task(work.task).await;
        assert_eq!(
            (task.state, task.summary),
            (TaskState::Completed, Some(summary))
        );
    }
}

pub(crate) async fn a_stopped_attempt_costs_nothing(fixture: &Fixture) {
    let interrupted = Failure {
        kind: FailureKind::Interrupted,
        message: "the agent was told to end".to_owned(),
        retryable: true,
        discard_checkpoints: false,
    };
    for (issue, ended) in [
        (1, Outcome::Cancelled { by_operator: false }),
        (2, Outcome::Failed(interrupted)),
    ] {
        let work = fixture.started(issue).await;
        fixture.applied(work, 2, WorkEvent::Finished(ended)).await;
        let task = fixture.task(work.task).await;
        assert_eq!((task.state, task.failures), (TaskState::Queued, 0));
        assert_eq!(task.failure, None);
        fixture.in_queue(work.task).await;
    }
}

pub(crate) async fn the_queue_is_in_the_order_of_priority(fixture: &Fixture) {
    let mut expected = Vec::new();
    for (issue, priority) in [
        (1, Priority::LOW),
        (2, Priority::CRITICAL),
        (3, Priority::LOW),
    ] {
        let id = fixture.create(issue).await;
        let analysis = TaskAnalysis {
            priority,
            ..analysis()
        };
        let done = fixture.store.analyzed(id, &analysis).await.unwrap();
        assert_eq!(done, Cas::Applied(()));
        expected.push(id);
    }
    expected.swap(0, 1);
    let queued = fixture.store.queued(&Look::all(10, 10)).await.unwrap();
    let ids: Vec<_> = queued.iter().map(|task| task.id).collect();
    assert_eq!(ids, expected);
    let stale = fixture.store.analyzed(ids[0], &analysis()).await.unwrap();
    assert_eq!(stale, Cas::Stale);
}

/// However many tasks a repository or a type of agent has, the first of the others are seen.
pub(crate) async fn the_queue_shows_the_heads_of_all_lanes(fixture: &Fixture) {
    let mut seen = Vec::new();
    for issue in 1..=12 {
        let mut new = fixture.new_task(issue);
        let mut analysis = analysis();
        if issue % 6 == 0 {
            new.repository = "acme/small".parse().unwrap();
        }
        if issue % 4 == 0 {
            analysis.requirement.agent_type = "frontend".parse().unwrap();
        }
        let id = new.id;
        fixture.act(Act::Create(Box::new(new))).await;
        let done = fixture.store.analyzed(id, &analysis).await.unwrap();
        assert_eq!(done, Cas::Applied(()));
        // Two of orders for each type, and both of small, which are of two types.
        if [1, 2, 4, 8, 6, 12].contains(&issue) {
            seen.push(id);
        }
    }
    let queued = fixture.store.queued(&Look::all(2, 100)).await.unwrap();
    let mut ids: Vec<_> = queued.iter().map(|task| task.id).collect();
    ids.sort();
    assert_eq!(ids, seen);
    assert_eq!(
        fixture.store.queued(&Look::all(2, 3)).await.unwrap().len(),
        3
    );
    let backend = Look {
        types: Some(vec!["general".parse().unwrap()]),
        ..Look::all(2, 100)
    };
    // Of the other type's lanes, one in each repository.
    assert_eq!(fixture.store.queued(&backend).await.unwrap().len(), 5);
}
