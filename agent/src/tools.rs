//! The mode `tools`: a model works on a task by named tools until it says that it is done.
//!
//! Here are the tools, one a file, and what they share. The work tree has been touched by untrusted
//! code, so files are read and written by [`view`] alone. A result is made of what the tree is
//! afterwards, never of what was tried; it is capped where it is made ([`cap`]), masked, and marked
//! as data. What a model can do something about is told to it in words; what it can't ends the draft.
//! Absent: deleting and moving files by a tool of their own, which a program can do by `run`.

mod cap;
mod contents;
mod create_file;
mod edit;
mod edit_file;
mod finish;
mod guard;
mod list_files;
mod nearest;
mod prompt;
mod read_file;
mod run;
mod run_tests;
#[cfg(test)]
pub(crate) mod script;
mod search;
mod text;
mod transcript;
mod turns;
mod view;
mod whole_file;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use patchfleet_guard::{delimit_untrusted, redact};
use patchfleet_repository::RepositoryConfig;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::draft::DraftError;
use crate::git::{GitError, InstalledFiles, ObjectId};
use crate::nodes::TestRun;
use crate::process::OnLine;
use crate::sandbox::Sandbox;
use crate::schema::Schema;
use crate::workspace::Workspace;
use cap::Outputs;
use read_file::Seen;
use view::View;

pub(crate) use contents::Contents;
pub(crate) use prompt::{compact_version, version as prompt_version};
pub(crate) use turns::{Bounds, End, Turns, Worked};

/// What the tools of one draft work with.
pub(crate) struct Scope<'a> {
    /// Where the work tree is.
    pub(crate) workspace: &'a Workspace,
    /// What may be changed.
    pub(crate) config: &'a RepositoryConfig,
    /// The rules for children.
    pub(crate) sandbox: &'a Sandbox,
    /// How the tests are run.
    pub(crate) tests: &'a TestRun,
    /// What was installed into the work tree, and is no part of a change.
    pub(crate) installed: &'a InstalledFiles,
    /// Home and temporary folder of what is run.
    pub(crate) private: &'a Path,
    /// Takes the output of what is run.
    pub(crate) on_line: OnLine,
    /// Ends the draft.
    pub(crate) cancel: &'a CancellationToken,
}

/// The tools of one draft.
pub(crate) struct Tools<'a> {
    scope: Scope<'a>,
    view: View,
    /// The tree that the work began with.
    start: ObjectId,
    /// The paths of that tree.
    tracked: Arc<BTreeSet<String>>,
    /// The paths that the model made or edited by tools, or tried to.
    edited: BTreeSet<String>,
    outputs: Outputs,
    seen: Vec<Seen>,
    /// Paths and contents that were read at any time.
    read: BTreeSet<(String, String)>,
    calls: u32,
}

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    /// What it is called by.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) description: &'static str,
    /// What it takes, as a JSON Schema of an object.
    pub(crate) parameters: Value,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the model is shown.
    pub(crate) text: String,
    /// The call was refused or failed.
    pub(crate) is_error: bool,
    /// A file was read that had not been read before as it is.
    pub(crate) is_news: bool,
    /// The work is done.
    pub(crate) finish: Option<Finish>,
    /// The number of the call, by which the result is forgotten.
    pub(crate) number: u32,
}

/// How the model says that it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Files were changed; what and why.
    Changed(String),
    /// Nothing has to be changed; why.
    NotNeeded(String),
}

/// Why a call has no result of its tool.
#[derive(Debug)]
enum Failed {
    /// The model is told why.
    Refused(String),
    /// The draft ends.
    Ended(DraftError),
}

/// A call of a tool.
struct Call<'a> {
    arguments: &'a Value,
    schema: &'a Schema,
    /// Counts the calls of the draft.
    number: u32,
    turn: u32,
    /// Most bytes of the result that are shown.
    room: usize,
}

/// The tools, in the order in which the model is told of them, which never changes.
#[derive(Debug, Clone, Copy)]
enum Tool {
    ListFiles,
    ReadFile,
    Search,
    EditFile,
    CreateFile,
    Run,
    RunTests,
    Finish,
}

