//! What git's words mean.

use nix::errno::Errno;
use patchfleet_domain::FailureKind;
use patchfleet_domain::outcome::Failure;
use patchfleet_github::refuses_for_now;

use super::Remote;
use crate::process::{Finished, SpawnError};

/// A git command did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The remote repository does not exist, or may not be read.
    #[error("{url} can't be read: {reason}")]
    CloneFailed {
        /// The address of the remote.
        url: String,
        /// The reason in git's words, without secrets.
        reason: String,
    },
    /// The remote refuses for a reason that may be taken back without a change of what was granted: the
    /// account's network rules, a suspended App, or a limit of requests.
    #[error("{url} refuses for now: {reason}")]
    Refused {
        /// The address of the remote.
        url: String,
        /// It refused to be pushed to.
        is_push: bool,
        /// In the remote's words.
        reason: String,
    },
    /// The remote refused the push.
    #[error("the push was refused: {reason}")]
    PushRefused {
        /// In the remote's words.
        reason: String,
    },
    /// The remote branch is no longer where it was seen last.
    #[error("the remote branch has moved since it was looked at")]
    LeaseLost,
    /// Two changes meet in the same place.
    #[error("conflict in {}", paths.join(", "))]
    Conflict {
        /// The paths that are concerned, relative to the repository's root.
        paths: Vec<String>,
    },
    /// The remote did not answer.
    #[error("the git remote is not available: {reason}")]
    Unavailable {
        /// The reason in git's words, without secrets.
        reason: String,
    },
    /// The work tree holds what no commit can hold; whoever wrote it there is at fault.
    #[error("the work tree can't become a commit: {reason}")]
    Unfit {
        /// What is wrong and where, for people.
        reason: String,
    },
    /// A tree holds what can't be a work tree; whoever committed it is at fault, and no new try mends it.
    #[error("the repository can't be worked on: {reason}")]
    Unusable {
        /// What is wrong and where, for people.
        reason: String,
    },
    /// This host is at fault: its disk, its memory, its programs. It may pass.
    #[error("{what} fails on this host: {reason}")]
    Host {
        /// The git command that failed.
        what: String,
        /// In the system's words.
        reason: String,
    },
    /// The caller called it off.
    #[error("it was called off")]
    Interrupted,
    /// A fetch that failed for a reason which is not known here: the remote's answer made no sense, or what
    /// is fetched into is damaged.
    #[error("{url} can't be fetched: {reason}")]
    Fetch {
        /// The address of the remote.
        url: String,
        /// In git's words; empty when it had none.
        reason: String,
    },
    /// Anything else that a repository of this host's can't do: what was stored there is damaged, or was
    /// never sound.
    #[error("{what}: {reason}")]
    Other {
        /// The git command that failed.
        what: String,
        /// In git's words; empty when it had none.
        reason: String,
    },
}

/// Whom a command talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Talk {
    Local,
    Fetch,
    Push,
}

const UNAVAILABLE: &[&str] = &[
    "could not resolve host",
    "could not resolve proxy",
    "failed to connect",
    "couldn't connect to server",
    "connection refused",
    "connection reset",
    "connection timed out",
    "connect tunnel failed",
    "from proxy after connect",
    "operation timed out",
    "operation too slow",
    "early eof",
    "unexpected disconnect",
    "remote end hung up",
    "empty reply from server",
    "tls connect error",
    "tls handshake",
    "gnutls_handshake",
    "ssl connect error",
    "ssl_error_syscall",
    "ssl certificate problem",
    "returned error: 5",
    "returned error: 408",
];

/// What is said of a command that gave more output than is kept.
pub(super) const TOO_LONG: &str = "its output is too long";

/// What git says when the fault is neither the repository's nor the remote's.
const HOST: &[&str] = &[
    "no space left on device",
    "disk quota exceeded",
    "read-only file system",
    "input/output error",
    "cannot allocate memory",
    "out of memory",
    "too many open files",
    "resource temporarily unavailable",
    ".lock': file exists",
    "unable to create temporary file",
    "unable to create directory",
    "unable to write",
    "cannot lock ref",
    "permission denied",
];

