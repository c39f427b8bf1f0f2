//! Deliveries that can't be judged when they come are stored, and judged later in their order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use patchfleet_coordinator::intake::deferred::Judge;
use patchfleet_coordinator::intake::{Intake, IntakePolicy};
use patchfleet_coordinator::store::{Deferral, Delivery, SqlStore, Store};
use patchfleet_domain::{IssueNumber, TaskState};
use patchfleet_testkit::github::{Fault, Matcher, Order};
use patchfleet_testkit::postgres::Database;
use serde_json::Value;

use crate::scene::{REPOSITORY, Scene, github, repository, running};

/// Between the moments at which a judge would be seen to have done what it must not.
const HOLD: Duration = Duration::from_millis(50);

fn permission() -> Matcher {
    Matcher::containing("GET", "/permission")
}

impl Scene {
    /// An open issue of the maintainer's, while GitHub delivers what happens from now on.
    async fn opened(&self) -> Result<u64> {
        self.connect();
        let issue = self.open("mona", &[])?;
        self.settled().await?;
        Ok(issue)
    }

    /// The maintainer's label on it, and what its delivery was answered.
    async fn label(&self, issue: u64) -> Result<Value> {
        let simulator = &self.simulator;
        simulator.add_label(REPOSITORY, "mona", issue, "patchfleet")?;
        self.settled().await?;
        self.last_answer()
    }

    /// The maintainer's comment on it, and what its delivery was answered.
    async fn says(&self, issue: u64, text: &str) -> Result<Value> {
        let simulator = &self.simulator;
        simulator.comment(REPOSITORY, "mona", issue, text)?;
        self.settled().await?;
        self.last_answer()
    }

    fn last_answer(&self) -> Result<Value> {
        let last = self.simulator.deliveries().pop();
        let last = last.and_then(|it| it.attempts.into_iter().next_back());
        let body = last.map(|attempt| attempt.answer).unwrap_or_default();
        Ok(serde_json::from_str(&body)?)
    }

    fn last_delivery(&self) -> uuid::Uuid {
        self.simulator.deliveries().pop().unwrap().id
    }
}

#[tokio::test]
async fn what_github_cannot_be_asked_about_is_judged_when_it_can() -> Result<()> {
    let second = Duration::from_secs(1);
    for (fault, times) in [
        (Fault::Status(500), 3),
        (Fault::Status(502), 9),
        (Fault::Status(401), 1),
        (
            Fault::Refusal(403, "This installation has been suspended"),
            2,
        ),
        (
            Fault::SecondaryLimit {
                retry_after: second,
            },
            3,
        ),
        (Fault::PrimaryLimit, 3),
        (Fault::Malformed, 3),
    ] {
        let scene = Scene::start().await?;
        let issue = scene.opened().await?;
        scene.simulator.fault(permission(), fault, times);
        let answer = scene.label(issue).await?;
        assert_eq!(answer["outcome"], "deferred", "{fault:?}");
        assert_eq!(scene.statuses("issues").last(), Some(&Some(202)));
        assert!(scene.tasks().await?.is_empty());
        // It is durable, and coming again it is not another one.
        let delivery = scene.last_delivery();
        let id = delivery.to_string();
        assert!(scene.store.delivery_seen(&id).await?);
        scene.simulator.redeliver(delivery)?;
        scene.settled().await?;
        assert_eq!(scene.counted("issues", "duplicate"), 1);

        let _judge = scene.judge();
        scene.all_is_judged().await?;
        assert_eq!(scene.task(issue).await?.request.triggered_by, "mona");
        assert_eq!(scene.tasks().await?.len(), 1, "{fault:?}");
        assert_eq!(scene.counted("issues", "deferred"), 1);
        assert_eq!(scene.counted("issues", "judged"), 1);
        assert!(scene.simulator.comments(REPOSITORY, issue)?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_that_names_no_time_is_not_asked_into() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.opened().await?;
    let words =
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    scene
        .simulator
        .fault(permission(), Fault::Refusal(403, words), 1);
    assert_eq!(scene.label(issue).await?["outcome"], "deferred");
    // A minute is GitHub's rule.
    assert!(scene.store.take_deferred(9, HOLD).await?.is_empty());
    assert_eq!(scene.simulator.request_count("GET", "/permission"), 1);
    Ok(())
}

#[tokio::test]
async fn a_slow_github_does_not_hold_the_webhook() -> Result<()> {
    let policy = IntakePolicy {
        github_deadline: Duration::from_millis(200),
        ..IntakePolicy::default()
    };
    let scene = Scene::with_policy(policy).await?;
    let issue = scene.opened().await?;
    let gate = scene.simulator.hold(permission());
    assert_eq!(scene.label(issue).await?["outcome"], "deferred");
    assert!(scene.tasks().await?.is_empty());
    gate.release();
    let _judge = scene.judge();
    scene.all_is_judged().await?;
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_came_later_for_an_issue_never_overtakes_what_waits() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.opened().await?;
    let other = scene.open("mona", &[])?;
    scene.settled().await?;
    scene.simulator.fault(permission(), Fault::Status(500), 3);
    assert_eq!(scene.label(issue).await?["outcome"], "deferred");
    // GitHub is back, and the label still waits.
    assert_eq!(scene.label(other).await?["outcome"], "acted");
    let answer = scene.says(issue, "/patchfleet cancel").await?;
    assert_eq!(answer["outcome"], "deferred");
    assert_eq!(
        answer["reason"],
        "an earlier delivery of the issue waits to be judged"
    );
    // What does not count has nothing to wait for.
    assert_eq!(scene.says(issue, "thanks").await?["outcome"], "ignored");
    assert_eq!(scene.tasks().await?.len(), 1);

    let _judge = scene.judge();
    scene.all_is_judged().await?;
    assert_eq!(scene.task(issue).await?.state, TaskState::Cancelled);
    assert!(scene.task(other).await?.state.is_active());
    scene.later();
    let simulator = &scene.simulator;
    simulator.remove_label(REPOSITORY, "mona", issue, "patchfleet")?;
    assert_eq!(scene.label(issue).await?["outcome"], "acted");
    Ok(())
}

/// As if it had come now: the label is gone, and the issue is closed.
#[tokio::test]
async fn what_was_taken_back_while_it_waited_leads_to_nothing() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.opened().await?;
    scene.simulator.fault(permission(), Fault::Status(500), 3);
    scene.label(issue).await?;
    let simulator = &scene.simulator;
    simulator.remove_label(REPOSITORY, "mona", issue, "patchfleet")?;
    let second = scene.open("mona", &[])?;
    scene.settled().await?;
    scene.simulator.fault(permission(), Fault::Status(500), 3);
    let answer = scene.says(second, "/patchfleet run").await?;
    assert_eq!(answer["outcome"], "deferred");
    simulator.close_issue(REPOSITORY, "mona", second)?;
    scene.settled().await?;
    assert_eq!(scene.last_answer()?["outcome"], "deferred");

    let _judge = scene.judge();
    scene.all_is_judged().await?;
    let tasks = scene.tasks().await?;
    assert!(tasks.is_empty(), "{tasks:?}");
    // Whoever gave the command hears why.
    let taken = scene.store.take_outbox(9, HOLD).await?;
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0].issue, IssueNumber(second));
    Ok(())
}

