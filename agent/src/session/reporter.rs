//! How a job talks to the coordinator: reports, checkpoints, tokens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchfleet_domain::outcome::{Failure, FailureKind, Outcome};
use patchfleet_domain::report::{Checkpoint, Report, WorkEvent};
use patchfleet_domain::{Limit, Phase, Reservation, Reserved, Spent, Usage, Work};
use patchfleet_proto::{MAX_MESSAGE_BYTES, encoded_len, v1};
use secrecy::SecretString;

use super::desk::{Desk, Standing, Stop};
use crate::follow_ups::FollowUps;
use crate::host_paths::HostPaths;

/// How long to wait for a token: longer than a coordinator takes to be started anew.
const TOKEN_PATIENCE: Duration = Duration::from_mins(2);

/// How the failure begins whose reason is that no token could be had.
pub(crate) const NO_TOKEN: &str = "no token for the repository";

/// Longest text for people in a report, in bytes. Comments on GitHub have room for 65,536.
const LONGEST_TEXT: usize = 256 * 1024;

/// Why a checkpoint is not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// The attempt is not this agent's any more.
    Gone,
    /// It is longer than a message may be. It was not sent, and never will be.
    TooLarge {
        /// The bytes of the message that it would be.
        bytes: usize,
    },
}

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
    task_limit: Limit,
    /// What the task used of models, as far as this agent knows.
    spent: Arc<Mutex<Spent>>,
}

impl Reporter {
    pub(crate) fn new(desk: Arc<Desk>, paths: Arc<HostPaths>, work: Work) -> Self {
        Self {
            desk,
            paths,
            work,
            task_limit: Limit::default(),
            spent: Arc::default(),
        }
    }

    /// The same voice, for a task whose earlier attempts have used that of models.
    pub(crate) fn after(self, spent: Spent) -> Self {
        let spent = Arc::new(Mutex::new(spent));
        Self { spent, ..self }
    }

    /// What the task used of models so far, in this attempt and those before it.
    pub(crate) fn spent(&self) -> Spent {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same voice, for a task of a repository that lets it spend no more than that.
    pub(crate) fn within(self, task_limit: Limit) -> Self {
        Self { task_limit, ..self }
    }

    /// What the repository lets the task spend in all its attempts.
    pub(crate) const fn task_limit(&self) -> Limit {
        self.task_limit
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
        let reason = shortened(self.hide_paths(&reason.into()));
        self.desk.put(self.work, WorkEvent::Refused { reason });
    }

    /// A phase begins.
    pub(crate) fn progress(&self, phase: Phase, detail: impl Into<String>) {
        self.desk.put(
            self.work,
            WorkEvent::Progress {
                phase,
                detail: shortened(detail.into()),
            },
        );
    }

    /// Lines of output; dropped and counted when there is no room.
    pub(crate) fn log(&self, lines: &[String], dropped: u64) {
        let lines = lines.iter().map(|line| self.hide_paths(line)).collect();
        self.desk.put(self.work, WorkEvent::Log { lines, dropped });
    }

    /// A node finished. Returns when that is durable. A checkpoint that no message can carry is
    /// refused here: sent, it would break the stream, and every stream after it.
    pub(crate) async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), NotKept> {
        let event = WorkEvent::Checkpoint(checkpoint);
        let bytes = message_bytes(self.work, event.clone());
        if bytes > MAX_MESSAGE_BYTES {
            return Err(NotKept::TooLarge { bytes });
        }
        self.durably(event).await.map_err(|Gone| NotKept::Gone)
    }

