//! Webhooks that never came: what they would have told is found on GitHub.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use patchfleet_coordinator::cache::{Cache, Server};
use patchfleet_coordinator::intake::sweep::{Sweeper, Swept};
use patchfleet_coordinator::intake::{Intake, IntakePolicy};
use patchfleet_coordinator::store::{Commanded, Effect, Retention, Sent};
use patchfleet_domain::TaskState;
use patchfleet_github::Credentials;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::github::{Fault, Matcher, Permission};
use patchfleet_testkit::redis::Redis;

use crate::scene::{REPOSITORY, Scene, github_as};

pub(crate) const ALWAYS: Duration = Duration::ZERO;

/// The repository is on the list, and no webhook comes.
pub(crate) async fn scene() -> Result<(Scene, Sweeper)> {
    scene_with(Cache::default()).await
}

async fn scene_with(cache: Cache) -> Result<(Scene, Sweeper)> {
    let policy = IntakePolicy {
        repositories: Some([REPOSITORY.parse()?].into()),
        ..IntakePolicy::default()
    };
    let scene = Scene::with(policy, cache).await?;
    scene.long_ago();
    let sweeper = Sweeper::new(Arc::clone(&scene.intake), scene.metrics.clone());
    Ok((scene, sweeper.patient_for(Duration::ZERO)))
}

pub(crate) async fn sweep(sweeper: &Sweeper) -> Result<usize> {
    let swept = sweeper.sweep_if_due(ALWAYS).await?;
    Ok(swept.expect("nobody else sweeps").taken)
}

