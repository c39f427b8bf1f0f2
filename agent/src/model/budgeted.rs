//! A model whose calls are allowed by the coordinator's budgets: reserved before each request at the
//! most that it can use, and settled with what it did use, whatever became of the answer.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use patchfleet_domain::Exceeded;
use patchfleet_domain::outcome::Failure;
use patchfleet_model::{Answer, Broken, Conversation, Model, ModelError, Origin};
use tokio_util::sync::CancellationToken;

use super::charges::{Charges, Price, most_tokens, spent};
use crate::session::reporter::Reporter;

/// An answer shorter than this is not worth asking for, in tokens.
const LEAST_OUTPUT: u32 = 4096;

/// A model behind the budgets. It belongs below whatever tries again: each try is a call of its own.
pub(crate) struct Budgeted<M> {
    model: M,
    charges: Charges,
    stopped: Mutex<Option<Failure>>,
}

impl<M: Model> Budgeted<M> {
    /// A model whose calls are reserved and settled for the attempt of that reporter.
    pub(crate) fn new(model: M, price: Box<dyn Price>, reporter: Reporter) -> Self {
        let charges = Charges::new(model.origin().clone(), price, reporter);
        Self {
            model,
            charges,
            stopped: Mutex::new(None),
        }
    }

    /// How the attempt ends, if a call was not allowed: its error says only that.
    pub(crate) fn stopped(&self) -> Option<Failure> {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.clone()
    }

    /// The name under which a call is allowed, and the most tokens that its answer may have.
    async fn reserve(&self, conversation: &Conversation) -> Result<(String, u32), Failure> {
        let prompt = prompt_tokens(conversation);
        let mut output = conversation.max_output;
        loop {
            match self.charges.reserve(prompt, u64::from(output)).await? {
                Ok(call) => return Ok((call, output)),
                Err(exceeded) => match self.smaller((prompt, output), &exceeded) {
                    Some(smaller) => output = smaller,
                    None => return Err(spent(exceeded)),
                },
            }
        }
    }

    /// A shorter answer that fits what is left, if one does that is worth asking for.
    fn smaller(&self, (prompt, output): (u64, u32), left: &Exceeded) -> Option<u32> {
        let fits = |output: u32| {
            let tokens = prompt.saturating_add(u64::from(output));
            let fits_tokens = left.tokens_left.is_none_or(|left| tokens <= left);
            let fits_money = left.money_left.is_none_or(|left| {
                let cost = self.charges.dearest(prompt, u64::from(output));
                cost.is_some_and(|cost| cost <= left)
            });
            fits_tokens && fits_money
        };
        let mut smaller = output / 2;
        while smaller >= LEAST_OUTPUT && !fits(smaller) {
            smaller /= 2;
        }
        (smaller >= LEAST_OUTPUT).then_some(smaller)
    }
}

#[async_trait]
impl<M: Model> Model for Budgeted<M> {
    fn origin(&self) -> &Origin {
        self.model.origin()
    }

    async fn answer(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
    ) -> Result<Answer, Broken> {
        let (call, max_output) = match self.reserve(conversation).await {
            Ok(reserved) => reserved,
            Err(failure) => {
                let scope = failure.message.clone();
                *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                return Err(ModelError::Budget { scope }.into());
            }
        };
        let answered = if max_output == conversation.max_output {
            self.model.answer(conversation, cancel).await
        } else {
            let shorter = Conversation {
                max_output,
                ..conversation.clone()
            };
            self.model.answer(&shorter, cancel).await
        };
        let usage = match &answered {
            Ok(answer) => answer.usage,
            Err(broken) => broken.usage_so_far,
        };
        self.charges.settle(call, usage).await;
        answered
    }
}