    /// The attempt ended. Returns when that is durable.
    pub(crate) async fn finished(&self, mut outcome: Outcome) -> Result<(), Gone> {
        for text in outcome.texts_mut() {
            *text = shortened(self.hide_paths(text));
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

    /// Whether a call of a model may be made, at the most that it can use. What the budgets have no
    /// room for is [`Reserved::Refused`].
    ///
    /// # Errors
    /// A failure that another attempt may not meet: nobody could say.
    pub(crate) async fn reserve(&self, call: &Reservation) -> Result<Reserved, Failure> {
        use v1::reservation::Answer;
        let asked = self.desk.reserve(self.work, call);
        let refused = match tokio::time::timeout(TOKEN_PATIENCE, asked).await {
            Ok(Ok(Answer::Granted(v1::Granted {}))) => return Ok(Reserved::Granted),
            Ok(Ok(Answer::Exceeded(exceeded))) => match exceeded.try_into() {
                Ok(exceeded) => return Ok(Reserved::Refused(exceeded)),
                Err(error) => error.to_string(),
            },
            Ok(Ok(Answer::Refused(refused))) => refused,
            Ok(Err(_)) => "the attempt is over".to_owned(),
            Err(_) => {
                "the coordinator did not answer; one of an older version never does".to_owned()
            }
        };
        Err(Failure {
            kind: FailureKind::RemoteUnavailable,
            message: format!("no budget for a call of a model: {refused}"),
            retryable: true,
            discard_checkpoints: false,
        })
    }

    /// What a call of a model used. Returns when that is durable, so that the next call is reserved
    /// against what is left.
    pub(crate) async fn usage(&self, usage: Usage) -> Result<(), Gone> {
        {
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.add(&usage);
        }
        self.durably(WorkEvent::Usage(usage)).await
    }

    /// What people add to the task meanwhile.
    pub(crate) fn follow_ups(&self) -> FollowUps {
        self.desk.follow_ups(self.work)
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

/// The bytes that a report takes as a message.
fn message_bytes(work: Work, event: WorkEvent) -> usize {
    let report = Report {
        work,
        // The longest number there is: the report has none yet.
        seq: u64::MAX,
        event,
    };
    let body = v1::agent_message::Body::Report(report.into());
    encoded_len(&v1::AgentMessage { body: Some(body) })
}

/// A text for people that a message has room for: its beginning and its end, where it is too long.
fn shortened(text: String) -> String {
    if text.len() <= LONGEST_TEXT {
        return text;
    }
    let head = text.floor_char_boundary(LONGEST_TEXT / 2);
    let tail = text.ceil_char_boundary(text.len() - LONGEST_TEXT / 2);
    let omitted = tail - head;
    format!(
        "{}\n[{omitted} bytes are left out here]\n{}",
        &text[..head],
        &text[tail..]
    )
}

#[cfg(test)]
mod tests {
    use patchfleet_domain::{AttemptNumber, TaskId};
    use serde_json::json;

    use super::*;

    fn reporter() -> Reporter {
        let work = Work {
            task: TaskId::new(),
            attempt: AttemptNumber(1),
        };
        let desk = Arc::new(Desk::default());
        desk.open(work, true);
        Reporter::new(desk, Arc::default(), work)
    }

    fn message_sizes(reporter: &Reporter) -> Vec<usize> {
        let messages = reporter.desk.unsaid().into_iter();
        messages
            .map(|body| encoded_len(&v1::AgentMessage { body: Some(body) }))
            .collect()
    }

    #[tokio::test]
    async fn a_checkpoint_that_no_message_can_carry_is_refused_and_never_sent() {
        let reporter = reporter();
        let checkpoint = |bytes: usize| Checkpoint {
            node: "patch".to_owned(),
            visit: 1,
            output: json!("x".repeat(bytes)),
        };
        let refused = reporter.checkpoint(checkpoint(MAX_MESSAGE_BYTES)).await;
        let Err(NotKept::TooLarge { bytes }) = refused else {
            panic!("{refused:?}");
        };
        assert!(bytes > MAX_MESSAGE_BYTES);
        assert_eq!(message_sizes(&reporter), [0; 0]);
        // What is just short enough goes, and the stream takes it.
        let spare = bytes - MAX_MESSAGE_BYTES;
        let largest = reporter.checkpoint(checkpoint(MAX_MESSAGE_BYTES - spare));
        let waiting = futures::poll!(std::pin::pin!(largest));
        assert!(waiting.is_pending(), "it waits for the coordinator");
        let [sent] = message_sizes(&reporter)[..] else {
            panic!("one message");
        };
        assert!(sent <= MAX_MESSAGE_BYTES, "{sent}");
    }

    #[tokio::test]
    async fn whatever_people_are_told_fits_into_a_message() {
        let reporter = reporter();
        let long = "é".repeat(MAX_MESSAGE_BYTES);
        reporter.progress(Phase::Workspace, long.clone());
        reporter.refuse(long.clone());
        let end = Outcome::Failed(Failure {
            kind: FailureKind::TestsFailed,
            message: format!("it began {long} and ended"),
            retryable: false,
            discard_checkpoints: false,
        });
        let finished = reporter.finished(end);
        assert!(futures::poll!(std::pin::pin!(finished)).is_pending());
        let sizes = message_sizes(&reporter);
        assert_eq!(sizes.len(), 3);
        assert!(
            sizes.iter().all(|bytes| *bytes < MAX_MESSAGE_BYTES / 4),
            "{sizes:?}"
        );
        let cut = shortened(format!("it began {long} and ended"));
        assert!(cut.starts_with("it began") && cut.ends_with("and ended"));
        assert!(cut.contains("bytes are left out here"));
    }
}
