//! Long-running parts of a process, watched: one that ends without having been asked to is an error
//! that names it, whether it returned, failed or panicked.
//!
//! A process that goes on without one of its parts looks healthy and does half its work, so whoever
//! watches ends the rest in order. Absent: starting a part anew, which hides its fault.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

/// The end of a stage that nobody had asked to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stage `{stage}` ended without being asked to: {reason}")]
pub struct StageEnded {
    /// The stage's name.
    pub stage: &'static str,
    /// How it ended: the error's or the panic's own words.
    pub reason: String,
}

impl StageEnded {
    /// The end of a stage that returned although there was more to do.
    pub fn returned(stage: &'static str) -> Self {
        let reason = "it returned, which is a fault of the program".to_owned();
        Self { stage, reason }
    }

    /// The end of a stage that failed.
    pub fn failed(stage: &'static str, error: impl fmt::Display) -> Self {
        // With all its causes, where it is one of those that tell them.
        let reason = format!("{error:#}");
        Self { stage, reason }
    }

    fn panicked(stage: &'static str, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let reason = format!("it panicked: {}", text.unwrap_or("without a word"));
        Self { stage, reason }
    }
}

/// Runs a stage and returns what it returns.
///
/// # Errors
/// When it panicked.
pub async fn watch<T>(
    stage: &'static str,
    running: impl Future<Output = T>,
) -> Result<T, StageEnded> {
    // What a panic left halfway is not used again: the process ends.
    let ended = AssertUnwindSafe(running).catch_unwind().await;
    ended.map_err(|panic| StageEnded::panicked(stage, panic.as_ref()))
}

/// Runs a stage that is to go on for as long as it is polled; returns how it ended.
pub async fn watch_endless(stage: &'static str, running: impl Future<Output = ()>) -> StageEnded {
    match watch(stage, running).await {
        Ok(()) => StageEnded::returned(stage),
        Err(ended) => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_names_the_stage_and_says_how_it_ended() {
        let ended = watch_endless("outbox", async {}).await;
        assert_eq!(
            ended.to_string(),
            "the stage `outbox` ended without being asked to: it returned, which is a fault of \
             the program"
        );
        let ended = watch_endless("outbox", async { panic!("no entry {}", 7) }).await;
        assert_eq!(ended.reason, "it panicked: no entry 7");
        let ended = watch("outbox", async { std::panic::panic_any(7) }).await;
        let ended: Result<(), _> = ended;
        assert_eq!(ended.unwrap_err().reason, "it panicked: without a word");
        assert_eq!(watch("outbox", async { 7 }).await, Ok(7));
    }
}
