//! The REST interface and its webhooks as a client meets them.

#[path = "github_rest/access.rs"]
mod access;
#[path = "github_rest/mischief.rs"]
mod mischief;
#[path = "github_rest/world.rs"]
mod world;

use anyhow::{Context as _, Result};
use patchfleet_testkit::github::{OpenState, examples, git, sign};
use reqwest::Method;
use serde_json::json;

use world::{Inbox, REPO, SECRET, World, pull, reply};

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_becomes_a_merged_pull_request() -> Result<()> {
    let world = World::new().await?;
    let mut inbox = Inbox::start().await?;
    world.github.add_webhook(&inbox.url, SECRET);
    assert_eq!(inbox.kinds(1).await?, ["ping"]);

    let issue = world
        .github
        .open_issue(REPO, "maria", "It is 1", "Want 2", &["patchfleet"])?;
    let opened = inbox.next().await?;
    assert_eq!(opened.kind(), "issues opened");
    assert_eq!(
        opened.header("x-hub-signature-256"),
        sign(SECRET, &opened.body)
    );
    assert!(uuid::Uuid::parse_str(opened.header("x-github-delivery")).is_ok());
    assert!(opened.header("user-agent").starts_with("GitHub-Hookshot/"));
    assert_eq!(opened.json()["repository"]["full_name"], REPO);
    assert_eq!(opened.json()["sender"]["login"], "maria");
    let labeled = inbox.next().await?.json();
    assert_eq!(
        (&labeled["action"], &labeled["label"]["name"]),
        (&json!("labeled"), &json!("patchfleet"))
    );

    let comment = world
        .post(
            &format!("REPO/issues/{issue}/comments"),
            json!({ "body": "Working" }),
        )
        .await?;
    assert_eq!(comment.status, 201);
    let id = &comment.body["id"];
    let edited = world
        .patch(
            &format!("REPO/issues/comments/{id}"),
            json!({ "body": "Done" }),
        )
        .await?;
    assert_eq!(edited.body["body"], "Done");
    assert_eq!(
        inbox.kinds(2).await?,
        ["issue_comment created", "issue_comment edited"]
    );
    assert_eq!(world.github.comments(REPO, issue)?[0].body, "Done");

    world.push("patchfleet/1").await?;
    let pull = world
        .post("REPO/pulls", pull("Make it 2", "patchfleet/1"))
        .await?;
    assert_eq!(pull.status, 201);
    assert_eq!(inbox.kinds(2).await?, ["push", "pull_request opened"]);
    let number = pull.body["number"].as_u64().context("a number")?;
    assert!(world.github.pull_diff(REPO, number)?.contains("+new"));
    let diff = world.request(Method::GET, &format!("REPO/pulls/{number}"));
    let diff = diff
        .header("accept", "application/vnd.github.diff")
        .send()
        .await?;
    assert_eq!(diff.text().await?, world.github.pull_diff(REPO, number)?);

    let sha = world.github.merge_pull(REPO, "maria", number)?;
    assert_eq!(
        inbox.kinds(3).await?,
        ["pull_request closed", "push", "issues closed"]
    );
    assert_eq!(world.github.branch_sha(REPO, "main")?, Some(sha));
    assert_eq!(
        world.github.file(REPO, "main", "patchfleet-1")?,
        Some(b"new\n".to_vec())
    );
    assert_eq!(world.github.issue(REPO, issue)?.state, OpenState::Closed);
    let merged = world.get(&format!("REPO/pulls/{number}")).await?.body;
    assert_eq!(
        (&merged["merged"], &merged["merged_by"]["login"]),
        (&json!(true), &json!("maria"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_requests_are_never_doubled_nor_empty() -> Result<()> {
    let world = World::new().await?;
    world
        .github
        .open_issue(REPO, "maria", "It is 1", "Want 2", &[])?;
    world.push("work").await?;
    let first = world.post("REPO/pulls", pull("One", "work")).await?;
    assert_eq!(first.status, 201);
    let second = world.post("REPO/pulls", pull("Two", "octo:work")).await?;
    assert_eq!(
        (second.status.as_u16(), second.error()),
        (422, "A pull request already exists for octo:work.")
    );
    let empty = world.post("REPO/pulls", pull("Three", "main")).await?;
    assert_eq!(
        (empty.status.as_u16(), empty.error()),
        (422, "No commits between main and main")
    );
    let nowhere = world.post("REPO/pulls", pull("Four", "nowhere")).await?;
    assert_eq!((nowhere.status.as_u16(), nowhere.error()), (422, "invalid"));

    let found = world.get("REPO/pulls?head=octo:work&state=all").await?;
    assert_eq!(found.body.as_array().map(Vec::len), Some(1));
    let found = world.get("REPO/pulls?head=octo:other").await?;
    assert_eq!(found.body, json!([]));
    let number = first.body["number"].as_u64().context("a number")?;
    world.github.close_pull(REPO, "maria", number)?;
    let again = world
        .patch(&format!("REPO/pulls/{number}"), json!({ "state": "open" }))
        .await?;
    assert_eq!(
        (again.status.as_u16(), &again.body["state"]),
        (200, &json!("open"))
    );
    assert_eq!(world.github.pulls(REPO)?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_seen_and_not_merged() -> Result<()> {
    let world = World::new().await?;
    let folder = tempfile::tempdir()?;
    let clone = folder.path().to_owned();
    let url = world
        .github
        .clone_url(REPO)
        .replace("http://", &format!("http://x:{}@", world.token));
    tokio::task::spawn_blocking(move || {
        let git = |args: &[&str]| git::run(&clone, args);
        git(&["clone", "--quiet", &url, "."])?;
        let change = |text: &str, branch: &str| {
            std::fs::write(clone.join("README.md"), text)?;
            git(&["commit", "--quiet", "--all", "--message", text])?;
            git(&[
                "push",
                "--quiet",
                "origin",
                &format!("HEAD:refs/heads/{branch}"),
            ])
        };
        change("one", "work")?;
        git(&["reset", "--quiet", "--hard", "HEAD~1"])?;
        change("two", "main")
    })
    .await??;
    let pull = world.post("REPO/pulls", pull("Clash", "work")).await?;
    assert_eq!(
        (&pull.body["mergeable"], &pull.body["mergeable_state"]),
        (&json!(false), &json!("dirty"))
    );
    let number = &pull.body["number"];
    let merge = world.request(Method::PUT, &format!("REPO/pulls/{number}/merge"));
    assert_eq!(reply(merge).await?.status, 405);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_payload_becomes_an_issue() -> Result<()> {
    let world = World::new().await?;
    let all = examples::webhook_examples()?;
    let mut opened = all
        .iter()
        .filter(|(event, body)| event == "issues" && body["action"] == "opened");
    let (_, payload) = opened.next().context("an example")?;
    let number = world.github.inject_issue(REPO, payload)?;
    let issue = world.get(&format!("REPO/issues/{number}")).await?.body;
    for field in ["number", "title", "body"] {
        assert_eq!(issue[field], payload["issue"][field]);
    }
    assert_eq!(issue["user"]["login"], payload["issue"]["user"]["login"]);
    assert_eq!(
        issue["labels"].as_array().map(Vec::len),
        payload["issue"]["labels"].as_array().map(Vec::len)
    );
    assert!(
        world.github.inject_issue(REPO, payload).is_err(),
        "the number is taken"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_so() -> Result<()> {
    let world = World::new().await?;
    let garbage = world.request(Method::POST, "REPO/issues").body("{");
    assert_eq!(reply(garbage).await?.status, 400);
    let wrong = world.post("REPO/issues", json!({ "title": 1 })).await?;
    assert_eq!(wrong.status, 422);
    assert_eq!(world.get("/nothing/here").await?.status, 404);
    assert_eq!(world.get("REPO/issues/x").await?.status, 404);
    let nobody = world
        .client
        .post(format!("{}/repos/{REPO}/issues", world.github.base_url()));
    let nobody = reply(nobody.json(&json!({ "title": "Hi" }))).await?;
    assert_eq!(
        (nobody.status.as_u16(), &nobody.body["message"]),
        (401, &json!("Requires authentication"))
    );
    Ok(())
}
