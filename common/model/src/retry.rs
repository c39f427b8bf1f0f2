//! Calls of a model through retry and circuit breaker.
//!
//! A whole stream is one call. It is made again only while nothing of an answer was received,
//! because what was received is paid for. Waits that a provider asks for are kept to as far as the
//! policy allows; longer ones are the caller's, who finds them in the error.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_resilience::{CallError, Failure, FailureKind, Policy, Remote};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Answer, Broken, Conversation, Model, ModelError, Origin, Usage};

/// The policy for models: delays of half a second and more, waits up to two minutes.
pub const POLICY: Policy = Policy {
    tries: 5,
    base: Duration::from_millis(500),
    cap: Duration::from_mins(2),
    threshold: 5,
    rest: Duration::from_mins(1),
};

/// A model whose calls are made again while that may help.
pub struct Retrying<M> {
    inner: M,
    remote: Remote,
}

/// What all tries of a call add up to.
#[derive(Default)]
struct Effort {
    usage: Usage,
    tries: u32,
    busy: Duration,
}

/// A try that failed.
struct Tried(Broken);

impl Failure for Tried {
    fn kind(&self) -> FailureKind {
        let broken = &self.0;
        // It counts against the provider, but nobody waits that long.
        let never = Some(Duration::MAX);
        let again = !broken.started && broken.advice != Some(false);
        match &broken.error {
            ModelError::RateLimited { after } if again => FailureKind::Limited {
                retry_after: *after,
            },
            ModelError::RateLimited { .. } => FailureKind::Limited { retry_after: never },
            ModelError::Overloaded { after } if again => FailureKind::Transient {
                retry_after: *after,
            },
            ModelError::Away { .. } if again => FailureKind::Transient { retry_after: None },
            ModelError::Overloaded { .. }
            | ModelError::Away { .. }
            // Another try would wait as long, and be charged once more.
            | ModelError::TimedOut { .. } => {
                FailureKind::Transient { retry_after: never }
            }
            _ if again && broken.advice == Some(true) => FailureKind::Limited { retry_after: None },
            _ => FailureKind::Permanent,
        }
    }
}

impl<M: Model> Retrying<M> {
    /// A model behind the breaker of its provider, which all models of the provider share.
    pub const fn new(inner: M, remote: Remote) -> Self {
        Self { inner, remote }
    }

    /// The model itself.
    pub const fn inner(&self) -> &M {
        &self.inner
    }

    async fn once(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
        effort: &Mutex<Effort>,
    ) -> Result<Answer, Tried> {
        if cancel.is_cancelled() {
            return Err(Tried(ModelError::Cancelled.into()));
        }
        let started = Instant::now();
        let answered = self.inner.answer(conversation, cancel).await;
        let mut effort = lock(effort);
        effort.busy += started.elapsed();
        match &answered {
            Ok(answer) => {
                effort.tries += 1;
                effort.usage += answer.usage;
            }
            Err(broken) => {
                effort.tries += broken.tries;
                effort.usage += broken.usage_so_far;
                let model = self.origin();
                tracing::info!(%model, error = broken.error.word(), tries = effort.tries, "a call failed");
            }
        }
        answered.map_err(Tried)
    }
}

#[async_trait]
impl<M: Model> Model for Retrying<M> {
    fn origin(&self) -> &Origin {
        self.inner.origin()
    }

    async fn answer(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
    ) -> Result<Answer, Broken> {
        let effort = Mutex::new(Effort::default());
        let in_flight = tokio::sync::Mutex::new(());
        let started = Instant::now();
        let call = self.remote.call(|| async {
            let _flight = in_flight.lock().await;
            self.once(conversation, cancel, &effort).await
        });
        // A call in flight ends by itself when it is cancelled, and says what it used; a wait
        // between two calls is cut short here.
        let cut_short = async {
            cancel.cancelled().await;
            let _ = in_flight.lock().await;
        };
        let called = tokio::select! {
            biased;
            called = call => called,
            () = cut_short => Err(CallError::Failed(Tried(ModelError::Cancelled.into()))),
        };
        let effort = effort.into_inner().unwrap_or_else(PoisonError::into_inner);
        match called {
            Ok(answer) => Ok(Answer {
                usage: effort.usage,
                ..answer
            }),
            Err(error) => Err(Broken {
                usage_so_far: effort.usage,
                tries: effort.tries,
                waited: started.elapsed().saturating_sub(effort.busy),
                ..last(error)
            }),
        }
    }
}

/// The error of the last try.
fn last(error: CallError<Tried>) -> Broken {
    match error {
        CallError::Failed(Tried(broken)) => broken,
        CallError::Open { remote, retry_in } => Broken::new(ModelError::Away {
            transport: format!(
                "{remote} failed several times in a row and is left alone for another {} s",
                retry_in.as_secs()
            ),
        }),
    }
}

