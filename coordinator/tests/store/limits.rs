//! Limits and pauses.

use std::num::NonZeroU32;
use std::sync::Arc;

use patchfleet_coordinator::store::{
    Act, AtWork, Caps, Cas, Look, QueuedTask, Scope, Store, WorkEvent,
};
use patchfleet_domain::agent::Requirement;
use patchfleet_domain::outcome::Outcome;
use patchfleet_domain::{AgentType, RepositoryName, TaskAnalysis};

use crate::fixture::{Fixture, LEASE, agent, analysis, repository};

const TWO: Option<NonZeroU32> = NonZeroU32::new(2);

fn small() -> RepositoryName {
    "acme/small".parse().unwrap()
}

fn frontend() -> AgentType {
    "frontend".parse().unwrap()
}

impl Fixture {
    async fn queued_in(&self, issue: u64, repository: &RepositoryName, agent_type: &AgentType) {
        let mut new = self.new_task(issue);
        new.repository = repository.clone();
        let id = new.id;
        self.act(Act::Create(Box::new(new))).await;
        let analysis = TaskAnalysis {
            requirement: Requirement {
                agent_type: agent_type.clone(),
                ..analysis().requirement
            },
            ..analysis()
        };
        let applied = self.store.analyzed(id, &analysis).await.unwrap();
        assert_eq!(applied, Cas::Applied(()));
    }
}

/// Has as many agents claim all that is queued, at once; returns what was won.
async fn rush(store: &Arc<dyn Store>) -> Vec<QueuedTask> {
    let queue = store.queued(&Look::all(1000, 1000)).await.unwrap();
    let claims = queue.iter().enumerate().map(|(number, task)| async move {
        let agent = agent(&format!("agent-{number}"));
        store.claim(task, &agent, LEASE).await.unwrap()
    });
    let claims = futures::future::join_all(claims).await;
    let won = queue.into_iter().zip(claims);
    won.filter_map(|(task, won)| matches!(won, Cas::Applied(_)).then_some(task))
        .collect()
}

pub(crate) async fn no_more_is_at_work_than_the_limits_say(fixture: &Fixture) {
    let caps = Caps {
        per_repository: TWO,
        repositories: [(small(), NonZeroU32::MIN)].into(),
        agent_types: [(frontend(), NonZeroU32::MIN)].into(),
    };
    let replicas = [
        fixture.place.limited(caps.clone()).await,
        fixture.place.limited(caps).await,
    ];
    let general = AgentType::general();
    for issue in 1..=6 {
        fixture.queued_in(issue, &repository(), &general).await;
        fixture.queued_in(issue, &small(), &general).await;
        let alone = format!("acme/alone-{issue}").parse().unwrap();
        fixture.queued_in(issue, &alone, &frontend()).await;
    }
    let (one, other) = tokio::join!(rush(&replicas[0]), rush(&replicas[1]));
    let won: Vec<_> = one.into_iter().chain(other).collect();
    let count =
        |repository: &RepositoryName| won.iter().filter(|it| it.repository == *repository).count();
    assert_eq!((count(&repository()), count(&small())), (2, 1));
    let of_type = won
        .iter()
        .filter(|it| it.requirement.agent_type == frontend());
    assert_eq!(of_type.count(), 1);
    let at_work = replicas[0].at_work().await.unwrap();
    let of_orders = AtWork {
        repository: repository(),
        agent_type: general.clone(),
        tasks: 2,
    };
    assert!(at_work.contains(&of_orders), "{at_work:?}");

    // The planner knows without trying.
    let room = replicas[1].room().await.unwrap();
    assert!(!room.admits((&repository(), &general)));
    assert!(!room.admits((&"acme/other".parse().unwrap(), &frontend())));
    assert!(room.admits((&"acme/other".parse().unwrap(), &general)));

    // What ends makes room.
    let first = won.iter().find(|it| it.repository == repository()).unwrap();
    let work = fixture.store.task(first.id).await.unwrap().unwrap();
    let work = patchfleet_domain::Work {
        task: first.id,
        attempt: work.attempt,
    };
    fixture.applied(work, 1, WorkEvent::Accepted).await;
    let done = Outcome::Answer {
        summary: String::new(),
    };
    fixture.applied(work, 2, WorkEvent::Finished(done)).await;
    assert_eq!(rush(&replicas[1]).await.len(), 1);
}

pub(crate) async fn what_is_paused_is_not_given_away(fixture: &Fixture) {
    let general = AgentType::general();
    fixture.queued_in(1, &repository(), &general).await;
    fixture.queued_in(2, &small(), &frontend()).await;
    fixture.queued_in(3, &small(), &general).await;
    let store = &fixture.store;
    let (orders, frontends) = (
        Scope::Repository(repository()),
        Scope::AgentType(frontend()),
    );
    assert!(
        store
            .pause(&orders, "maintainer", Some("a freeze"))
            .await
            .unwrap()
    );
    assert!(!store.pause(&orders, "somebody", None).await.unwrap());
    assert!(store.pause(&frontends, "operator", None).await.unwrap());
    let pauses = store.pauses().await.unwrap();
    assert_eq!(pauses.len(), 2);
    let of_orders = pauses.iter().find(|it| it.scope == orders).unwrap();
    assert_eq!(of_orders.actor, "maintainer");
    assert_eq!(of_orders.reason.as_deref(), Some("a freeze"));
    let room = store.room().await.unwrap();
    assert!(!room.admits((&repository(), &general)));
    assert!(!room.admits((&small(), &frontend())));

    let won = rush(store).await;
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(won[0].repository, small());

    assert!(store.resume(&orders).await.unwrap());
    assert!(!store.resume(&orders).await.unwrap());
    let won = rush(store).await;
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(won[0].repository, repository());
}
