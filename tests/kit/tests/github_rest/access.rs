//! Pages, conditional requests, the hourly budget, permissions, Apps.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use patchfleet_testkit::github::Options;
use reqwest::Method;
use serde_json::json;

use crate::world::{REPO, Reply, World, reply};

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() -> Result<()> {
    let world = World::new().await?;
    for n in 1..=7 {
        world
            .github
            .open_issue(REPO, "maria", &format!("Issue {n}"), "", &[])?;
    }
    let titles = |reply: &Reply| {
        let list = reply.body.as_array().cloned().unwrap_or_default();
        list.iter()
            .filter_map(|one| one["number"].as_u64())
            .collect::<Vec<_>>()
    };
    let mut path = "REPO/issues?state=all&per_page=3".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = world.get(&path).await?;
        seen.extend(titles(&page));
        let link = page
            .header("link")
            .split(',')
            .find(|link| link.contains("rel=\"next\""));
        let Some(link) = link else { break };
        let url = link
            .trim()
            .trim_start_matches('<')
            .split('>')
            .next()
            .context("an address")?;
        path = url.replace(world.github.base_url(), "");
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
    let last = world.get("REPO/issues?per_page=3&page=3").await?;
    assert_eq!(titles(&last), [1]);
    assert!(
        last.header("link").contains("page=2>; rel=\"prev\""),
        "{}",
        last.header("link")
    );
    assert_eq!(world.get("REPO/issues?page=99").await?.body, json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_answers_cost_nothing() -> Result<()> {
    let world = World::new().await?;
    world.github.open_issue(REPO, "maria", "It is 1", "", &[])?;
    let first = world.get("REPO/issues/1").await?;
    let (tag, used) = (
        first.header("etag").to_owned(),
        first.header("x-ratelimit-used").to_owned(),
    );
    let known = || {
        world
            .request(Method::GET, "REPO/issues/1")
            .header("if-none-match", &tag)
    };
    let again = reply(known()).await?;
    assert_eq!(
        (again.status.as_u16(), again.header("x-ratelimit-used")),
        (304, used.as_str())
    );
    world.github.comment(REPO, "maria", 1, "Hm")?;
    assert_eq!(reply(known()).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hourly_budget_runs_out_and_comes_back() -> Result<()> {
    let time = Arc::new(std::sync::Mutex::new(chrono::Utc::now()));
    let clock = Arc::clone(&time);
    let world = World::with(Options {
        clock: Arc::new(move || *clock.lock().expect("no panic while locked")),
        rate_limit: 2,
        ..Options::default()
    })
    .await?;
    assert_eq!(
        world.get("REPO").await?.header("x-ratelimit-remaining"),
        "1"
    );
    world.get("REPO").await?;
    let empty = world.get("REPO").await?;
    assert_eq!(
        (empty.status.as_u16(), empty.header("x-ratelimit-remaining")),
        (403, "0")
    );
    assert_eq!(world.get("/rate_limit").await?.body["rate"]["remaining"], 0);
    *time.lock().expect("no panic while locked") += chrono::Duration::minutes(61);
    assert_eq!(world.get("REPO").await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_hold() -> Result<()> {
    let mut world = World::new().await?;
    world.github.open_issue(REPO, "maria", "It is 1", "", &[])?;
    let bot = world.token.clone();
    world.token = world.github.issue_token("stranger");
    let label = world
        .post("REPO/issues/1/labels", json!({ "labels": ["patchfleet"] }))
        .await?;
    assert_eq!(label.status, 403);
    assert_eq!(
        world
            .post("REPO/issues/1/comments", json!({ "body": "Me too" }))
            .await?
            .status,
        201
    );
    let issue = world
        .post(
            "REPO/issues",
            json!({ "title": "Mine", "labels": ["patchfleet"] }),
        )
        .await?;
    assert_eq!(
        (issue.status.as_u16(), &issue.body["labels"]),
        (201, &json!([]))
    );
    assert!(
        world
            .github
            .add_label(REPO, "stranger", 1, "patchfleet")
            .is_err()
    );

    let mine = world.get("REPO/collaborators/stranger/permission").await?;
    assert_eq!(mine.body["permission"], "read");
    let hers = world.get("REPO/collaborators/maria/permission").await?;
    assert_eq!(
        (&hers.body["permission"], &hers.body["role_name"]),
        (&json!("write"), &json!("maintain"))
    );
    assert_eq!(
        world
            .get("REPO/collaborators/nobody/permission")
            .await?
            .status,
        404
    );

    world.github.set_private(REPO, true)?;
    assert_eq!(world.get("REPO").await?.status, 404);
    world.token = bot;
    assert_eq!(world.get("REPO").await?.status, 200);
    let token = world.token.clone();
    world.github.revoke_token(&token);
    let revoked = world.get("REPO").await?;
    assert_eq!(
        (revoked.status.as_u16(), &revoked.body["message"]),
        (401, &json!("Bad credentials"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_acts_through_its_installation_only() -> Result<()> {
    let mut world = World::new().await?;
    world.github.create_repository(
        "octo/other",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path(),
    )?;
    let app = world.github.create_app("patchfleet", "octo")?;
    let installation = world.github.install_app(app.id, &[REPO])?;
    let now = chrono::Utc::now().timestamp();
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(app.private_key_pem.as_bytes())?;
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    let token = |exp: i64| {
        jsonwebtoken::encode(
            &header,
            &json!({ "iss": app.id, "iat": now, "exp": exp }),
            &key,
        )
    };
    let path = format!("/app/installations/{installation}/access_tokens");
    world.token = token(now + 3600)?;
    assert_eq!(world.post(&path, json!({})).await?.status, 401);
    world.token = token(now + 300)?;
    let foreign = world
        .post(&path, json!({ "repositories": ["other"] }))
        .await?;
    assert_eq!(foreign.status, 422);
    let issued = world
        .post(&path, json!({ "repositories": ["app"] }))
        .await?;
    world.token = issued.body["token"].as_str().context("a token")?.to_owned();
    let issue = world
        .post("REPO/issues", json!({ "title": "Hello" }))
        .await?;
    assert_eq!(issue.body["user"]["login"], "patchfleet[bot]");
    assert_eq!(issue.body["user"]["type"], "Bot");
    let other = world
        .post("/repos/octo/other/issues", json!({ "title": "Hello" }))
        .await?;
    assert_eq!(other.status, 403);
    assert_eq!(world.get("/user").await?.status, 403);
    Ok(())
}
