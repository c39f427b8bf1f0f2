//! Contents that the base only names, fetched before anything else of the repository is run: those of
//! Git LFS and of submodules (`lfs` and `submodules` of `[[agents.repositories]]`).
//!
//! Addresses come from the repository, so git fetches them in the sandbox, with the proxy of the
//! setup phase: from the repository's own host and those that the operator names, over HTTPS. The
//! task's token goes along for that one host. It is in the memory of these runs alone, in which only
//! git and `git-lfs` run: no hook, no filter and no program of the repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use patchfleet_domain::FailureKind;
use patchfleet_domain::outcome::Failure;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::commands::Command;
use super::report::{StepReport, tail};
use super::{OUTPUT_CAP, SetupConfig, proxy};
use crate::config::RepositorySettings;
use crate::git::{EntryKind, GitError, LfsFile, Remote, SandboxedGit};
use crate::nodes::TaskLog;
use crate::process::SpawnError;
use crate::sandbox::egress::{AllowList, ConnectProxy, Entry, HostName, Network, Reason, Refusals};
use crate::sandbox::{Backend, Ran, Reach, Run, Sandbox, SandboxError};
use crate::workspace::{Contents, Fetched, Workspace};

/// How many paths a message names.
const NAMED: usize = 5;

/// The fetch of one attempt.
pub struct ContentsFetch<'a> {
    /// Where git runs.
    pub sandbox: &'a Sandbox,
    /// What the operator set for the repository.
    pub settings: &'a RepositorySettings,
    /// What holds for all setup phases.
    pub operator: &'a SetupConfig,
    /// The repository, with the right to read it.
    pub remote: &'a Remote,
    /// The task's folder, checked out at its base.
    pub workspace: &'a Workspace,
    /// Takes commands, output and refused hosts.
    pub log: &'a TaskLog,
    /// How hosts are reached.
    pub network: Arc<dyn Network>,
    /// A file of authorities that servers are trusted by, in place of the system's.
    pub authorities: Option<PathBuf>,
    /// The program of Git LFS on this host, when there is one.
    pub git_lfs: Option<PathBuf>,
    /// Ends the fetch.
    pub cancel: &'a CancellationToken,
}

/// Contents can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// Nothing is isolated here.
    #[error(
        "{what} can't be fetched: that is done in the sandbox, and the agent has none \
         (`agents.sandbox.backend`)"
    )]
    NotIsolated {
        /// What of.
        what: &'static str,
    },
    /// The program is missing.
    #[error(
        "the repository has files of Git LFS, and `git-lfs` is not installed on the agent's host; \
         install it (`apt-get install git-lfs`), or leave `lfs` of `[[agents.repositories]]` out"
    )]
    NoGitLfs,
    /// The proxy leads to names and port 443 only.
    #[error("{what} can't be fetched from {url}: only `https://HOST/…` on port 443 is reached")]
    NotHttps {
        /// What of.
        what: &'static str,
        /// The repository's address.
        url: String,
    },
    /// A host is not allowed, or has no public address.
    #[error(
        "{what} can't be fetched: the hosts {hosts} were refused; the operator allows hosts besides \
         the repository's own in `hosts` of `[[agents.repositories]]`"
    )]
    HostRefused {
        /// What of.
        what: &'static str,
        /// Which, each with the reason.
        hosts: String,
    },
    /// The server has no such content.
    #[error(
        "Git LFS has no content for {files}, which the base names; upload it with `git lfs push`"
    )]
    Missing {
        /// The files.
        files: String,
    },
    /// What came is not what the pointer names.
    #[error("Git LFS left something else than the content that the pointer names at {files}")]
    Strange {
        /// The files.
        files: String,
    },
    /// Git says no.
    #[error("{what} can't be fetched: `{command}` {how}; it said last:\n{tail}")]
    Failed {
        /// What of.
        what: &'static str,
        /// The command.
        command: String,
        /// How it ended.
        how: String,
        /// The end of its output.
        tail: String,
    },
    /// The sandbox is at fault.
    #[error("{what} can't be fetched: {error}")]
    Host {
        /// What of.
        what: &'static str,
        /// What failed.
        error: String,
    },
}

/// One of the two kinds of contents.
struct Kind {
    what: &'static str,
    args: &'static [&'static str],
    settings: &'static [(&'static str, &'static str)],
}

const LFS: Kind = Kind {
    what: "files of Git LFS",
    args: &["lfs", "pull"],
    // Without them it takes itself for switched off.
    settings: &[
        ("filter.lfs.clean", "git-lfs clean -- %f"),
        ("filter.lfs.smudge", "git-lfs smudge -- %f"),
        // By itself it goes on for half a minute when a host is refused.
        ("lfs.transfer.maxRetries", "2"),
    ],
};
const SUBMODULES: Kind = Kind {
    what: "submodules",
    args: &["submodule", "update", "--init", "--recursive", "--depth=1"],
    settings: &[],
};

