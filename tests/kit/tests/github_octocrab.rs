//! The client library that the product uses understands the simulator.

use anyhow::{Context as _, Result};
use octocrab::Octocrab;
use octocrab::models::{AppId, InstallationId, IssueState};
use octocrab::params::State;
use patchfleet_testkit::github::{ReviewState, Simulator, git};

const OWNER: &str = "octo";
const NAME: &str = "app";
const REPO: &str = "octo/app";

async fn world() -> Result<(Simulator, Octocrab)> {
    let seed = tempfile::tempdir()?;
    std::fs::write(seed.path().join("README.md"), "# App\n")?;
    let github = Simulator::start().await?;
    github.create_repository(REPO, seed.path())?;
    let client = Octocrab::builder()
        .base_uri(github.base_url())?
        .personal_token(github.bot_token())
        .build_with_reqwest(reqwest::Client::new())?;
    Ok((github, client))
}

fn push(url: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let git = |args: &[&str]| git::run(folder.path(), args);
    git(&["clone", "--quiet", url, "."])?;
    std::fs::write(folder.path().join("new.txt"), "new\n")?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "Change it"])?;
    git(&["push", "--quiet", "origin", "HEAD:refs/heads/work"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn issues_labels_and_comments() -> Result<()> {
    let (github, client) = world().await?;
    let me = client.current().user().await?;
    assert_eq!(me.login, github.bot_login());
    let repository = client.repos(OWNER, NAME).get().await?;
    assert_eq!(repository.full_name.as_deref(), Some(REPO));
    let file = client
        .repos(OWNER, NAME)
        .get_content()
        .path("README.md")
        .send()
        .await?;
    assert_eq!(file.items[0].decoded_content().as_deref(), Some("# App\n"));

    let issues = client.issues(OWNER, NAME);
    let labels = vec!["patchfleet".to_owned()];
    let create = issues.create("It is 1").body("Want 2").labels(labels);
    let issue = Box::pin(create.send()).await?;
    assert_eq!(issues.get(issue.number).await?.labels[0].name, "patchfleet");
    issues.add_labels(issue.number, &["one".to_owned()]).await?;
    issues.remove_label(issue.number, "one").await?;
    let comment = issues.create_comment(issue.number, "Hm").await?;
    issues.update_comment(comment.id, "Ah").await?;
    let comments = issues.list_comments(issue.number).send().await?;
    assert_eq!(comments.items[0].body.as_deref(), Some("Ah"));
    let closed = issues
        .update(issue.number)
        .state(IssueState::Closed)
        .send()
        .await?;
    assert_eq!(closed.state, IssueState::Closed);
    let all = issues.list().state(State::All).per_page(1).send().await?;
    assert_eq!(all.items.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_requests_and_their_reviews() -> Result<()> {
    let (github, client) = world().await?;
    let token = github.bot_token();
    let url = github
        .clone_url(REPO)
        .replace("http://", &format!("http://x:{token}@"));
    tokio::task::spawn_blocking(move || push(&url)).await??;
    let pulls = client.pulls(OWNER, NAME);
    let pull = pulls
        .create("Make it 2", "work", "main")
        .body("Fixes #1")
        .send()
        .await?;
    let double = pulls.create("Again", "work", "main").send().await;
    let octocrab::Error::GitHub { source, .. } = double.expect_err("a double") else {
        anyhow::bail!("not an error of GitHub");
    };
    assert_eq!(source.status_code, 422);
    let found = pulls
        .list()
        .head("octo:work")
        .state(State::All)
        .send()
        .await?;
    assert_eq!(found.items.len(), 1);
    assert!(pulls.get_diff(pull.number).await?.contains("+new"));
    let files = pulls.list_files(pull.number).await?;
    assert_eq!(files.items[0].filename, "new.txt");
    github.review(REPO, OWNER, pull.number, ReviewState::Approved, "")?;
    assert_eq!(pulls.list_reviews(pull.number).send().await?.items.len(), 1);
    let merged = pulls.merge(pull.number).send().await?;
    assert!(merged.merged);
    assert_eq!(pulls.get(pull.number).await?.merged, Some(true));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_app() -> Result<()> {
    let (github, _) = world().await?;
    let app = github.create_app("patchfleet", OWNER)?;
    let installation = github.install_app(app.id, &[REPO])?;
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(app.private_key_pem.as_bytes())?;
    let client = Octocrab::builder()
        .base_uri(github.base_url())?
        .app(AppId(app.id), key)
        .build_with_reqwest(reqwest::Client::new())?;
    let found = client
        .apps()
        .get_repository_installation(OWNER, NAME)
        .await?;
    assert_eq!(found.id, InstallationId(installation));
    let client = client.installation(found.id)?;
    let issues = client.issues(OWNER, NAME);
    let issue = Box::pin(issues.create("Hello").send()).await?;
    assert_eq!(issue.user.login, app.bot_login);
    let known = github.issue(REPO, issue.number).context("the issue")?;
    assert_eq!(known.author, app.bot_login);
    Ok(())
}