/// True for words about this host, not about a repository.
pub(super) fn is_host(reason: &str) -> bool {
    let lower = reason.to_lowercase();
    HOST.iter().any(|words| lower.contains(words))
}

const UNREADABLE: &[&str] = &[
    "returned error: 4",
    "not found",
    "does not exist",
    "does not appear to be a git repository",
    "authentication failed",
    "could not read username",
    "could not read password",
    "no such file or directory",
    "not allowed",
    "dubious ownership",
    "not valid: is this a git repository",
    "couldn't find remote ref",
    "no such device or address",
    "malformed",
    "unsupported protocol",
];

/// What git says of an answer with the status 403.
const FORBIDDEN: &str = "returned error: 403";
/// What git says of an answer with the status 429.
const LIMITED: &str = "returned error: 429";

/// What GitHub says, with 403, of rights that are missing until somebody grants them.
const MISSING: &[&str] = &[
    "not granted",
    "denied to",
    "permission to",
    "archived",
    "saml sso",
    "disabled",
    "protected",
];

/// True of a refusal that may be taken back without a change of what was granted; a limit always is.
fn may_pass(said: &str) -> bool {
    if said.contains(LIMITED) {
        return true;
    }
    let is_missing = MISSING.iter().any(|words| said.contains(words));
    said.contains(FORBIDDEN) && (refuses_for_now(said) || !is_missing)
}

