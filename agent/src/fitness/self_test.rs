//! The self-test: cheap enough to be repeated, and without a trace on the host.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchfleet_config::Secret;
use tokio_util::sync::CancellationToken;

use crate::config::{AgentConfig, DraftConfig};
use crate::draft::ModelConfig;
use crate::process::{Spawn, SpawnError, find_program, is_executable};
use crate::sandbox::{Backend, Sandbox};

/// Begins the reason of an agent whose host can't isolate.
const CANT_ISOLATE: &str = "this host can't isolate the code of repositories";
/// How long git may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an agent can't work without.
#[derive(Debug)]
pub(super) struct SelfTest {
    /// The draft command's program, where there is one.
    program: Option<String>,
    /// The folder of recorded drafts, where there is one.
    recordings: Option<PathBuf>,
    workspaces: PathBuf,
    /// What the draft command may read and write besides the work tree.
    folders: Vec<PathBuf>,
    /// The user and group that it does so as, where that is not the agent's own.
    user: Option<(u32, u32)>,
    /// What the draft command reaches.
    model: Option<Box<ModelConfig>>,
    sandbox: Sandbox,
}

impl SelfTest {
    pub(super) fn of(config: &AgentConfig, sandbox: Sandbox) -> Self {
        let (recordings, folders) = match &config.draft {
            DraftConfig::Replay { replay_dir } => (Some(replay_dir.clone()), Vec::new()),
            DraftConfig::Cli(cli) => (None, cli.folders.clone()),
            DraftConfig::Tools(_) | DraftConfig::Diff(_) => (None, Vec::new()),
        };
        let is_isolated = sandbox.backend() != Backend::None;
        let user = config.sandbox.owner().filter(|_| is_isolated);
        Self {
            program: config.draft.program().map(str::to_owned),
            recordings,
            workspaces: config.workspace.root.clone(),
            folders,
            user: user.map(|user| (user.uid, user.gid)),
            model: config.draft.cli().and_then(|cli| cli.model.clone()),
            sandbox,
        }
    }

    /// The first thing that is wrong, and how it is mended.
    pub(super) async fn run(&self) -> Option<String> {
        let here = self.draft_fault().or_else(|| self.workspace_fault());
        let here = here.or_else(|| self.folders.iter().find_map(|it| self.folder_fault(it)));
        let here = here.or_else(|| self.model_fault());
        if here.is_some() {
            return here;
        }
        match self.git_fault().await {
            Some(fault) => Some(fault),
            None => match self.sandbox_fault().await {
                Some(fault) => Some(fault),
                None => self.image_fault().await,
            },
        }
    }

    fn draft_fault(&self) -> Option<String> {
        // Containers have the programs of their image; see below.
        let is_hosts = self.sandbox.backend() != Backend::Container;
        let program = self.program.as_deref().filter(|_| is_hosts);
        if let Some(program) = program.map(Path::new) {
            let name = program.display();
            // One with a folder in its name is looked for in each repository.
            let is_bare = program.components().count() == 1 && !program.is_absolute();
            if is_bare && find_program(&name.to_string()).is_none() {
                return Some(format!(
                    "the draft command `{name}` is not on the agent's PATH: install it, or change agents.draft.command"
                ));
            }
            if program.is_absolute() && !is_executable(program) {
                return Some(format!(
                    "the draft command {name} does not exist or is not executable: install it, or change agents.draft.command"
                ));
            }
        }
        let folder = self.recordings.as_deref()?;
        let error = std::fs::read_dir(folder).err()?;
        Some(format!(
            "the recorded drafts in {} can't be read: {error}; change agents.draft.replay_dir",
            folder.display()
        ))
    }

    /// A folder that the draft command can't use, as the one with its login.
    fn folder_fault(&self, folder: &Path) -> Option<String> {
        let fault = |why: &str, mend: &str| {
            let folder = folder.display();
            Some(format!(
                "the draft command can't use the folder {folder}: {why}; {mend}, or change \
                 agents.draft.folders"
            ))
        };
        let found = match std::fs::metadata(folder) {
            Ok(found) if found.is_dir() => found,
            Ok(_) => return fault("it is no folder", "name one"),
            Err(error) => return fault(&error.to_string(), "make it"),
        };
        let (uid, gid) = self.user?;
        let shift = match (found.uid() == uid, found.gid() == gid) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        if found.mode() >> shift & 0o7 == 0o7 {
            return None;
        }
        let mend = format!("chown --recursive {uid}:{gid} {}", folder.display());
        fault("the user that it runs as may not write there", &mend)
    }

