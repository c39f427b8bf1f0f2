//! What the configuration needs: secrets, database, GitHub, folders, commands, models, the coordinator.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chrono::TimeDelta;
use patchfleet_agent::process::find_program;
use patchfleet_agent::sandbox::{Backend, Sandbox};
use patchfleet_agent::{AgentConfig, DraftModel};
use patchfleet_coordinator::config::{CoordinatorConfig, GitHubConfig};
use patchfleet_coordinator::store::Address;
use tokio::net::TcpStream;
use url::Host;

use crate::config::Config;
use crate::doctor::check::Check;
use crate::doctor::{agents, command_line, model, sandbox};

/// How far this host's clock may be from GitHub's.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(30);
/// How long a remote may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// All of them, for the sections that are there.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(coordinator) = &config.coordinator {
        checks.extend(coordinator_checks(coordinator).await);
        checks.extend(agents::checks(coordinator).await);
    }
    let mut asked = model::Asked::default();
    for agent in &config.agents {
        checks.extend(agent_checks(agent).await);
        checks.extend(asked.checks(agent).await);
    }
    if nix::unistd::geteuid().is_root() {
        let found = "this is root: what the service's user may do is not what is shown here";
        let mend = "run it as that user: runuser -u USER -- patchfleet doctor";
        checks.push(Check::notice("user", found, mend));
    }
    if config.coordinator.is_none() && config.agents.is_empty() {
        let mend = "add a [coordinator] or an [[agents]] section";
        checks.push(Check::bad("configuration", "nothing is configured", mend));
    }
    checks
}

async fn coordinator_checks(config: &CoordinatorConfig) -> Vec<Check> {
    let secrets = config
        .github
        .webhook_secrets
        .iter()
        .map(|secret| ("webhook secret", secret));
    let keys = [
        ("fleet key", &config.fleet.key),
        ("API key", &config.api.key),
    ];
    let mut checks: Vec<Check> = secrets
        .chain(keys)
        .map(|(name, secret)| {
            let found = if name == "webhook secret" {
                secret.reveal(name).map(drop)
            } else {
                secret.api_key(name).map(drop)
            };
            let found = found.map(|()| "present".to_owned());
            Check::of(
                name,
                found,
                "put it where the configuration says, or change the configuration",
            )
        })
        .collect();
    if config.github.webhook_secrets.is_empty() {
        let mend = "set coordinator.github.webhook_secrets to the webhook's secret";
        checks.push(Check::bad(
            "webhook secret",
            "there is none: every delivery would be refused",
            mend,
        ));
    }
    let database = patchfleet_coordinator::check_database(&config.database).await;
    let mend = match config.database.address() {
        Ok(Address::Postgres(_)) => "start the database, or mend coordinator.database.url",
        Ok(Address::Sqlite(_)) => {
            "mend the file or its folder, or coordinator.database.url; `patchfleet restore` brings a backup back"
        }
        Err(_) => "mend coordinator.database.url",
    };
    checks.push(Check::of("database", database, mend));
    if let Some(redis) = &config.redis {
        let found = patchfleet_coordinator::check_redis(redis).await;
        let mend =
            "start Redis, or mend coordinator.redis.url; without it everything works, slower";
        checks.push(Check::of("Redis", found, mend));
    }
    checks.extend(github(&config.github).await);
    for (name, address) in [
        ("coordinator.listen", config.listen),
        ("fleet.listen", config.fleet.listen),
    ] {
        if !address.ip().is_loopback() {
            let found = format!("{address} can be reached from other hosts, unencrypted");
            checks.push(Check::notice(
                name,
                found,
                "use 127.0.0.1 behind a proxy that speaks TLS",
            ));
        }
    }
    checks
}