#[tokio::test]
async fn an_opening_with_the_label_waits_as_one_act() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    scene.settled().await?;
    scene.simulator.fault(permission(), Fault::Status(401), 1);
    scene.simulator.hold_deliveries();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.simulator.release_deliveries(Order::Reversed);
    scene.settled().await?;
    assert_eq!(scene.counted("issues", "deferred"), 2);
    let _judge = scene.judge();
    scene.all_is_judged().await?;
    assert_eq!(scene.tasks().await?.len(), 1);
    assert_eq!(scene.task(issue).await?.issue, Some(IssueNumber(issue)));
    Ok(())
}

/// Replicas that know nothing of it but what is stored; one that had taken it has died.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_outlives_its_replica_and_is_judged_once_by_the_others() -> Result<()> {
    let database = Database::create().await?;
    let store = SqlStore::postgres(database.url(), 4).await?;
    let scene = Scene::on(IntakePolicy::default(), store).await?;
    let issue = scene.opened().await?;
    scene.simulator.fault(permission(), Fault::Status(500), 3);
    scene.label(issue).await?;
    scene.says(issue, "/patchfleet priority").await?;
    let taken = async {
        let mut looks = tokio::time::interval(HOLD);
        loop {
            looks.tick().await;
            if let Some(taken) = scene.store.take_deferred(9, HOLD).await?.pop() {
                return anyhow::Ok(taken);
            }
        }
    };
    let dead = tokio::time::timeout(Duration::from_secs(20), taken).await??;
    assert_eq!((dead.event.as_str(), dead.tries), ("issues", 1));

    let mut replicas = Vec::new();
    for _ in 0..2 {
        let store: Arc<dyn Store> = Arc::new(SqlStore::postgres(database.url(), 4).await?);
        let github = github(&scene.simulator)?;
        let intake = Arc::new(Intake::new(store, github, IntakePolicy::default()));
        let judge = Judge::new(intake, scene.metrics.clone()).holding(HOLD * 100);
        replicas.push(running(judge.backing_off(Duration::from_millis(1))));
    }
    scene.all_is_judged().await?;
    assert_eq!(scene.tasks().await?.len(), 1);
    assert_eq!(scene.counted("issues", "judged"), 1);
    Ok(())
}

#[tokio::test]
async fn after_a_day_it_is_given_up_and_judged_if_it_is_delivered_again() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.opened().await?;
    scene.simulator.lose_next(1);
    let simulator = &scene.simulator;
    simulator.add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    scene.settled().await?;
    let lost = scene.simulator.deliveries().pop().unwrap();
    let delivery = Delivery {
        id: lost.id.to_string(),
        event: lost.event.clone(),
        action: None,
        repository: Some(repository()),
        issue: Some(IssueNumber(issue)),
    };
    let deferral = Deferral {
        delivery,
        subject: (repository(), IssueNumber(issue)),
        payload: lost.body.to_string(),
        received: Duration::from_hours(25),
        after: Duration::ZERO,
        error: "away".to_owned(),
    };
    assert!(scene.store.defer_delivery(&deferral).await?);
    scene.simulator.fault(permission(), Fault::Status(500), 3);
    let _judge = scene.judge();
    scene.all_is_judged().await?;
    assert!(scene.tasks().await?.is_empty());
    scene.simulator.redeliver(lost.id)?;
    scene.settled().await?;
    assert_eq!(scene.counted("issues", "given_up"), 1);
    assert_eq!(scene.counted("issues", "acted"), 1);
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}
