//! The fleet as it is run: coordinator and agent in one process, which takes one task after the other.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use patchfleet_testkit::github::{Permission, Simulator as GitHub};
use patchfleet_testkit::model::{Script, Simulator as Models, State};
use patchfleet_testkit::process::{Process, Start};
use serde_json::json;
use tempfile::TempDir;

use super::{PATIENCE, SAMPLE_FOLDER, Took, issue};
use crate::processes;
use crate::program::KEY;

const REPOSITORY: &str = "acme/orders";
const MAINTAINER: &str = "maintainer";

/// A fleet with what is around it.
struct Fleet {
    process: Process,
    github: GitHub,
    models: Models,
    _folder: TempDir,
}

/// So many tasks, after one that makes mirror and templates.
pub(super) async fn runs(program: &Path, count: usize) -> anyhow::Result<Vec<Took>> {
    let mut fleet = Fleet::start(program).await?;
    fleet.task(0).await?;
    let mut runs = Vec::new();
    for number in 1..=count {
        runs.push(fleet.task(number).await?);
    }
    fleet.process.kill().await;
    Ok(runs)
}

impl Fleet {
    async fn start(program: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let sample = Path::new(SAMPLE_FOLDER);
        let models = Models::start(Script::read(&sample.join("model.yaml"))?).await?;
        let github = GitHub::start().await?;
        github.create_repository(REPOSITORY, &sample.join("repository"))?;
        github.add_user(MAINTAINER);
        github.set_permission(REPOSITORY, MAINTAINER, Permission::Admin)?;
        let config = configuration(&folder, &github, &models)?;
        let mut process = Process::start(Start {
            program,
            name: "fleet",
            args: ["up", "--config", &config].map(str::to_owned).into(),
            secrets: Vec::new(),
            folder: folder.path(),
        })?;
        let ready = process.ready().await?;
        github.add_webhook(&format!("http://{}/webhooks/github", ready.http), KEY);
        Ok(Self {
            process,
            github,
            models,
            _folder: folder,
        })
    }

    /// One task, from its label to its pull request.
    async fn task(&mut self, number: usize) -> anyhow::Result<Took> {
        let mut payload = issue()?;
        let title = payload["issue"]["title"]
            .as_str()
            .context("the issue has a title")?;
        // The model knows conversations by their first words.
        payload["issue"]["title"] = json!(format!("{title} ({number})"));
        // Pull requests take numbers of the same row.
        payload["issue"]["number"] = json!(2 * number + 1);
        let issue = self.github.inject_issue(REPOSITORY, &payload)?;
        let pid = self.process.pid().context("the fleet has ended")?;
        let (before, used) = (self.models.state(), processes::used(pid)?);
        let started = Instant::now();
        self.github
            .add_label(REPOSITORY, MAINTAINER, issue, "patchfleet")?;
        let there = |github: &GitHub| {
            let pulls = github.pulls(REPOSITORY).ok()?;
            (pulls.len() > number).then_some(())
        };
        let opened = self.github.until("a pull request", PATIENCE, there);
        let (opened, memory) = processes::watched(pid, opened).await;
        opened?;
        let wall = started.elapsed();
        let asked = since(&self.models.state(), &before);
        ensure!(asked.failures.is_empty() && asked.refused == 0, "{asked:?}");
        Ok(Took {
            wall,
            processor: processes::used(pid)? - used,
            memory,
            asked,
        })
    }
}

/// What was counted between two moments.
fn since(now: &State, before: &State) -> State {
    let mut state = now.clone();
    state.calls -= before.calls;
    state.refused -= before.refused;
    state.total.input -= before.total.input;
    state.total.cache_read -= before.total.cache_read;
    state.total.cache_write -= before.total.cache_write;
    state.total.output -= before.total.output;
    state
}

fn configuration(folder: &TempDir, github: &GitHub, models: &Models) -> anyhow::Result<String> {
    let root = folder.path();
    let (api, token) = (github.base_url(), github.bot_token());
    let (url, key) = (models.base_url(), models.key());
    let text = format!(
        "[coordinator]\nlisten = '127.0.0.1:0'\n\
         [coordinator.fleet]\nlisten = '127.0.0.1:0'\nkey = '{KEY}'\n\
         [coordinator.database]\nurl = 'sqlite:{root}/tasks.db'\n\
         [coordinator.github]\napi_url = '{api}'\ntoken = '{token}'\nwebhook_secrets = ['{KEY}']\n\
         [coordinator.api]\nkey = '{KEY}'\n\
         [[agents]]\nid = 'backend-1'\ntype = 'general'\n\
         coordinator = {{ url = 'http://127.0.0.1:0', key = '{KEY}' }}\n\
         workspace = {{ root = '{root}/workspaces' }}\nsandbox = {{ required = false }}\n\
         draft = {{ mode = 'tools', model = {{ provider = 'openai-chat', model = 'simulated', \
         url = '{url}/v1', key = '{key}' }} }}\n",
        root = root.display(),
    );
    let file = root.join("patchfleet.toml");
    std::fs::write(&file, text)?;
    Ok(file.display().to_string())
}