/// Asks GitHub once; the client alone would try again for minutes.
async fn github(config: &GitHubConfig) -> Vec<Check> {
    let asking = patchfleet_coordinator::check_github(config);
    let (found, skew) = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(asked) => asked,
        Err(_) => {
            let address = &config.api_url;
            let silent = anyhow!("{address} did not answer within {PATIENCE:?}");
            (Err(silent), None)
        }
    };
    let is_refused = found.is_err();
    let mend = "check coordinator.github: the address, and a token or App that is still valid; and \
                HTTPS_PROXY and NO_PROXY, if there is a proxy between";
    let mut checks = vec![Check::of("GitHub", found, mend)];
    let is_app = config.app.is_some();
    checks.extend(skew.and_then(|skew| clock(skew, is_app && is_refused)));
    checks
}

/// What is wrong with this host's clock, if it is. GitHub takes the tokens that an App signs for ten
/// minutes by its own clock, and none that was signed in its future.
fn clock(skew: TimeDelta, is_refused: bool) -> Option<Check> {
    if skew.abs() < CLOCKS_DIFFER {
        return None;
    }
    let way = if skew > TimeDelta::zero() {
        "ahead of"
    } else {
        "behind"
    };
    let by = Duration::from_secs(skew.num_seconds().unsigned_abs());
    let found = format!("this host's clock is {by:?} {way} GitHub's");
    let mend = "set it by the network: `timedatectl set-ntp true`, or install and start chrony; in a \
                virtual machine or container it is the host's clock that has to be right";
    if is_refused {
        let found = format!("{found}, which is why GitHub refuses what the App signs");
        Some(Check::bad("clock", found, mend))
    } else {
        let found =
            format!("{found}; an App's tokens are refused at a minute, and moments are told wrong");
        Some(Check::notice("clock", found, mend))
    }
}

async fn agent_checks(config: &AgentConfig) -> Vec<Check> {
    let named = |what: &str| format!("{}: {what}", config.id);
    let key = config
        .coordinator
        .key
        .reveal("agents.coordinator.key")
        .map(|_| "present".to_owned());
    let mend_key = "put it where the configuration says, or change the configuration";
    let mut checks = vec![
        Check::of(named("fleet key"), key, mend_key),
        Check::of(
            named("workspaces"),
            writable(&config.workspace.root),
            "make the folder, and let this user write to it",
        ),
        coordinator_reachable(config).await,
    ];
    let sandbox = Sandbox::new(&config.sandbox, config.tests.allowed_programs.clone());
    checks.push(sandbox::check(config, &sandbox).await);
    if let Some(program) = config.draft.program() {
        let found = find(&sandbox, program).await;
        let profile = config.draft.cli().and_then(|cli| cli.profile);
        checks.push(match profile {
            Some(profile) => command_line::check(named("draft command"), found, profile).await,
            None => Check::of(
                named("draft command"),
                found,
                "install it, or mend agents.draft.command",
            ),
        });
    }
    if config.repositories.iter().any(|it| it.lfs) {
        let found = find(&sandbox, "git-lfs").await;
        let found = found.context("`agents.repositories` has `lfs = true`");
        checks.push(Check::of(
            named("git-lfs"),
            found,
            "install it (`apt-get install git-lfs`), or leave `lfs` out",
        ));
    }
    // Those of known programs are asked.
    let unknown = config.draft.cli().filter(|cli| cli.asked.is_none());
    if let Some(model) = unknown.and_then(|cli| cli.model.as_deref()) {
        let usable = DraftModel::new(model).map(|_| model.url.to_string());
        let mend = "put the key where the configuration says, or mend agents.draft.model";
        checks.push(Check::of(named("model"), usable, mend));
    }
    checks
}

/// Looks for a program where runs find it: on this host, or in the image of containers.
async fn find(sandbox: &Sandbox, program: &str) -> anyhow::Result<String> {
    match sandbox.backend() {
        Backend::Namespace | Backend::None => find_program(program)
            .map(|path| path.display().to_string())
            .with_context(|| format!("`{program}` is not on the PATH")),
        Backend::Container => match sandbox.has_program(program).await {
            Ok(true) => Ok(format!("`{program}`, of the image of containers")),
            Ok(false) => bail!("`{program}` is not in the image of containers"),
            Err(_) => bail!("`{program}` can't be looked for: see the line `sandbox`"),
        },
    }
}