impl ContentsFetch<'_> {
    /// Fetches what is configured and named by the base; the work tree is at its base again
    /// afterwards.
    ///
    /// # Errors
    /// A failure for people, or nothing when the work was called off.
    pub async fn run(self) -> Result<(Contents, Vec<StepReport>), Option<Failure>> {
        let repository = &self.workspace.repository;
        let base = &self.workspace.base;
        let mut files = Vec::new();
        if self.settings.lfs {
            let listed = repository.lfs_files(base).await;
            files = listed.map_err(GitError::into_failure)?;
        }
        let mut submodules = Vec::new();
        if self.settings.submodules {
            submodules = self.submodules().await?;
        }
        let kinds = [
            (!files.is_empty()).then_some(LFS),
            (!submodules.is_empty()).then_some(SUBMODULES),
        ];
        let kinds: Vec<_> = kinds.into_iter().flatten().collect();
        let Some(first) = kinds.first() else {
            return Ok((Contents::default(), Vec::new()));
        };
        let allow = self.check(first.what, !files.is_empty()).map_err(failure)?;
        let deadline = Instant::now() + self.operator.timeout.0;
        let mut steps = Vec::new();
        for kind in &kinds {
            steps.push(self.step(kind, &allow, deadline).await?);
        }
        let fetched = self.workspace.collect_contents(files.clone(), submodules);
        let fetched = fetched.await.map_err(GitError::into_failure)?;
        Ok((self.judged(fetched).map_err(failure)?, steps))
    }

    async fn submodules(&self) -> Result<Vec<PathBuf>, Failure> {
        let entries = self.workspace.repository.entries(&self.workspace.base);
        let entries = entries.await.map_err(GitError::into_failure)?;
        let submodules = entries.into_iter();
        let submodules = submodules.filter(|entry| entry.kind == EntryKind::Submodule);
        Ok(submodules.map(|entry| entry.path.into()).collect())
    }

    /// The hosts that may be reached, when this host can do it at all.
    fn check(&self, what: &'static str, has_files: bool) -> Result<AllowList, ContentsError> {
        if self.sandbox.backend() == Backend::None {
            return Err(ContentsError::NotIsolated { what });
        }
        if has_files && self.git_lfs.is_none() {
            return Err(ContentsError::NoGitLfs);
        }
        let own = own_host(self.remote.url()).ok_or_else(|| ContentsError::NotHttps {
            what,
            url: self.remote.url().to_owned(),
        })?;
        let more = self.settings.hosts.iter().cloned();
        let entries: Vec<_> = more.chain([Entry::Host(own)]).collect();
        Ok(AllowList::new(&entries))
    }

    async fn step(
        &self,
        kind: &Kind,
        allow: &AllowList,
        deadline: Instant,
    ) -> Result<StepReport, Option<Failure>> {
        let git = SandboxedGit::new(
            self.remote,
            (kind.args, kind.settings),
            self.authorities.as_deref(),
        );
        let words = ["git"].iter().chain(kind.args);
        let command = Command {
            folder: String::new(),
            words: words.map(|&word| word.to_owned()).collect(),
            env: Vec::new(),
            allow: allow.clone(),
            is_detected: false,
        };
        self.log.line(&format!("$ {command} (setup)"));
        let host = |error: String| {
            Some(failure(ContentsError::Host {
                what: kind.what,
                error,
            }))
        };
        let proxy = self.proxy(allow).map_err(|error| host(error.to_string()))?;
        let ran = self.run_git(git, proxy.socket(), deadline).await;
        let refusals = proxy.close().await;
        for refusal in refusals.list() {
            self.log.line(&format!("`{command}`: {refusal}"));
        }
        let ran = match ran {
            Err(SandboxError::NotRun(SpawnError::Cancelled)) => return Err(None),
            Err(error) => return Err(host(error.to_string())),
            Ok(ran) => ran,
        };
        let report = StepReport::new(&command, &ran, &refusals);
        match ended(&ran) {
            None => Ok(report),
            Some(how) => {
                let files = self.workspace.repository.lfs_files_here().await;
                let files = files.map_err(GitError::into_failure)?;
                let error = explained(kind, (&command, how), (&ran, &refusals), &files);
                Err(Some(failure(error)))
            }
        }
    }

    async fn run_git(
        &self,
        git: SandboxedGit,
        socket: &Path,
        deadline: Instant,
    ) -> Result<Ran, SandboxError> {
        let (cwd, private) = (self.workspace.layout.repo_clone(), self.private());
        let mut shown = self.workspace.borrowed_objects().await;
        shown.extend(self.git_lfs.iter().chain(&self.authorities).cloned());
        let run = Run {
            env: git.env,
            input: git.input,
            shown,
            reach: Reach::Allowed(socket),
            timeout: deadline.saturating_duration_since(Instant::now()),
            output_cap: OUTPUT_CAP,
            on_line: Some(self.log.for_output()),
            ..Run::new(&git.command, &cwd, &private)
        };
        let ran = self.sandbox.run_trusted(run, self.cancel).await;
        let removed = crate::disk::remove_in_background(&private).await;
        if let Err(error) = removed {
            tracing::warn!(folder = %private.display(), %error, "a folder can't be deleted");
        }
        ran
    }

    /// A home for git, which is gone when it has ended.
    fn private(&self) -> PathBuf {
        self.workspace.layout.implementation().join("fetch")
    }

    fn proxy(&self, allow: &AllowList) -> std::io::Result<ConnectProxy> {
        let open = &self.operator.open;
        proxy(&self.workspace.layout, (allow, open), &self.network)
    }

    /// What was fetched, unless something is there that nobody asked for.
    fn judged(&self, fetched: Fetched) -> Result<Contents, ContentsError> {
        if !fetched.strange.is_empty() {
            return Err(ContentsError::Strange {
                files: named(&fetched.strange),
            });
        }
        for (what, paths) in [
            ("stay pointers, as `.lfsconfig` has it", &fetched.pointers),
            ("stay empty, as `.gitmodules` has it", &fetched.empty),
        ] {
            if !paths.is_empty() {
                self.log.line(&format!("{} {what}", named(paths)));
            }
        }
        Ok(fetched.contents)
    }
}

