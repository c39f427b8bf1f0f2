//! What stands on GitHub in the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use patchfleet_coordinator::store::{Cas, Reply, SqlStore};
use patchfleet_domain::agent::Requirement;
use patchfleet_domain::{
    AgentType, Complexity, FailurePolicy, Priority, SecurityLevel, TaskAnalysis,
};
use patchfleet_testkit::gateway::{Gateway, Line};
use patchfleet_testkit::github::{Fault, Matcher, Simulator};
use patchfleet_testkit::postgres::Database;

use crate::scene::{PATIENCE, REPOSITORY, Scene};

fn writing() -> Matcher {
    Matcher::containing("POST", "/comments")
}

#[tokio::test]
async fn one_comment_is_edited_in_place_and_one_label_follows() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open()?;
    let publisher = scene.publisher()?;
    let task = scene.create(issue).await?;
    scene.emptied().await?;
    let first = scene.comments(issue);
    assert_eq!(first.len(), 1);
    assert!(
        first[0]
            .body
            .starts_with(&format!("<!-- patchfleet:task:{task} -->\n"))
    );
    assert!(
        first[0].body.contains("| State | `pending` |"),
        "{}",
        first[0].body
    );
    assert_eq!(scene.labels(issue), ["bug", "patchfleet:queued"]);
    assert_eq!(scene.store.status_comment(task).await?, Some(first[0].id));

    let _ = scene.store.cancel(task, "acme").await?;
    scene.emptied().await?;
    let second = scene.comments(issue);
    assert_eq!((second.len(), second[0].id), (1, first[0].id));
    assert!(
        second[0].body.contains("### Patchfleet: called off"),
        "{}",
        second[0].body
    );
    assert_eq!(scene.labels(issue), ["bug"]);

    let next = scene.create(issue).await?;
    scene.emptied().await?;
    assert_eq!(scene.comments(issue).len(), 2, "one comment per task");
    assert_ne!(next, task);
    publisher.stop().await;
    assert_eq!(scene.metrics.outbox_pending.get(), 0);
    Ok(())
}

#[tokio::test]
async fn what_is_sent_is_in_order_also_when_the_first_fails() -> Result<()> {
    let scene = Scene::start().await?;
    let (one, other) = (scene.open()?, scene.open()?);
    for issue in [one, other] {
        for word in ["first", "second", "third"] {
            scene.tell(issue, word).await?;
        }
    }
    scene.simulator.fault(writing(), Fault::Status(500), 2);
    let publisher = scene.publisher()?;
    scene.emptied().await?;
    assert_eq!(scene.texts(one), ["first", "second", "third"]);
    assert_eq!(scene.texts(other), ["first", "second", "third"]);
    publisher.stop().await;
    Ok(())
}

#[tokio::test]
async fn limits_and_broken_answers_double_nothing() -> Result<()> {
    for fault in [
        Fault::SecondaryLimit {
            retry_after: Duration::from_secs(1),
        },
        Fault::Cut,
        Fault::Malformed,
    ] {
        let scene = Scene::start().await?;
        let issue = scene.open()?;
        scene.simulator.fault(writing(), fault, 1);
        scene
            .simulator
            .fault(Matcher::containing("POST", "/labels"), fault, 1);
        let publisher = scene.publisher()?;
        let started = Instant::now();
        scene.create(issue).await?;
        scene.tell(issue, "told once").await?;
        scene.emptied().await?;
        let comments = scene.comments(issue);
        assert_eq!(comments.len(), 2, "{fault:?}");
        assert!(comments[1].body.ends_with("told once"));
        assert_eq!(scene.labels(issue), ["bug", "patchfleet:queued"]);
        assert!(
            started.elapsed() >= Duration::from_secs(1),
            "{fault:?}: nobody waited"
        );
        publisher.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_long_limit_is_kept_to() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open()?;
    let limit = Fault::SecondaryLimit {
        retry_after: Duration::from_hours(1),
    };
    scene.simulator.fault(writing(), limit, 1);
    let publisher = scene.publisher()?;
    scene.tell(issue, "later").await?;
    let written = |simulator: &Simulator| {
        let requests = simulator.requests();
        requests
            .iter()
            .any(|one| one.method == "POST" && one.status == Some(403))
            .then_some(())
    };
    scene
        .simulator
        .until("the limit was met", PATIENCE, written)
        .await?;
    let other = scene.open()?;
    scene.tell(other, "now").await?;
    let told = |simulator: &Simulator| {
        let comments = simulator.comments(REPOSITORY, other).unwrap_or_default();
        (!comments.is_empty()).then_some(())
    };
    scene
        .simulator
        .until("the other issue is told", PATIENCE, told)
        .await?;
    publisher.stop().await;
    assert_eq!(scene.store.outbox_pending().await?, 1);
    assert!(scene.comments(issue).is_empty());
    Ok(())
}

#[tokio::test]
async fn a_deleted_comment_is_written_anew() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open()?;
    let publisher = scene.publisher()?;
    let task = scene.create(issue).await?;
    scene.emptied().await?;
    let comment = scene.comments(issue)[0].id;
    let url = format!(
        "{}/repos/{REPOSITORY}/issues/comments/{comment}",
        scene.simulator.base_url()
    );
    let token = scene.simulator.bot_token();
    let deleted = reqwest::Client::new()
        .delete(url)
        .bearer_auth(token)
        .send()
        .await?;
    assert_eq!(deleted.status(), 204);
    let _ = scene.store.cancel(task, "acme").await?;
    scene.emptied().await?;
    let comments = scene.comments(issue);
    assert_eq!(comments.len(), 1);
    assert_eq!(
        scene.store.status_comment(task).await?,
        Some(comments[0].id)
    );
    publisher.stop().await;
    Ok(())
}

