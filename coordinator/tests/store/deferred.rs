//! Deferred deliveries: in the order of their issue, by one at a time, durable until they are judged.

use std::time::Duration;

use patchfleet_coordinator::store::{
    Act, Acted, Cas, Deferral, DeferredDelivery, Delivery, Judgement, Recorded, Retention,
};
use patchfleet_domain::IssueNumber;

use crate::fixture::{Fixture, repository};

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

impl Fixture {
    fn about(&self, issue: u64) -> Delivery {
        Delivery {
            issue: Some(IssueNumber(issue)),
            ..self.delivery()
        }
    }

    fn deferral(&self, issue: u64, received: Duration) -> Deferral {
        Deferral {
            delivery: self.about(issue),
            subject: (repository(), IssueNumber(issue)),
            payload: "{\"a\":\"\\u0000 '?\"}".to_owned(),
            received,
            after: Duration::ZERO,
            error: "GitHub is away".to_owned(),
        }
    }

    /// Defers a delivery that came so long ago; its id.
    pub(crate) async fn defer(&self, issue: u64, received: Duration) -> String {
        let deferral = self.deferral(issue, received);
        assert!(self.store.defer_delivery(&deferral).await.unwrap());
        deferral.delivery.id
    }

    async fn take(&self, hold: Duration) -> Vec<DeferredDelivery> {
        self.store.take_deferred(10, hold).await.unwrap()
    }

    fn creation(&self, issue: u64) -> Judgement {
        Judgement::Judged(vec![Act::Create(Box::new(self.new_task(issue)))])
    }

    async fn settle(&self, deferred: &DeferredDelivery, judgement: Judgement) -> Cas<Vec<Acted>> {
        let settled = self.store.settle_deferred(deferred, &judgement).await;
        settled.unwrap()
    }
}

fn ids(taken: &[DeferredDelivery]) -> Vec<&str> {
    taken.iter().map(|it| it.delivery.as_str()).collect()
}

pub(crate) async fn they_are_taken_in_the_order_of_their_issues(fixture: &Fixture) {
    // What came first may have been deferred last, when GitHub was slow.
    let second = fixture.defer(1, SECOND).await;
    let first = fixture.defer(1, SECOND * 2).await;
    let other = fixture.defer(2, SECOND * 3).await;
    let mut late = fixture.deferral(3, HOUR);
    late.after = HOUR;
    assert!(fixture.store.defer_delivery(&late).await.unwrap());
    assert_eq!(fixture.store.deferred_deliveries().await.unwrap(), 4);

    let taken = fixture.take(HOUR).await;
    assert_eq!(ids(&taken), [other.as_str(), first.as_str()]);
    let deferral = fixture.deferral(2, SECOND);
    assert_eq!(taken[0].payload, deferral.payload);
    assert_eq!((taken[0].event.as_str(), taken[0].tries), ("issues", 1));
    assert_eq!(
        (&taken[0].repository, taken[0].issue),
        (&repository(), IssueNumber(2))
    );
    assert!(taken[0].waiting_for >= SECOND * 3);
    assert!(fixture.take(HOUR).await.is_empty(), "they are held");

    let judged = fixture.settle(&taken[1], fixture.creation(1)).await;
    assert!(matches!(&judged, Cas::Applied(acted) if matches!(acted[..], [Acted::Created(_)])));
    let again = fixture.settle(&taken[1], fixture.creation(1)).await;
    assert_eq!(again, Cas::Stale, "it is over");
    assert_eq!(ids(&fixture.take(HOUR).await), [second.as_str()]);
    assert_eq!(fixture.store.deferred_deliveries().await.unwrap(), 3);
}

pub(crate) async fn what_comes_after_one_that_waits_is_not_recorded(fixture: &Fixture) {
    let waits = fixture.defer(1, SECOND).await;
    let later = fixture.about(1);
    let create = |issue| [Act::Create(Box::new(fixture.new_task(issue)))];
    let record = async |delivery: &Delivery, issue| {
        let act = create(issue);
        let recorded = fixture.store.record_delivery(delivery, &act);
        recorded.await.unwrap()
    };
    assert_eq!(record(&later, 1).await, Recorded::Behind);
    assert!(!fixture.store.delivery_seen(&later.id).await.unwrap());
    // Its own id is known, also to whoever has it deferred again.
    let same = Delivery {
        id: waits.clone(),
        ..fixture.about(1)
    };
    assert_eq!(record(&same, 1).await, Recorded::Duplicate);
    let mut twice = fixture.deferral(1, SECOND);
    twice.delivery = same;
    assert!(!fixture.store.defer_delivery(&twice).await.unwrap());
    assert!(fixture.store.delivery_seen(&waits).await.unwrap());
    // Others do not wait for it.
    assert!(matches!(
        record(&fixture.about(2), 2).await,
        Recorded::New(_)
    ));
    assert!(matches!(
        record(&fixture.delivery(), 3).await,
        Recorded::New(_)
    ));

    let taken = fixture.take(HOUR).await;
    let _ = fixture
        .settle(&taken[0], Judgement::Judged(Vec::new()))
        .await;
    assert!(matches!(record(&later, 1).await, Recorded::New(_)));
}

