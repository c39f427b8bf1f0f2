//! Where drafts come from: a unified diff against the base, for one request and one round.

mod blocks;
mod check;
mod cli;
mod diff;
mod environment;
mod model;
mod named;
mod profile;
mod recording;
mod replay;
mod request;
mod silence;
mod tools;
mod words;
mod work_tree;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::FailureKind;
use patchfleet_domain::outcome::Failure;
use patchfleet_model::ModelError;
use patchfleet_repository::RepositoryConfig;
use tokio_util::sync::CancellationToken;

pub(crate) use check::ask_once;
pub use check::{CheckedModel, ModelFault, Needed, check_model};
pub use diff::DiffDraft;
pub use model::{DraftModel, KeyHeader, ModelConfig};
pub(crate) use profile::AskedModel;
pub use profile::Profile;
pub use replay::fingerprint;
pub use request::{DraftRequest, FileFacts};
pub use tools::{ModelWork, ToolsDraft};

use crate::config::DraftConfig;
pub use crate::follow_ups::FollowUps;
use crate::git::{Change, GitError, ObjectId};
use crate::model::{Budgets, remedy};
use crate::nodes::TestRun;
use crate::process::OnLine;
use crate::sandbox::{Exceeded, Isolation, Network, Sandbox, SandboxError};
use crate::workspace::Workspace;

/// The section of the configuration that names the model of drafts.
pub(crate) const MODEL_SECTION: &str = "agents.draft.model";

/// A way to draft.
#[derive(Debug, Clone)]
pub enum Drafter {
    /// Recorded answers: `<dir>/<fingerprint>/<round>.diff`, else the highest lower round.
    Replay {
        /// Where the recordings are.
        dir: PathBuf,
    },
    /// A command edits the work tree; the diff is taken from git.
    Cli {
        /// The program and its arguments.
        command: Vec<String>,
        /// What is known of the program, where it is a known one.
        profile: Option<Profile>,
        /// How long it may take.
        timeout: Duration,
        /// How long it may say nothing, change nothing, use no processor and ask no model.
        silence: Duration,
        /// Names of the agent's variables that it also sees, such as a model provider's key.
        pass_env: Vec<String>,
        /// What it reaches of the network.
        network: DraftNetwork,
        /// Folders besides the work tree that it may read and write.
        folders: Vec<PathBuf>,
        /// The rules for children.
        sandbox: Sandbox,
    },
    /// A model edits the work tree by tools; the diff is taken from git.
    Tools(Arc<ToolsDraft>),
    /// A model writes its change in one answer.
    Diff(Arc<DiffDraft>),
    /// Another drafter, whose drafts are recorded as `Replay` reads them.
    Recorded {
        /// The drafter whose drafts are recorded.
        drafter: Box<Self>,
        /// The folder that they are recorded in.
        dir: PathBuf,
    },
}

/// What a draft command reaches of the network.
#[derive(Debug, Clone, Default)]
pub enum DraftNetwork {
    /// No network but its own loopback.
    #[default]
    Nothing,
    /// Whatever the host reaches.
    Host,
    /// A model, through a proxy that adds the key.
    Model(Arc<DraftModel>),
}

/// What a drafter works in.
pub struct DraftSurroundings<'a> {
    /// The task's workspace.
    pub workspace: &'a Workspace,
    /// What may be changed.
    pub config: &'a RepositoryConfig,
    /// How the tests are run.
    pub(crate) tests: TestRun,
    /// Comments of people that come meanwhile.
    pub follow_ups: FollowUps,
    /// Allows the calls of a model, and is told what they used.
    pub budgets: Budgets,
    /// What earlier rounds changed.
    pub applied: Vec<Change>,
    /// Takes each line of output, for the task's log.
    pub on_line: OnLine,
    /// Ends the draft when it is cancelled.
    pub cancel: CancellationToken,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Drafted {
    /// A unified diff against the base; empty when it is refused.
    pub diff: String,
    /// Why there is none that applies, for the next round.
    pub refused: Option<String>,
    /// The isolation of the draft command, where there is one.
    pub isolation: Option<Isolation>,
    /// How a model worked, where one did.
    pub model: Option<ModelWork>,
    /// The comments on the request that whoever drafted was shown, by GitHub's ids.
    pub comments: BTreeSet<u64>,
}

