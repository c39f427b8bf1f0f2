//! A simulator with one repository, and clients for it.

use std::time::Duration;

use anyhow::Result;
use patchfleet_domain::{IssueNumber, RepositoryName};
use patchfleet_github::{Credentials, GitHub, GitHubOptions, Settings};
use patchfleet_resilience::Policy;
use patchfleet_testkit::github::{Simulator, git};
use tempfile::TempDir;

pub(crate) const REPOSITORY: &str = "acme/orders";
/// A branch with one commit more than `main`.
pub(crate) const BRANCH: &str = "patchfleet/1-fix";

pub(crate) struct Scene {
    pub(crate) simulator: Simulator,
    pub(crate) github: GitHub,
    pub(crate) repository: RepositoryName,
    _seed: TempDir,
}

/// Quick tries, and a circuit that stays closed unless a test wants it open.
pub(crate) fn quick() -> Settings {
    Settings {
        policy: Policy {
            base: Duration::from_millis(1),
            cap: Duration::from_secs(3),
            threshold: 50,
            ..Policy::default()
        },
        timeout: Duration::from_secs(5),
        ..Settings::default()
    }
}

impl Scene {
    pub(crate) async fn start() -> Result<Self> {
        let simulator = Simulator::start().await?;
        let seed = repository_with_branch()?;
        simulator.import_repository(REPOSITORY, &seed.path().to_string_lossy())?;
        let token = simulator.bot_token();
        let github = client(&simulator, Credentials::Token(token.into()), quick())?;
        Ok(Self {
            simulator,
            github,
            repository: REPOSITORY.parse()?,
            _seed: seed,
        })
    }

    pub(crate) fn open_issue(&self) -> Result<IssueNumber> {
        let simulator = &self.simulator;
        let number =
            simulator.open_issue(REPOSITORY, "acme", "Wrong sum", "1 + 1 = 3", &["bug"])?;
        Ok(IssueNumber(number))
    }
}

pub(crate) fn client(
    simulator: &Simulator,
    credentials: Credentials,
    settings: Settings,
) -> Result<GitHub> {
    let options = GitHubOptions {
        api_url: simulator.base_url().parse()?,
        credentials,
    };
    Ok(GitHub::with_settings(options, settings)?)
}

fn repository_with_branch() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let git = |args: &[&str]| git::run(folder.path(), args);
    git(&["init", "--quiet", "--initial-branch=main"])?;
    git(&["commit", "--quiet", "--allow-empty", "--message=one"])?;
    git(&["checkout", "--quiet", "-b", BRANCH])?;
    std::fs::write(folder.path().join("fix.txt"), "fixed\n")?;
    git(&["add", "fix.txt"])?;
    git(&["commit", "--quiet", "--message=two"])?;
    git(&["checkout", "--quiet", "main"])?;
    Ok(folder)
}