pub(crate) async fn whoever_lost_its_hold_on_one_changes_nothing(fixture: &Fixture) {
    fixture.defer(1, SECOND).await;
    let slow = fixture.take(Duration::ZERO).await.remove(0);
    let next = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        loop {
            looks.tick().await;
            if let Some(taken) = fixture.take(HOUR).await.pop() {
                return taken;
            }
        }
    };
    let next = tokio::time::timeout(Duration::from_secs(20), next);
    let next = next.await.unwrap();
    assert_eq!((slow.tries, next.tries), (1, 2));
    assert_eq!(fixture.settle(&slow, fixture.creation(1)).await, Cas::Stale);
    let again = Judgement::Again {
        after: Duration::ZERO,
        error: "limited".to_owned(),
    };
    assert_eq!(fixture.settle(&slow, again.clone()).await, Cas::Stale);
    assert_eq!(fixture.settle(&next, again).await, Cas::Applied(Vec::new()));
    let last = fixture.take(HOUR).await.remove(0);
    assert_eq!(last.tries, 3);
    assert!(matches!(
        fixture.settle(&last, fixture.creation(1)).await,
        Cas::Applied(_)
    ));
}

pub(crate) async fn one_that_was_given_up_may_come_again(fixture: &Fixture) {
    let mut deferral = fixture.deferral(1, HOUR * 25);
    assert!(fixture.store.defer_delivery(&deferral).await.unwrap());
    let behind = fixture.defer(1, SECOND).await;
    let taken = fixture.take(HOUR).await.remove(0);
    let over = Judgement::GivenUp {
        error: "away for a day".to_owned(),
    };
    assert_eq!(fixture.settle(&taken, over).await, Cas::Applied(Vec::new()));
    assert_eq!(fixture.store.deferred_deliveries().await.unwrap(), 1);
    // The next of its issue has its turn.
    assert_eq!(ids(&fixture.take(HOUR).await), [behind.as_str()]);
    let id = &deferral.delivery.id;
    assert!(!fixture.store.delivery_seen(id).await.unwrap());
    deferral.received = Duration::ZERO;
    assert!(fixture.store.defer_delivery(&deferral).await.unwrap());
    assert_eq!(fixture.store.deferred_deliveries().await.unwrap(), 2);
}

/// What waits stays, however old; what was given up goes with the deliveries.
pub(crate) async fn only_what_was_given_up_is_removed(fixture: &Fixture) {
    fixture.defer(1, HOUR).await;
    fixture.defer(2, HOUR).await;
    let taken = fixture.take(HOUR).await;
    let over = Judgement::GivenUp {
        error: "away for a day".to_owned(),
    };
    let _ = fixture.settle(&taken[0], over).await;
    let nothing = Retention {
        tasks: Duration::ZERO,
        deliveries: Duration::ZERO,
    };
    while !fixture.store.retire(nothing).await.unwrap().is_nothing() {}
    let left = "UPDATE deferred_deliveries SET tries = tries".to_owned();
    assert_eq!(fixture.place.execute_many(left).await, 1);
    assert_eq!(fixture.store.deferred_deliveries().await.unwrap(), 1);
}

pub(crate) async fn one_that_cannot_be_read_stops_its_issue_and_no_other(fixture: &Fixture) {
    let damaged = fixture.defer(1, SECOND * 2).await;
    let other = fixture.defer(2, SECOND).await;
    let text = format!(
        "UPDATE deferred_deliveries SET repository = 'nonsense' WHERE delivery = '{damaged}'"
    );
    fixture.place.execute(text).await;
    assert_eq!(ids(&fixture.take(HOUR).await), [other.as_str()]);
    assert_eq!(fixture.store.deferred_deliveries().await.unwrap(), 2);
}