/// No draft could be had.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Nothing is recorded for this request.
    #[error(
        "no recorded answer for fingerprint {fingerprint}: neither {path} nor one of a lower round is there"
    )]
    NotRecorded {
        /// The request's fingerprint.
        fingerprint: String,
        /// The file that was looked for.
        path: PathBuf,
    },
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file that failed.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The draft command can't be run.
    #[error("the draft command can't be run: {0}")]
    NotRun(#[source] SandboxError),
    /// A known program is not there.
    #[error(
        "`{program}`, which the profile `{}` runs, is not on the agent's host: install it (`{}`), or \
         name its path by `agents.draft.command`; where it lies in a home or below /opt, show its \
         folder by `agents.sandbox.read_only`",
        .profile.name(),
        .profile.install()
    )]
    NotInstalled {
        /// The program that was looked for.
        program: String,
        /// What is known of it, such as how it is installed.
        profile: Profile,
    },
    /// A known program does not know what it is asked.
    #[error(
        "`{program}` does not take the arguments of the profile `{}`: it needs {} or newer (`{}`); it \
         said:\n{tail}",
        .profile.name(),
        .profile.oldest(),
        .profile.install()
    )]
    WrongVersion {
        /// The program that was run.
        program: String,
        /// What is known of it, such as its oldest version that will do.
        profile: Profile,
        /// The end of its output.
        tail: String,
    },
    /// The proxy to the draft command's model can't be started.
    #[error("the proxy to the draft command's model can't be started: {0}")]
    NoModel(#[source] std::io::Error),
    /// Something that the draft command started may live on and change what it worked on.
    #[error("the draft has no result: {0}")]
    Left(#[source] SandboxError),
    /// The draft command used up what the operator gives it. Another try would as well.
    #[error("the draft command has no result: {limit}; it said last:\n{tail}")]
    OverLimit {
        /// The limit that it met.
        limit: Exceeded,
        /// The end of its output.
        tail: String,
    },
    /// The draft command failed.
    #[error("the draft command {how}; it said last:\n{tail}")]
    CommandFailed {
        /// Exit code or signal.
        how: String,
        /// The end of its output.
        tail: String,
    },
    /// The draft command has no login or key.
    #[error(
        "the draft command {how} because it is not logged in: give it a model by \
         `agents.draft.model` or a key by `agents.draft.pass_env`, or pass the variable that names \
         the folder with its login; it said last:\n{tail}"
    )]
    NotLoggedIn {
        /// How the command ended: its exit code, a signal, or a limit.
        how: String,
        /// The end of its output.
        tail: String,
    },
    /// The draft command was not allowed to work.
    #[error(
        "the draft command {how} because it was refused a permission: allow it to edit files \
         without asking, by its own options in `agents.draft.command`; it said last:\n{tail}"
    )]
    NotPermitted {
        /// How the command ended: its exit code, a signal, or a limit.
        how: String,
        /// The end of its output.
        tail: String,
    },
    /// The draft command changed nothing.
    #[error(
        "the draft command ended well but changed no file, so there is nothing to publish: say \
         more exactly in the issue what is to be changed, or check that the command may edit \
         files; it said last:\n{tail}"
    )]
    Unchanged {
        /// The end of its output.
        tail: String,
    },
    /// The draft command hung.
    #[error(
        "the draft command hung: for {} s it said nothing new, changed no file, used no \
         processor and asked no model (`agents.draft.silence`); it said last:\n{tail}", .silence.as_secs()
    )]
    Hung {
        /// How long it was silent.
        silence: Duration,
        /// The end of its output.
        tail: String,
    },
    /// The draft command took too long.
    #[error(
        "the draft command did not end within {} s (`agents.draft.timeout`); it said last:\n{tail}",
        .time.as_secs()
    )]
    TimedOut {
        /// How long it was given.
        time: Duration,
        /// The end of its output.
        tail: String,
    },
    /// The model can't be asked, or gave no usable answer.
    #[error("{}", remedy::explained(.model, .error, MODEL_SECTION))]
    Model {
        /// The model, as provider and name.
        model: String,
        /// The error that ended the work with the model.
        error: ModelError,
    },
    /// The draft command's model can't be asked, or gave it no usable answer.
    #[error("{}", remedy::explained_of_command(.model, .error, MODEL_SECTION))]
    CommandsModel {
        /// The model, as provider and name.
        model: String,
        /// The error that ended the work with the model.
        error: ModelError,
    },
    /// A budget does not allow another call of the model.
    #[error("{}", .failure.message)]
    OverBudget {
        /// How the attempt ends.
        failure: Failure,
        /// The diff against the base of what was changed by then, where something was.
        diff: Option<String>,
    },
    /// The model was stopped before it had changed anything.
    #[error(
        "the model was stopped and had changed no file: {why}. Say more exactly in the issue what is \
         to be changed and where, or use a stronger model"
    )]
    Stopped {
        /// Why it was stopped, for people.
        why: String,
    },
    /// The model says that nothing has to be changed.
    #[error("the model says that no change is needed: {why}")]
    NotNeeded {
        /// The reason in the model's words.
        why: String,
    },
    /// The model answered twice without a change.
    #[error(
        "{model} answered twice without a change that can be read: choose a stronger model, or the \
         mode `tools` for one that calls tools; it said last:\n{said}"
    )]
    NoBlocks {
        /// The model, as provider and name.
        model: String,
        /// What it said.
        said: String,
    },
    /// The draft has what must not leave the agent.
    #[error(
        "the draft of `{path}` holds a secret of this agent, such as its model key; the draft was \
         thrown away. Look at what the issue and the repository had the draft command do, and renew \
         that secret if the command may have sent it elsewhere"
    )]
    Secret {
        /// The file that holds the secret, relative to the repository's root.
        path: String,
    },
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// It was called off.
    #[error("it was called off")]
    Interrupted,
}