static TOOLS: LazyLock<Vec<(Tool, Definition, Schema)>> = LazyLock::new(|| {
    let all = [
        (Tool::ListFiles, list_files::definition()),
        (Tool::ReadFile, read_file::definition()),
        (Tool::Search, search::definition()),
        (Tool::EditFile, edit_file::definition()),
        (Tool::CreateFile, create_file::definition()),
        (Tool::Run, run::definition()),
        (Tool::RunTests, run_tests::definition()),
        (Tool::Finish, finish::definition()),
    ];
    let with_schema = |(tool, definition): (Tool, Definition)| {
        let schema = Schema::new(&definition.parameters);
        (tool, definition, schema)
    };
    all.map(with_schema).into()
});

/// What the model is told of the tools.
pub(crate) fn definitions() -> impl Iterator<Item = &'static Definition> {
    TOOLS.iter().map(|(_, definition, _)| definition)
}

impl<'a> Tools<'a> {
    /// Tools for a work tree that is at a tree.
    ///
    /// # Errors
    /// When the tree can't be read.
    pub(crate) async fn new(scope: Scope<'a>, start: ObjectId) -> Result<Self, GitError> {
        let entries = scope.workspace.repository.entries(&start).await?;
        let tracked = entries.into_iter().map(|entry| entry.path).collect();
        let layers = scope.workspace.layers();
        Ok(Self {
            view: View::new(scope.workspace.layout.repo_clone(), layers),
            scope,
            start,
            tracked: Arc::new(tracked),
            edited: BTreeSet::new(),
            outputs: Outputs::default(),
            seen: Vec::new(),
            read: BTreeSet::new(),
            calls: 0,
        })
    }

    /// Does a call and says what came of it. `room` is what is left for the results of the turn.
    ///
    /// # Errors
    /// What ends the draft, because no model can do anything about it.
    pub(crate) async fn call(
        &mut self,
        (name, arguments): (&str, &Value),
        turn: u32,
        room: usize,
    ) -> Result<Answer, DraftError> {
        self.calls += 1;
        let number = self.calls;
        let answer = match TOOLS.iter().find(|(_, it, _)| it.name == name) {
            None => Err(Failed::Refused(unknown(name))),
            Some((tool, _, schema)) => {
                if matches!(tool, Tool::EditFile | Tool::CreateFile)
                    && let Ok(path) = view::plain(arguments["path"].as_str().unwrap_or_default())
                {
                    self.edited.insert(path.to_owned());
                }
                let call = Call {
                    arguments,
                    schema,
                    number,
                    turn,
                    room: room.clamp(cap::LEAST, cap::RESULT),
                };
                self.run(*tool, call).await
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(Failed::Ended(error)) => return Err(error),
            Err(Failed::Refused(why)) => Answer {
                is_error: true,
                ..Answer::new(format!("{why}\n"))
            },
        };
        Ok(Answer {
            text: redact(&answer.text).into_owned(),
            number,
            ..answer
        })
    }

    /// Replaces whole lines of a file, which have to stand in it exactly and once.
    ///
    /// # Errors
    /// As for [`Self::call`]. What the model can mend is the inner error, in words for it.
    pub(crate) async fn replace_lines(
        &self,
        path: &str,
        (old, new): (&str, &str),
    ) -> Result<Result<(), String>, DraftError> {
        let texts = (path, old.to_owned(), new.to_owned());
        told(edit_file::apply(self, texts, edit::Unit::Lines).await)
    }

    /// Writes all of a file, in the place of one that is there unless it has to be new.
    ///
    /// # Errors
    /// As for [`Self::replace_lines`].
    pub(crate) async fn write_file(
        &self,
        path: &str,
        (content, is_new): (&str, bool),
    ) -> Result<Result<(), String>, DraftError> {
        let content = content.to_owned();
        told(if is_new {
            create_file::make(self, (path, content), create_file::MODE).await
        } else {
            whole_file::write(self, path, content).await
        })
    }

    /// The results of these calls are no more in what the model sees.
    pub(crate) fn forget(&mut self, calls: &BTreeSet<u32>) {
        self.seen.retain(|it| !calls.contains(&it.call));
    }

    /// The tree that the work tree is now.
    ///
    /// # Errors
    /// When it can't be read, or holds what no tree can hold.
    pub(crate) async fn tree(&self) -> Result<ObjectId, GitError> {
        let repository = &self.scope.workspace.repository;
        let snapshot = repository
            .snapshot_beside(self.scope.installed.clone())
            .await?;
        Ok(snapshot.tree)
    }

    /// Of a tree that the work tree is: the files that the work began with, and those that tools made or
    /// edited. What programs leave beside them, such as reports and logs, differs from run to run and no
    /// edit depends on it.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub(crate) async fn tree_without_leftovers(
        &self,
        tree: &ObjectId,
    ) -> Result<ObjectId, GitError> {
        let (tracked, edited) = (Arc::clone(&self.tracked), self.edited.clone());
        let is_of_work = move |path: &str| tracked.contains(path) || edited.contains(path);
        let repository = &self.scope.workspace.repository;
        repository
            .write_tree_of_paths((&self.start, tree), is_of_work)
            .await
    }