impl GitError {
    /// An error of no special kind.
    pub(crate) fn other(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Other {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// An error of the operating system.
    pub(crate) fn host(what: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::Host {
            what: what.into(),
            reason: error.to_string(),
        }
    }

    /// An error at a path of the tree that is checked out: the path's own fault where it, or the link
    /// there, is nothing that a file system can hold; else this host's.
    pub(super) fn at_path(path: &[u8], error: &std::io::Error) -> Self {
        let path = shown(path);
        let cause = error.raw_os_error().map(Errno::from_raw);
        match cause {
            Some(Errno::ENAMETOOLONG | Errno::EINVAL | Errno::EILSEQ | Errno::ELOOP) => {
                Self::Unusable {
                    reason: format!("`{path}` can't be written: {error}"),
                }
            }
            _ => Self::host("the work tree", format!("`{path}`: {error}")),
        }
    }

    pub(super) fn not_run(what: &str, error: SpawnError) -> Self {
        match error {
            SpawnError::Cancelled => Self::Interrupted,
            SpawnError::NotFound { .. } | SpawnError::Failed { .. } | SpawnError::Left { .. } => {
                Self::host(what, error)
            }
        }
    }

    pub(super) fn classify(
        what: &str,
        talk: Talk,
        remote: Option<&Remote>,
        finished: &Finished,
    ) -> Self {
        let said = said(finished);
        let reason = remote.map_or_else(|| said.clone(), |remote| remote.redact(&said));
        let reason = patchfleet_guard::redact(&reason).into_owned();
        let url = remote.map_or("", Remote::url);
        // The URL's own words say nothing about what went wrong.
        let lower = match url {
            "" => reason.to_lowercase(),
            _ => reason.replace(url, "").to_lowercase(),
        };
        let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        match talk {
            Talk::Local if finished.timed_out || any(HOST) => Self::host(what, reason),
            Talk::Push if lower.contains("stale info") => Self::LeaseLost,
            // Told apart before availability: a refusal's text may mention anything.
            Talk::Push if lower.contains("rejected]") => Self::PushRefused { reason },
            Talk::Fetch | Talk::Push if finished.timed_out => Self::Unavailable {
                reason: format!("no end after {} s", finished.duration.as_secs()),
            },
            Talk::Fetch | Talk::Push if may_pass(&lower) => Self::Refused {
                url: url.to_owned(),
                is_push: talk == Talk::Push,
                reason,
            },
            Talk::Push if lower.contains(FORBIDDEN) => Self::PushRefused { reason },
            Talk::Fetch if lower.contains(FORBIDDEN) => Self::CloneFailed {
                url: url.to_owned(),
                reason,
            },
            Talk::Fetch | Talk::Push if any(UNAVAILABLE) => Self::Unavailable { reason },
            Talk::Fetch | Talk::Push if any(HOST) => Self::host(what, reason),
            Talk::Push => Self::PushRefused { reason },
            Talk::Fetch if any(UNREADABLE) => Self::CloneFailed {
                url: url.to_owned(),
                reason,
            },
            Talk::Fetch => Self::Fetch {
                url: url.to_owned(),
                reason,
            },
            Talk::Local => Self::other(what, reason),
        }
    }

    /// The same error, where nothing but the repository itself can be at fault: it was fetched anew, or all
    /// that was fetched is there.
    pub(crate) fn of_repository(self) -> Self {
        match self {
            Self::Other { what, reason } => Self::Unusable {
                reason: format!("{what}: {reason}"),
            },
            other => other,
        }
    }

    /// The failure of the task that this error is.
    pub fn into_failure(self) -> Failure {
        let message = self.to_string();
        let (kind, retryable, discard_checkpoints) = match self {
            Self::CloneFailed { .. } => (FailureKind::CloneFailed, false, false),
            Self::PushRefused { .. } => (FailureKind::PushRefused, false, false),
            Self::Refused { is_push: true, .. } => (FailureKind::PushRefused, true, false),
            Self::Refused { is_push: false, .. } => (FailureKind::CloneFailed, true, false),
            Self::Conflict { .. } => (FailureKind::BaseMoved, true, true),
            Self::LeaseLost | Self::Unavailable { .. } | Self::Fetch { .. } => {
                (FailureKind::RemoteUnavailable, true, false)
            }
            Self::Interrupted => (FailureKind::Interrupted, true, false),
            Self::Unfit { .. } => (FailureKind::DraftFailed, false, false),
            Self::Unusable { .. } => (FailureKind::RepositoryUnusable, false, true),
            // What is stored on this host was sound when the work began.
            Self::Host { .. } | Self::Other { .. } => (FailureKind::HostFault, true, false),
        };
        Failure {
            kind,
            message,
            retryable,
            discard_checkpoints,
        }
    }
}

/// A path for people; only the beginning and the end of a very long one.
pub(super) fn shown(path: &[u8]) -> String {
    const HALF: usize = 100;
    let path = String::from_utf8_lossy(path);
    if path.len() <= 3 * HALF {
        return path.into_owned();
    }
    let (head, tail) = (
        path.floor_char_boundary(HALF),
        path.ceil_char_boundary(path.len() - HALF),
    );
    format!("{}…{}", &path[..head], &path[tail..])
}

/// What the command said, short enough for a comment.
fn said(finished: &Finished) -> String {
    if finished.stdout_dropped > 0 {
        return TOO_LONG.to_owned();
    }
    let stderr = finished.stderr_text();
    // With `--porcelain`, what became of each ref stands in the output.
    let refused = finished.stdout_text();
    let refused = refused.lines().filter(|line| line.starts_with('!'));
    let mut lines: Vec<&str> = refused
        .chain(stderr.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
        .collect();
    let excess = lines.len().saturating_sub(12);
    lines.drain(..excess);
    if lines.is_empty() && finished.timed_out {
        return format!("no end after {} s", finished.duration.as_secs());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn classified(talk: Talk, said: &str) -> Failure {
        let remote = Remote::new("https://github.test/acme/orders.git", None).unwrap();
        let finished = Finished {
            returncode: Some(128),
            signal: None,
            stdout: Vec::new(),
            stderr: said.as_bytes().to_vec(),
            stdout_dropped: 0,
            stderr_dropped: 0,
            duration: Duration::ZERO,
            timed_out: false,
        };
        GitError::classify("git", talk, Some(&remote), &finished).into_failure()
    }

    /// What git says of a 403 with these words of the remote's.
    fn forbidden(words: &str) -> String {
        format!(
            "remote: {words}\nfatal: unable to access 'https://github.test/acme/orders.git/': \
             The requested URL returned error: 403"
        )
    }

    #[test]
    fn a_refusal_that_may_be_taken_back_is_worth_another_try_and_a_missing_right_is_not() {
        for (talk, kind) in [
            (Talk::Fetch, FailureKind::CloneFailed),
            (Talk::Push, FailureKind::PushRefused),
        ] {
            for words in [
                "The `acme' organization has an IP allow list enabled, and 192.0.2.1 is not permitted \
                 to access this repository.",
                "Your account is suspended. Please visit https://support.github.com for more information.",
                "This repository has been locked for migration.",
                "",
            ] {
                let failure = classified(talk, &forbidden(words));
                assert_eq!((failure.kind, failure.retryable), (kind, true), "{words}");
                assert!(
                    failure.message.contains("github.test/acme/orders"),
                    "{failure:?}"
                );
                assert!(failure.message.contains(words), "{failure:?}");
            }
            let limited = "fatal: unable to access 'https://github.test/acme/orders.git/': The \
                           requested URL returned error: 429";
            let failure = classified(talk, limited);
            assert_eq!((failure.kind, failure.retryable), (kind, true), "a limit");
            for words in [
                "Write access to repository not granted.",
                "Permission to acme/orders.git denied to bot.",
                "This repository was archived so it is read-only.",
                "The `acme' organization has enabled or enforced SAML SSO.",
                "Access to this repository has been disabled by GitHub staff.",
            ] {
                let failure = classified(talk, &forbidden(words));
                assert_eq!((failure.kind, failure.retryable), (kind, false), "{words}");
                assert!(failure.message.contains(words), "{failure:?}");
            }
        }
    }

    #[test]
    fn what_is_not_known_here_is_no_fault_of_ours() {
        for said in [
            "fatal: protocol error: bad line length character: <htm",
            "fatal: the remote end sent something odd",
            "",
        ] {
            let failure = classified(Talk::Fetch, said);
            let expected = (FailureKind::RemoteUnavailable, true);
            assert_eq!((failure.kind, failure.retryable), expected, "{said}");
            let names = failure
                .message
                .contains("https://github.test/acme/orders.git");
            assert!(names && failure.message.contains(said), "{failure:?}");
        }
        for said in [
            "error: cannot lock ref 'refs/heads/x': Unable to create '/x.lock': File exists",
            "fatal: unable to write sha1 filename /x: Permission denied",
            "fatal: write error: No space left on device",
        ] {
            for talk in [Talk::Fetch, Talk::Local] {
                let failure = classified(talk, said);
                assert_eq!(failure.kind, FailureKind::HostFault, "{said}");
                assert!(failure.message.contains(said), "{failure:?}");
            }
        }
        for said in [
            "CONNECT tunnel failed, response 403",
            "Received HTTP code 407 from proxy after CONNECT",
        ] {
            let failure = classified(Talk::Push, &format!("fatal: unable to access: {said}"));
            assert_eq!(failure.kind, FailureKind::RemoteUnavailable, "{said}");
        }
    }

    #[test]
    fn a_local_fault_is_the_hosts_unless_it_can_only_be_the_repositorys() {
        let odd = || GitError::other("checking out", "the object 1234 is no blob");
        let failure = odd().into_failure();
        assert_eq!(
            (failure.kind, failure.retryable),
            (FailureKind::HostFault, true)
        );
        let failure = odd().of_repository().into_failure();
        assert_eq!(
            (failure.kind, failure.retryable),
            (FailureKind::RepositoryUnusable, false)
        );
        assert!(
            failure.message.contains("the object 1234 is no blob"),
            "{failure:?}"
        );
        let full = GitError::host("checking out", "No space left on device");
        assert_eq!(
            full.of_repository().into_failure().kind,
            FailureKind::HostFault
        );
    }
}
