//! The demo's fleet: one coordinator, a backend agent and a testing agent.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use patchfleet_domain::{Agent, AgentState};
use patchfleet_testkit::process::{Process, Ready, Start};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use url::Url;

use crate::client::ApiClient;
use crate::demo::DemoArgs;
use crate::demo::author::Author;
use crate::demo::scene::Scene;
use crate::demo::settings::{self, Secrets};
use crate::output::{Line, Output, Tone};

/// The agents: name and specialty.
const AGENTS: [(&str, &str); 2] = [("backend-1", "backend"), ("testing-1", "testing")];

/// How long the agents may take to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// Coordinator and agents, each a process.
#[derive(Debug)]
pub(super) struct Fleet {
    processes: Vec<Process>,
    ready: Ready,
    client: ApiClient,
    secrets: Secrets,
    /// Who writes the change, for people.
    author: (&'static str, String),
}

#[derive(Debug, Deserialize)]
struct AgentList {
    agents: Vec<Agent>,
}

impl Fleet {
    /// Starts all and waits until every agent is idle.
    pub(super) async fn start(
        (args, author): (&DemoArgs, &Author),
        scene: &Scene,
        isolates: bool,
    ) -> anyhow::Result<Self> {
        let secrets = Secrets::make(scene.bot_token(), args.postgres.as_ref(), author.key());
        let folder = scene.folder();
        let program = std::env::current_exe().context("can't find this program's own file")?;
        let config = settings::coordinator(folder, scene.api_url())?;
        let mut coordinator = Process::start(Start {
            program: &program,
            name: "coordinator",
            args: vec!["coordinator".to_owned(), "--config".to_owned(), config],
            secrets: secrets.for_coordinator(folder),
            folder,
        })?;
        let ready = coordinator.ready().await?;
        let root = Url::parse(&format!("http://{}", ready.http))?;
        let client = ApiClient::new(root, secrets.api_key())?;
        let mut processes = vec![coordinator];
        for (name, specialty) in AGENTS {
            let config = settings::agent(
                scene,
                (args, author),
                settings::Place {
                    name,
                    specialty,
                    fleet: ready.fleet,
                    isolates,
                },
            )?;
            processes.push(Process::start(Start {
                program: &program,
                name,
                args: vec!["agent".to_owned(), "--config".to_owned(), config],
                secrets: secrets.for_agent(),
                folder,
            })?);
        }
        let mut fleet = Self {
            processes,
            ready,
            client,
            secrets,
            author: author.describe(),
        };
        tokio::time::timeout(CONNECT_DEADLINE, fleet.all_idle())
            .await
            .context("the agents did not connect")??;
        Ok(fleet)
    }

    async fn all_idle(&mut self) -> anyhow::Result<()> {
        loop {
            self.check()?;
            let list: AgentList = self.client.get("api/v1/agents").await?;
            let idle = list
                .agents
                .iter()
                .filter(|agent| agent.state == AgentState::Idle)
                .count();
            if idle == AGENTS.len() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// An error when a part of the fleet has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// The coordinator's API.
    pub(super) const fn client(&self) -> &ApiClient {
        &self.client
    }

    /// Where GitHub sends its deliveries.
    pub(super) fn webhook_url(&self) -> String {
        format!("http://{}/webhooks/github", self.ready.http)
    }

    /// What deliveries are signed with.
    pub(super) fn webhook_secret(&self) -> &str {
        self.secrets.webhook()
    }

    /// Writes a file for shells that makes `patchfleet task` talk to this fleet. It has the API's
    /// key, so that nobody else may read it.
    pub(super) fn write_environment(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = folder.join("environment");
        let text = format!(
            "export PATCHFLEET_URL=http://{}\nexport PATCHFLEET_API_KEY={}\n",
            self.ready.http,
            self.secrets.api_key().expose_secret()
        );
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(path)
    }

    /// Says who is who and where.
    pub(super) fn introduce(&self, scene: &Scene, output: Output) {
        let processes: Vec<_> = self
            .processes
            .iter()
            .map(|process| serde_json::json!({ "name": process.name(), "pid": process.pid() }))
            .collect();
        output.object(&serde_json::json!({
            "event": "fleet_ready", "github": scene.api_url(), "coordinator": self.ready.http,
            "fleet": self.ready.fleet, "folder": scene.folder(), "processes": processes,
            "author": { "kind": self.author.0, "name": self.author.1 },
        }));
        let say = |what: &str, text: String| {
            output.line(Line::toned(Tone::Quiet, format!("{what:<18}")).and(format!(" {text}")));
        };
        say("github (simulated)", scene.api_url().to_string());
        say("coordinator", format!("http://{}", self.ready.http));
        say(self.author.0, self.author.1.clone());
        for process in &self.processes {
            let pid = process.pid().unwrap_or_default();
            say("process", format!("{} (pid {pid})", process.name()));
        }
        say("logs, workspaces", scene.folder().display().to_string());
    }

    /// Ends all.
    pub(super) async fn stop(self) {
        for process in self.processes {
            process.kill().await;
        }
    }
}