    /// The tree that the work began with.
    pub(crate) const fn start(&self) -> &ObjectId {
        &self.start
    }

    async fn run(&mut self, tool: Tool, call: Call<'_>) -> Result<Answer, Failed> {
        match tool {
            Tool::ListFiles => Ok(list_files::run(self, call).await?),
            Tool::ReadFile => Ok(read_file::run(self, call).await?),
            Tool::Search => Ok(search::run(self, call).await?),
            Tool::EditFile => edit_file::run(self, call).await,
            Tool::CreateFile => create_file::run(self, call).await,
            Tool::Run => run::run(self, call).await,
            Tool::RunTests => run_tests::run(self, call).await,
            Tool::Finish => finish::run(self, call).await,
        }
    }

    /// Looks at the work tree's files on a thread that may block. Nobody else has the folder until
    /// that is done, also when the caller does not wait for it.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&View) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (view, lock) = (self.view.clone(), self.scope.workspace.repository.lock());
        let done = tokio::task::spawn_blocking(move || {
            let _lock = lock;
            work(&view)
        });
        let done = done.await.map_err(|error| format!("it broke off: {error}"));
        done.flatten()
    }

    /// Has the work tree be read again after something ran in it.
    async fn settle(&self) -> Result<(), Failed> {
        let settled = self.on_disk(|view| view.settle().map_err(|error| error.to_string()));
        let settled = settled.await;
        settled.map_err(|why| Failed::Ended(GitError::host("reading the work tree", why).into()))
    }
}

/// What a model is told of a refusal; what it can do nothing about ends the draft.
fn told(answer: Result<Answer, Failed>) -> Result<Result<(), String>, DraftError> {
    match answer {
        Ok(_) => Ok(Ok(())),
        Err(Failed::Refused(why)) => Ok(Err(redact(&why).into_owned())),
        Err(Failed::Ended(error)) => Err(error),
    }
}

/// Text of the repository, or of what ran in it, marked as data.
fn as_data(text: &str) -> String {
    format!("{}\n", delimit_untrusted(text.trim_end_matches('\n')))
}

impl Answer {
    const fn new(text: String) -> Self {
        Self {
            text,
            is_error: false,
            is_news: false,
            finish: None,
            number: 0,
        }
    }
}

impl Call<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        // No arguments at all are what some models send for none.
        let none = Value::Object(Map::new());
        let arguments = if self.arguments.is_null() {
            &none
        } else {
            self.arguments
        };
        let read = self.schema.read(arguments);
        read.map_err(|why| format!("the arguments are refused: {why}"))
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

impl From<GitError> for Failed {
    fn from(error: GitError) -> Self {
        match error {
            // Whoever wrote it can take it away again.
            GitError::Unfit { reason } => Self::Refused(format!(
                "the files are no possible change: {reason}. Take that away first"
            )),
            other => Self::Ended(other.into()),
        }
    }
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = definitions().map(|it| it.name).collect();
    let name: String = name.chars().take(100).collect();
    format!("there is no tool `{name}`; there are {}", known.join(", "))
}

#[cfg(test)]
mod tests;
