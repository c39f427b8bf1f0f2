//! What the tokens are good for that agents get.

use std::path::Path;

use anyhow::{Context as _, Result};
use patchfleet_coordinator::Coordinator;
use patchfleet_coordinator::dispatch::{
    CredentialScope, Credentials as _, GitHubTokens, Requested,
};
use patchfleet_domain::{RepositoryName, Work};
use patchfleet_github::{Credentials, GitHub, GitHubOptions};
use patchfleet_proto::v1;
use patchfleet_proto::v1::credential::Answer;
use patchfleet_testkit::github::{Permission, Simulator, git};
use patchfleet_testkit::mock_agent::{MockAgent, Profile};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fleet::{assigned, hold};

const REPOSITORY: &str = "acme/orders";
const SECRET: &str = "webhook-secret-of-the-tests";
const KEY: &str = "fleet-key-of-the-tests";

async fn token(agent: &MockAgent, work: Work, scope: v1::CredentialScope) -> Result<String> {
    let id = format!("{scope:?}");
    agent.request_credential(work, scope, &id);
    let answered = |seen: &patchfleet_testkit::mock_agent::Seen| seen.credentials.contains_key(&id);
    let seen = agent.wait("a credential", answered).await?;
    match seen.credentials.get(&id).context("it was answered")? {
        Answer::Token(token) => Ok(token.token.clone()),
        Answer::Refused(why) => anyhow::bail!("refused: {why}"),
    }
}

/// Git off the runtime's threads, which serve the other side.
async fn run(folder: &Path, args: &[&str]) -> Result<String> {
    let folder = folder.to_owned();
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    tokio::task::spawn_blocking(move || git::run(&folder, &args)).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_reading_clones_and_is_refused_on_push() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let seed = folder.path().join("seed");
    std::fs::create_dir(&seed)?;
    std::fs::write(seed.join("README.md"), "# Orders\n")?;
    let github = Simulator::start().await?;
    github.create_repository(REPOSITORY, &seed)?;
    github.set_private(REPOSITORY, true)?;
    github.set_permission(REPOSITORY, "mona", Permission::Write)?;
    let app = github.create_app("patchfleet", "acme")?;
    github.install_app(app.id, &[REPOSITORY])?;
    let config = serde_json::from_value(json!({
        "listen": "127.0.0.1:0",
        "fleet": { "listen": "127.0.0.1:0", "key": KEY },
        "database": { "url": format!("sqlite:{}", folder.path().join("tasks.db").display()) },
        "github": {
            "api_url": github.base_url(),
            "app": { "id": app.id, "private_key": app.private_key_pem },
            "webhook_secrets": [SECRET],
        },
        "api": { "key": "api-key-of-the-tests" },
    }))?;
    let shutdown = CancellationToken::new();
    let coordinator = Coordinator::start(&config, shutdown.clone()).await?;
    let fleet = format!("http://{}", coordinator.fleet_address());
    let agent = MockAgent::start(Profile::new(&fleet, KEY, &"general-1".parse()?), |_| hold());
    let hook = format!("http://{}/webhooks/github", coordinator.http_address());
    github.add_webhook(&hook, SECRET);
    github.open_issue(
        REPOSITORY,
        "mona",
        "Wrong sum",
        "1 + 1 = 3",
        &["patchfleet"],
    )?;
    let work = assigned(&agent, 1).await;

    let url = |token: &str| {
        let plain = github.clone_url(REPOSITORY);
        plain.replace("http://", &format!("http://x-access-token:{token}@"))
    };
    let reading = url(&token(&agent, work, v1::CredentialScope::Read).await?);
    run(folder.path(), &["clone", "--quiet", &reading, "clone"]).await?;
    let clone = folder.path().join("clone");
    run(
        &clone,
        &["commit", "--quiet", "--allow-empty", "--message=change"],
    )
    .await?;
    let refused = run(&clone, &["push", &reading, "HEAD:patchfleet/1-change"]).await;
    let refused = refused.expect_err("reading is not writing");
    assert!(format!("{refused:#}").contains("403"), "{refused:#}");

    let publishing = url(&token(&agent, work, v1::CredentialScope::Publish).await?);
    run(
        &clone,
        &["push", "--quiet", &publishing, "HEAD:patchfleet/1-change"],
    )
    .await?;
    assert!(
        github
            .branch_sha(REPOSITORY, "patchfleet/1-change")?
            .is_some()
    );
    shutdown.cancel();
    coordinator.join().await
}

#[tokio::test]
async fn a_personal_token_stays_on_this_host_unless_it_is_shared() -> Result<()> {
    let api_url = "http://127.0.0.1:1/".parse::<url::Url>()?;
    let tokens = |share| -> Result<GitHubTokens> {
        let github = GitHub::new(GitHubOptions {
            api_url: api_url.clone(),
            credentials: Credentials::Token("ghp_of_the_operator".into()),
        })?;
        Ok(GitHubTokens::new(github, api_url.clone(), share))
    };
    let repository: RepositoryName = REPOSITORY.parse()?;
    let requested = |is_local| Requested {
        repository: &repository,
        scope: CredentialScope::Publish,
        is_local,
    };
    let here = tokens(false)?.token(requested(true)).await;
    let here = here.map_err(anyhow::Error::msg)?;
    assert_eq!(here.token.expose_secret(), "ghp_of_the_operator");
    let elsewhere = tokens(false)?.token(requested(false)).await;
    let why = elsewhere.expect_err("it is the operator's own");
    assert!(why.contains("coordinator.github.share_token"), "{why}");
    assert!(tokens(true)?.token(requested(false)).await.is_ok());
    Ok(())
}
