//! Tasks that wait for others.

use futures::future::join_all;
use patchfleet_coordinator::store::{Act, Acted, Cas, Commanded, WorkEvent};
use patchfleet_domain::outcome::Outcome;
use patchfleet_domain::{
    FailureKind, FailurePolicy, Priority, Task, TaskAnalysis, TaskId, TaskState, WaitReason,
};

use crate::fixture::{Fixture, LEASE, analysis, failure, pull_request, repository};

fn after(issues: &[u64]) -> TaskAnalysis {
    TaskAnalysis {
        depends_on: issues.to_vec(),
        ..analysis()
    }
}

impl Fixture {
    /// A task for that issue that was analyzed to come after others.
    pub(crate) async fn comes_after(&self, issue: u64, issues: &[u64]) -> TaskId {
        let id = self.create(issue).await;
        self.analyze(id, &after(issues)).await;
        id
    }

    async fn analyze(&self, id: TaskId, analysis: &TaskAnalysis) {
        let applied = self.store.analyzed(id, analysis).await.unwrap();
        assert_eq!(applied, Cas::Applied(()));
    }

    async fn is_in(&self, id: TaskId, state: TaskState) -> Task {
        let task = self.task(id).await;
        assert_eq!(task.state, state, "{task:?}");
        task
    }

    /// A queued task comes to an answer, which completes it.
    async fn complete(&self, id: TaskId) {
        self.end(
            id,
            Outcome::Answer {
                summary: "done".to_owned(),
            },
        )
        .await;
        self.is_in(id, TaskState::Completed).await;
    }

    async fn end(&self, id: TaskId, outcome: Outcome) {
        let queued = self.in_queue(id).await;
        let work = self.claim(&queued, LEASE).await.work;
        self.applied(work, 1, WorkEvent::Accepted).await;
        self.applied(work, 2, WorkEvent::Finished(outcome)).await;
    }
}

pub(crate) async fn a_task_waits_until_the_last_of_those_before_it_is_completed(fixture: &Fixture) {
    let (first, second) = (fixture.queued(1).await.id, fixture.queued(2).await.id);
    let last = fixture.comes_after(3, &[1, 2]).await;
    let waiting = fixture.is_in(last, TaskState::Waiting).await;
    assert_eq!(waiting.wait_reason, Some(WaitReason::Dependency));
    let mut news = fixture.store.newly_queued();

    fixture.complete(first).await;
    fixture.is_in(last, TaskState::Waiting).await;
    fixture.complete(second).await;
    let queued = fixture.is_in(last, TaskState::Queued).await;
    assert_eq!(queued.wait_reason, None);
    // The scheduler hears of it without looking.
    assert_eq!(news.recv().await.unwrap().id, last);
    let history = fixture.store.history(last, 0).await.unwrap();
    let told: Vec<_> = history.iter().map(|event| event.detail.as_str()).collect();
    assert!(told.contains(&"for #1, #2"), "{told:?}");
    assert!(told.contains(&"#2 is completed"), "{told:?}");
    fixture.complete(last).await;
}

/// A pull request in review is no reason to begin: it may still be refused.
pub(crate) async fn a_pull_request_has_to_be_merged_before_what_depends_on_it_begins(
    fixture: &Fixture,
) {
    let first = fixture.queued(1).await.id;
    let next = fixture.comes_after(2, &[1]).await;
    fixture.end(first, pull_request(7)).await;
    fixture.is_in(first, TaskState::Review).await;
    fixture.is_in(next, TaskState::Waiting).await;
    fixture
        .act(Act::PullRequestClosed {
            repository: repository(),
            number: 7,
            head: "patchfleet/1-fix".to_owned(),
            merged: true,
            actor: "maintainer".to_owned(),
        })
        .await;
    fixture.is_in(next, TaskState::Queued).await;
}

pub(crate) async fn a_failure_is_passed_on_or_passed_over(fixture: &Fixture) {
    let first = fixture.queued(1).await.id;
    let stops = fixture.comes_after(2, &[1]).await;
    let goes_on = fixture.create(3).await;
    let regardless = TaskAnalysis {
        on_dependency_failure: FailurePolicy::Continue,
        ..after(&[1])
    };
    fixture.analyze(goes_on, &regardless).await;
    let stops_too = fixture.comes_after(4, &[2]).await;

    // Another attempt may help: nothing is decided.
    fixture.end(first, failure(true, false)).await;
    fixture.is_in(first, TaskState::Queued).await;
    fixture.is_in(stops, TaskState::Waiting).await;

    assert_eq!(
        fixture.store.cancel(first, "maintainer").await.unwrap(),
        Commanded::Done(TaskState::Cancelled)
    );
    let stopped = fixture.is_in(stops, TaskState::Cancelled).await;
    let why = stopped.failure.unwrap();
    assert_eq!(why.kind, FailureKind::DependencyFailed);
    assert!(why.message.contains("#1"), "{why:?}");
    fixture.is_in(goes_on, TaskState::Queued).await;
    let stopped = fixture.is_in(stops_too, TaskState::Cancelled).await;
    assert!(stopped.failure.unwrap().message.contains("#2"));
}

