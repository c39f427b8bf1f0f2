//! GitHub behind a proxy: asked through it, not past it, and the proxy is named when it fails.

use anyhow::Result;
use patchfleet_github::{Credentials, GitHub, GitHubError, GitHubOptions, GitHubResult, Settings};
use patchfleet_proxy::Proxies;
use patchfleet_testkit::github::Simulator;
use patchfleet_testkit::proxy::Proxy;

use crate::scene::quick;

/// A name that only the proxy finds, so that a client that goes past it gets nowhere.
const GITHUB: &str = "github.invalid:80";

fn behind(proxy: &str, except: &str, simulator: &Simulator) -> Result<GitHub> {
    let proxies = Proxies::from_variables(|name| match name {
        "http_proxy" => Some(proxy.to_owned()),
        "no_proxy" => Some(except.to_owned()),
        _ => None,
    })?;
    let options = GitHubOptions {
        api_url: "http://github.invalid".parse()?,
        credentials: Credentials::Token(simulator.bot_token().into()),
    };
    let settings = Settings { proxies, ..quick() };
    Ok(GitHub::with_settings(options, settings)?)
}

async fn login(github: &GitHub) -> GitHubResult<String> {
    Ok(github.identity().await?.login)
}

fn reach(proxy: &Proxy, simulator: &Simulator) -> Result<()> {
    let address = simulator.base_url().trim_start_matches("http://");
    proxy.knows(GITHUB, address.parse()?);
    proxy.knows("github.invalid", address.parse()?);
    Ok(())
}

#[tokio::test]
async fn github_is_asked_through_the_proxy() -> Result<()> {
    let simulator = Simulator::start().await?;
    let proxy = Proxy::start().await?;
    reach(&proxy, &simulator)?;
    let github = behind(&proxy.address().to_string(), "", &simulator)?;
    assert_eq!(login(&github).await?, "patchfleet-bot");
    let seen = proxy.seen();
    assert_eq!(seen, ["GET http://github.invalid/user"]);
    Ok(())
}

#[tokio::test]
async fn a_host_of_no_proxy_is_asked_directly() -> Result<()> {
    let simulator = Simulator::start().await?;
    let proxy = Proxy::start().await?;
    reach(&proxy, &simulator)?;
    let github = behind(&proxy.address().to_string(), ".invalid", &simulator)?;
    let lost = login(&github).await.unwrap_err();
    assert!(matches!(lost, GitHubError::Unavailable { .. }), "{lost}");
    assert!(!lost.to_string().contains("proxy"), "{lost}");
    assert_eq!(proxy.seen(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_proxy_with_a_password_gets_it_and_nobody_else_does() -> Result<()> {
    let simulator = Simulator::start().await?;
    let proxy = Proxy::with_password("fleet", "p@ss word").await?;
    reach(&proxy, &simulator)?;
    let address = proxy.address();
    let github = behind(
        &format!("http://fleet:p%40ss%20word@{address}"),
        "",
        &simulator,
    )?;
    assert_eq!(login(&github).await?, "patchfleet-bot");
    assert_eq!(github.proxy(), Some(format!("http://{address}").as_str()));

    for url in [format!("http://fleet:wrong@{address}"), address.to_string()] {
        let github = behind(&url, "", &simulator)?;
        let refused = login(&github).await.unwrap_err().to_string();
        let named = format!("through the proxy http://{address}: it wants another user");
        assert!(refused.contains(&named), "{refused}");
        assert!(!refused.contains("wrong"), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_is_away_is_named() -> Result<()> {
    let simulator = Simulator::start().await?;
    let github = behind("http://fleet:hush@127.0.0.1:1", "", &simulator)?;
    let lost = login(&github).await.unwrap_err().to_string();
    assert!(
        lost.contains("through the proxy http://127.0.0.1:1:"),
        "{lost}"
    );
    assert!(lost.contains("refused") && !lost.contains("hush"), "{lost}");
    Ok(())
}
