//! Tasks that wait for others.

use std::time::Duration;

use futures::future::join_all;
use patchfleet_coordinator::store::{
    Act, Acted, Cas, Commanded, IssueEnd, SeenRepository, WorkEvent,
};
use patchfleet_domain::outcome::Outcome;
use patchfleet_domain::{
    FailureKind, FailurePolicy, IssueNumber, Priority, Task, TaskAnalysis, TaskId, TaskState,
    WaitReason,
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

pub(crate) async fn what_is_over_is_not_waited_for(fixture: &Fixture) {
    let done = fixture.queued(1).await.id;
    fixture.complete(done).await;
    let id = fixture.comes_after(2, &[1]).await;
    fixture.is_in(id, TaskState::Queued).await;

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

fn reopened(issue: u64, number: u64) -> Act {
    Act::PullRequestReopened {
        repository: repository(),
        number,
        head: format!("patchfleet/{issue}-fix"),
        actor: "maintainer".to_owned(),
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

/// The usual way to have the checks run once more.
pub(crate) async fn a_pull_request_that_is_opened_again_goes_on_and_so_does_what_waits(
    fixture: &Fixture,
) {
    let first = fixture.queued(1).await.id;
    let next = fixture.comes_after(2, &[1]).await;
    fixture.end(first, pull_request(7)).await;
    fixture.act(closed(1, 7, false)).await;
    fixture.is_in(first, TaskState::Failed).await;
    let waiting = fixture.is_in(next, TaskState::Waiting).await;
    assert_eq!(waiting.wait_reason, Some(WaitReason::Dependency));
    // One that comes only now waits as well.
    let late = fixture.comes_after(3, &[1]).await;
    fixture.store.follow_issues().await.unwrap();
    fixture.is_in(next, TaskState::Waiting).await;
    fixture.is_in(late, TaskState::Waiting).await;

    let acted = fixture.act(reopened(1, 7)).await;
    assert_eq!(acted, Acted::Changed(first, TaskState::Review));
    let task = fixture.is_in(first, TaskState::Review).await;
    assert_eq!(task.failure, None);
    assert_eq!(task.attempt.0, 1, "nothing is paid for again");
    fixture.store.follow_issues().await.unwrap();
    // Twice is as good as once.
    assert_eq!(fixture.act(reopened(1, 7)).await, Acted::Nothing);
    fixture.act(closed(1, 7, true)).await;
    fixture.is_in(first, TaskState::Completed).await;
    fixture.is_in(next, TaskState::Queued).await;
    fixture.is_in(late, TaskState::Queued).await;
}

/// Whoever merges a closed pull request has opened it again before.
pub(crate) async fn a_merge_after_the_closing_completes_although_the_opening_was_not_told(
    fixture: &Fixture,
) {
    let first = fixture.queued(1).await.id;
    let next = fixture.comes_after(2, &[1]).await;
    fixture.end(first, pull_request(7)).await;
    fixture.act(closed(1, 7, false)).await;
    fixture.act(closed(1, 7, true)).await;
    let task = fixture.is_in(first, TaskState::Completed).await;
    assert!(task.pull_request.unwrap().merged);
    assert_eq!(task.failure, None);
    fixture.store.follow_issues().await.unwrap();
    fixture.is_in(next, TaskState::Queued).await;
}

pub(crate) async fn a_closed_pull_request_that_a_retry_replaces_is_waited_for_no_more(
    fixture: &Fixture,
) {
    let first = fixture.queued(1).await.id;
    let next = fixture.comes_after(2, &[1]).await;
    fixture.end(first, pull_request(7)).await;
    fixture.act(closed(1, 7, false)).await;
    assert_eq!(
        fixture.store.retry(first, "maintainer").await.unwrap(),
        Commanded::Done(TaskState::Queued)
    );
    fixture.store.follow_issues().await.unwrap();
    fixture.is_in(next, TaskState::Waiting).await;
    // The old one is opened again meanwhile: nobody's any more.
    assert_eq!(fixture.act(reopened(1, 7)).await, Acted::Nothing);
    fixture.complete(first).await;
    fixture.is_in(next, TaskState::Queued).await;
}

/// The issue has another task by the time that the pull request of the first is opened again.
pub(crate) async fn a_pull_request_is_not_brought_back_beside_another_task(fixture: &Fixture) {
    let first = fixture.queued(1).await.id;
    fixture.end(first, pull_request(7)).await;
    fixture.act(closed(1, 7, false)).await;
    let mut again = fixture.new_task(1);
    "another".clone_into(&mut again.key.object);
    "patchfleet/1-retitled".clone_into(&mut again.branch);
    let Acted::Created(second) = fixture.act(Act::Create(Box::new(again))).await else {
        panic!("not created")
    };
    assert_eq!(fixture.act(reopened(1, 7)).await, Acted::Exists(second));
    fixture.is_in(first, TaskState::Failed).await;
}

/// Two issues are triggered together, and the delivery of the one that depends on the other is first.
pub(crate) async fn an_issue_without_a_task_is_waited_for_until_it_has_one(fixture: &Fixture) {
    let next = fixture.comes_after(2, &[1]).await;
    fixture.is_in(next, TaskState::Waiting).await;
    fixture.store.follow_issues().await.unwrap();
    fixture.is_in(next, TaskState::Waiting).await;
    let first = fixture.queued(1).await.id;
    fixture.store.follow_issues().await.unwrap();
    fixture.is_in(next, TaskState::Waiting).await;
    fixture.complete(first).await;
    fixture.is_in(next, TaskState::Queued).await;

    // The end comes before anybody has looked.
    let next = fixture.comes_after(4, &[3]).await;
    let first = fixture.queued(3).await.id;
    fixture.complete(first).await;
    fixture.is_in(next, TaskState::Waiting).await;
    fixture.store.follow_issues().await.unwrap();
    fixture.is_in(next, TaskState::Queued).await;

    let stops = fixture.comes_after(6, &[5]).await;
    let first = fixture.queued(5).await.id;
    fixture.end(first, failure(false, false)).await;
    fixture.store.follow_issues().await.unwrap();
    fixture.is_in(stops, TaskState::Cancelled).await;
}

/// The circle is closed only when the second of both is looked at.
pub(crate) async fn a_cycle_over_an_issue_without_a_task_is_refused_by_name(fixture: &Fixture) {
    let first = fixture.comes_after(1, &[2]).await;
    let second = fixture.comes_after(2, &[1]).await;
    fixture.store.follow_issues().await.unwrap();
    let refused = fixture.is_in(first, TaskState::Failed).await;
    let refused = refused.failure.unwrap();
    assert_eq!(refused.kind, FailureKind::DependencyCycle);
    assert!(refused.message.ends_with("#1 → #2 → #1"), "{refused:?}");
    fixture.is_in(second, TaskState::Cancelled).await;
}

/// What people do by hand, and what was never there.
pub(crate) async fn github_says_when_an_issue_without_a_task_is_over(fixture: &Fixture) {
    let (again, soon) = (Duration::from_hours(1), Duration::ZERO);
    let ends = [
        (1, IssueEnd::Done, TaskState::Queued),
        (2, IssueEnd::GivenUp, TaskState::Cancelled),
        (3, IssueEnd::Gone, TaskState::Queued),
    ];
    for (issue, end, state) in ends {
        let next = fixture.comes_after(10 + issue, &[issue]).await;
        let asked = (repository(), IssueNumber(issue));
        let due = fixture.store.issues_due(again, 10).await.unwrap();
        assert_eq!(due, std::slice::from_ref(&asked));
        assert_eq!(fixture.store.issues_due(again, 10).await.unwrap(), []);
        assert_eq!(
            fixture.store.issues_due(soon, 10).await.unwrap(),
            std::slice::from_ref(&asked)
        );
        let ended = fixture.store.issue_ended(&asked.0, asked.1, end).await;
        assert_eq!(ended.unwrap(), 1);
        fixture.is_in(next, state).await;
    }
    // One of two is not enough.
    let next = fixture.comes_after(20, &[4, 5]).await;
    let own = repository();
    let end = |issue| {
        fixture
            .store
            .issue_ended(&own, IssueNumber(issue), IssueEnd::Done)
    };
    assert_eq!(end(4).await.unwrap(), 1);
    fixture.is_in(next, TaskState::Waiting).await;
    assert_eq!(end(5).await.unwrap(), 1);
    fixture.is_in(next, TaskState::Queued).await;
    // Who waits no more is forgotten.
    let next = fixture.comes_after(21, &[6]).await;
    let _ = fixture.store.cancel(next, "maintainer").await.unwrap();
    fixture.store.follow_issues().await.unwrap();
    assert_eq!(fixture.store.issues_due(soon, 10).await.unwrap(), []);
}

fn seen(id: u64, name: &str, was: Option<&str>) -> SeenRepository {
    SeenRepository {
        id: Some(id),
        name: name.parse().unwrap(),
        was: was.map(|name| name.parse().unwrap()),
        clone_url: format!("https://github.com/{name}.git"),
    }
}

/// A task at work, one that waits for an issue, one that is over, entries and a pause.
pub(crate) async fn what_is_stored_follows_a_repository_to_its_new_name(fixture: &Fixture) {
    let store = &fixture.store;
    let shop = "acme/shop".parse().unwrap();
    let names = store.repository_seen(&seen(9, "acme/orders", None)).await;
    assert_eq!(names.unwrap(), [repository()]);
    let work = fixture.started(1).await;
    let next = fixture.comes_after(2, &[77]).await;
    let over = fixture.queued(3).await.id;
    fixture.end(over, pull_request(7)).await;

    let names = store
        .repository_seen(&seen(9, "acme/shop", None))
        .await
        .unwrap();
    assert_eq!(names, [repository(), shop]);
    assert_eq!(store.repository_names(9).await.unwrap(), names);
    for id in [work.task, next, over] {
        let task = fixture.task(id).await;
        assert_eq!(task.repository.as_str(), "acme/shop");
        assert_eq!(task.request.clone_url, "https://github.com/acme/shop.git");
        let history = store.history(id, 0).await.unwrap();
        let told = "the repository acme/orders is acme/shop now";
        assert!(
            history.iter().any(|event| event.detail == told),
            "{history:?}"
        );
    }
    // It goes on where it was: reports, its pull request, its issue, a command.
    fixture
        .applied(work, 2, WorkEvent::Finished(pull_request(8)))
        .await;
    fixture.is_in(work.task, TaskState::Review).await;
    let merged = Act::PullRequestClosed {
        repository: names[1].clone(),
        number: 8,
        head: "patchfleet/1-fix".to_owned(),
        merged: true,
        actor: "maintainer".to_owned(),
    };
    fixture.act(merged).await;
    fixture.is_in(work.task, TaskState::Completed).await;
    let newest = store
        .task_of_issue(&names[1], IssueNumber(2))
        .await
        .unwrap();
    assert_eq!(newest.map(|task| task.id), Some(next));
    let due = store.issues_due(Duration::ZERO, 10).await.unwrap();
    assert_eq!(due, [(names[1].clone(), IssueNumber(77))]);
    let entries = store
        .take_outbox(50, Duration::from_secs(10))
        .await
        .unwrap();
    assert!(!entries.is_empty());
    assert!(
        entries.iter().all(|it| it.repository == names[1]),
        "{entries:?}"
    );
    // Said again it changes nothing, and an old name of another repository takes nothing along.
    assert_eq!(
        store
            .repository_seen(&seen(9, "acme/shop", None))
            .await
            .unwrap(),
        names
    );
    store
        .repository_seen(&seen(10, "acme/orders", None))
        .await
        .unwrap();
    assert_eq!(fixture.task(next).await.repository.as_str(), "acme/shop");
    assert_eq!(store.repository_names(9).await.unwrap(), names[1..]);
}

/// A delivery under the new name came before anybody knew of it.
pub(crate) async fn a_double_under_the_new_name_stays_and_the_old_one_is_called_off(
    fixture: &Fixture,
) {
    let store = &fixture.store;
    let old = fixture.create(1).await;
    let mut new = fixture.new_task(1);
    new.repository = "acme/shop".parse().unwrap();
    let Acted::Created(double) = fixture.act(Act::Create(Box::new(new))).await else {
        panic!("not created")
    };
    let moved = seen(9, "acme/shop", Some("acme/orders"));
    store.repository_seen(&moved).await.unwrap();
    fixture.is_in(old, TaskState::Cancelled).await;
    fixture.is_in(double, TaskState::Pending).await;
    let shop = "acme/shop".parse().unwrap();
    let active = store.active_tasks(&shop).await.unwrap();
    assert_eq!(active.iter().map(|it| it.id).collect::<Vec<_>>(), [double]);
}

pub(crate) async fn a_deleted_repository_ends_its_tasks_in_words(fixture: &Fixture) {
    let (one, two) = (fixture.started(1).await.task, fixture.queued(2).await.id);
    let why = "the repository was deleted on GitHub".to_owned();
    fixture
        .act(Act::CancelRepository {
            repository: repository(),
            actor: "owner".to_owned(),
            why: why.clone(),
        })
        .await;
    for id in [one, two] {
        fixture.is_in(id, TaskState::Cancelled).await;
        let history = fixture.store.history(id, 0).await.unwrap();
        assert!(history.iter().any(|event| event.detail == why));
    }
}