fn lock(effort: &Mutex<Effort>) -> MutexGuard<'_, Effort> {
    effort.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::Stop;

    /// Answers as scripted; after that it waits for ever.
    struct Script {
        origin: Origin,
        answers: Mutex<VecDeque<Result<Answer, Broken>>>,
    }

    #[async_trait]
    impl Model for Script {
        fn origin(&self) -> &Origin {
            &self.origin
        }

        async fn answer(
            &self,
            _: &Conversation,
            cancel: &CancellationToken,
        ) -> Result<Answer, Broken> {
            let next = self.answers.lock().unwrap().pop_front();
            match next {
                Some(answer) => answer,
                None => {
                    cancel.cancelled().await;
                    Err(broken(ModelError::Cancelled))
                }
            }
        }
    }

    fn broken(error: ModelError) -> Broken {
        let usage_so_far = Usage {
            input: 10,
            ..Usage::default()
        };
        Broken {
            usage_so_far,
            tries: 1,
            ..Broken::new(error)
        }
    }

    fn answer() -> Answer {
        Answer {
            parts: Vec::new(),
            stop: Stop::End,
            usage: Usage {
                input: 5,
                ..Usage::default()
            },
        }
    }

    fn model(answers: Vec<Result<Answer, Broken>>) -> Retrying<Script> {
        let origin = Origin {
            provider: "p".into(),
            model: "m".into(),
        };
        let answers = Mutex::new(answers.into());
        Retrying::new(Script { origin, answers }, Remote::new("p", POLICY))
    }

    async fn ask(model: &Retrying<Script>) -> Result<Answer, Broken> {
        let conversation = Conversation::question("", "q", 10);
        model.answer(&conversation, &CancellationToken::new()).await
    }

    fn limited(seconds: u64) -> ModelError {
        let after = Some(Duration::from_secs(seconds));
        ModelError::RateLimited { after }
    }

    fn overloaded() -> ModelError {
        ModelError::Overloaded { after: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_up_to_two_minutes_is_kept_to_and_a_longer_one_is_the_caller_s() {
        let model = model(vec![
            Err(broken(limited(119))),
            Ok(answer()),
            Err(broken(limited(121))),
        ]);
        let started = Instant::now();
        assert_eq!(
            ask(&model).await.unwrap().usage.input,
            15,
            "each try is charged"
        );
        assert_eq!(started.elapsed(), Duration::from_secs(119));
        let refused = ask(&model).await.unwrap_err();
        assert_eq!((refused.error, refused.tries), (limited(121), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_took_all_of_its_time_is_not_paid_for_twice() {
        let limit = Duration::from_mins(10);
        let late = broken(ModelError::TimedOut { limit });
        let model = model(vec![Err(late), Ok(answer())]);
        let failed = ask(&model).await.unwrap_err();
        assert_eq!((failed.tries, failed.usage_so_far.input), (1, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_received_is_not_paid_for_twice() {
        let mut started = broken(ModelError::Away {
            transport: "reset".into(),
        });
        started.started = true;
        let model = model(vec![Err(started), Ok(answer())]);
        assert_eq!(ask(&model).await.unwrap_err().tries, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_provider_s_advice_decides() {
        let advised = |error: ModelError, advice: bool| {
            let mut broken = broken(error);
            broken.advice = Some(advice);
            Err(broken)
        };
        let rejected = || ModelError::Rejected { why: String::new() };
        let model = model(vec![
            advised(overloaded(), false),
            advised(rejected(), true),
            Ok(answer()),
            Err(broken(rejected())),
        ]);
        assert_eq!(ask(&model).await.unwrap_err().tries, 1);
        assert!(ask(&model).await.is_ok());
        assert_eq!(ask(&model).await.unwrap_err().tries, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_stays_away_is_left_alone_and_the_effort_is_told() {
        let model = model(vec![Err(broken(overloaded())); 9]);
        let gave_up = ask(&model).await.unwrap_err();
        assert_eq!((gave_up.tries, gave_up.usage_so_far.input), (5, 50));
        assert!(gave_up.to_string().contains("after 5 tries"), "{gave_up}");
        let open = ask(&model).await.unwrap_err();
        assert_eq!(open.tries, 0);
        assert!(open.to_string().contains("left alone"), "{open}");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_a_wait_at_once_and_lets_a_call_say_what_it_used() {
        let model = model(vec![Err(broken(limited(100)))]);
        let cancel = CancellationToken::new();
        let conversation = Conversation::question("", "q", 10);
        let started = Instant::now();
        let stop = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cancel.cancel();
        };
        let (waiting, ()) = tokio::join!(model.answer(&conversation, &cancel), stop);
        let waiting = waiting.unwrap_err();
        assert_eq!(
            (&waiting.error, waiting.usage_so_far.input),
            (&ModelError::Cancelled, 10)
        );
        assert_eq!(started.elapsed(), Duration::from_secs(1));
        let cancel = CancellationToken::new();
        let stop = async { cancel.cancel() };
        let (flying, ()) = tokio::join!(model.answer(&conversation, &cancel), stop);
        let flying = flying.unwrap_err();
        assert_eq!(
            (&flying.error, flying.usage_so_far.input),
            (&ModelError::Cancelled, 10)
        );
    }
}