/// Tokens of a request, estimated to the safe side.
fn prompt_tokens(conversation: &Conversation) -> u64 {
    let bytes = serde_json::to_vec(conversation).map_or(usize::MAX, |it| it.len());
    most_tokens(u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use patchfleet_domain::Money;
    use patchfleet_domain::outcome::FailureKind;
    use patchfleet_model::{Protocol, Stop, Usage};
    use patchfleet_proto::v1;
    use patchfleet_proto::v1::reservation::Answer as Allowed;
    use patchfleet_testkit::model::{Script, Simulator};

    use super::*;
    use crate::config::LanguageModelConfig;
    use crate::model::language_model::client;
    use crate::session::heard::{Heard, heard};

    /// A millionth for each token in, two for one written to the cache, ten for one out.
    struct Simple;

    impl Price for Simple {
        fn cost(&self, usage: &Usage) -> Option<Money> {
            let input = usage.input + usage.cache_read;
            Some(Money(input + usage.cache_write * 2 + usage.output * 10))
        }
    }

    struct Double {
        origin: Origin,
        answer: Result<Answer, Broken>,
        asked: Mutex<Vec<u32>>,
    }

    impl Double {
        fn new(answer: Result<Answer, Broken>) -> Arc<Self> {
            Arc::new(Self {
                origin: Origin {
                    provider: "test".to_owned(),
                    model: "double".to_owned(),
                },
                answer,
                asked: Mutex::default(),
            })
        }

        fn asked(&self) -> Vec<u32> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl Model for Double {
        fn origin(&self) -> &Origin {
            &self.origin
        }

        async fn answer(
            &self,
            conversation: &Conversation,
            _cancel: &CancellationToken,
        ) -> Result<Answer, Broken> {
            self.asked.lock().unwrap().push(conversation.max_output);
            self.answer.clone()
        }
    }

    const USED: Usage = Usage {
        input: 10,
        cache_read: 20,
        cache_write: 30,
        output: 40,
        reasoning: 5,
        estimated: false,
    };

    fn answer() -> Answer {
        Answer {
            parts: Vec::new(),
            stop: Stop::End,
            usage: USED,
        }
    }

    /// Asks the model behind budgets whose answers come one after the other.
    async fn ask(
        model: &Arc<Double>,
        max_output: u32,
        answers: Vec<Allowed>,
    ) -> (Result<Answer, Broken>, Option<Failure>, Heard) {
        let asking = async |reporter| {
            let budgeted = Budgeted::new(Arc::clone(model), Box::new(Simple), reporter);
            let conversation = Conversation::question("", "Why?", max_output);
            let cancel = CancellationToken::new();
            let answered = budgeted.answer(&conversation, &cancel).await;
            (answered, budgeted.stopped())
        };
        let ((answered, stopped), heard) = heard(answers, asking).await;
        (answered, stopped, heard)
    }

    fn granted() -> Allowed {
        Allowed::Granted(v1::Granted {})
    }

    fn exceeded(scope: &str, micros_left: u64) -> Allowed {
        Allowed::Exceeded(v1::BudgetExceeded {
            scope: scope.to_owned(),
            message: format!("the budget of this {scope} is spent"),
            tokens_left: None,
            cost_micros_left: Some(micros_left),
        })
    }

    #[tokio::test]
    async fn a_call_is_reserved_at_its_dearest_and_settled_with_what_it_used() {
        let model = Double::new(Ok(answer()));
        let (answered, stopped, heard) = ask(&model, 8000, vec![granted()]).await;
        assert_eq!((answered.unwrap().usage, stopped), (USED, None));
        let [asked] = &heard.reservations[..] else {
            panic!("{:?}", heard.reservations);
        };
        let prompt = asked.tokens - 8000;
        assert!(prompt > 0);
        assert_eq!(asked.cost_micros, Some(prompt * 2 + 80_000));
        let [used] = &heard.usages[..] else {
            panic!("{:?}", heard.usages);
        };
        assert_eq!(used.call, asked.call);
        assert_eq!((used.tokens(), used.cost), (100, Some(Money(490))));
    }

    #[tokio::test]
    async fn a_call_that_broke_off_is_settled_with_what_was_received() {
        let broken = Broken {
            usage_so_far: Usage {
                estimated: true,
                ..USED
            },
            started: true,
            ..Broken::new(ModelError::Malformed {
                what: "it was cut".to_owned(),
            })
        };
        let model = Double::new(Err(broken.clone()));
        let (answered, _, heard) = ask(&model, 8000, vec![granted()]).await;
        assert_eq!(answered.unwrap_err(), broken);
        assert!(heard.usages[0].estimated);
        assert_eq!(heard.usages[0].output_tokens, 40);
    }

    /// By the same rule as the calls that the gateway passes on.
    #[tokio::test]
    async fn a_request_that_got_no_answer_is_settled_with_an_estimate_and_one_that_was_refused_with_nothing()
     {
        for (turn, is_charged) in [("{fault: reset}", true), ("{fault: unauthorized}", false)] {
            let script = Script::parse("script", &format!("turns: [{turn}]")).unwrap();
            let simulator = Simulator::start(script).await.unwrap();
            let mut config = LanguageModelConfig::new(Protocol::Chat, "simulated".to_owned());
            config.url = Some(format!("{}/v1", simulator.base_url()).parse().unwrap());
            config.key = serde_json::from_value(simulator.key().into()).unwrap();
            let client = client(&config, "test", Duration::from_mins(1)).unwrap();
            let asking = async |reporter| {
                let budgeted = Budgeted::new(client, Box::new(Simple), reporter);
                let conversation = Conversation::question("", "Why?", 8000);
                let cancel = CancellationToken::new();
                budgeted.answer(&conversation, &cancel).await
            };
            let (answered, heard) = heard(vec![granted()], asking).await;
            assert!(answered.is_err(), "{turn}");
            let [used] = &heard.usages[..] else {
                panic!("{turn}: {:?}", heard.usages);
            };
            assert_eq!(used.estimated, is_charged, "{turn}: {used:?}");
            assert_eq!(used.input_tokens > 0, is_charged, "{turn}: {used:?}");
            assert_eq!(used.output_tokens, 0, "{turn}: {used:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_shortened_to_what_is_left() {
        let model = Double::new(Ok(answer()));
        let answers = vec![exceeded("task", 90_000), granted()];
        let (answered, _, heard) = ask(&model, 32_000, answers).await;
        assert!(answered.is_ok());
        assert_eq!(model.asked(), [8000]);
        let calls: std::collections::BTreeSet<_> =
            heard.reservations.iter().map(|it| &it.call).collect();
        assert_eq!(calls.len(), 2, "each is a call of its own");
    }

    #[tokio::test]
    async fn no_call_is_made_that_no_budget_has_room_for() {
        for (scope, kind) in [
            ("task", FailureKind::BudgetSpent),
            ("repository", FailureKind::DailyBudgetSpent),
            ("user", FailureKind::DailyBudgetSpent),
            ("day", FailureKind::DailyBudgetSpent),
        ] {
            let model = Double::new(Ok(answer()));
            let (answered, stopped, heard) = ask(&model, 8000, vec![exceeded(scope, 40_000)]).await;
            assert!(matches!(
                answered.unwrap_err().error,
                ModelError::Budget { .. }
            ));
            let stopped = stopped.unwrap();
            assert_eq!((stopped.kind, stopped.retryable), (kind, false));
            assert!(stopped.message.contains(scope));
            assert!(model.asked().is_empty() && heard.usages.is_empty());
        }
    }
}