#[tokio::test]
async fn a_label_becomes_a_task_once_whether_its_webhook_comes_or_not() -> Result<()> {
    let (scene, sweeper) = scene().await?;
    let issue = scene.open("octocat", &[])?;
    scene.later();
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    assert_eq!(sweep(&sweeper).await?, 1);
    let task = scene.task(issue).await?;
    assert_eq!(task.request.triggered_by, "mona");
    assert_eq!(task.request.title, "Wrong sum");
    assert_eq!(scene.counted("issues", "swept"), 1);
    assert_eq!(sweep(&sweeper).await?, 0);
    // Nothing but the trigger itself keeps a late webhook from making another one.
    let ended = scene.store.cancel(task.id, "mona").await?;
    assert!(matches!(ended, Commanded::Done(_)), "{ended:?}");
    assert_eq!(sweep(&sweeper).await?, 0);
    scene.connect();
    for delivery in scene.simulator.deliveries() {
        scene
            .deliver(
                &delivery.id.to_string(),
                &delivery.event,
                &delivery.payload(),
            )
            .await?;
    }
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

/// When a trigger was handled says nothing of the next one: a delivery may come late, and clocks
/// differ. GitHub's own moments of both do.
#[tokio::test]
async fn a_lost_trigger_is_found_although_the_one_before_was_handled_later() -> Result<()> {
    let (scene, sweeper) = scene().await?;
    let issue = scene.open("mona", &[])?;
    scene.connect();
    scene.later();
    let label = || {
        scene
            .simulator
            .add_label(REPOSITORY, "mona", issue, "patchfleet")
    };
    label()?;
    scene.settled().await?;
    // Made now, an hour after the label by GitHub's clock.
    let first = scene.task(issue).await?;
    let ended = scene.store.cancel(first.id, "mona").await?;
    assert!(matches!(ended, Commanded::Done(_)), "{ended:?}");
    assert_eq!(sweep(&sweeper).await?, 0, "the first is known");
    scene
        .simulator
        .remove_label(REPOSITORY, "mona", issue, "patchfleet")?;
    scene.settled().await?;
    scene.later();
    scene.simulator.lose_next(1);
    label()?;
    scene.settled().await?;
    assert_eq!(sweep(&sweeper).await?, 1);
    assert_ne!(scene.task(issue).await?.id, first.id);
    assert_eq!(sweep(&sweeper).await?, 0);
    Ok(())
}

/// How many requests of a sweep count against the limit.
async fn cost(scene: &Scene, sweeper: &Sweeper, taken: usize) -> Result<usize> {
    let before = scene.simulator.requests().len();
    assert_eq!(sweep(sweeper).await?, taken);
    let made = scene.simulator.requests();
    let full = made[before..].iter().filter(|it| it.status != Some(304));
    Ok(full.count())
}

#[tokio::test]
async fn a_sweep_that_finds_nothing_new_costs_nothing_of_the_limit() -> Result<()> {
    let mut redis = Redis::start().await?;
    let cache = Cache::open(Server::new(&redis.url(), None)?, "test", Metrics::new());
    let (scene, sweeper) = scene_with(cache).await?;
    for _ in 0..3 {
        scene.open("mona", &["patchfleet"])?;
    }
    assert!(cost(&scene, &sweeper, 3).await? > 3);
    // A Redis that is slow for a moment is not waited for.
    let mut costly = 0;
    while cost(&scene, &sweeper, 0).await? > 0 {
        costly += 1;
        assert!(costly < 20, "all of {costly} sweeps cost something");
    }
    scene.open("mona", &["patchfleet"])?;
    assert!(cost(&scene, &sweeper, 1).await? > 0);

    redis.kill();
    scene.open("mona", &["patchfleet"])?;
    assert!(cost(&scene, &sweeper, 1).await? > 0);
    assert!(cost(&scene, &sweeper, 0).await? > 0);
    Ok(())
}

#[tokio::test]
async fn assigning_and_opening_with_a_label_are_triggers_too() -> Result<()> {
    let (scene, sweeper) = scene().await?;
    let labelled = scene.open("mona", &["patchfleet"])?;
    let assigned = scene.open("mona", &[])?;
    let bot = scene.simulator.bot_login();
    scene
        .simulator
        .assign(REPOSITORY, "mona", assigned, &[&bot])?;
    assert_eq!(sweep(&sweeper).await?, 2);
    assert!(scene.task(labelled).await?.state.is_active());
    assert!(scene.task(assigned).await?.state.is_active());
    Ok(())
}

#[tokio::test]
async fn what_may_be_on_its_way_and_who_may_not_are_left_alone() -> Result<()> {
    let (scene, hasty) = scene().await?;
    scene
        .simulator
        .set_permission(REPOSITORY, "helper", Permission::Triage)?;
    scene.open("helper", &["patchfleet"])?;
    let patience = Duration::from_hours(2);
    let sweeper = Sweeper::new(Arc::clone(&scene.intake), scene.metrics.clone());
    let sweeper = sweeper.patient_for(patience);
    let young = scene.open("mona", &["patchfleet"])?;
    assert_eq!(sweep(&sweeper).await?, 0);
    assert_eq!(hasty.sweep_if_due(ALWAYS).await?.unwrap().taken, 1);
    let tasks = scene.tasks().await?;
    assert_eq!(tasks.len(), 1, "the label of one who may not write is none");
    assert_eq!(tasks[0].issue.unwrap().0, young);
    let soon = Duration::from_mins(1);
    assert_eq!(hasty.sweep_if_due(soon).await?, None, "one at a time");
    Ok(())
}

#[tokio::test]
async fn what_an_outsider_may_have_changed_since_is_asked_for_again() -> Result<()> {
    let (scene, sweeper) = scene().await?;
    let issue = scene.open("octocat", &[])?;
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    scene.later();
    scene
        .simulator
        .comment(REPOSITORY, "octocat", issue, "one more thing")?;
    assert_eq!(sweep(&sweeper).await?, 1);
    assert_eq!(scene.tasks().await?, []);
    let told = scene.store.take_outbox(10, Duration::from_secs(30)).await?;
    let [entry] = told.as_slice() else {
        panic!("one reply: {told:?}");
    };
    assert!(matches!(entry.effect, Effect::Reply { .. }), "{entry:?}");
    assert_eq!(sweep(&sweeper).await?, 0, "it is said once");
    Ok(())
}

#[tokio::test]
async fn a_closed_issue_ends_its_task() -> Result<()> {
    let (scene, sweeper) = scene().await?;
    let issue = scene.open("mona", &["patchfleet"])?;
    assert_eq!(sweep(&sweeper).await?, 1);
    scene.simulator.close_issue(REPOSITORY, "mona", issue)?;
    assert_eq!(sweep(&sweeper).await?, 1);
    assert_eq!(scene.task(issue).await?.state, TaskState::Cancelled);
    assert_eq!(sweep(&sweeper).await?, 0);
    Ok(())
}

/// A sweeper that acts as an App.
fn as_app(scene: &Scene, repositories: &[&str]) -> Result<Sweeper> {
    let app = scene.simulator.create_app("patchfleet", "acme")?;
    scene.simulator.install_app(app.id, repositories)?;
    let credentials = Credentials::App {
        id: app.id,
        private_key: app.private_key_pem.into(),
    };
    let github = github_as(&scene.simulator, credentials)?;
    let intake = Intake::new(Arc::clone(&scene.store), github, IntakePolicy::default());
    let sweeper = Sweeper::new(Arc::new(intake), scene.metrics.clone());
    Ok(sweeper.patient_for(Duration::ZERO))
}

#[tokio::test]
async fn what_github_does_not_answer_about_one_repository_keeps_no_other_waiting() -> Result<()> {
    let first = "acme/a-first";
    let policy = IntakePolicy {
        repositories: Some([REPOSITORY.parse()?, first.parse()?].into()),
        ..IntakePolicy::default()
    };
    let scene = Scene::with_policy(policy).await?;
    scene.long_ago();
    scene.add_repository(first)?;
    let sweeper = Sweeper::new(Arc::clone(&scene.intake), scene.metrics.clone());
    let sweeper = sweeper.patient_for(Duration::ZERO);
    scene.open("mona", &["patchfleet"])?;
    let about_first = Matcher::containing("*", &format!("/repos/{first}/"));
    scene.simulator.fault(about_first, Fault::Status(500), 100);
    let swept = sweeper.sweep_if_due(ALWAYS).await?;
    let other = Swept {
        taken: 1,
        failed: 1,
        ..Swept::default()
    };
    assert_eq!(swept, Some(other));
    assert_eq!(scene.tasks().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_issue_that_is_gone_keeps_no_other_waiting() -> Result<()> {
    let (scene, sweeper) = scene().await?;
    let (gone, closed) = (
        scene.open("mona", &["patchfleet"])?,
        scene.open("mona", &["patchfleet"])?,
    );
    assert_eq!(sweep(&sweeper).await?, 2);
    for issue in [gone, closed] {
        scene.simulator.close_issue(REPOSITORY, "mona", issue)?;
    }
    scene.simulator.delete_issue(REPOSITORY, "acme", gone)?;
    let new = scene.open("mona", &["patchfleet"])?;
    assert_eq!(sweep(&sweeper).await?, 3);
    for issue in [gone, closed] {
        assert_eq!(scene.task(issue).await?.state, TaskState::Cancelled);
    }
    let history = scene.store.history(scene.task(gone).await?.id, 0).await?;
    let told = "the issue was deleted or moved to another repository";
    assert!(history.iter().any(|event| event.detail == told));
    assert!(scene.task(new).await?.state.is_active());
    Ok(())
}

#[tokio::test]
async fn repositories_without_tasks_are_swept_too() -> Result<()> {
    for app in [true, false] {
        let scene = Scene::start().await?;
        scene.add_repository("acme/other")?;
        let sweeper = if app {
            as_app(&scene, &[REPOSITORY, "acme/other"])?
        } else {
            let sweeper = Sweeper::new(Arc::clone(&scene.intake), scene.metrics.clone());
            sweeper.patient_for(Duration::ZERO)
        };
        scene.open("mona", &["patchfleet"])?;
        assert_eq!(sweep(&sweeper).await?, 1, "as an App: {app}");
        let asked = scene.simulator.requests();
        let idle = asked
            .iter()
            .find(|it| it.path.contains("/repos/acme/other/"));
        assert_eq!(idle, None, "where nothing is open, nothing is asked");
    }
    Ok(())
}

/// An hour's outage of a busy organization: all that was lost is delivered again, and what GitHub
/// refuses is no reason to leave the rest.
#[tokio::test]
async fn hundreds_of_lost_deliveries_are_made_again_whatever_becomes_of_one() -> Result<()> {
    let scene = Scene::start().await?;
    let sweeper = as_app(&scene, &[REPOSITORY])?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    scene.settled().await?;
    scene.simulator.lose_next(240);
    scene
        .simulator
        .comment(REPOSITORY, "mona", issue, "/patchfleet run")?;
    for number in 1..240 {
        let text = format!("comment {number}");
        scene.simulator.comment(REPOSITORY, "mona", issue, &text)?;
    }
    scene.settled().await?;
    let refused = Matcher::regex("POST", "/attempts$")?;
    scene.simulator.fault(refused, Fault::Status(422), 1);
    let swept = sweeper.sweep_if_due(ALWAYS).await?;
    assert_eq!(swept.map(|it| it.redelivered), Some(239));
    scene.settled().await?;
    let swept = sweeper.sweep_if_due(ALWAYS).await?;
    assert_eq!(swept.map(|it| it.redelivered), Some(1));
    scene.settled().await?;
    assert_eq!(scene.task(issue).await?.request.triggered_by, "mona");
    Ok(())
}

/// Webhooks and comments need the rest.
#[tokio::test]
async fn sweeps_leave_a_fifth_of_githubs_limit() -> Result<()> {
    let limit = 100;
    let names: Vec<_> = (0..40).map(|number| format!("acme/r{number}")).collect();
    let listed = names.iter().map(|name| name.parse());
    let policy = IntakePolicy {
        repositories: Some(listed.collect::<Result<_, _>>()?),
        ..IntakePolicy::default()
    };
    let scene = Scene::with_limit(policy, Cache::default(), limit).await?;
    for name in &names {
        scene.add_repository(name)?;
        let simulator = &scene.simulator;
        simulator.open_issue(name, "mona", "Wrong sum", "1 + 1 = 3", &["patchfleet"])?;
    }
    let sweeper = Sweeper::new(Arc::clone(&scene.intake), scene.metrics.clone());
    let sweeper = sweeper.patient_for(Duration::ZERO);
    let swept = sweeper
        .sweep_if_due(ALWAYS)
        .await?
        .expect("nobody else sweeps");
    assert!(swept.taken > 5, "{swept:?}");
    assert_eq!((swept.put_off, swept.failed), (40 - swept.taken, 0));
    let made = scene.simulator.requests().len();
    assert!((80..90).contains(&made), "{made} of {limit}");
    let again = sweeper
        .sweep_if_due(ALWAYS)
        .await?
        .expect("nobody else sweeps");
    assert_eq!((again.taken, again.put_off), (0, 40));
    Ok(())
}

#[tokio::test]
async fn an_app_has_github_deliver_again() -> Result<()> {
    let scene = Scene::start().await?;
    let sweeper = as_app(&scene, &[REPOSITORY])?;
    scene.connect();
    scene
        .simulator
        .set_permission(REPOSITORY, "hubot", Permission::Write)?;
    scene.settled().await?;
    scene.simulator.lose_next(2);
    let issue = scene.open("mona", &[])?;
    scene.simulator.comment(
        REPOSITORY,
        "hubot",
        issue,
        "/patchfleet run --priority high",
    )?;
    scene.settled().await?;
    assert_eq!(scene.tasks().await?, []);
    let swept = sweeper.sweep_if_due(ALWAYS).await?;
    let both = Swept {
        redelivered: 2,
        ..Swept::default()
    };
    assert_eq!(swept, Some(both));
    scene.settled().await?;
    assert_eq!(scene.task(issue).await?.request.triggered_by, "hubot");
    let swept = sweeper.sweep_if_due(ALWAYS).await?;
    assert_eq!(
        swept,
        Some(Swept::default()),
        "what arrived is not asked for"
    );
    Ok(())
}

/// A failed task is removed after a while; its issue is open and labelled still.
#[tokio::test]
async fn an_issue_whose_task_was_removed_is_not_taken_up_again() -> Result<()> {
    let (scene, sweeper) = scene().await?;
    let issue = scene.open("octocat", &[])?;
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    assert_eq!(sweep(&sweeper).await?, 1);
    let task = scene.task(issue).await?;
    scene.store.cancel(task.id, "mona").await?;
    while let Some(entry) = scene.store.take_outbox(1, ALWAYS).await?.pop() {
        let sent = Sent::Done { comment: None };
        scene.store.settle_outbox(&entry, &sent).await?;
    }
    let nothing = Retention {
        tasks: Duration::ZERO,
        deliveries: Duration::ZERO,
    };
    while !scene.tasks().await?.is_empty() {
        scene.store.retire(nothing).await?;
    }
    assert_eq!(sweep(&sweeper).await?, 0);
    assert!(scene.tasks().await?.is_empty(), "nobody asked again");
    Ok(())
}

#[tokio::test]
async fn a_trigger_that_is_older_than_what_is_remembered_is_not_missed() -> Result<()> {
    let (scene, sweeper) = scene().await?;
    let issue = scene.open("octocat", &[])?;
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    let sweeper = sweeper.remembering(Duration::from_mins(30));
    assert_eq!(sweep(&sweeper).await?, 0);
    let sweeper = sweeper.remembering(Duration::from_hours(2));
    assert_eq!(sweep(&sweeper).await?, 1);
    Ok(())
}

/// Where GitHub hangs, each repository takes its time: others come first when it is over.
#[tokio::test]
async fn a_sweep_whose_time_is_over_goes_on_the_next_time_where_it_ended() -> Result<()> {
    let names = ["acme/a", "acme/b", "acme/c"];
    let policy = IntakePolicy {
        repositories: Some(names.map(|name| name.parse().unwrap()).into()),
        ..IntakePolicy::default()
    };
    let scene = Scene::with_policy(policy).await?;
    scene.long_ago();
    for name in names {
        scene.add_repository(name)?;
        let simulator = &scene.simulator;
        simulator.open_issue(name, "mona", "Wrong sum", "1 + 1 = 3", &["patchfleet"])?;
    }
    let sweeper = Sweeper::new(Arc::clone(&scene.intake), scene.metrics.clone());
    let sweeper = sweeper.patient_for(Duration::ZERO).within(Duration::ZERO);
    for swept_so_far in 1..=3 {
        let swept = sweeper.sweep_if_due(ALWAYS).await?;
        let one = Swept {
            taken: 1,
            put_off: 2,
            ..Swept::default()
        };
        assert_eq!(swept, Some(one));
        assert_eq!(scene.tasks().await?.len(), swept_so_far);
    }
    Ok(())
}
