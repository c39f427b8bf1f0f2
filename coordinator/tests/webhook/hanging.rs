//! A database that took the connection and does not answer: the webhook is answered in time, names the
//! database, and nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use patchfleet_coordinator::intake::sweep::Sweeper;
use patchfleet_coordinator::intake::{Intake, IntakePolicy};
use patchfleet_coordinator::store::SqlStore;
use patchfleet_testkit::gateway::{Gateway, Line};
use patchfleet_testkit::github::Matcher;
use patchfleet_testkit::postgres::Database;
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::scene::{REPOSITORY, Scene, answer, impatient_github};

const SHORT: Duration = Duration::from_millis(300);

fn impatient() -> IntakePolicy {
    IntakePolicy {
        store_deadline: SHORT,
        ..IntakePolicy::default()
    }
}

/// A scene on a PostgreSQL behind that gateway, with the payload of a trigger that was never
/// delivered.
async fn scene(policy: IntakePolicy) -> Result<(Scene, Database, Gateway, Value)> {
    let (database, gateway) = (Database::create().await?, Gateway::start(1).await?);
    let url = database.url_through(&gateway)?;
    let scene = Scene::on(policy, SqlStore::postgres(&url, 4).await?).await?;
    let issue = scene.open("mona", &[])?;
    // To nobody, who keeps it.
    scene
        .simulator
        .add_webhook("http://127.0.0.1:9/", crate::scene::SECRET);
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    scene.settled().await?;
    let deliveries = scene.simulator.deliveries();
    let payload = deliveries.last().expect("the label's");
    let payload = serde_json::from_str(&payload.body)?;
    Ok((scene, database, gateway, payload))
}

/// Holds a lock that lets everybody read the deliveries and nobody record one.
async fn locked(database: &Database) -> Result<PgConnection> {
    let mut other = PgConnection::connect(database.url()).await?;
    other
        .execute("BEGIN; LOCK TABLE deliveries IN SHARE MODE")
        .await?;
    Ok(other)
}

#[tokio::test]
async fn a_database_that_hangs_is_named_and_nothing_is_stored() -> Result<()> {
    let (scene, _database, gateway, payload) = scene(impatient()).await?;
    gateway.pass(Line::Held);
    let request = scene.delivery("d-1", "issues", &payload.to_string());
    let response = request.send().await?;
    assert_eq!(response.headers()["retry-after"], "5");
    let (status, problem) = answer(response).await?;
    assert_eq!(status, 503);
    assert_eq!(
        problem["detail"],
        "The database is unavailable; nothing was stored. Redeliver it later."
    );
    gateway.pass(Line::Open(Duration::ZERO));
    assert_eq!(redelivered(&scene, &payload).await?, "acted");
    Ok(())
}

#[tokio::test]
async fn a_record_that_waits_for_somebody_is_in_doubt_and_counts_once() -> Result<()> {
    let (scene, database, _gateway, payload) = scene(impatient()).await?;
    let mut other = locked(&database).await?;
    let (status, problem) = scene.deliver("d-1", "issues", &payload).await?;
    assert_eq!(status, 503);
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(
        detail.starts_with("The database did not confirm"),
        "{detail}"
    );
    other.execute("ROLLBACK").await?;
    // The transaction that waited may be done by now, or before this one, or be broken off.
    redelivered(&scene, &payload).await?;
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn more_deliveries_than_there_are_places_for_are_sent_away_while_others_wait() -> Result<()> {
    let policy = IntakePolicy {
        at_once: 2,
        patience: Duration::from_millis(50),
        store_deadline: Duration::from_mins(1),
        ..IntakePolicy::default()
    };
    let (scene, database, _gateway, payload) = scene(policy).await?;
    let mut other = locked(&database).await?;
    let payload = payload.to_string();
    let mut answers: FuturesUnordered<_> = (0..6)
        .map(|it| {
            scene
                .delivery(&format!("d-{it}"), "issues", &payload)
                .send()
        })
        .collect();
    // Those without a place are answered, while those that have one wait.
    for _ in 0..4 {
        let response = answers.next().await.expect("six were sent")?;
        assert_eq!(response.headers()["retry-after"], "5");
        let (status, problem) = answer(response).await?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert_eq!(status, 503);
        assert!(detail.starts_with("Too many deliveries"), "{detail}");
    }
    assert_eq!(scene.counted("issues", "crowded"), 4);
    other.execute("ROLLBACK").await?;
    while let Some(response) = answers.next().await {
        assert_eq!(response?.status(), 202);
    }
    Ok(())
}

/// GitHub takes what is asked about one repository and does not answer: the rest is swept, and the sweep
/// ends and says so.
#[tokio::test]
async fn a_sweep_passes_over_what_github_does_not_answer_about() -> Result<()> {
    let first = "acme/a-first";
    let scene = Scene::start().await?;
    scene.long_ago();
    scene.add_repository(first)?;
    let policy = IntakePolicy {
        repositories: Some([REPOSITORY.parse()?, first.parse()?].into()),
        ..IntakePolicy::default()
    };
    let github = impatient_github(&scene.simulator, Duration::from_secs(2))?;
    let intake = Intake::new(Arc::clone(&scene.store), github, policy);
    let sweeper = Sweeper::new(Arc::new(intake), scene.metrics.clone());
    let sweeper = sweeper.patient_for(Duration::ZERO);
    scene.open("mona", &["patchfleet"])?;
    let about_first = Matcher::containing("*", &format!("/repos/{first}/"));
    let gate = scene.simulator.hold(about_first);
    // A busy machine may be too slow for the other one, too.
    let mut taken = 0;
    while taken == 0 {
        let swept = sweeper.sweep_if_due(Duration::ZERO).await?;
        let swept = swept.expect("nobody else sweeps");
        assert!(swept.failed > 0, "{swept:?}");
        taken = swept.taken;
    }
    assert!(gate.arrivals() > 0, "it was asked");
    gate.release();
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_sweep_ends_and_names_the_database_that_hangs() -> Result<()> {
    let (scene, _database, gateway, _) = scene(IntakePolicy::default()).await?;
    let sweeper = Sweeper::new(Arc::clone(&scene.intake), scene.metrics.clone());
    let sweeper = sweeper.patient_for(Duration::ZERO);
    gateway.pass(Line::Held);
    // Nobody has anything to do but to wait, so that the store's limit is over at once.
    tokio::time::pause();
    let error = sweeper.sweep_if_due(Duration::ZERO).await.unwrap_err();
    tokio::time::resume();
    assert_eq!(
        error.to_string(),
        "the database is unavailable: it did not answer within 20s"
    );
    gateway.pass(Line::Open(Duration::ZERO));
    let recovering = async { while sweeper.sweep_if_due(Duration::ZERO).await.is_err() {} };
    tokio::time::timeout(Duration::from_mins(1), recovering).await?;
    Ok(())
}

/// Delivers as GitHub would until it is taken; the outcome.
async fn redelivered(scene: &Scene, payload: &Value) -> Result<String> {
    let tries = async {
        loop {
            let (status, done) = scene.deliver("d-1", "issues", payload).await?;
            if status == 202 {
                return anyhow::Ok(done["outcome"].as_str().unwrap_or_default().to_owned());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), tries).await?
}
