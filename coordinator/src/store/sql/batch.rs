//! Group commit: what comes in while a transaction commits shares the next one, so that batches
//! grow with the load and a lone caller waits for nobody.

use std::sync::Arc;

use futures::future::BoxFuture;
use patchfleet_domain::TaskId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Database;
use super::unreadable::TASKS;
use crate::store::{Cas, StoreError, StoreResult};

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
        let results = together(&database, &jobs, |jobs| run(&database, jobs)).await;
        for (caller, result) in callers.into_iter().zip(results) {
            // Whoever went away does not need to know.
            let _ = caller.send(result);
        }
    }
}

/// Does jobs in one transaction, or, when one of them can't be done, each in its own: the others
/// are not to suffer.
async fn together<'a, J, R, F>(
    database: &Database,
    jobs: &'a [J],
    run: impl Fn(&'a [J]) -> F,
) -> Vec<StoreResult<R>>
where
    F: Future<Output = StoreResult<Vec<R>>>,
{
    match database.persistently(|| run(jobs)).await {
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
                let alone = database.persistently(|| run(one)).await;
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

/// Does jobs about tasks in one transaction, or, when what is stored of one task does not allow it,
/// each in its own: such a job is stale, and lists leave its task out for a while.
///
/// # Errors
/// When none of them could be done.
pub(super) async fn each<'a, J, T, F>(
    database: &Database,
    (jobs, task): (&'a [J], fn(&J) -> TaskId),
    run: impl Fn(&'a [J]) -> F,
) -> StoreResult<Vec<Cas<T>>>
where
    F: Future<Output = StoreResult<Vec<Cas<T>>>>,
{
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let results = together(database, jobs, run).await;
    for (job, result) in jobs.iter().zip(&results) {
        if let Err(error @ StoreError::Corrupt(_)) = result {
            database.skip(TASKS, &task(job).to_string(), error);
        }
    }
    if results.iter().all(Result::is_err) {
        return results.into_iter().collect();
    }
    let done = results.into_iter().map(|result| {
        result.unwrap_or_else(|error| {
            tracing::warn!(%error, "one of many changes was not made");
            Cas::Stale
        })
    });
    Ok(done.collect())
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
