//! Work that finds more work, spread over as many threads as there are processors.

use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Most threads of one call; file systems gain little from more.
const MOST: usize = 8;

/// What waits to be done. The newest is taken first, so that few folders are open at a time.
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
}

struct State<J> {
    waiting: Vec<J>,
    running: usize,
    is_over: bool,
}

/// A piece of work under way, which may add to the queue until this value is dropped.
pub(crate) struct Running<'a, J>(&'a Queue<J>);

/// Has each of some threads run `worker`, which takes from the queue until it is empty and nobody
/// adds to it any more. The first error ends all.
pub(crate) fn spread<J: Send, R: Send, E: Send>(
    first: J,
    worker: impl Fn(&Queue<J>) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let queue = Queue {
        state: Mutex::new(State {
            waiting: vec![first],
            running: 0,
            is_over: false,
        }),
        changed: Condvar::new(),
    };
    let work = || {
        // Nobody waits for one that failed, or panicked.
        let _over = Over(&queue);
        worker(&queue)
    };
    let others = thread::available_parallelism().map_or(1, NonZero::get);
    let results: Vec<_> = thread::scope(|scope| {
        let others = (1..others.min(MOST)).map(|_| scope.spawn(work));
        let others: Vec<_> = others.collect();
        let own = work();
        let joined = others.into_iter().map(|it| {
            it.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        std::iter::once(own).chain(joined).collect()
    });
    results.into_iter().collect()
}

impl<J> Queue<J> {
    /// The next piece of work, once there is one; `None` when there will be none.
    pub(crate) fn next(&self) -> Option<(J, Running<'_, J>)> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(job) = state.waiting.pop() {
                state.running += 1;
                return Some((job, Running(self)));
            }
            if state.running == 0 {
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds work that was found by a piece that is under way.
    pub(crate) fn add(&self, jobs: Vec<J>) {
        if !jobs.is_empty() {
            self.lock().waiting.extend(jobs);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Drop for Running<'_, J> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        if state.running == 0 {
            self.0.changed.notify_all();
        }
    }
}

/// Ends the queue when a thread is through: either all is done, or that thread failed.
struct Over<'a, J>(&'a Queue<J>);

impl<J> Drop for Over<'_, J> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_is_found_on_the_way_is_done_once() {
        let counted = spread(1_u32, |queue| {
            let mut done = Vec::new();
            while let Some((number, _running)) = queue.next() {
                done.push(number);
                queue.add(
                    [number * 2, number * 2 + 1]
                        .into_iter()
                        .filter(|it| *it < 500)
                        .collect(),
                );
            }
            Ok::<_, ()>(done)
        });
        let mut done = counted.unwrap().concat();
        done.sort_unstable();
        assert_eq!(done, (1..500).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_ends_all_of_the_work() {
        let failed = spread(0_u32, |queue| {
            while let Some((number, _running)) = queue.next() {
                if number == 100 {
                    return Err("a hundred");
                }
                queue.add(vec![number + 1]);
            }
            Ok(())
        });
        assert_eq!(failed, Err("a hundred"));
    }
}
