//! Git, split by trust: libgit2 in this process for all that is local, and one wrapper around the
//! command line for what talks to a remote or is heavy. Typed errors from both.
//!
//! The command line has a clean environment.
//! No configuration of the host, of a user or of a repository is read, no hook runs, no prompt
//! appears, and only http, https and local repositories are spoken to. A credential reaches git
//! through a socket that is read once: never as an argument, a variable or a file, never in an
//! error. Only talk with a remote sees the agent's proxies.
//!
//! What belongs to submodules and to Git LFS is fetched by git inside of a sandbox, for which
//! [`SandboxedGit`] has the surroundings; this process reads none of those repositories.
//!
//! Absent: ssh, SHA-256 repositories.

mod borrowing;
mod compare;
mod credential;
mod error;
mod folder;
mod keep;
mod local;
mod pack;
mod partial;
mod remote;
mod sandboxed;
mod tree;
mod work_tree;
mod write;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use compare::Difference;
pub use credential::Credential;
pub use error::GitError;
pub use remote::Remote;
pub use sandboxed::SandboxedGit;
pub(crate) use tree::MAX_DEPTH;
pub use tree::{Entry, EntryKind};
pub(crate) use work_tree::properties as work_tree_properties;
pub(crate) use work_tree::{
    IGNORE_FILE, IgnoreRules, LfsContents, Replaced, is_git_name, note_replaced,
};
pub use work_tree::{InstalledFiles, LfsFile, Pointer, Snapshot, Template};
pub use write::Change;

use crate::process::{Finished, Input, Spawn};
use error::Talk;
use folder::Extent;
use work_tree::WorkTree;

/// Longest that a local command may take.
const LOCAL_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest that talking to a remote may take; stalls end sooner, by the low-speed limit.
const REMOTE_TIMEOUT: Duration = Duration::from_mins(15);
/// Most output that a command may give; more is an error, never a silent cut.
const OUTPUT_CAP: usize = 64 << 20;

/// Configuration for every call, so that neither the host's nor a repository's own matters.
const CONFIGURATION: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.quotePath", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("commit.gpgSign", "false"),
    ("push.gpgSign", "false"),
    ("credential.helper", ""),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "main"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
];

/// The environment of every call. No home: git and curl look for attributes, ignore rules and
/// passwords there.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("LC_ALL", "C"),
    ("HOME", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "true"),
];

/// Variables of the agent that talk with a remote may see, under the name that git and curl know:
/// how to leave the network, whom to trust.
const PASSED_ON: &[(&str, &str)] = &[
    ("HTTP_PROXY", "http_proxy"),
    ("http_proxy", "http_proxy"),
    ("HTTPS_PROXY", "https_proxy"),
    ("https_proxy", "https_proxy"),
    ("ALL_PROXY", "all_proxy"),
    ("all_proxy", "all_proxy"),
    ("SSL_CERT_FILE", "SSL_CERT_FILE"),
    ("SSL_CERT_DIR", "SSL_CERT_DIR"),
    ("GIT_SSL_CAINFO", "GIT_SSL_CAINFO"),
];

/// A git object's name.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

impl ObjectId {
    /// As hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectId {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(GitError::other(
                "an object name",
                format!("`{text}` is none"),
            ))
        }
    }
}

impl TryFrom<String> for ObjectId {
    type Error = GitError;