#[tokio::test]
async fn marks_of_others_do_not_count() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open()?;
    let task = scene.create(issue).await?;
    let forged = format!("<!-- patchfleet:task:{task} -->\nmine");
    scene
        .simulator
        .comment(REPOSITORY, "outsider", issue, &forged)?;
    let publisher = scene.publisher()?;
    scene.emptied().await?;
    let comments = scene.comments(issue);
    assert_eq!(
        (comments.len(), comments[0].body.as_str()),
        (2, forged.as_str())
    );
    publisher.stop().await;
    Ok(())
}

/// An App that is suspended for a while, a permission that is not granted yet, an issue that is
/// locked: GitHub says 403 or 404, and later it does not.
#[tokio::test]
async fn a_refusal_that_passes_loses_nothing() -> Result<()> {
    for status in [403, 404] {
        let scene = Scene::start().await?;
        let issue = scene.open()?;
        scene.simulator.fault(writing(), Fault::Status(status), 1);
        let publisher = scene.publisher()?;
        let task = scene.create(issue).await?;
        scene.tell(issue, "told all the same").await?;
        scene.emptied().await?;
        let comments = scene.comments(issue);
        assert_eq!(comments.len(), 2, "{status}");
        assert_eq!(
            scene.store.status_comment(task).await?,
            Some(comments[0].id)
        );
        publisher.stop().await;
    }
    Ok(())
}

/// Hundreds of comments that are older than what is told are not read to find out whether it was.
#[tokio::test]
async fn a_long_issue_is_told_as_quickly_as_a_short_one() -> Result<()> {
    let scene = Scene::start().await?;
    scene.hours_ago(5);
    let issue = scene.open()?;
    for number in 0..250 {
        let text = format!("comment {number}");
        scene.simulator.comment(REPOSITORY, "acme", issue, &text)?;
    }
    scene.hours_ago(0);
    // Written, but nobody hears of it: the next try has to find it.
    scene.simulator.fault(writing(), Fault::Cut, 2);
    scene.tell(issue, "told once").await?;
    scene.create(issue).await?;
    let publisher = scene.publisher()?;
    scene.emptied().await?;
    assert_eq!(scene.comments(issue).len(), 252);
    let pages = scene.simulator.request_count("GET", "/comments");
    assert!(pages <= 3, "{pages} pages were read");
    publisher.stop().await;
    Ok(())
}

#[tokio::test]
async fn one_slow_issue_holds_up_no_other() -> Result<()> {
    let scene = Scene::start().await?;
    let slow = scene.open()?;
    let gate = scene.simulator.hold(Matcher::containing(
        "POST",
        &format!("/issues/{slow}/comments"),
    ));
    scene.tell(slow, "at last").await?;
    let mut others = Vec::new();
    for _ in 0..12 {
        let other = scene.open()?;
        scene.tell(other, "at once").await?;
        others.push(other);
    }
    let publisher = scene.publisher_holding(Duration::from_mins(10))?;
    let told = |simulator: &Simulator| {
        let is_told = |issue: &u64| !simulator.comments(REPOSITORY, *issue).unwrap().is_empty();
        others.iter().all(is_told).then_some(())
    };
    scene
        .simulator
        .until("the others are told", PATIENCE, told)
        .await?;
    gate.release();
    scene.emptied().await?;
    assert_eq!(scene.texts(slow), ["at last"]);
    publisher.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_label_that_is_refused_keeps_no_comment_from_people() -> Result<()> {
    let scene = Scene::start().await?;
    let publisher = scene.publisher()?;
    let issue = scene.open()?;
    scene.simulator.fault(
        Matcher::containing("POST", "/labels"),
        Fault::Status(403),
        1,
    );
    scene.create(issue).await?;
    scene.emptied().await?;
    assert_eq!(
        scene.comments(issue).len(),
        1,
        "without the label, but told"
    );
    publisher.stop().await;
    Ok(())
}

/// Where only collaborators may go on, or nobody, the label says alone how it stands.
#[tokio::test]
async fn on_a_locked_issue_the_labels_follow_all_the_same() -> Result<()> {
    let scene = Scene::start().await?;
    let publisher = scene.publisher()?;
    let issue = scene.open()?;
    let words = "Unable to create comment because issue is locked.";
    scene
        .simulator
        .fault(writing(), Fault::Refusal(403, words), 1);
    let task = scene.create(issue).await?;
    scene.emptied().await?;
    assert_eq!(scene.comments(issue).len(), 0);
    assert_eq!(scene.labels(issue), ["bug", "patchfleet:queued"]);
    // Told again as soon as it is unlocked and there is something to tell.
    let _ = scene.store.cancel(task, "acme").await?;
    scene.emptied().await?;
    assert_eq!(scene.comments(issue).len(), 1);
    assert_eq!(scene.labels(issue), ["bug"]);
    publisher.stop().await;
    Ok(())
}

#[tokio::test]
async fn status_is_answered() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open()?;
    let publisher = scene.publisher()?;
    scene.reply(issue, Reply::Status).await?;
    scene.emptied().await?;
    scene.create(issue).await?;
    scene.reply(issue, Reply::Status).await?;
    scene.emptied().await?;
    let texts = scene.texts(issue);
    assert!(
        texts[0].starts_with("There is no task for this issue."),
        "{texts:?}"
    );
    assert!(
        texts[2].starts_with("**waiting for an agent**"),
        "{texts:?}"
    );
    publisher.stop().await;
    Ok(())
}

