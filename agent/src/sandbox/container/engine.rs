//! The engine's command line: Docker's and Podman's are the same as far as it is used here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::arguments::LABEL;
use crate::process::{self, Finished, Spawn, SpawnError, find_program};
use crate::sandbox::groups;

/// How long the engine may take for anything but a command's own time.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long an image may take to come.
const PULL: Duration = Duration::from_mins(15);
/// How long Podman's monitor of a container may tidy up after it.
const LINGER: Duration = Duration::from_secs(10);
/// Variables of the agent by which an engine finds its service, its settings and its storage.
const OWN: &[&str] = &[
    "HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
];
/// Those besides that a registry is reached by.
const FOR_PULL: &[&str] = &[
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "REGISTRY_AUTH_FILE",
];
/// How engines say that there is no such container.
const NO_CONTAINER: &[&str] = &["no such container", "no container with"];
/// How engines say that there is no such image.
const NO_IMAGE: &[&str] = &["no such image", "image not known", "unable to find image"];

/// An engine.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    program: PathBuf,
    version: Arc<OnceCell<String>>,
}

impl Engine {
    pub(super) fn new(name: &str) -> Self {
        Self {
            program: find_program(name).unwrap_or_else(|| name.into()),
            version: Arc::default(),
        }
    }

    pub(super) fn name(&self) -> String {
        self.program.display().to_string()
    }

    /// What it says of itself, as `podman version 4.3.1`. A program of Docker's name may be Podman.
    pub(super) async fn version(&self) -> Result<&str, SpawnError> {
        let ask = async || {
            let finished = self.ask(&["--version"]).await?;
            Ok(finished.stdout_text().trim().to_owned())
        };
        self.version.get_or_try_init(ask).await.map(String::as_str)
    }

    pub(super) async fn is_podman(&self) -> Result<bool, SpawnError> {
        Ok(self.version().await?.to_lowercase().contains("podman"))
    }

    /// A call of the engine, to be run.
    pub(super) fn call<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> Spawn {
        let spawn = Spawn::new(&self.program, "/").args(args);
        with(spawn, OWN).timeout(PATIENCE).linger(LINGER)
    }

    /// Calls the engine for something short.
    async fn ask(&self, args: &[&str]) -> Result<Finished, SpawnError> {
        let spawn = self.call(args.iter().copied());
        spawn.run(&CancellationToken::new()).await
    }

    /// The id of an image, which is a hash of what it is: a tag may be moved. Nothing when there is
    /// no such image.
    pub(super) async fn image(&self, name: &str) -> Result<Option<String>, String> {
        let inspect = ["image", "inspect", "--format", "{{.Id}}", name];
        let found = self.ask(&inspect).await;
        let found = found.map_err(|error| error.to_string())?;
        let said = found.stdout_text().trim().to_owned();
        if found.succeeded() && !said.is_empty() {
            return Ok(Some(said));
        }
        let why = found.stderr_text().trim().to_owned();
        if lacks_image(&why) {
            Ok(None)
        } else {
            Err(why)
        }
    }

    /// Pulls an image; why it does not come, when it does not.
    pub(super) async fn pull(&self, name: &str) -> Result<(), String> {
        let spawn = with(self.call(["pull", "--quiet", name]), FOR_PULL).timeout(PULL);
        match spawn.run(&CancellationToken::new()).await {
            Ok(finished) if finished.succeeded() => Ok(()),
            Ok(finished) if finished.timed_out => Err("it took too long".to_owned()),
            Ok(finished) => Err(last_line(&finished)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Ends a container, where it still is, and removes it; and the control groups with its id,
    /// which engines leave behind when whoever watches over a container was killed with it.
    ///
    /// # Errors
    /// Why it may still be there, when nobody can say that it is not.
    pub(super) async fn remove(&self, name: &str, id: &str) -> Result<(), String> {
        self.remove_container(name).await?;
        let id = id.trim().to_owned();
        let groups = tokio::task::spawn_blocking(move || groups::remove_of_container(&id)).await;
        groups.map_err(|error| error.to_string())?
    }

    async fn remove_container(&self, name: &str) -> Result<(), String> {
        let why = match self.ask(&["rm", "--force", "--volumes", name]).await {
            Ok(finished) if finished.succeeded() => return Ok(()),
            Ok(finished) if finished.timed_out => "the engine does not answer".to_owned(),
            Ok(finished) => finished.stderr_text().trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let lower = why.to_lowercase();
        if NO_CONTAINER.iter().any(|words| lower.contains(words)) {
            return Ok(());
        }
        tracing::warn!(container = name, why, "a container can't be removed");
        Err(why)
    }

    /// Removes containers of agents that live no more; gives their number.
    pub(super) async fn remove_left(&self) -> usize {
        let filter = format!("label={LABEL}");
        let listed = ["ps", "--all", "--quiet", "--filter", &filter];
        let Ok(listed) = self.ask(&listed).await else {
            return 0;
        };
        let ids = listed.stdout_text();
        let ids: Vec<_> = ids.split_whitespace().collect();
        if ids.is_empty() {
            return 0;
        }
        let format = format!("{{{{.Id}}}} {{{{index .Config.Labels \"{LABEL}\"}}}}");
        let inspect = ["inspect", "--type", "container", "--format", &format];
        // Some may be gone by now; the others are told all the same.
        let Ok(marks) = self.ask(&[&inspect[..], &ids].concat()).await else {
            return 0;
        };
        let mut removed = 0;
        for line in marks.stdout_text().lines() {
            let Some((id, mark)) = line.trim().split_once(' ') else {
                continue;
            };
            if process::is_orphaned(mark) && self.remove(id, id).await.is_ok() {
                removed += 1;
            }
        }
        removed
    }
}

/// The last of what an engine said, which is why it gave up; before that it tells of each attempt.
fn last_line(finished: &Finished) -> String {
    let text = finished.stderr_text();
    let mut lines = text.lines().rev().filter(|line| !line.trim().is_empty());
    lines.next().unwrap_or_default().trim().to_owned()
}

/// Whether an engine's words say that an image is not there.
pub(super) fn lacks_image(words: &str) -> bool {
    let lower = words.to_lowercase();
    NO_IMAGE.iter().any(|words| lower.contains(words))
}

/// With those of the agent's variables that are set.
fn with(spawn: Spawn, names: &[&'static str]) -> Spawn {
    let set = names
        .iter()
        .filter_map(|&name| Some((name, std::env::var_os(name)?)));
    set.fold(spawn, |spawn, (name, value)| spawn.env(name, value))
}