impl DraftNetwork {
    const fn kind(&self) -> Network {
        match self {
            Self::Nothing => Network::Nothing,
            Self::Host => Network::Host,
            Self::Model(_) => Network::Model,
        }
    }
}

impl Drafter {
    /// The way to draft that a configuration asks for, with these rules for children.
    ///
    /// # Errors
    /// When the model's key can't be had, or its address can't be used.
    pub fn new(config: &DraftConfig, sandbox: &Sandbox) -> anyhow::Result<Self> {
        let drafter = Self::of(config, sandbox)?;
        Ok(match config.record() {
            None => drafter,
            Some(dir) => Self::Recorded {
                drafter: Box::new(drafter),
                dir: dir.to_owned(),
            },
        })
    }

    fn of(config: &DraftConfig, sandbox: &Sandbox) -> anyhow::Result<Self> {
        Ok(match config {
            DraftConfig::Replay { replay_dir } => Self::Replay {
                dir: replay_dir.clone(),
            },
            DraftConfig::Tools(config) => Self::Tools(Arc::new(ToolsDraft::new(config, sandbox)?)),
            DraftConfig::Diff(config) => Self::Diff(Arc::new(DiffDraft::new(config, sandbox)?)),
            DraftConfig::Cli(config) => Self::Cli {
                command: config.command.clone(),
                profile: config.profile,
                timeout: config.timeout.0,
                silence: config.silence.0,
                pass_env: config.pass_env.clone(),
                network: match &config.model {
                    Some(model) => {
                        let model = DraftModel::new(model)?.recording(config.record.as_deref());
                        DraftNetwork::Model(Arc::new(model))
                    }
                    None if config.network => DraftNetwork::Host,
                    None => DraftNetwork::Nothing,
                },
                folders: config.folders.clone(),
                sandbox: sandbox.clone(),
            },
        })
    }

    /// Drafts a round.
    ///
    /// # Errors
    /// When no draft can be had.
    pub async fn draft(
        &self,
        request: &DraftRequest,
        surroundings: DraftSurroundings<'_>,
    ) -> Result<Drafted, DraftError> {
        if let Self::Replay { dir } = self {
            return replay::draft(dir, request).await;
        }
        let start = work_tree::begin(&surroundings).await?;
        let result = self.edit(request, (&surroundings, start)).await;
        work_tree::end(surroundings.workspace, result).await
    }

    /// Has the work tree edited, which is at the tree that the round begins with.
    async fn edit(
        &self,
        request: &DraftRequest,
        place: (&DraftSurroundings<'_>, ObjectId),
    ) -> Result<Drafted, DraftError> {
        match self {
            Self::Replay { dir } => replay::draft(dir, request).await,
            Self::Recorded { drafter, dir } => {
                let (surroundings, _) = place;
                let drafted = Box::pin(drafter.edit(request, place)).await?;
                recording::keep(dir, request, &drafted, &surroundings.on_line).await;
                Ok(drafted)
            }
            Self::Tools(tools) => tools.edit(request, place).await,
            Self::Diff(diff) => diff.edit(request, place).await,
            Self::Cli {
                command,
                profile,
                timeout,
                silence,
                pass_env,
                network,
                folders,
                sandbox,
            } => {
                let command = cli::CliDraft {
                    command,
                    profile: *profile,
                    timeout: *timeout,
                    silence: *silence,
                    pass_env,
                    network,
                    folders,
                    sandbox,
                };
                command.edit(request, place).await
            }
        }
    }
}

impl DraftError {
    /// The task's failure that this error is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Interrupted | Self::Git(GitError::Interrupted) => FailureKind::Interrupted,
            Self::Git(error) => error.clone().into_failure().kind,
            Self::Model { error, .. } => remedy::of_model(error),
            Self::CommandsModel { error, .. } => match remedy::of_model(error) {
                // Which model it asked for may have come from an issue's text: one refusal alone
                // does not stop the agent.
                FailureKind::ModelUnusable => FailureKind::HostFault,
                kind => kind,
            },
            Self::OverBudget { failure, .. } => failure.kind,
            // Says nothing about the task: whatever it asks for would end like this here.
            Self::NotLoggedIn { .. }
            | Self::NotRun(_)
            | Self::NotInstalled { .. }
            | Self::WrongVersion { .. }
            | Self::NoModel(_)
            | Self::Left(_)
            | Self::OverLimit {
                limit: Exceeded::DiskFull { .. },
                ..
            } => FailureKind::HostFault,
            Self::NotRecorded { .. }
            | Self::File { .. }
            | Self::CommandFailed { .. }
            | Self::OverLimit { .. }
            | Self::NotPermitted { .. }
            | Self::Stopped { .. }
            | Self::NotNeeded { .. }
            | Self::NoBlocks { .. }
            | Self::Unchanged { .. }
            | Self::Secret { .. }
            | Self::Hung { .. }
            | Self::TimedOut { .. } => FailureKind::DraftFailed,
        }
    }

    /// True when another try may have more luck. What took its full time is not paid again.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::CommandFailed { .. } | Self::Hung { .. } | Self::Git(_)
        ) && !matches!(self, Self::Git(GitError::Unfit { .. }))
    }
}

#[cfg(test)]
mod tests;
