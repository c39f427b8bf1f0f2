//! Lost and doubled deliveries, faults, gates.

use std::time::Duration;

use anyhow::{Context as _, Result};
use patchfleet_testkit::github::{Fault, Matcher, Order};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::world::{Inbox, LONG, REPO, SECRET, World, reply};

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_lost_doubled_and_reordered_on_command() -> Result<()> {
    let world = World::new().await?;
    let mut inbox = Inbox::start().await?;
    let hook = world.github.add_webhook(&inbox.url, SECRET).0;
    inbox.next().await?;
    let comment = |text: &str| world.github.comment(REPO, "maria", 1, text);
    world.github.lose_next(1);
    world.github.open_issue(REPO, "maria", "It is 1", "", &[])?;
    world.github.deliveries_settled(LONG).await?;
    world.github.duplicate_next(1);
    comment("twice")?;
    let (one, two) = (inbox.next().await?, inbox.next().await?);
    assert_eq!(one.kind(), "issue_comment created");
    assert_eq!(
        one.header("x-github-delivery"),
        two.header("x-github-delivery")
    );
    assert_eq!(one.body, two.body);

    world.github.hold_deliveries();
    comment("first")?;
    comment("second")?;
    world.github.release_deliveries(Order::Reversed);
    let (one, two) = (inbox.next().await?.json(), inbox.next().await?.json());
    assert_eq!(
        (&one["comment"]["body"], &two["comment"]["body"]),
        (&json!("second"), &json!("first"))
    );

    // What was lost is found in the log and asked for again.
    let owner = world.github.issue_token("octo");
    let log = format!("REPO/hooks/{hook}/deliveries");
    assert_eq!(world.get(&log).await?.status, 404, "not an administrator");
    let base = world.github.base_url().to_owned() + "/repos/octo/app";
    let request = |method, path: String| world.client.request(method, path).bearer_auth(&owner);
    let list = reply(request(
        Method::GET,
        format!("{base}/hooks/{hook}/deliveries?status=failure"),
    ))
    .await?;
    let failed = list.body.as_array().context("a list")?;
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0]["event"], &failed[0]["status_code"]),
        (&json!("issues"), &json!(0))
    );
    let again = format!(
        "{base}/hooks/{hook}/deliveries/{}/attempts",
        failed[0]["id"]
    );
    assert_eq!(reply(request(Method::POST, again)).await?.status, 202);
    let late = inbox.next().await?;
    assert_eq!(
        (late.kind().as_str(), late.header("x-github-delivery")),
        (
            "issues opened",
            failed[0]["guid"].as_str().unwrap_or_default()
        )
    );
    world.github.deliveries_settled(LONG).await?;
    let second = &world.github.deliveries()[1];
    assert_eq!(
        (
            second.attempts.len(),
            second.status(),
            second.attempts[1].redelivery
        ),
        (2, Some(202), true)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_strike_as_often_as_told() -> Result<()> {
    let world = World::new().await?;
    let issues = || Matcher::containing("POST", "/issues");
    let open = async || {
        world
            .post("REPO/issues", json!({ "title": "It is 1" }))
            .await
    };
    world.github.fault(issues(), Fault::Status(500), 2);
    assert_eq!(open().await?.status, 500);
    assert_eq!(open().await?.status, 500);
    let retry_after = Duration::from_secs(7);
    world
        .github
        .fault(issues(), Fault::SecondaryLimit { retry_after }, 1);
    let limited = open().await?;
    assert_eq!(
        (limited.status.as_u16(), limited.header("retry-after")),
        (403, "7")
    );
    assert!(
        limited.body["message"]
            .to_string()
            .contains("secondary rate limit")
    );
    world.github.fault(issues(), Fault::PrimaryLimit, 1);
    assert_eq!(open().await?.header("x-ratelimit-remaining"), "0");
    let answer = Fault::Answer {
        status: 429,
        headers: &[("retry-after", "soon")],
        body: r#"{"message":"Later"}"#,
    };
    world.github.fault(issues(), answer, 1);
    let answered = open().await?;
    assert_eq!(
        (answered.status.as_u16(), answered.header("retry-after")),
        (429, "soon")
    );
    assert_eq!(answered.body, json!({ "message": "Later" }));
    assert!(
        world.github.issues(REPO)?.is_empty(),
        "none of these has an effect"
    );

    world
        .github
        .fault(Matcher::regex("POST", "/issues$")?, Fault::Cut, 1);
    assert!(open().await.is_err());
    world.github.fault(issues(), Fault::Malformed, 1);
    assert!(open().await.is_err());
    assert_eq!(world.github.issues(REPO)?.len(), 2, "these have");
    let slow = Duration::from_millis(50);
    world.github.fault(issues(), Fault::Slow(slow), 1);
    let started = std::time::Instant::now();
    assert_eq!(open().await?.status, 201);
    assert!(started.elapsed() >= slow);
    let statuses: Vec<_> = world
        .github
        .requests()
        .iter()
        .map(|one| one.status)
        .collect();
    assert_eq!(statuses.len(), 8);
    assert_eq!(world.github.request_count("POST", "/issues"), 8);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_hold_before_and_after_the_effect() -> Result<()> {
    let world = World::new().await?;
    let open = || {
        world
            .request(Method::POST, "REPO/issues")
            .json(&json!({ "title": "It is 1" }))
    };
    let mut calls = JoinSet::new();

    let before = world.github.hold(Matcher::containing("POST", "/issues"));
    calls.spawn(open().send());
    tokio::time::timeout(LONG, before.reached()).await?;
    assert!(world.github.issues(REPO)?.is_empty());
    before.release();
    assert_eq!(calls.join_next().await.context("a call")???.status(), 201);

    let after = world.github.hold_after(Matcher::containing("*", "/issues"));
    calls.spawn(open().send());
    tokio::time::timeout(LONG, after.reached()).await?;
    assert_eq!(world.github.issues(REPO)?.len(), 2);
    // The caller dies without an answer; the effect stays.
    calls.shutdown().await;
    drop(after);
    assert_eq!(
        world
            .get("REPO/issues")
            .await?
            .body
            .as_array()
            .map(Vec::len),
        Some(2)
    );

    let before = world.github.hold(Matcher::containing("POST", "/issues"));
    calls.spawn(open().send());
    tokio::time::timeout(LONG, before.reached()).await?;
    calls.shutdown().await;
    world.github.shutdown().await;
    Ok(())
}
