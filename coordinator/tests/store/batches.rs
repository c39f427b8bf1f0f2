//! Many operations at once share transactions, and none notices.

use futures::future::join_all;
use patchfleet_coordinator::store::{
    Act, Acted, Cas, Claim, Delivery, Recorded, Report, TaskFilter, WorkEvent,
};
use patchfleet_domain::{AttemptNumber, Phase, TaskId, TaskState, Work};

use crate::fixture::{Fixture, LEASE, agent, failure};

/// Deliveries come four times each, from as many replicas of GitHub's patience.
pub(crate) async fn many_deliveries_at_once_each_count_once(fixture: &Fixture) {
    let deliveries: Vec<_> = (1..=50)
        .map(|issue| {
            let create = Act::Create(Box::new(fixture.new_task(issue)));
            (fixture.delivery(), [create])
        })
        .collect();
    let all = (0..4).flat_map(|_| &deliveries);
    let recorded = all.map(|(delivery, acts)| fixture.store.record_delivery(delivery, acts));
    let recorded = join_all(recorded).await;
    let is_new = |recorded: &&Recorded| matches!(recorded, Recorded::New(_));
    let recorded: Vec<_> = recorded.into_iter().map(Result::unwrap).collect();
    assert_eq!(recorded.iter().filter(is_new).count(), 50);
    let filter = TaskFilter {
        limit: 500,
        ..TaskFilter::default()
    };
    assert_eq!(fixture.store.tasks(&filter).await.unwrap().len(), 50);
    assert_eq!(fixture.store.outbox_pending().await.unwrap(), 50);
}

pub(crate) async fn reports_of_a_task_are_applied_in_the_order_of_their_coming(fixture: &Fixture) {
    let works = [fixture.started(1).await, fixture.started(2).await];
    let report = |work: Work, seq: u64| Report {
        work,
        seq,
        event: WorkEvent::Progress {
            phase: Phase::Generate,
            detail: seq.to_string(),
        },
    };
    let reports: Vec<_> = (2..=80)
        .flat_map(|seq| works.map(|work| report(work, seq)))
        .collect();
    // As two streams of one agent would say them, the newer one saying all again.
    let (one, two) = tokio::join!(
        fixture.store.report_all(&reports[..100]),
        fixture.store.report_all(&reports),
    );
    let applied = [one.unwrap(), two.unwrap()].concat();
    assert!(applied.into_iter().all(|it| it == Cas::Applied(())));
    for work in works {
        let history = fixture.store.history(work.task, 0).await.unwrap();
        let phases = history.iter().filter(|event| event.kind == "phase");
        let told: Vec<_> = phases.map(|event| event.detail.clone()).collect();
        let expected: Vec<_> = (2..=80).map(|seq| format!("generate: {seq}")).collect();
        assert_eq!(told, expected);
    }
}

pub(crate) async fn a_stale_claim_spoils_no_other(fixture: &Fixture) {
    let me = agent("backend-1");
    let (one, two) = (fixture.queued(1).await, fixture.queued(2).await);
    fixture.store.cancel(one.id, "maintainer").await.unwrap();
    let mut unknown = Claim::new(&one, &me);
    unknown.task = TaskId::new();
    let mut noted = Claim::new(&two, &me);
    noted.note = Some("for a reason".to_owned());
    let claims = [Claim::new(&one, &me), unknown, noted.clone(), noted];
    let won = fixture.store.claim_all(&claims, LEASE).await.unwrap();
    let won: Vec<_> = won
        .into_iter()
        .map(|won| match won {
            Cas::Applied(assignment) => Some(assignment.work),
            Cas::Stale => None,
        })
        .collect();
    let work = Work {
        task: two.id,
        attempt: AttemptNumber(1),
    };
    assert_eq!(won, [None, None, Some(work), None]);
    let history = fixture.store.history(two.id, 0).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .filter(|event| event.kind == "note")
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].detail, "for a reason");
}

/// A program's output may hold the character NUL, which PostgreSQL has no place for.
pub(crate) async fn what_a_column_cannot_hold_is_left_out(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let lines = vec!["a\0b".to_owned(), "\\u0000 \u{1F600}\n\"".to_owned()];
    let log = WorkEvent::Log { lines, dropped: 0 };
    fixture.applied(work, 2, log).await;
    let logs = fixture.store.logs(work.task, 0).await.unwrap().lines;
    assert_eq!(logs, ["ab", "\\u0000 \u{1F600}\n\""]);
}

/// A delivery whose id no column can hold is not kept; what came with it is.
pub(crate) async fn one_that_is_impossible_spoils_no_other(fixture: &Fixture) {
    let works: Vec<Work> = join_all((1..=8).map(|issue| fixture.started(issue))).await;
    let impossible = Delivery {
        id: "\0".to_owned(),
        ..fixture.delivery()
    };
    let create = [Act::Create(Box::new(fixture.new_task(9)))];
    let others: Vec<_> = (10..20)
        .map(|issue| {
            let create = Act::Create(Box::new(fixture.new_task(issue)));
            (fixture.delivery(), [create])
        })
        .collect();
    let spoiler = fixture.store.record_delivery(&impossible, &create);
    let others = others
        .iter()
        .map(|(delivery, acts)| fixture.store.record_delivery(delivery, acts));
    let finished = works.iter().map(|work| {
        let event = WorkEvent::Finished(failure(true, false));
        fixture.report(*work, 2, event)
    });
    let (_, others, finished) =
        futures::future::join3(spoiler, join_all(others), join_all(finished)).await;
    for recorded in others {
        let Recorded::New(acted) = recorded.unwrap() else {
            panic!("a new delivery is no duplicate");
        };
        assert!(matches!(acted[..], [Acted::Created(_)]), "{acted:?}");
    }
    assert!(finished.iter().all(|it| *it == Cas::Applied(())));
    assert_eq!(fixture.task(works[0].task).await.state, TaskState::Queued);
}
