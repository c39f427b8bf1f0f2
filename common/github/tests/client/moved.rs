//! Redirections, of every method: repositories with another name, issues in another place.

use anyhow::Result;
use patchfleet_github::{Credentials, GitHubError, NewPullRequest, PullRequestEdit, TokenAccess};
use patchfleet_testkit::github::{Fault, Matcher, Simulator};
use secrecy::ExposeSecret as _;

use crate::scene::{BRANCH, REPOSITORY, Scene, client, quick};

const SHOP: &str = "acme/shop";

fn pull() -> NewPullRequest {
    NewPullRequest {
        title: "Fix".to_owned(),
        body: "Fixes it".to_owned(),
        head: BRANCH.to_owned(),
        base: "main".to_owned(),
        draft: false,
    }
}

#[tokio::test]
async fn every_call_reaches_a_repository_that_has_another_name() -> Result<()> {
    for to in [SHOP, "other/orders"] {
        let scene = Scene::start().await?;
        let issue = scene.open_issue()?;
        scene.simulator.rename_repository(REPOSITORY, "acme", to)?;
        let (github, old) = (&scene.github, &scene.repository);
        let found = github.repository(old).await?;
        assert_eq!(found.name.as_str(), to);
        assert_eq!(github.issue(old, issue).await?.number, issue);
        let comment = github.create_comment(old, issue, "one").await?;
        github.update_comment(old, comment, "two").await?;
        let comments = scene.simulator.comments(to, issue.0)?;
        assert_eq!(comments.len(), 1);
        assert_eq!(comments[0].body, "two");
        github
            .add_labels(old, issue, &["patchfleet:working"])
            .await?;
        github.remove_label(old, issue, "bug").await?;
        assert_eq!(github.labels(old, issue).await?, ["patchfleet:working"]);
        let opened = github
            .ensure_pull_request(old, &pull(), "<!-- m -->")
            .await?;
        let again = github
            .ensure_pull_request(old, &pull(), "<!-- m -->")
            .await?;
        assert_eq!(opened.number, again.number);
        let edit = PullRequestEdit {
            title: Some("Better".to_owned()),
            ..PullRequestEdit::default()
        };
        let edited = github
            .update_pull_request(old, opened.number, &edit)
            .await?;
        assert_eq!(edited.title, "Better");
        assert_eq!(
            github.pull_requests_of(&to.parse()?, BRANCH).await?.len(),
            1
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_app_gets_its_token_for_a_repository_that_has_another_name() -> Result<()> {
    let scene = Scene::start().await?;
    let app = scene.simulator.create_app("fleet", "acme")?;
    scene.simulator.install_app(app.id, &[REPOSITORY])?;
    let credentials = Credentials::App {
        id: app.id,
        private_key: app.private_key_pem.into(),
    };
    let github = client(&scene.simulator, credentials, quick())?;
    scene
        .simulator
        .rename_repository(REPOSITORY, "acme", SHOP)?;
    let token = github.token(&scene.repository, TokenAccess::Write).await?;
    let token = Credentials::Token(token.token.expose_secret().to_owned().into());
    let agent = client(&scene.simulator, token, quick())?;
    let opened = agent
        .ensure_pull_request(&scene.repository, &pull(), "<!-- m -->")
        .await?;
    assert_eq!(scene.simulator.pulls(SHOP)?.len(), 1);
    assert_eq!(opened.head, BRANCH);
    Ok(())
}

#[tokio::test]
async fn an_issue_that_is_gone_is_not_found_wherever_it_went() -> Result<()> {
    let scene = Scene::start().await?;
    let seed = tempfile::tempdir()?;
    std::fs::write(seed.path().join("README.md"), "# Other")?;
    scene
        .simulator
        .create_repository("acme/other", seed.path())?;
    let (deleted, moved, same) = (
        scene.open_issue()?,
        scene.open_issue()?,
        scene.open_issue()?,
    );
    let simulator = &scene.simulator;
    simulator.delete_issue(REPOSITORY, "acme", deleted.0)?;
    let there = simulator.transfer_issue(REPOSITORY, "acme", moved.0, "acme/other")?;
    assert_ne!(there, moved.0);
    simulator.open_issue("acme/other", "acme", "two", "", &[])?;
    let there = simulator.transfer_issue(REPOSITORY, "acme", same.0, "acme/other")?;
    assert_eq!(there, same.0, "under the same number");
    for issue in [deleted, moved, same] {
        let found = scene.github.issue(&scene.repository, issue).await;
        assert_eq!(found, Err(GitHubError::NotFound), "{issue}");
    }
    Ok(())
}

#[tokio::test]
async fn redirections_are_bounded_and_lead_to_no_other_server() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open_issue()?;
    let elsewhere = Simulator::start().await?;
    let address: &'static str = format!("{}/repos/acme/orders", elsewhere.base_url()).leak();
    let once = |fault| {
        let about = Matcher::containing("*", "/repos/");
        scene.simulator.fault(about, fault, 1);
    };
    for status in [301, 302, 307, 308] {
        once(Fault::Redirect(status, address));
        let refused = scene
            .github
            .create_comment(&scene.repository, issue, "x")
            .await;
        let Err(GitHubError::Unexpected { message }) = refused else {
            panic!("{status}: {refused:?}");
        };
        assert!(message.contains("credentials do not go"), "{message}");
    }
    assert_eq!(elsewhere.requests().len(), 0);
    assert_eq!(scene.simulator.comments(REPOSITORY, issue.0)?.len(), 0);

    let about = Matcher::containing("GET", "/repos/");
    let round = Fault::Redirect(301, "/repos/acme/orders");
    scene.simulator.fault(about, round, 100);
    let before = scene.simulator.requests().len();
    let refused = scene.github.repository(&scene.repository).await;
    assert!(
        matches!(refused, Err(GitHubError::Unexpected { .. })),
        "{refused:?}"
    );
    assert_eq!(scene.simulator.requests().len() - before, 6);
    Ok(())
}