    fn try_from(text: String) -> Result<Self, GitError> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Git on this host, for as long as the caller's token is not cancelled.
#[derive(Debug, Clone)]
pub struct Git {
    program: OsString,
    cancel: CancellationToken,
}

/// A repository's object store, with a work tree or without.
#[derive(Debug, Clone)]
pub struct Repository {
    git: Git,
    dir: PathBuf,
    extent: Extent,
    work_tree: Option<WorkTree>,
    lock: Option<FolderLock>,
}

/// The sole right to a folder, until the last copy is dropped. What works on the folder's files in
/// the background has one, so that it outlives a caller who was called off.
pub type FolderLock = Arc<tokio::sync::OwnedMutexGuard<()>>;

/// One git command.
struct Call<'a> {
    args: Vec<OsString>,
    cwd: &'a Path,
    /// The git folder of ours that it reads.
    folder: Option<(&'a Path, Extent)>,
    env: Vec<(&'static str, OsString)>,
    input: Vec<u8>,
    remote: Option<&'a Remote>,
    talk: Talk,
}

impl Git {
    /// Git as it is found on the agent's `PATH`.
    pub fn new() -> Self {
        Self {
            program: "git".into(),
            cancel: CancellationToken::new(),
        }
    }

    /// The same, whose commands end when the token is cancelled.
    pub fn until(&self, cancel: CancellationToken) -> Self {
        Self {
            cancel,
            ..self.clone()
        }
    }

    /// The repository with this git folder.
    pub fn repository(&self, dir: impl Into<PathBuf>) -> Repository {
        Repository {
            git: self.clone(),
            dir: dir.into(),
            extent: Extent::Whole,
            work_tree: None,
            lock: None,
        }
    }

    async fn run(&self, call: Call<'_>) -> Result<Finished, GitError> {
        let (what, talk, remote) = (call.what(), call.talk, call.remote);
        let finished = self.run_any(call).await?;
        if finished.succeeded() && finished.stdout_dropped == 0 {
            return Ok(finished);
        }
        Err(GitError::classify(&what, talk, remote, &finished))
    }

    /// Runs a command whose exit code is an answer.
    async fn run_any(&self, call: Call<'_>) -> Result<Finished, GitError> {
        let what = call.what();
        if let Some((folder, extent)) = call.folder {
            let folder = folder.to_owned();
            in_background(&what, move || folder::restore(&folder, extent)).await?;
        }
        let timeout = match call.talk {
            Talk::Local => LOCAL_TIMEOUT,
            Talk::Fetch | Talk::Push => REMOTE_TIMEOUT,
        };
        let mut spawn = Spawn::new(&self.program, call.cwd)
            .args(call.args)
            .input(Input::Bytes(call.input))
            .timeout(timeout)
            .output_cap(OUTPUT_CAP);
        for (name, value) in environment(call.remote) {
            spawn = spawn.env(name, value);
        }
        for (name, value) in call.env {
            spawn = spawn.env(name, value);
        }
        if let Some(credential) = call.remote.and_then(Remote::credential) {
            let (number, socket) = credential
                .socket()
                .map_err(|error| GitError::host(&what, error))?;
            spawn = spawn.descriptor(number, socket);
        }
        let run = spawn.run(&self.cancel).await;
        run.map_err(|error| GitError::not_run(&what, error))
    }
}

/// All that a call sees of the world.
fn environment(remote: Option<&Remote>) -> Vec<(String, OsString)> {
    let mut env: Vec<(String, OsString)> = ENVIRONMENT
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.into()))
        .collect();
    let protocols = remote.map_or("file", Remote::protocols);
    // Unlike `protocol.*.allow`, no configuration of a repository stands above it.
    env.push(("GIT_ALLOW_PROTOCOL".to_owned(), protocols.into()));
    if remote.is_some() {
        env.extend(PASSED_ON.iter().filter_map(|(theirs, name)| {
            let value = std::env::var_os(theirs)?;
            Some(((*name).to_owned(), value))
        }));
        env.push(("no_proxy".to_owned(), patchfleet_proxy::exceptions().into()));
    }
    let credential = remote.and_then(Remote::credential);
    let pairs = CONFIGURATION
        .iter()
        .map(|(key, value)| ((*key).to_owned(), OsString::from(value)))
        .chain(credential.into_iter().flat_map(Credential::configuration));
    let mut count = 0;
    for (key, value) in pairs {
        env.push((format!("GIT_CONFIG_KEY_{count}"), key.into()));
        env.push((format!("GIT_CONFIG_VALUE_{count}"), value));
        count += 1;
    }
    env.push(("GIT_CONFIG_COUNT".to_owned(), count.to_string().into()));
    env
}

