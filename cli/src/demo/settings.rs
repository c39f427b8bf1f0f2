//! The configuration files of the demo's processes. Secrets go through the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use patchfleet_agent::AgentConfig;
use patchfleet_config::Rules as _;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::demo::DemoArgs;
use crate::demo::author::{Author, MODEL_KEY, option_of};
use crate::demo::scene::Scene;

const GITHUB_TOKEN: &str = "PATCHFLEET_DEMO_GITHUB_TOKEN";
const WEBHOOK_SECRET: &str = "PATCHFLEET_DEMO_WEBHOOK_SECRET";
const API_KEY: &str = "PATCHFLEET_DEMO_API_KEY";
const FLEET_KEY: &str = "PATCHFLEET_DEMO_FLEET_KEY";
const DATABASE_URL: &str = "PATCHFLEET_DEMO_DATABASE_URL";

/// Keys made for this run.
#[derive(Debug)]
pub(super) struct Secrets {
    github: SecretString,
    webhook: SecretString,
    api: SecretString,
    fleet: SecretString,
    postgres: Option<SecretString>,
    model: Option<SecretString>,
}

/// Which agent, where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The agent's id.
    pub(super) name: &'a str,
    /// Its type.
    pub(super) specialty: &'a str,
    /// Where the coordinator waits for it.
    pub(super) fleet: SocketAddr,
    /// The host isolates what the repository brings.
    pub(super) isolates: bool,
}

fn random() -> SecretString {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(40)
        .map(char::from)
        .collect::<String>()
        .into()
}

impl Secrets {
    /// New keys, beside the given ones.
    pub(super) fn make(
        github: SecretString,
        postgres: Option<&SecretString>,
        model: Option<&SecretString>,
    ) -> Self {
        let (webhook, api, fleet) = (random(), random(), random());
        Self {
            github,
            webhook,
            api,
            fleet,
            postgres: postgres.cloned(),
            model: model.cloned(),
        }
    }

    /// What the coordinator has to know.
    pub(super) fn for_coordinator(&self, folder: &Path) -> Vec<(&'static str, String)> {
        let database = match &self.postgres {
            Some(url) => url.expose_secret().to_owned(),
            None => format!("sqlite:{}", folder.join("patchfleet.db").display()),
        };
        vec![
            self.fleet(),
            (GITHUB_TOKEN, self.github.expose_secret().to_owned()),
            (WEBHOOK_SECRET, self.webhook.expose_secret().to_owned()),
            (API_KEY, self.api.expose_secret().to_owned()),
            (DATABASE_URL, database),
        ]
    }

    /// What an agent has to know: the fleet's key, that of its model, and nothing else.
    pub(super) fn for_agent(&self) -> Vec<(&'static str, String)> {
        let model = self.model.as_ref();
        let model = model.map(|key| (MODEL_KEY, key.expose_secret().to_owned()));
        std::iter::once(self.fleet()).chain(model).collect()
    }

    fn fleet(&self) -> (&'static str, String) {
        (FLEET_KEY, self.fleet.expose_secret().to_owned())
    }

    /// The key of the API.
    pub(super) fn api_key(&self) -> SecretString {
        self.api.clone()
    }

    /// What deliveries are signed with.
    pub(super) fn webhook(&self) -> &str {
        self.webhook.expose_secret()
    }
}

/// Writes the coordinator's file and gives its path.
pub(super) fn coordinator(folder: &Path, api_url: &str) -> anyhow::Result<String> {
    let tree = json!({
        "coordinator": {
            "listen": "127.0.0.1:0",
            "fleet": { "listen": "127.0.0.1:0", "key": { "env": FLEET_KEY } },
            "database": { "url": { "env": DATABASE_URL } },
            "github": {
                "api_url": api_url,
                "token": { "env": GITHUB_TOKEN },
                "webhook_secrets": [{ "env": WEBHOOK_SECRET }],
            },
            "api": { "key": { "env": API_KEY } },
        },
    });
    write(folder, "coordinator", &tree)
}

/// Writes an agent's file and gives its path.
pub(super) fn agent(
    scene: &Scene,
    (args, author): (&DemoArgs, &Author),
    place: Place<'_>,
) -> anyhow::Result<String> {
    let mut agent = json!({
        "id": place.name,
        "type": place.specialty,
        "capabilities": [place.specialty, "python"],
        "coordinator": { "url": format!("http://{}", place.fleet), "key": { "env": FLEET_KEY } },
        "workspace": { "root": scene.folder().join("workspaces") },
        "draft": author.section(&scene.answers()),
        "sandbox": { "required": place.isolates, "read_only": read_only(args)? },
        "setup": { "open": args.setup_open },
    });
    if let Some(command) = &args.test_command {
        agent["tests"] = json!({ "command": command_words(command) });
    }
    check(&agent)?;
    write(scene.folder(), place.name, &json!({ "agents": [agent] }))
}

/// Refuses what an agent would refuse, by the names of the demo's own options.
fn check(agent: &Value) -> anyhow::Result<()> {
    let config: AgentConfig = serde_json::from_value(agent.clone())?;
    if let Some(fault) = config.faults().first() {
        let options: Vec<_> = fault.fields.iter().map(|it| option_of(it)).collect();
        bail!("{}: {}", options.join(", "), fault.message);
    }
    Ok(())
}

/// What commands may read, by absolute paths.
fn read_only(args: &DemoArgs) -> anyhow::Result<Vec<PathBuf>> {
    let paths = args.read_only.iter().map(|path| {
        let found = path.canonicalize();
        found.with_context(|| format!("{} can't be read", path.display()))
    });
    paths.collect()
}

/// A command line as a shell would run it.
pub(super) fn command_words(command: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()]
}

fn write(folder: &Path, name: &str, tree: &Value) -> anyhow::Result<String> {
    let path = folder.join(format!("{name}.toml"));
    let text =
        toml::to_string(tree).context("the demo's own configuration can't be written as TOML")?;
    std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path.display().to_string())
}
