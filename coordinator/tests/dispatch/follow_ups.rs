//! What people add to a task reaches the agent that works on it.

use patchfleet_coordinator::store::{Act, Acted, Delivery, Recorded, Store as _};
use patchfleet_domain::{FollowUp, IssueNumber, TaskState};
use patchfleet_testkit::mock_agent::MockAgent;
use sqlx::Executor as _;

use super::fleet::{Fleet, assigned, hold};

/// Somebody writes a comment on issue 1.
async fn say(fleet: &Fleet, comment: u64, text: &str) {
    let delivery = Delivery {
        id: format!("comment-delivery-{comment}"),
        event: "issue_comment".to_owned(),
        action: Some("created".to_owned()),
        repository: Some("acme/orders".parse().unwrap()),
        issue: None,
    };
    let act = Act::FollowUp {
        repository: "acme/orders".parse().unwrap(),
        issue: IssueNumber(1),
        follow_up: FollowUp {
            comment,
            author: "mona".to_owned(),
            text: text.to_owned(),
        },
    };
    let recorded = fleet
        .store
        .record_delivery(&delivery, &[act])
        .await
        .unwrap();
    let Recorded::New(acted) = recorded else {
        panic!("{recorded:?}");
    };
    assert!(matches!(acted[..], [Acted::Noted(_)]), "{acted:?}");
}

/// Makes all comments so old that no look for new ones finds them.
async fn long_ago(fleet: &Fleet) {
    let mut operator = fleet.operator().await;
    let text = "UPDATE follow_ups SET said_at = said_at - 60000000";
    operator.execute(text).await.unwrap();
}

/// Waits until the agent was told so many comments, and gives their texts.
async fn told(agent: &MockAgent, count: usize) -> Vec<String> {
    let seen = agent
        .wait("what people said", |seen| seen.follow_ups.len() >= count)
        .await
        .unwrap();
    let texts = seen.follow_ups.iter().map(|it| it.text.clone());
    texts.collect()
}

#[tokio::test]
async fn an_agent_is_told_what_was_said_before_and_what_is_said_meanwhile_once() {
    let fleet = Fleet::start().await;
    let id = fleet.task("acme/orders", 1).await;
    say(&fleet, 1, "before").await;
    long_ago(&fleet).await;
    let agent = fleet.agent("backend-1", hold()).await;
    let work = assigned(&agent, 1).await;
    assert_eq!(told(&agent, 1).await, ["before"]);
    fleet.wait_state(id, TaskState::InProgress).await;
    say(&fleet, 2, "meanwhile").await;
    say(&fleet, 3, "and more").await;
    let seen = agent
        .wait("the last comment", |seen| {
            seen.follow_ups.iter().any(|it| it.comment == 3)
        })
        .await
        .unwrap();
    let work = Some(work.into());
    let of_work = seen.follow_ups.iter();
    let of_work = of_work.filter(|it| it.work == work && it.author == "mona");
    let of_work = of_work.map(|it| it.comment).filter(|it| *it > 1);
    let meanwhile: Vec<_> = of_work.collect();
    assert_eq!(meanwhile, [2, 3]);
}

#[tokio::test]
async fn what_is_said_while_the_stream_is_cut_is_told_on_the_next_one() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("backend-1", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    assigned(&agent, 1).await;
    fleet.wait_state(id, TaskState::InProgress).await;
    say(&fleet, 1, "first").await;
    told(&agent, 1).await;
    agent.cut();
    say(&fleet, 2, "second").await;
    long_ago(&fleet).await;
    agent.reconnect();
    agent
        .wait("both comments on the new stream", |seen| {
            let again = seen.follow_ups.iter().skip(1);
            let again: Vec<_> = again.map(|it| it.comment).collect();
            again.starts_with(&[1, 2])
        })
        .await
        .unwrap();
}