/// What was sent when the database began to hang is noted when it answers again, and said once.
#[tokio::test]
async fn a_database_that_hangs_holds_the_outbox_up_and_doubles_nothing() -> Result<()> {
    let (database, gateway) = (Database::create().await?, Gateway::start(1).await?);
    let url = database.url_through(&gateway)?;
    let scene = Scene::on(SqlStore::postgres(&url, 4).await?).await?;
    let (first, second) = (scene.open()?, scene.open()?);
    let posting = Matcher::containing("POST", &format!("/issues/{first}/comments"));
    let gate = scene.simulator.hold(posting);
    scene.tell(first, "sent").await?;
    scene.tell(second, "sent too").await?;
    let publisher = scene.publisher_holding(Duration::from_mins(10))?;
    gate.reached().await;
    gateway.pass(Line::Held);
    gate.release();
    let is_told = |simulator: &Simulator| {
        let comments = simulator.comments(REPOSITORY, first).unwrap();
        (!comments.is_empty()).then_some(())
    };
    scene
        .simulator
        .until("the first is told", PATIENCE, is_told)
        .await?;
    gateway.pass(Line::Open(Duration::ZERO));
    scene.emptied().await?;
    assert_eq!(scene.texts(first), ["sent"]);
    assert_eq!(scene.texts(second), ["sent too"]);
    publisher.stop().await;
    Ok(())
}

fn analysis() -> TaskAnalysis {
    TaskAnalysis {
        requirement: Requirement {
            agent_type: AgentType::general(),
            capabilities: BTreeSet::new(),
            security_level: SecurityLevel::Public,
        },
        complexity: Complexity::Simple,
        estimated_tokens: 1000,
        priority: Priority::NORMAL,
        target_files: Vec::new(),
        depends_on: Vec::new(),
        on_dependency_failure: FailurePolicy::Cancel,
        reasons: Vec::new(),
    }
}

/// An hour's requests are for everybody.
#[tokio::test]
async fn what_is_told_of_a_task_takes_few_requests() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open()?;
    let publisher = scene.publisher()?;
    let task = scene.create(issue).await?;
    scene.emptied().await?;
    let made = |simulator: &Simulator| -> Vec<_> {
        let requests = simulator.requests().into_iter();
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let made = requests.map(|it| format!("{} {}", it.method, last(&it.path)));
        made.collect()
    };
    // The first word is looked for by nobody, and the labels are what adding one answers.
    assert_eq!(made(&scene.simulator), ["POST comments", "POST labels"]);
    let comment = scene.comments(issue)[0].id;
    let change = format!("PATCH {comment}");
    // The label is that of a queued task as well, and is not set again.
    let analyzed = scene.store.analyzed(task, &analysis()).await?;
    assert_eq!(analyzed, Cas::Applied(()));
    scene.emptied().await?;
    assert_eq!(made(&scene.simulator)[2..], [change.as_str()]);
    let _ = scene.store.cancel(task, "acme").await?;
    scene.emptied().await?;
    assert_eq!(
        made(&scene.simulator)[3..],
        [&change, "GET labels", "DELETE patchfleet:queued"]
    );
    publisher.stop().await;
    Ok(())
}

/// Soon most tasks are at work, and that they waited until then needs no word of its own.
#[tokio::test]
async fn nothing_is_told_of_a_task_that_has_only_just_come() -> Result<()> {
    let scene = Scene::start().await?;
    let (one, other) = (scene.open()?, scene.open()?);
    scene.create(one).await?;
    scene.tell(other, "at once").await?;
    let (long, none) = (Duration::from_hours(1), Duration::ZERO);
    let taken = scene.store.take_calm_outbox(9, none, long).await?;
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0].issue.0, other);
    let taken = scene.store.take_outbox(9, none).await?;
    assert!(taken.iter().any(|it| it.issue.0 == one), "{taken:?}");
    Ok(())
}
