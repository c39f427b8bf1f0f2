//! The stages of one coordinator as tasks: each has a name, and one that ends without having been
//! asked to ends the coordinator.
//!
//! The end is noted at once, for `/health/live`, and so that whoever runs the coordinator can end
//! what depends on it. Absent: starting a stage anew; the process is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use patchfleet_resilience::{StageEnded, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The stages that ended without having been asked to. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    ended: Arc<Mutex<Vec<StageEnded>>>,
    failed: CancellationToken,
}

impl Liveness {
    /// All that ended, in the order of their ends.
    pub fn ended(&self) -> Vec<StageEnded> {
        self.lock().clone()
    }

    /// Notes the end of a stage.
    pub fn note(&self, ended: StageEnded) {
        tracing::error!("{ended}; the process ends");
        self.lock().push(ended);
        self.failed.cancel();
    }

    /// Waits for the first end.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.failed.clone().cancelled_owned()
    }

    /// The first end as an error, if there was one.
    fn first(&self) -> Result<(), StageEnded> {
        self.lock().first().cloned().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<StageEnded>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stages that are asked to end by one token.
#[derive(Debug)]
pub(crate) struct Stages {
    running: JoinSet<()>,
    liveness: Liveness,
    stop: CancellationToken,
}

impl Stages {
    pub(crate) fn new(liveness: Liveness, stop: CancellationToken) -> Self {
        Self {
            running: JoinSet::new(),
            liveness,
            stop,
        }
    }

    /// What asks these stages to end.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a stage that can fail.
    pub(crate) fn try_start<E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        stage: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (liveness, stop) = (self.liveness.clone(), self.stop.clone());
        self.running.spawn(async move {
            let ended = match watch(name, stage).await {
                Ok(Ok(())) if stop.is_cancelled() => return,
                Ok(Ok(())) => StageEnded::returned(name),
                Ok(Err(error)) => StageEnded::failed(name, error),
                Err(ended) => ended,
            };
            liveness.note(ended);
        });
    }

    /// Starts a stage.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        stage: impl Future<Output = ()> + Send + 'static,
    ) {
        self.try_start(name, async {
            stage.await;
            Ok::<_, StageEnded>(())
        });
    }

    /// Asks all to end, and waits until they have, but no longer than until that moment.
    async fn end(&mut self, by: Instant) {
        self.stop.cancel();
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout_at(by, all).await.is_err() {
            tracing::warn!("not everything ended in time; the rest is dropped");
        }
    }
}

/// All stages of a coordinator.
#[derive(Debug)]
pub(crate) struct Running {
    /// Everything but the HTTP interface.
    pub(crate) loops: Stages,
    /// The HTTP interface. It goes on while the others end because of a fault, so that probes and
    /// people can see why.
    pub(crate) http: Stages,
}

impl Running {
    /// No stages yet, which a shutdown ends all.
    pub(crate) fn new(liveness: &Liveness, shutdown: &CancellationToken) -> Self {
        Self {
            loops: Stages::new(liveness.clone(), shutdown.child_token()),
            http: Stages::new(liveness.clone(), shutdown.child_token()),
        }
    }

    /// Waits for the shutdown or for the end of a stage, then ends all within the deadline.
    ///
    /// # Errors
    /// When a stage ended without having been asked to: the first one.
    pub(crate) async fn join(
        mut self,
        shutdown: CancellationToken,
        deadline: Duration,
    ) -> Result<(), StageEnded> {
        let liveness = self.loops.liveness.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = liveness.failed() => {}
        }
        let by = Instant::now() + deadline;
        if shutdown.is_cancelled() {
            tokio::join!(self.loops.end(by), self.http.end(by));
        } else {
            self.loops.end(by).await;
            // There may be nothing left of the deadline, and connections end quickly.
            self.http.end(by.max(Instant::now() + HTTP_PATIENCE)).await;
        }
        liveness.first()
    }
}

/// How long the HTTP interface may take to end when it ends after everything else.
const HTTP_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
