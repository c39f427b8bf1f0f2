//! A command of the operator's choice edits the work tree.
//!
//! It is told what to do by files beside the work tree and by variables:
//! `PATCHFLEET_REQUEST_FILE` (Markdown; the same as JSON stands beside it),
//! `PATCHFLEET_REQUEST` (the Markdown itself, cut where a variable ends),
//! `PATCHFLEET_TASK_ID`, `PATCHFLEET_ROUND`, and from the second round on
//! `PATCHFLEET_FINDINGS_FILE` (JSON). The first round begins at the base, a later one with what
//! was applied last. The work tree is at its base again afterwards, whatever happened, and the
//! command's home and temporary folder are gone.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchfleet_model::ModelError;
use tokio_util::sync::CancellationToken;

use super::profile::{Ending, REQUEST_PLACEHOLDER, Transcript};
use super::silence::Silence;
use super::words::{Cause, Words};
use super::{
    DraftError, DraftNetwork, DraftRequest, DraftSurroundings, Drafted, ModelWork, Profile,
    environment, named, work_tree,
};
use crate::disk;
use crate::gateway::{Gateway, ModelRecord, ModelUse};
use crate::git::ObjectId;
use crate::model::Budgets;
use crate::process::{OnLine, SpawnError};
use crate::sandbox::{Exceeded, Isolation, Ran, Reach, Run, Sandbox, SandboxError};

/// Longest text that fits into a variable on Linux, with room to spare.
const VARIABLE_CAP: usize = 96 * 1024;
/// How long a command may go on that is allowed no further call of its model, or says that it is done.
const FAREWELL: Duration = Duration::from_secs(15);

pub(super) struct CliDraft<'a> {
    pub(super) command: &'a [String],
    pub(super) profile: Option<Profile>,
    pub(super) timeout: Duration,
    pub(super) silence: Duration,
    pub(super) pass_env: &'a [String],
    pub(super) network: &'a DraftNetwork,
    pub(super) folders: &'a [PathBuf],
    pub(super) sandbox: &'a Sandbox,
}

