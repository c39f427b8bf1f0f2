//! What is read and written besides pull requests.

use anyhow::Result;
use patchfleet_domain::IssueNumber;
use patchfleet_github::{GitHubError, IdentityKind, OpenState, Permission};
use patchfleet_testkit::github::Permission as Given;

use crate::scene::{REPOSITORY, Scene};

#[tokio::test]
async fn knows_itself_the_repository_and_what_people_may_do() -> Result<()> {
    let scene = Scene::start().await?;
    let github = &scene.github;
    let identity = github.identity().await?;
    assert!(identity.is(&scene.simulator.bot_login().to_uppercase()));
    assert_eq!(identity.kind, IdentityKind::Account);
    let repository = github.repository(&scene.repository).await?;
    assert_eq!(repository.default_branch, "main");
    assert_eq!(repository.clone_url, scene.simulator.clone_url(REPOSITORY));
    assert!(!repository.private);

    let roles = [
        ("tri", Given::Triage, Permission::Triage),
        ("wri", Given::Write, Permission::Write),
        ("mai", Given::Maintain, Permission::Maintain),
        ("acme", Given::Admin, Permission::Admin),
    ];
    for (login, given, expected) in roles {
        scene.simulator.set_permission(REPOSITORY, login, given)?;
        assert_eq!(github.permission(&scene.repository, login).await?, expected);
    }
    scene.simulator.add_user("outsider");
    let outsider = github.permission(&scene.repository, "outsider").await?;
    assert_eq!(outsider, Permission::Read);
    let nobody = github.permission(&scene.repository, "nobody").await;
    assert_eq!(nobody, Err(GitHubError::NotFound));
    Ok(())
}

#[tokio::test]
async fn reads_issues_and_edits_comments_in_place() -> Result<()> {
    let scene = Scene::start().await?;
    let (github, repository) = (&scene.github, &scene.repository);
    let number = scene.open_issue()?;
    let issue = github.issue(repository, number).await?;
    assert_eq!(
        (issue.title.as_str(), issue.body.as_str()),
        ("Wrong sum", "1 + 1 = 3")
    );
    assert_eq!(
        (issue.user.as_str(), issue.labels),
        ("acme", vec!["bug".to_owned()])
    );
    assert_eq!(
        (issue.state, issue.is_pull_request),
        (OpenState::Open, false)
    );

    let comment = github.create_comment(repository, number, "first").await?;
    github.update_comment(repository, comment, "second").await?;
    let comments = github.comments(repository, number, None).await?;
    assert_eq!(comments.len(), 1);
    assert_eq!(
        (comments[0].id, comments[0].body.as_str()),
        (comment, "second")
    );
    assert_eq!(comments[0].user, scene.simulator.bot_login());
    let gone = github.update_comment(repository, 1, "third").await;
    assert_eq!(gone, Err(GitHubError::NotFound));
    let unknown = github.issue(repository, IssueNumber(99)).await;
    assert_eq!(unknown, Err(GitHubError::NotFound));
    Ok(())
}

#[tokio::test]
async fn reads_all_pages() -> Result<()> {
    let scene = Scene::start().await?;
    let number = scene.open_issue()?;
    for n in 0..205 {
        scene
            .simulator
            .comment(REPOSITORY, "acme", number.0, &format!("comment {n}"))?;
    }
    let comments = scene
        .github
        .comments(&scene.repository, number, None)
        .await?;
    assert_eq!(comments.len(), 205);
    assert_eq!(comments[204].body, "comment 204");
    assert_eq!(scene.simulator.request_count("GET", "/comments"), 3);
    Ok(())
}

#[tokio::test]
async fn labels_come_and_go() -> Result<()> {
    let scene = Scene::start().await?;
    let (github, repository) = (&scene.github, &scene.repository);
    let number = scene.open_issue()?;
    github
        .add_labels(repository, number, &["patchfleet:queued", "needs a/slash"])
        .await?;
    github
        .remove_label(repository, number, "needs a/slash")
        .await?;
    github
        .remove_label(repository, number, "never there")
        .await?;
    let labels = github.labels(repository, number).await?;
    assert_eq!(labels, ["bug", "patchfleet:queued"]);
    Ok(())
}
