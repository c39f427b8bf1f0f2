//! What is over for long is removed, and nothing else.

use std::time::Duration;

use patchfleet_coordinator::store::{
    Act, Acted, Commanded, LastTrigger, Retention, Sent, TaskFilter, WorkEvent,
};
use patchfleet_domain::{IssueNumber, Outcome, TaskState, Work};

use crate::fixture::{Fixture, failure, repository};

const HOUR: Duration = Duration::from_hours(1);

/// Nothing that is over is kept.
const NOTHING: Retention = Retention {
    tasks: Duration::ZERO,
    deliveries: Duration::ZERO,
};

impl Fixture {
    /// Removes until there is nothing left to be removed, a few tasks at least.
    async fn retire(&self, retention: Retention, tasks: usize) {
        let removed = async {
            let mut removed = 0;
            loop {
                let retired = self.store.retire(retention).await.unwrap();
                removed += retired.tasks;
                if retired.is_nothing() && removed >= tasks {
                    return removed;
                }
            }
        };
        let removed = tokio::time::timeout(Duration::from_secs(20), removed).await;
        assert_eq!(removed.unwrap(), tasks);
    }

    pub(crate) async fn tell_all(&self) {
        while let Some(entry) = self.store.take_outbox(1, HOUR).await.unwrap().pop() {
            let sent = Sent::Done { comment: None };
            self.store.settle_outbox(&entry, &sent).await.unwrap();
        }
    }

    /// Ends an attempt with an answer, its report of that number, and removes its task.
    pub(crate) async fn answered_and_removed(&self, work: Work, seq: u64) {
        let answer = WorkEvent::Finished(Outcome::Answer {
            summary: "done".to_owned(),
        });
        self.applied(work, seq, answer).await;
        self.tell_all().await;
        let retired = self.store.retire(NOTHING).await.unwrap();
        assert_eq!(retired.tasks, 1);
    }
}

pub(crate) async fn what_is_over_goes_and_what_is_not_stays(fixture: &Fixture) {
    let store = &fixture.store;
    let failed = fixture.started(1).await;
    let outcome = failure(false, false);
    fixture
        .applied(
            failed,
            2,
            WorkEvent::Log {
                lines: vec!["a line".to_owned()],
                dropped: 0,
            },
        )
        .await;
    fixture
        .applied(failed, 3, WorkEvent::Finished(outcome))
        .await;
    let new = fixture.new_task(2);
    let act = Act::Create(Box::new(new.clone()));
    let cancelled = match fixture.act(act.clone()).await {
        Acted::Created(id) => id,
        other => panic!("not created: {other:?}"),
    };
    let called_off = store.cancel(cancelled, "maintainer").await.unwrap();
    assert_eq!(called_off, Commanded::Done(TaskState::Cancelled));
    let queued = fixture.queued(3).await.id;
    let at_work = fixture.started(4).await;
    let waiting = fixture.comes_after(5, &[3]).await;

    // Young enough, or not told yet: everything stays.
    let old = Retention {
        tasks: HOUR,
        deliveries: HOUR,
    };
    fixture.retire(old, 0).await;
    let young = Retention {
        tasks: Duration::ZERO,
        deliveries: HOUR,
    };
    assert_eq!(
        store.retire(young).await.unwrap().tasks,
        0,
        "people are not told yet"
    );
    fixture.tell_all().await;
    fixture.retire(NOTHING, 2).await;

    let left = store.tasks(&TaskFilter::default()).await.unwrap();
    let left: Vec<_> = left.into_iter().map(|task| task.id).collect();
    assert_eq!(left, [waiting, at_work.task, queued]);
    let filter = TaskFilter {
        repository: Some(repository()),
        ..TaskFilter::default()
    };
    assert_eq!(store.tasks(&filter).await.unwrap().len(), 3);
    assert_eq!(store.history(failed.task, 0).await.unwrap(), []);
    assert_eq!(store.attempts(failed.task).await.unwrap(), []);
    // Its trigger is not forgotten with it: nobody has asked again.
    let again = patchfleet_coordinator::store::NewTask {
        id: patchfleet_domain::TaskId::new(),
        ..new
    };
    let again = Act::Create(Box::new(again));
    assert_eq!(fixture.act(again).await, Acted::Exists(cancelled));
    let triggered = store.last_triggered(&repository(), IssueNumber(2)).await;
    let made = cancelled.made_at().map(LastTrigger::Made);
    assert_eq!(triggered.unwrap(), made);
    let none = store.last_triggered(&repository(), IssueNumber(99)).await;
    assert_eq!(none.unwrap(), None);
    // What waits is released as ever, and what works reports.
    store.cancel(queued, "maintainer").await.unwrap();
    assert_eq!(fixture.task(waiting).await.state, TaskState::Cancelled);
    let done = WorkEvent::Finished(patchfleet_domain::Outcome::Answer {
        summary: String::new(),
    });
    fixture.applied(at_work, 2, done).await;
}

pub(crate) async fn replicas_may_remove_at_once(fixture: &Fixture) {
    for issue in 1..=30 {
        let id = fixture.create(issue).await;
        fixture.store.cancel(id, "maintainer").await.unwrap();
    }
    fixture.tell_all().await;
    let other = fixture.place.open().await;
    let removing = async |store: &dyn patchfleet_coordinator::store::Store| {
        let mut removed = 0;
        for _ in 0..50 {
            removed += store.retire(NOTHING).await.unwrap().tasks;
        }
        removed
    };
    let (one, two) = tokio::join!(removing(fixture.store.as_ref()), removing(other.as_ref()));
    assert_eq!(one + two, 30);
    assert_eq!(
        fixture.store.tasks(&TaskFilter::default()).await.unwrap(),
        []
    );
}