/// The host of a repository that is reached by HTTPS on its usual port.
fn own_host(url: &str) -> Option<HostName> {
    let url = Url::parse(url).ok()?;
    let is_reached = url.scheme() == "https" && url.port().is_none();
    let host = url.host_str().filter(|_| is_reached)?;
    HostName::parse(host).ok()
}

/// How a command failed; nothing when it did not.
fn ended(ran: &Ran) -> Option<String> {
    if let Some(limit) = ran.exceeded.as_ref().filter(|it| it.voids_result()) {
        return Some(format!("has no result: {limit}"));
    }
    let finished = &ran.finished;
    let seconds = finished.duration.as_secs();
    match (finished.timed_out, finished.returncode, finished.signal) {
        (true, ..) => Some(format!("did not end within {seconds} s")),
        (_, Some(0), _) => None,
        (_, Some(code), _) => Some(format!("failed with exit code {code}")),
        (_, None, signal) => Some(format!(
            "was ended by signal {}",
            signal.unwrap_or_default()
        )),
    }
}

/// Why a command failed, as far as that is known.
fn explained(
    kind: &Kind,
    (command, how): (&Command, String),
    (ran, refusals): (&Ran, &Refusals),
    files: &[LfsFile],
) -> ContentsError {
    let what = kind.what;
    let refused = refusals.list().into_iter();
    // One that is allowed and does not answer may do so again.
    let refused = refused.filter(|it| it.reason != Reason::Unreachable);
    let hosts: Vec<_> = refused
        .map(|it| format!("{} ({})", it.host, it.reason))
        .collect();
    if !hosts.is_empty() {
        let hosts = hosts.join(", ");
        return ContentsError::HostRefused { what, hosts };
    }
    let tail = tail(&ran.finished);
    // git-lfs names what the server does not have by its hash.
    let is_absent = |file: &&LfsFile| {
        let mut lines = tail.lines();
        lines.any(|line| line.contains(&file.pointer.oid) && line.contains("not exist"))
    };
    let absent: Vec<_> = files
        .iter()
        .filter(is_absent)
        .map(|it| it.path.clone())
        .collect();
    if !absent.is_empty() {
        return ContentsError::Missing {
            files: named(&absent),
        };
    }
    ContentsError::Failed {
        what,
        command: command.to_string(),
        how,
        tail,
    }
}

/// Some paths, for people.
fn named(paths: &[PathBuf]) -> String {
    let shown = paths.iter().take(NAMED);
    let shown: Vec<_> = shown.map(|path| format!("`{}`", path.display())).collect();
    let mut text = shown.join(", ");
    if paths.len() > NAMED {
        text = format!("{text} and {} more", paths.len() - NAMED);
    }
    text
}

fn failure(error: ContentsError) -> Failure {
    let kind = match error {
        ContentsError::Host { .. } => FailureKind::HostFault,
        _ => FailureKind::CloneFailed,
    };
    // A server that was away may be back.
    let retryable = matches!(
        error,
        ContentsError::Host { .. } | ContentsError::Failed { .. }
    );
    let message = error.to_string();
    Failure {
        message: patchfleet_guard::redact(&message).into_owned(),
        kind,
        retryable,
        discard_checkpoints: false,
    }
}

#[cfg(test)]
mod tests;