    /// A model that can't be reached from here, or a key that is no secret here.
    fn model_fault(&self) -> Option<String> {
        let model = self.model.as_ref()?;
        if self.sandbox.backend() == Backend::None {
            return Some(
                "the draft command's model is reached from inside of a sandbox, and nothing is \
                 isolated here: let the host isolate (`patchfleet doctor` says how), or leave \
                 agents.draft.model out"
                    .to_owned(),
            );
        }
        let file = model.key.as_ref().and_then(Secret::file)?;
        let shown = self.sandbox.shows(file, self.program.as_deref())?;
        Some(format!(
            "the key of the draft command's model lies in {}, and {} is shown to what runs in the \
             sandbox: move it elsewhere, and change agents.draft.model.key",
            file.display(),
            shown.display()
        ))
    }

    fn workspace_fault(&self) -> Option<String> {
        let error = write_and_remove(&self.workspaces).err()?;
        Some(format!(
            "the workspaces' folder {} can't be written: {error}; let the agent's user write there, or make room",
            self.workspaces.display()
        ))
    }

    async fn sandbox_fault(&self) -> Option<String> {
        let why = self.sandbox.check().await.err()?;
        Some(format!("{CANT_ISOLATE}: {why}; {}", why.mend()))
    }

    /// A draft command that the image of containers does not have.
    async fn image_fault(&self) -> Option<String> {
        let program = self.program.as_deref()?;
        // One with a folder in its name is looked for in each repository.
        let is_repositorys = program.contains('/') && !program.starts_with('/');
        if self.sandbox.backend() != Backend::Container || is_repositorys {
            return None;
        }
        match self.sandbox.has_program(program).await {
            Ok(true) => None,
            Ok(false) => Some(format!(
                "the draft command `{program}` is not in the image of \
                 agents.sandbox.container.image: put it there, or change agents.draft.command"
            )),
            Err(why) => Some(format!("{CANT_ISOLATE}: {why}; {}", why.mend())),
        }
    }

    async fn git_fault(&self) -> Option<String> {
        let spawn = Spawn::new("git", &self.workspaces)
            .args(["--version"])
            .timeout(PATIENCE);
        let why = match spawn.run(&CancellationToken::new()).await {
            Ok(finished) if finished.succeeded() => return None,
            Ok(finished) if finished.timed_out => "it does not answer".to_owned(),
            Ok(finished) => finished.stderr_text().trim().to_owned(),
            Err(SpawnError::NotFound { .. }) => "it is not on the agent's PATH".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(format!("git does not work: {why}; install git"))
    }
}

/// Writes a block, which a full disk refuses, into a file that has no other reader.
fn write_and_remove(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".self-test-{}", uuid::Uuid::now_v7()));
    let written = std::fs::write(&path, [0; 4096]);
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(program: Option<&str>, recordings: Option<&Path>, workspaces: &Path) -> SelfTest {
        SelfTest {
            program: program.map(str::to_owned),
            recordings: recordings.map(Path::to_owned),
            workspaces: workspaces.to_owned(),
            folders: Vec::new(),
            user: None,
            model: None,
            sandbox: Sandbox::default(),
        }
    }

    #[tokio::test]
    async fn a_folder_that_the_draft_command_cannot_use_is_named_with_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let (root, mut broken) = (folder.path(), test(Some("sh"), None, folder.path()));
        broken.folders = vec![root.join("login")];
        let fault = broken.run().await.unwrap();
        assert!(fault.contains("make it"), "{fault}");
        std::fs::create_dir(root.join("login")).unwrap();
        assert_eq!(broken.run().await, None);
        broken.user = Some((54321, 54321));
        let fault = broken.run().await.unwrap();
        assert!(fault.contains("chown --recursive 54321:54321"), "{fault}");
    }

    #[tokio::test]
    async fn a_host_with_all_that_is_needed_passes_and_keeps_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(test(Some("sh"), None, root).run().await, None);
        assert_eq!(test(Some("/bin/sh"), None, root).run().await, None);
        assert_eq!(
            test(Some("./of-the-repository"), None, root).run().await,
            None
        );
        assert_eq!(test(None, Some(root), root).run().await, None);
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (root, nowhere) = (folder.path(), folder.path().join("nowhere"));
        let absolute = nowhere.to_str().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let plain = plain.to_str().unwrap();
        for (broken, named) in [
            (
                test(Some("no-such-tool-here"), None, root),
                "no-such-tool-here",
            ),
            (test(Some(absolute), None, root), absolute),
            (test(Some(plain), None, root), plain),
            (test(None, Some(&nowhere), root), absolute),
            (test(Some("sh"), None, &nowhere), absolute),
        ] {
            let fault = broken.run().await.unwrap();
            assert!(fault.contains(named), "{fault}");
        }
    }
}
