//! Whether this host can do any work at all: a self-test, and a circuit breaker over attempts that
//! fail early and alike.
//!
//! A host on which a tool, git or the disk is missing fails each task at once, is always free and
//! gets the next one. An agent that notices says that it is in error and why, takes nothing, and
//! gives the task back uncounted. It repeats the self-test with backoff and takes tasks again when
//! it passes: one at a time at first, where the self-test had seen nothing wrong.
//! What a tool says of itself (that it is not logged in) costs the task nothing either, but a single
//! such word stops nobody: it may have come from an issue's text.
//! A provider that refuses the agent's own call (its key, the model's name, the account) is another
//! matter: no issue's text brings that about, and the next task would end the same, so one such refusal
//! stops the agent. It asks the model again from time to time, and takes tasks again once it is answered.
//! Absent: judging the task. A failure after a draft was made is the task's, unless it says otherwise.

mod models;
mod record;
mod self_test;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use patchfleet_domain::TaskId;
use patchfleet_domain::outcome::{Failure, FailureKind};
use tokio::sync::Notify;

use crate::config::AgentConfig;
use crate::sandbox::Sandbox;
use models::Models;
use record::{Early, Record};
use self_test::SelfTest;

/// What is known of an attempt that failed.
#[derive(Debug, Clone)]
pub(crate) struct Attempted {
    pub(crate) task: TaskId,
    pub(crate) repository: String,
    /// A draft was made in it, or was there before.
    pub(crate) drafted: bool,
}

/// The fitness of one agent's host.
#[derive(Debug)]
pub(crate) struct Fitness {
    test: SelfTest,
    models: Models,
    record: Mutex<Record>,
    /// It is to be told to the coordinator.
    is_news: AtomicBool,
    /// There is a fault to recover from.
    broken: Notify,
}

impl Fitness {
    pub(crate) fn of(config: &AgentConfig, sandbox: Sandbox) -> Self {
        Self {
            test: SelfTest::of(config, sandbox),
            models: Models::of(config),
            record: Mutex::default(),
            is_news: AtomicBool::new(false),
            broken: Notify::new(),
        }
    }

    /// Tests the host, and remembers what is wrong with it.
    pub(crate) async fn check(&self) -> Option<String> {
        let fault = self.test.run().await?;
        self.breaks(|record| record.broken(fault.clone()));
        Some(fault)
    }

    /// What is wrong with the host, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        self.record().fault().map(str::to_owned)
    }

    /// How many tasks it may work on at once, of so many.
    pub(crate) fn slots(&self, slots: u32) -> u32 {
        if self.record().is_on_trial() {
            slots.min(1)
        } else {
            slots
        }
    }

    /// An attempt showed that the host works.
    pub(crate) fn works(&self) {
        self.record().works();
    }

    /// Says whose fault a failure is: one of the host's own is told as such, which costs the task
    /// nothing.
    pub(crate) async fn judge(&self, failure: Failure, attempted: &Attempted) -> Failure {
        if failure.kind == FailureKind::ModelUnusable {
            self.breaks(|record| record.refused(failure.message.clone()));
            return failure;
        }
        if attempted.drafted && failure.kind != FailureKind::HostFault {
            self.works();
            return failure;
        }
        let Some(early) = Early::of(&failure, attempted) else {
            return failure;
        };
        if let Some(fault) = self.check().await {
            let message = format!(
                "{fault}; the attempt ended with `{}`: {}",
                failure.kind, failure.message
            );
            return host_fault(message, &failure);
        }
        let mut record = self.record();
        let counted = record.early(early);
        drop(record);
        match counted {
            Some(fault) => {
                self.breaks(|record| record.suspected(fault.clone()));
                host_fault(fault, &failure)
            }
            None => failure,
        }
    }

    /// True once for each change that the coordinator should hear of before anything else.
    pub(crate) fn take_news(&self) -> bool {
        self.is_news.swap(false, Ordering::Relaxed)
    }

    /// Recovers from faults, for as long as it is polled; calls `changed` when something changed.
    pub(crate) async fn recover(&self, changed: impl Fn()) {
        loop {
            let pause = self.record().pause();
            let Some(pause) = pause else {
                self.broken.notified().await;
                continue;
            };
            tokio::time::sleep(pause).await;
            self.look_again().await;
            self.is_news.store(true, Ordering::Relaxed);
            changed();
        }
    }

    /// Takes back the fault if there is none any more.
    async fn look_again(&self) {
        if let Some(fault) = self.test.run().await {
            return self.breaks(|record| record.broken(fault));
        }
        let asks = self.record().is_refused();
        let refused = if asks {
            self.models.fault().await
        } else {
            None
        };
        match refused {
            Some(fault) => self.breaks(|record| record.refused(fault)),
            None => {
                self.record().recovered();
                tracing::info!("the host is fit again: tasks are taken");
            }
        }
    }

    fn breaks(&self, how: impl FnOnce(&mut Record)) {
        let mut record = self.record();
        let before = record.fault().map(str::to_owned);
        how(&mut record);
        if let Some(fault) = record
            .fault()
            .filter(|fault| before.as_deref() != Some(*fault))
        {
            tracing::error!(
                fault,
                "the host is unfit to work: no task is taken until this is mended"
            );
        }
        drop(record);
        self.is_news.store(true, Ordering::Relaxed);
        self.broken.notify_one();
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn host_fault(message: String, failure: &Failure) -> Failure {
    Failure {
        kind: FailureKind::HostFault,
        message,
        retryable: true,
        discard_checkpoints: failure.discard_checkpoints,
    }
}

#[cfg(test)]
mod tests;