pub(crate) async fn what_is_over_or_not_ours_is_not_waited_for(fixture: &Fixture) {
    let done = fixture.queued(1).await.id;
    fixture.complete(done).await;
    let id = fixture.comes_after(2, &[1, 99]).await;
    fixture.is_in(id, TaskState::Queued).await;
    let history = fixture.store.history(id, 0).await.unwrap();
    assert!(
        history
            .iter()
            .any(|event| event.detail == "#99 has no task to wait for")
    );

    let failed = fixture.queued(3).await.id;
    fixture.end(failed, failure(false, false)).await;
    let id = fixture.comes_after(4, &[3]).await;
    fixture.is_in(id, TaskState::Cancelled).await;
}

pub(crate) async fn a_cycle_is_refused_by_name(fixture: &Fixture) {
    let ids = join_all((1..=4).map(|issue| fixture.create(issue))).await;
    // 1 after 2 after 3, all in one batch; then 3 after 1, which closes the circle; 4 is beside it.
    let batch = [
        (ids[0], after(&[2])),
        (ids[1], after(&[3])),
        (ids[2], after(&[4, 1])),
        (ids[3], analysis()),
    ];
    let applied = fixture.store.analyzed_all(&batch).await.unwrap();
    assert_eq!(applied, vec![Cas::Applied(()); 4]);
    let refused = fixture
        .is_in(ids[2], TaskState::Failed)
        .await
        .failure
        .unwrap();
    assert_eq!(refused.kind, FailureKind::DependencyCycle);
    assert!(
        refused.message.ends_with("#3 → #1 → #2 → #3"),
        "{refused:?}"
    );
    // Those that waited for it are told in turn.
    fixture.is_in(ids[1], TaskState::Cancelled).await;
    fixture.is_in(ids[0], TaskState::Cancelled).await;
    fixture.is_in(ids[3], TaskState::Queued).await;
    // A person may have it done all the same.
    assert_eq!(
        fixture.store.retry(ids[2], "maintainer").await.unwrap(),
        Commanded::Done(TaskState::Queued)
    );
    fixture.complete(ids[2]).await;
}

/// Ends and analyses at once, from two replicas: nobody is left waiting for what is over.
pub(crate) async fn nobody_is_forgotten_whoever_is_faster(fixture: &Fixture) {
    let other = fixture.place.open().await;
    for round in 0..20 {
        let issue = |n: u64| round * 10 + n;
        let first = fixture.queued(issue(1)).await.id;
        let second = fixture.queued(issue(2)).await.id;
        let waiting = fixture.comes_after(issue(3), &[issue(1), issue(2)]).await;
        let late = fixture.create(issue(4)).await;
        let regardless = |issues: &[u64]| TaskAnalysis {
            on_dependency_failure: FailurePolicy::Continue,
            priority: Priority::NORMAL,
            ..after(issues)
        };
        let analysis = regardless(&[issue(1), issue(2)]);
        let (one, two, three) = tokio::join!(
            fixture.store.cancel(first, "a"),
            other.cancel(second, "b"),
            other.analyzed(late, &analysis),
        );
        one.unwrap();
        two.unwrap();
        assert_eq!(three.unwrap(), Cas::Applied(()));
        fixture.is_in(waiting, TaskState::Cancelled).await;
        fixture.is_in(late, TaskState::Queued).await;
    }
}

/// The end is a report, of a task that its coordinator does not hold but remembers. The analyses
/// come at different moments of it.
pub(crate) async fn nobody_is_forgotten_by_a_report(fixture: &Fixture) {
    let other = fixture.place.open().await;
    for round in 0..60 {
        let issue = |n: u64| round * 10 + n;
        let first = fixture.started(issue(1)).await;
        let late = fixture.create(issue(2)).await;
        let analysis = TaskAnalysis {
            on_dependency_failure: FailurePolicy::Continue,
            ..after(&[issue(1)])
        };
        let ending = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            let end = WorkEvent::Finished(failure(false, false));
            fixture.applied(first, 2, end).await;
        };
        let (analyzed, ()) = tokio::join!(other.analyzed(late, &analysis), ending);
        assert_eq!(analyzed.unwrap(), Cas::Applied(()));
        fixture.is_in(late, TaskState::Queued).await;
    }
}

/// Two replicas draw the two halves of a circle.
pub(crate) async fn a_cycle_is_not_closed_from_two_sides(fixture: &Fixture) {
    let other = fixture.place.open().await;
    for round in 0..20 {
        let issue = |n: u64| round * 10 + n;
        let Acted::Created(one) = fixture
            .act(Act::Create(Box::new(fixture.new_task(issue(1)))))
            .await
        else {
            panic!("not created")
        };
        let two = fixture.create(issue(2)).await;
        let (a, b) = (after(&[issue(2)]), after(&[issue(1)]));
        let (first, second) =
            tokio::join!(fixture.store.analyzed(one, &a), other.analyzed(two, &b),);
        assert_eq!(
            (first.unwrap(), second.unwrap()),
            (Cas::Applied(()), Cas::Applied(()))
        );
        let mut states = [fixture.task(one).await.state, fixture.task(two).await.state];
        states.sort();
        assert_eq!(states, [TaskState::Failed, TaskState::Cancelled]);
    }
}
