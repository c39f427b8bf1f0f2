//! Acting as a GitHub App.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use patchfleet_domain::RepositoryName;
use patchfleet_github::{Credentials, GitHubError, IdentityKind, NewPullRequest, TokenAccess};
use secrecy::ExposeSecret as _;

use crate::scene::{BRANCH, REPOSITORY, Scene, client, quick};

#[tokio::test]
async fn an_app_acts_as_its_bot_through_its_installation() -> Result<()> {
    let scene = Scene::start().await?;
    let issue = scene.open_issue()?;
    let app = scene.simulator.create_app("fleet", "acme")?;
    let credentials = Credentials::App {
        id: app.id,
        private_key: app.private_key_pem.clone().into(),
    };
    let github = client(&scene.simulator, credentials, quick())?;
    let identity = github.identity().await?;
    assert_eq!(
        (identity.login.as_str(), identity.kind),
        ("fleet[bot]", IdentityKind::App)
    );

    let not_installed = github.issue(&scene.repository, issue).await;
    assert_eq!(not_installed, Err(GitHubError::NotFound));
    scene.simulator.install_app(app.id, &[REPOSITORY])?;
    github
        .create_comment(&scene.repository, issue, "hello")
        .await?;
    github
        .create_comment(&scene.repository, issue, "again")
        .await?;
    let comments = scene.simulator.comments(REPOSITORY, issue.0)?;
    assert!(
        comments
            .iter()
            .all(|comment| comment.author == "fleet[bot]")
    );
    let tokens = scene.simulator.request_count("POST", "/access_tokens");
    assert_eq!(tokens, 1, "the installation's token is kept");
    Ok(())
}

/// Text in lines of 76 characters, as `base64` writes it.
fn wrapped(text: &str) -> String {
    let bytes = text.as_bytes().chunks(76);
    let lines = bytes.map(|line| String::from_utf8_lossy(line).into_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// As stores of secrets keep it, which have no room for several lines.
#[tokio::test]
async fn a_key_on_one_line_is_the_same_key() -> Result<()> {
    let scene = Scene::start().await?;
    let app = scene.simulator.create_app("fleet", "acme")?;
    let key = &app.private_key_pem;
    let escaped = key.replace('\n', "\\n");
    for form in [
        key.replace('\n', "\r\n"),
        escaped.clone(),
        key.replace('\n', "\\r\\n"),
        format!("\"{escaped}\""),
        format!("'{escaped}'\n"),
        STANDARD.encode(key),
        key.replace('\n', " "),
        format!("  {}", key.replace('\n', "\n  ")),
        format!("\n{key}\n\n"),
        STANDARD.encode(key.replace('\n', "\r\n")),
        STANDARD.encode(&escaped),
        wrapped(&STANDARD.encode(key)),
    ] {
        let credentials = Credentials::App {
            id: app.id,
            private_key: form.into(),
        };
        let github = client(&scene.simulator, credentials, quick())?;
        assert_eq!(github.identity().await?.login, "fleet[bot]");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_for_one_repository_and_one_purpose_and_ends() -> Result<()> {
    let scene = Scene::start().await?;
    let seed = tempfile::tempdir()?;
    std::fs::write(seed.path().join("a.txt"), "a\n")?;
    scene
        .simulator
        .create_repository("acme/other", seed.path())?;
    let app = scene.simulator.create_app("fleet", "acme")?;
    scene
        .simulator
        .install_app(app.id, &[REPOSITORY, "acme/other"])?;
    let credentials = Credentials::App {
        id: app.id,
        private_key: app.private_key_pem.clone().into(),
    };
    let github = client(&scene.simulator, credentials, quick())?;
    let token = github.token(&scene.repository, TokenAccess::Write).await?;
    assert!(token.expires_at.is_some());
    assert!(!format!("{token:?}").contains(token.token.expose_secret()));

    let narrow = client(&scene.simulator, Credentials::Token(token.token), quick())?;
    let issue = scene.open_issue()?;
    let unasked = narrow
        .create_comment(&scene.repository, issue, "mine")
        .await;
    assert!(
        matches!(unasked, Err(GitHubError::Forbidden { .. })),
        "{unasked:?}"
    );
    let new = NewPullRequest {
        title: "Mine".to_owned(),
        body: String::new(),
        head: BRANCH.to_owned(),
        base: "main".to_owned(),
        draft: true,
    };
    let reading = github.token(&scene.repository, TokenAccess::Read).await?;
    let reading = client(&scene.simulator, Credentials::Token(reading.token), quick())?;
    let refused = reading.create_pull_request(&scene.repository, &new).await;
    assert!(
        matches!(refused, Err(GitHubError::Forbidden { .. })),
        "{refused:?}"
    );
    narrow.create_pull_request(&scene.repository, &new).await?;
    let other: RepositoryName = "acme/other".parse()?;
    let number = scene
        .simulator
        .open_issue("acme/other", "acme", "Other", "", &[])?;
    let refused = narrow
        .add_labels(&other, patchfleet_domain::IssueNumber(number), &["x"])
        .await;
    assert!(
        matches!(refused, Err(GitHubError::Forbidden { .. })),
        "{refused:?}"
    );

    let personal = scene.github.token(&scene.repository, TokenAccess::Read);
    let personal = personal.await?;
    assert_eq!(personal.expires_at, None);
    Ok(())
}