/// Looks whether this user may write to a folder, or make it, and makes nothing.
fn writable(folder: &Path) -> anyhow::Result<String> {
    let there = folder.ancestors().find(|it| it.exists());
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        bail!("{} is no folder", there.display());
    }
    nix::unistd::access(there, nix::unistd::AccessFlags::W_OK)
        .with_context(|| there.display().to_string())?;
    Ok(if there == folder {
        folder.display().to_string()
    } else {
        format!("{} will be made by the first start", folder.display())
    })
}

async fn coordinator_reachable(config: &AgentConfig) -> Check {
    let name = format!("{}: coordinator", config.id);
    let url = &config.coordinator.url;
    // Without the brackets that an address of IPv6 has in a URL.
    let host = match url.host() {
        Some(Host::Ipv6(ip)) => ip.to_string(),
        host => host.map(|host| host.to_string()).unwrap_or_default(),
    };
    let address = (host, url.port_or_known_default().unwrap_or(0));
    match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Check::good(name, url.to_string()),
        Ok(Err(error)) => Check::notice(
            name,
            format!("{url}: {error}"),
            "start it; the agent goes on trying",
        ),
        Err(_) => Check::notice(
            name,
            format!("{url}: no answer"),
            "check the address and the network",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use patchfleet_testkit::github::{Options, Simulator};

    use super::*;
    use crate::doctor::check::Health;

    #[tokio::test(start_paused = true)]
    async fn a_github_that_takes_the_connection_and_does_not_answer_is_named() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", silent.local_addr().unwrap());
        let config = serde_json::json!({
            "api_url": address,
            "token": "t",
            "webhook_secrets": ["s"],
        });
        let checks = github(&serde_json::from_value(config).unwrap()).await;
        let [check] = checks.as_slice() else {
            panic!("{checks:?}");
        };
        assert_eq!(check.name, "GitHub");
        assert_eq!(check.found, format!("{address} did not answer within 10s"));
    }

    /// A GitHub whose clock goes so many seconds ahead of this host's, and what is found of it.
    async fn with_clock(ahead: i64) -> Vec<Check> {
        let options = Options {
            clock: Arc::new(move || chrono::Utc::now() + TimeDelta::seconds(ahead)),
            ..Options::default()
        };
        let simulator = Simulator::start_with(options).await.unwrap();
        let app = simulator.create_app("fleet", "acme").unwrap();
        let config = serde_json::json!({
            "api_url": simulator.base_url(),
            "app": { "id": app.id, "private_key": app.private_key_pem },
            "webhook_secrets": ["s"],
        });
        github(&serde_json::from_value(config).unwrap()).await
    }

    #[tokio::test]
    async fn a_clock_that_github_does_not_share_is_named_with_the_remedy() {
        assert_eq!(with_clock(2).await.len(), 1, "seconds do no harm");
        for (ahead, health) in [
            (-300, Health::Bad),
            (1200, Health::Bad),
            (120, Health::Notice),
            (-45, Health::Notice),
        ] {
            let checks = with_clock(ahead).await;
            let [answer, clock] = checks.as_slice() else {
                panic!("{ahead}: {checks:?}");
            };
            assert_eq!(clock.health, health, "{ahead}: {answer:?} {clock:?}");
            let side = if ahead < 0 { "ahead of" } else { "behind" };
            assert!(clock.found.contains(side), "{ahead}: {clock:?}");
            assert!(clock.mend.as_ref().unwrap().contains("timedatectl"));
        }
    }

    #[test]
    fn a_folder_is_looked_at_and_not_made() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join("a/b");
        let found = writable(&wanted).unwrap();
        assert!(
            found.ends_with("will be made by the first start"),
            "{found}"
        );
        assert!(!root.path().join("a").exists());
        assert_eq!(
            writable(root.path()).unwrap(),
            root.path().display().to_string()
        );
    }
}