impl CliDraft<'_> {
    /// Edits the work tree, which is at the tree that the round begins with.
    pub(super) async fn edit(
        &self,
        request: &DraftRequest,
        (surroundings, start): (&DraftSurroundings<'_>, ObjectId),
    ) -> Result<Drafted, DraftError> {
        let workspace = surroundings.workspace;
        let written = written(&workspace.layout.implementation(), request).await?;
        let private = workspace.layout.draft_private();
        let installed = workspace.put_dependencies(&private).await?;
        let accounts = (surroundings.budgets.clone(), &surroundings.on_line);
        let model = self.open_model(&workspace.layout.implementation(), request, accounts)?;
        let transcript = self.profile.map(Transcript::new);
        let ran = self
            .run(
                surroundings,
                (&private, written),
                (model.as_ref(), transcript.as_ref()),
            )
            .await;
        let used = match model {
            Some(gateway) => report_use(gateway, &surroundings.on_line).await,
            None => ModelUse::default(),
        };
        if let Err(left @ DraftError::Left(_)) = ran {
            return Err(left);
        }
        // Transcripts, caches and whatever else the tool keeps at home.
        if let Err(error) = disk::remove_in_background(&private).await {
            tracing::warn!(folder = %private.display(), %error, "the draft command's home stays");
        }
        let is_called_off = surroundings.cancel.is_cancelled();
        if let Some(failure) = used.stopped.clone().filter(|_| !is_called_off) {
            let now = work_tree::now(workspace, installed, &surroundings.on_line).await?;
            let diff = now.changed_since(&start);
            if let Some(diff) = &diff {
                let work = (request.round, diff.as_str());
                let keeping = surroundings.budgets.keep_work(work, &surroundings.on_line);
                keeping.await;
            }
            return Err(DraftError::OverBudget { failure, diff });
        }
        let cause = |error| because(error, used.error.as_ref());
        let ran = ran?;
        let ended = transcript
            .as_ref()
            .map(|it| (it.says_its_end(), it.ended()));
        let words = self.judge(&ran, ended).map_err(cause)?;
        let now = work_tree::now(workspace, installed, &surroundings.on_line).await?;
        let (tree, diff) = (now.tree, now.diff);
        // What an earlier attempt did may have been all.
        let is_unchanged = tree == start && !request.continued;
        if is_unchanged || diff.is_empty() {
            let how = "ended well but changed no file".to_owned();
            return Err(cause(match fruitless(how.clone(), &words) {
                DraftError::CommandFailed { tail, .. } => DraftError::Unchanged { tail },
                told => told,
            }));
        }
        let isolation = Some(Isolation::of_run(&ran, self.network.kind()));
        Ok(Drafted {
            diff,
            refused: None,
            isolation,
            model: self.work_of_model(&used),
            comments: request.comments(),
        })
    }

    /// How the models worked that the command asked, for the record.
    fn work_of_model(&self, used: &ModelUse) -> Option<ModelWork> {
        let names: Vec<_> = used.models.keys().cloned().collect();
        (!names.is_empty()).then(|| ModelWork {
            model: names.join(", "),
            prompt: self.program(),
            steps: used.models.values().map(|it| it.calls).sum(),
            compactions: 0,
            usage: used.models.values().map(|it| it.usage).sum(),
            summary: None,
            stopped: None,
        })
    }

    /// What the command said, when it ended well. A known program's own word on its end counts for more
    /// than its exit code, and for nothing when it met a limit.
    fn judge(&self, ran: &Ran, ended: Option<(bool, Option<Ending>)>) -> Result<Words, DraftError> {
        let finished = &ran.finished;
        let words = Words::read(&finished.stdout_text(), &finished.stderr_text());
        match ended {
            Some((_, Some(Ending::Done))) => return Ok(words),
            Some((_, Some(Ending::Failed(why)))) => {
                let how = format!("says that it failed: {why}");
                return Err(fruitless(how, &words));
            }
            Some((true, None)) if finished.succeeded() => {
                let how = "ended with exit code 0 before it said that it was done".to_owned();
                return Err(fruitless(how, &words));
            }
            // A command that goes on when a process of its own was killed knows best.
            _ if finished.succeeded() => return Ok(words),
            _ => {}
        }
        if let Some(limit) = ran.exceeded.clone().filter(Exceeded::voids_result) {
            let tail = words.tail();
            return Err(DraftError::OverLimit { limit, tail });
        }
        if finished.timed_out {
            let (time, tail) = (self.timeout, words.tail());
            return Err(DraftError::TimedOut { time, tail });
        }
        if let Some(profile) = self.profile.filter(|_| finished.returncode == Some(127)) {
            let program = self.program();
            return Err(DraftError::NotInstalled { program, profile });
        }
        if let Some(profile) = self.profile.filter(|_| words.are_about_arguments()) {
            let (program, tail) = (self.program(), words.tail());
            return Err(DraftError::WrongVersion {
                program,
                profile,
                tail,
            });
        }
        let how = match (finished.returncode, finished.signal) {
            (Some(code), _) => format!("failed with exit code {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        };
        Err(fruitless(how, &words))
    }

    /// Runs the command until it ends, hangs or is called off.
    async fn run(
        &self,
        surroundings: &DraftSurroundings<'_>,
        (private, request): (&Path, Written),
        (model, transcript): (Option<&Gateway>, Option<&Transcript>),
    ) -> Result<Ran, DraftError> {
        let layout = &surroundings.workspace.layout;
        let record = model.map(Gateway::record);
        let silence = Silence::new(self.silence, layout.root().to_owned(), record.clone());
        let reach = match model {
            Some(gateway) => Reach::Model(gateway.socket()),
            None if matches!(self.network, DraftNetwork::Host) => Reach::Host,
            None => Reach::Nothing,
        };
        let lines = Arc::new(LastLines::default());
        let cwd = layout.repo_clone();
        let mut env = request.env;
        env.extend(self.passed());
        if let DraftNetwork::Model(model) = self.network {
            env.extend(model.variables().iter().cloned());
        }
        let mut shown = request.files;
        shown.extend(named::files(self.command, self.folders));
        shown.extend(surroundings.workspace.borrowed_objects().await);
        let on_line = surroundings.on_line.clone();
        let on_line = transcript.map_or_else(|| on_line.clone(), |it| it.listen(on_line.clone()));
        let command = self.words(&request.path);
        let enough = CancellationToken::new();
        let reads_input = self.profile.is_some_and(Profile::reads_input);
        let run = Run {
            env,
            input: if reads_input {
                request.markdown.into_bytes()
            } else {
                Vec::new()
            },
            enough: enough.clone(),
            over: surroundings.workspace.layers(),
            shown,
            folders: self.folders.to_vec(),
            reach,
            meter: Some(silence.meter()),
            timeout: self.timeout,
            output_cap: 64 * 1024,
            on_line: Some(silence.listen(lines.listen(on_line))),
            ..Run::new(&command, &cwd, private)
        };
        let stop = surroundings.cancel.child_token();
        let is_over = is_over(record, transcript);
        let running = self.sandbox.run_trusted(run, &stop);
        tokio::pin!(running);
        let (ended, hung) = tokio::select! {
            ended = &mut running => (ended, false),
            () = silence.is_hung() => {
                // The group is dead when the run returns.
                stop.cancel();
                (running.await, true)
            }
            () = is_over => {
                enough.cancel();
                (running.await, false)
            }
        };
        match ended {
            Err(SandboxError::NotRun(SpawnError::Cancelled)) if hung => Err(DraftError::Hung {
                silence: self.silence,
                tail: Words::read(&lines.text(), "").tail(),
            }),
            Err(SandboxError::NotRun(SpawnError::Cancelled)) => Err(DraftError::Interrupted),
            Err(left @ SandboxError::Left { .. }) => Err(DraftError::Left(left)),
            Err(error) => Err(self.not_run(error)),
            Ok(ran) => {
                if let Some(limit) = &ran.exceeded {
                    (surroundings.on_line)(&format!("the draft command met a limit: {limit}"));
                }
                Ok(ran)
            }
        }
    }

    /// Starts the gateway to the model, where the command has one.
    fn open_model(
        &self,
        folder: &Path,
        request: &DraftRequest,
        accounts: (Budgets, &OnLine),
    ) -> Result<Option<Gateway>, DraftError> {
        match self.network {
            DraftNetwork::Model(model) => {
                let opened = model.open(folder, request, accounts);
                opened.map(Some).map_err(DraftError::NoModel)
            }
            DraftNetwork::Nothing | DraftNetwork::Host => Ok(None),
        }
    }

    /// The command, with the path of the request's file where that is to stand, and with what prepares it.
    fn words(&self, request: &Path) -> Vec<String> {
        let request = text(request);
        let words = self.command.iter();
        let words = words.map(|word| word.replace(REQUEST_PLACEHOLDER, &request));
        match self.profile.and_then(Profile::preparation) {
            Some(script) => {
                let shell = ["sh", "-c", &script, "sh"].map(str::to_owned);
                shell.into_iter().chain(words).collect()
            }
            None => words.collect(),
        }
    }

    fn not_run(&self, error: SandboxError) -> DraftError {
        match (error, self.profile) {
            (SandboxError::NotRun(SpawnError::NotFound { program }), Some(profile)) => {
                DraftError::NotInstalled { program, profile }
            }
            (error, _) => DraftError::NotRun(error),
        }
    }

    fn program(&self) -> String {
        self.command.first().cloned().unwrap_or_default()
    }

    fn passed(&self) -> impl Iterator<Item = (String, String)> {
        let names = self.pass_env.iter();
        names.filter_map(|name| {
            let value = std::env::var(name).ok()?;
            if environment::may_be_secret(name, &value) {
                patchfleet_guard::register_secret(&value);
            }
            Some((name.clone(), value))
        })
    }
}

/// Returns when a command has no more to do: a while after it may ask its model no more, or has said that
/// it is done. Children of some programs keep them from ending.
async fn is_over(record: Option<ModelRecord>, transcript: Option<&Transcript>) {
    let no_budget = async {
        match record {
            Some(record) => record.is_stopped().await,
            None => std::future::pending().await,
        }
    };
    let is_done = async {
        match transcript {
            Some(transcript) => transcript.is_over().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = no_budget => {}
        () = is_done => {}
    }
    tokio::time::sleep(FAREWELL).await;
}

/// Ends the gateway to the model, and says what it was used for.
async fn report_use(gateway: Gateway, on_line: &OnLine) -> ModelUse {
    let used = gateway.close().await;
    on_line(&format!("requests to the model: {}", used.requests));
    for (model, spent) in &used.models {
        on_line(&format!("{model}: {spent}"));
    }
    for refused in &used.refused {
        on_line(&format!("not sent to the model: {refused}"));
    }
    used
}

/// The error of a command that failed, or what its model answered last where that was an error: the
/// command says it in words of its own, or not at all.
fn because(error: DraftError, of_model: Option<&(String, ModelError)>) -> DraftError {
    let is_of_command = matches!(
        error,
        DraftError::CommandFailed { .. }
            | DraftError::NotLoggedIn { .. }
            | DraftError::NotPermitted { .. }
            | DraftError::Unchanged { .. }
    );
    match of_model.filter(|(_, error)| *error != ModelError::Cancelled) {
        Some((model, error)) if is_of_command => DraftError::CommandsModel {
            model: model.clone(),
            error: error.clone(),
        },
        _ => error,
    }
}

/// The error of a command that brought nothing, by what it said last.
fn fruitless(how: String, words: &Words) -> DraftError {
    let tail = words.tail();
    match words.cause() {
        Cause::NotLoggedIn => DraftError::NotLoggedIn { how, tail },
        Cause::NotPermitted => DraftError::NotPermitted { how, tail },
        Cause::Unknown => DraftError::CommandFailed { how, tail },
    }
}

/// The end of what a command that has to be killed said.
#[derive(Default)]
struct LastLines(Mutex<VecDeque<String>>);

impl LastLines {
    const COUNT: usize = 20;

    fn listen(self: &Arc<Self>, on_line: OnLine) -> OnLine {
        let lines = Arc::clone(self);
        Arc::new(move |line| {
            on_line(line);
            let mut last = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
            last.push_back(line.to_owned());
            if last.len() > Self::COUNT {
                last.pop_front();
            }
        })
    }

    fn text(&self) -> String {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// The request as the command gets it.
struct Written {
    markdown: String,
    /// Where the same lies as a file.
    path: PathBuf,
    files: Vec<PathBuf>,
    env: Vec<(String, String)>,
}

/// Writes the request beside the work tree, with the variables that tell of it.
async fn written(folder: &Path, request: &DraftRequest) -> Result<Written, DraftError> {
    let markdown = request.to_markdown();
    let path = write(folder.join("request.md"), markdown.as_bytes()).await?;
    let json = serde_json::to_vec_pretty(request).unwrap_or_default();
    let mut files = vec![write(folder.join("request.json"), &json).await?];
    let mut env = vec![
        ("PATCHFLEET_REQUEST_FILE".to_owned(), text(&path)),
        ("PATCHFLEET_REQUEST".to_owned(), for_variable(&markdown)),
        ("PATCHFLEET_TASK_ID".to_owned(), request.task.to_string()),
        ("PATCHFLEET_ROUND".to_owned(), request.round.to_string()),
    ];
    files.push(path.clone());
    if request.round > 1 {
        let json = serde_json::to_vec_pretty(&request.findings).unwrap_or_default();
        let path = write(folder.join("findings.json"), &json).await?;
        env.push(("PATCHFLEET_FINDINGS_FILE".to_owned(), text(&path)));
        files.push(path);
    }
    Ok(Written {
        markdown,
        path,
        files,
        env,
    })
}

/// Whatever the agent's umask is, the user that the command runs as may read the file: whoever else
/// may is decided by the folder.
async fn write(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, DraftError> {
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let written = async {
        tokio::fs::write(&path, bytes).await?;
        tokio::fs::set_permissions(&path, readable).await
    };
    match written.await {
        Ok(()) => Ok(path),
        Err(source) => Err(DraftError::File { path, source }),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// No zero bytes, which no variable can hold, and not too long.
fn for_variable(text: &str) -> String {
    let mut end = text.len().min(VARIABLE_CAP);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "")
}
