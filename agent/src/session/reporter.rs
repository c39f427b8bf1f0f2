//! How a job talks to the coordinator: reports, checkpoints, tokens.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::outcome::{Failure, FailureKind, Outcome};
use patchfleet_domain::report::{Checkpoint, WorkEvent};
use patchfleet_domain::{Phase, Work};
use patchfleet_proto::v1;
use secrecy::SecretString;

use super::desk::{Desk, Standing, Stop};
use crate::host_paths::HostPaths;

/// How long to wait for a token: longer than a coordinator takes to be started anew.
const TOKEN_PATIENCE: Duration = Duration::from_mins(2);

/// How the failure begins whose reason is that no token could be had.
pub(crate) const NO_TOKEN: &str = "no token for the repository";

/// The attempt is not this agent's any more; what it does counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// A short-lived right.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// The token itself.
    pub(crate) secret: SecretString,
    /// Root of the REST API that it is for.
    pub(crate) api_url: String,
}

/// One attempt's voice. What it says tells nothing of the host's folders.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    desk: Arc<Desk>,
    paths: Arc<HostPaths>,
    work: Work,
}

impl Reporter {
    pub(crate) const fn new(desk: Arc<Desk>, paths: Arc<HostPaths>, work: Work) -> Self {
        Self { desk, paths, work }
    }

    /// Whose voice it is.
    pub(crate) const fn work(&self) -> Work {
        self.work
    }

    /// The assignment is accepted.
    pub(crate) fn accept(&self) {
        self.desk.put(self.work, WorkEvent::Accepted);
    }

    /// The assignment is refused.
    pub(crate) fn refuse(&self, reason: impl Into<String>) {
        let reason = self.hide_paths(&reason.into());
        self.desk.put(self.work, WorkEvent::Refused { reason });
    }

    /// A phase begins.
    pub(crate) fn progress(&self, phase: Phase, detail: impl Into<String>) {
        self.desk.put(
            self.work,
            WorkEvent::Progress {
                phase,
                detail: detail.into(),
            },
        );
    }

    /// Lines of output; dropped and counted when there is no room.
    pub(crate) fn log(&self, lines: &[String], dropped: u64) {
        let lines = lines.iter().map(|line| self.hide_paths(line)).collect();
        self.desk.put(self.work, WorkEvent::Log { lines, dropped });
    }

    /// A node finished. Returns when that is durable.
    pub(crate) async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), Gone> {
        self.durably(WorkEvent::Checkpoint(checkpoint)).await
    }

    /// The attempt ended. Returns when that is durable.
    pub(crate) async fn finished(&self, mut outcome: Outcome) -> Result<(), Gone> {
        for text in outcome.texts_mut() {
            *text = self.hide_paths(text);
        }
        self.durably(WorkEvent::Finished(outcome)).await
    }

    /// A text as others may read it: without the paths of this host.
    pub(crate) fn hide_paths(&self, text: &str) -> String {
        self.paths.hide(text)
    }

    async fn durably(&self, event: WorkEvent) -> Result<(), Gone> {
        let (seq, mut standing) = self.desk.put(self.work, event).ok_or(Gone)?;
        let settled = |standing: &Standing| match standing {
            Standing::Durable(number) => *number >= seq,
            Standing::Gone => true,
        };
        match standing.wait_for(settled).await.as_deref() {
            Ok(Standing::Durable(_)) => Ok(()),
            Ok(Standing::Gone) | Err(_) => Err(Gone),
        }
    }

    /// A token for the task's repository.
    pub(crate) async fn token(&self, scope: v1::CredentialScope) -> Result<Token, Failure> {
        let answer = tokio::time::timeout(TOKEN_PATIENCE, self.desk.ask(self.work, scope)).await;
        let refused = match answer {
            Ok(Ok(Ok(token))) => {
                patchfleet_guard::register_temporary_secret(&token.token);
                return Ok(Token {
                    secret: token.token.into(),
                    api_url: token.api_url,
                });
            }
            Ok(Ok(Err(refused))) => refused,
            Ok(Err(_)) => "the attempt is over".to_owned(),
            Err(_) => "the coordinator did not answer".to_owned(),
        };
        Err(Failure {
            kind: FailureKind::RemoteUnavailable,
            message: format!("{NO_TOKEN}: {refused}"),
            retryable: true,
            discard_checkpoints: false,
        })
    }

    /// Why the work was ended early, if it was.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.desk.stopped(self.work)
    }

    /// The work is done; its slot is free.
    pub(crate) fn free(&self) {
        self.desk.free(self.work);
    }
}
