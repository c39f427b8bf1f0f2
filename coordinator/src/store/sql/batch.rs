//! Group commit: what comes in while a transaction commits shares the next one, so that batches
//! grow with the load and a lone caller waits for nobody.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Database;
use crate::store::{StoreError, StoreResult};

/// Most jobs in one transaction.
const MOST: usize = 512;
/// How often a transaction that lost against another one is tried.
const TRIES: u32 = 4;

/// Does some jobs in one transaction; gives as many results, in the same order.
pub(super) type Run<J, R> = for<'a> fn(&'a Database, &'a [J]) -> BoxFuture<'a, StoreResult<Vec<R>>>;

/// A job and whom to tell.
type Waiting<J, R> = (J, oneshot::Sender<StoreResult<R>>);

/// Takes jobs from many callers and does them in few transactions, in the order of their coming.
#[derive(Debug)]
pub(super) struct Batcher<J, R> {
    jobs: mpsc::Sender<Waiting<J, R>>,
    /// Ends with the batcher.
    _worker: JoinSet<()>,
}

impl<J: Send + Sync + 'static, R: Send + 'static> Batcher<J, R> {
    pub(super) fn start(database: Arc<Database>, run: Run<J, R>) -> Self {
        let (jobs, waiting) = mpsc::channel(MOST);
        let mut worker = JoinSet::new();
        worker.spawn(work(database, run, waiting));
        Self {
            jobs,
            _worker: worker,
        }
    }

    /// Waits until nobody does jobs any more, which is so only after a fault.
    pub(super) async fn ended(&self) {
        self.jobs.closed().await;
    }

    /// Waits until the job is durable. A caller that goes away before its turn takes the job back;
    /// later it may be done or not.
    pub(super) async fn submit(&self, job: J) -> StoreResult<R> {
        let gone = || StoreError::Unavailable("the store is being closed".to_owned());
        let (done, result) = oneshot::channel();
        self.jobs.send((job, done)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

async fn work<J: Send + Sync, R: Send>(
    database: Arc<Database>,
    run: Run<J, R>,
    mut waiting: mpsc::Receiver<Waiting<J, R>>,
) {
    let mut taken = Vec::new();
    while waiting.recv_many(&mut taken, MOST).await > 0 {
        // While the database was slow, many may have given up, who come again.
        taken.retain(|(_, caller)| !caller.is_closed());
        if taken.is_empty() {
            continue;
        }
        let (jobs, callers): (Vec<J>, Vec<_>) = taken.drain(..).unzip();
        let results = together(&database, run, &jobs).await;
        for (caller, result) in callers.into_iter().zip(results) {
            // Whoever went away does not need to know.
            let _ = caller.send(result);
        }
    }
}

/// Does jobs in one transaction, or, when one of them can't be done, each in its own: the others
/// are not to suffer.
async fn together<J: Sync, R>(
    database: &Database,
    run: Run<J, R>,
    jobs: &[J],
) -> Vec<StoreResult<R>> {
    match database.persistently(|| run(database, jobs)).await {
        Ok(done) => done.into_iter().map(Ok).collect(),
        Err(error @ StoreError::Unavailable(_)) => {
            jobs.iter().map(|_| Err(error.clone())).collect()
        }
        Err(error) if jobs.len() == 1 => vec![Err(error)],
        Err(error) => {
            tracing::warn!(%error, jobs = jobs.len(), "a batch is done one by one");
            let mut results = Vec::with_capacity(jobs.len());
            for job in jobs {
                let one = std::slice::from_ref(job);
                let alone = database.persistently(|| run(database, one)).await;
                results.push(alone.and_then(|done| {
                    let none = || StoreError::Corrupt("a job without a result".to_owned());
                    done.into_iter().next().ok_or_else(none)
                }));
            }
            results
        }
    }
}

impl Database {
    /// Tries again what lost against another transaction, within the limit of one operation.
    pub(super) async fn persistently<T, F>(&self, once: impl FnMut() -> F) -> StoreResult<T>
    where
        F: Future<Output = StoreResult<T>>,
    {
        self.patience.bound(persistently(once)).await
    }
}

/// Tries again what lost against another transaction; the database has undone it.
async fn persistently<T, F>(mut once: impl FnMut() -> F) -> StoreResult<T>
where
    F: Future<Output = StoreResult<T>>,
{
    let mut tries = 1;
    loop {
        match once().await {
            Err(StoreError::Contended(why)) if tries < TRIES => {
                tracing::debug!(why, tries, "a transaction is tried again");
                tries += 1;
            }
            done => return done,
        }
    }
}