/// Does what blocks away from the threads that must not.
async fn in_background<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, GitError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| GitError::host(what, error))
}

/// Calls that are about no folder of ours run elsewhere than we do.
fn absolute(path: &Path) -> Result<OsString, GitError> {
    match std::path::absolute(path) {
        Ok(path) => Ok(path.into()),
        Err(error) => Err(GitError::host("a path", error)),
    }
}

impl Default for Git {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Call<'a> {
    /// A command about no folder of ours, run where there is no repository to be found.
    fn outside(args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            cwd: Path::new("/"),
            folder: None,
            env: Vec::new(),
            input: Vec::new(),
            remote: None,
            talk: Talk::Local,
        }
    }

    fn about(mut self, remote: &'a Remote, talk: Talk) -> Self {
        self.remote = Some(remote);
        self.talk = talk;
        self
    }

    /// The subcommand, for errors.
    fn what(&self) -> String {
        let word = self
            .args
            .iter()
            .map(|arg| arg.to_string_lossy())
            .find(|arg| !arg.starts_with('-'));
        format!("git {}", word.unwrap_or_default())
    }
}

impl Repository {
    /// The same repository with a work tree.
    pub fn with_work_tree(&self, work_tree: impl Into<PathBuf>) -> Self {
        Self {
            work_tree: Some(WorkTree::new(work_tree.into())),
            ..self.clone()
        }
    }

    /// The same repository with a work tree that is laid over a template: the folder is the upper
    /// layer, and has only what differs.
    pub fn with_work_tree_over(&self, upper: impl Into<PathBuf>, template: Arc<Template>) -> Self {
        Self {
            work_tree: Some(WorkTree::over(upper.into(), template)),
            ..self.clone()
        }
    }

    /// The same repository with a work tree that nobody else knows of.
    fn with_private_work_tree(&self, work_tree: impl Into<PathBuf>) -> Self {
        Self {
            work_tree: Some(WorkTree::private(work_tree.into())),
            ..self.clone()
        }
    }

    /// The same repository after its folders were renamed.
    pub fn moved(&self, dir: impl Into<PathBuf>, work_tree: impl Into<PathBuf>) -> Self {
        let moved = self.work_tree.as_ref().map(|it| it.moved(work_tree.into()));
        Self {
            dir: dir.into(),
            work_tree: moved,
            ..self.clone()
        }
    }

    fn work_tree(&self) -> Result<&WorkTree, GitError> {
        let missing = || GitError::other("a work tree", "the repository has none");
        self.work_tree.as_ref().ok_or_else(missing)
    }

    /// The same repository, whose work tree nobody else touches while this value or work of it
    /// goes on.
    pub fn locked(&self, lock: FolderLock) -> Self {
        Self {
            lock: Some(lock),
            ..self.clone()
        }
    }

    /// The lock, for work on the work tree that may outlive its caller.
    pub(crate) fn lock(&self) -> Option<FolderLock> {
        self.lock.clone()
    }

    /// The git folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn call(&self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Call<'_> {
        let mut git_dir = OsString::from("--git-dir=");
        git_dir.push(&self.dir);
        let mut all = vec![git_dir];
        if let Some(work_tree) = &self.work_tree {
            let mut option = OsString::from("--work-tree=");
            option.push(&work_tree.root);
            all.push(option);
        }
        all.extend(args.into_iter().map(Into::into));
        Call {
            cwd: &self.dir,
            folder: Some((&self.dir, self.extent)),
            ..Call::outside(all)
        }
    }

    async fn output(&self, call: Call<'_>) -> Result<String, GitError> {
        let finished = self.git.run(call).await?;
        Ok(String::from_utf8_lossy(&finished.stdout)
            .trim_end()
            .to_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests;
