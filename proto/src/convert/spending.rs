//! Reservations of model calls, and what they used.

use patchfleet_domain::{Exceeded, Limit, Money, Reservation, Reserved, Spent, Work};

use super::{InvalidMessage, parse, present};
use crate::v1;
use crate::v1::reservation::Answer;

/// Longest name of a call, a provider or a model, in bytes.
const LONGEST_NAME: usize = 200;

/// The question whether a call may be made, as it goes over the wire.
pub fn reservation_request(work: Work, call: &Reservation) -> v1::ReservationRequest {
    v1::ReservationRequest {
        work: Some(work.into()),
        call: call.call.clone(),
        provider: call.provider.clone(),
        model: call.model.clone(),
        tokens: call.tokens,
        cost_micros: call.cost.map(|cost| cost.0),
        task_cost_micros: call.task_limit.usd.map(|usd| usd.0),
        task_tokens: call.task_limit.tokens,
    }
}

impl TryFrom<v1::ReservationRequest> for (Work, Reservation) {
    type Error = InvalidMessage;

    fn try_from(request: v1::ReservationRequest) -> Result<Self, InvalidMessage> {
        let work = present("reservation_request.work", request.work)?.try_into()?;
        let reservation = Reservation {
            call: name("reservation_request.call", request.call)?,
            provider: name("reservation_request.provider", request.provider)?,
            model: name("reservation_request.model", request.model)?,
            tokens: request.tokens,
            cost: request.cost_micros.map(Money),
            task_limit: Limit {
                usd: request.task_cost_micros.map(Money),
                tokens: request.task_tokens,
            },
        };
        Ok((work, reservation))
    }
}

fn name(field: &'static str, text: String) -> Result<String, InvalidMessage> {
    let reason = match text.len() {
        0 => "it is empty".to_owned(),
        length if length > LONGEST_NAME => format!("it has more than {LONGEST_NAME} bytes"),
        _ if text.contains('\0') => "it holds a NUL".to_owned(),
        _ => return Ok(text),
    };
    Err(InvalidMessage::Invalid { field, reason })
}

impl From<Reserved> for Answer {
    fn from(reserved: Reserved) -> Self {
        match reserved {
            Reserved::Granted => Self::Granted(v1::Granted {}),
            Reserved::Refused(exceeded) => Self::Exceeded(v1::BudgetExceeded {
                scope: exceeded.scope.to_string(),
                message: exceeded.message,
                tokens_left: exceeded.tokens_left,
                cost_micros_left: exceeded.money_left.map(|money| money.0),
            }),
        }
    }
}

impl TryFrom<v1::BudgetExceeded> for Exceeded {
    type Error = InvalidMessage;

    fn try_from(exceeded: v1::BudgetExceeded) -> Result<Self, InvalidMessage> {
        Ok(Self {
            scope: parse("exceeded.scope", &exceeded.scope)?,
            message: exceeded.message,
            tokens_left: exceeded.tokens_left,
            money_left: exceeded.cost_micros_left.map(Money),
        })
    }
}

impl From<&Spent> for v1::Spent {
    fn from(spent: &Spent) -> Self {
        Self {
            calls: spent.calls,
            input_tokens: spent.input_tokens,
            cache_read_tokens: spent.cache_read_tokens,
            cache_write_tokens: spent.cache_write_tokens,
            output_tokens: spent.output_tokens,
            reasoning_tokens: spent.reasoning_tokens,
            cost_micros: spent.usd.0,
            estimated: spent.estimated,
            unpriced_calls: spent.unpriced_calls,
        }
    }
}

impl From<&v1::Spent> for Spent {
    fn from(spent: &v1::Spent) -> Self {
        Self {
            calls: spent.calls,
            input_tokens: spent.input_tokens,
            cache_read_tokens: spent.cache_read_tokens,
            cache_write_tokens: spent.cache_write_tokens,
            output_tokens: spent.output_tokens,
            reasoning_tokens: spent.reasoning_tokens,
            usd: Money(spent.cost_micros),
            estimated: spent.estimated,
            unpriced_calls: spent.unpriced_calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchfleet_domain::{AttemptNumber, BudgetScope, TaskId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_reservation_survives_the_wire(
            (call, tokens, cost, usd, most) in (
                ".{1,60}", any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>()
            )
        ) {
            prop_assume!(call.len() <= LONGEST_NAME && !call.contains('\0'));
            let work = Work { task: TaskId::new(), attempt: AttemptNumber(3) };
            let made = Reservation {
                call,
                provider: "anthropic".to_owned(),
                model: "a model".to_owned(),
                tokens,
                cost: cost.map(Money),
                task_limit: Limit { usd: usd.map(Money), tokens: most },
            };
            let back: (Work, Reservation) = reservation_request(work, &made).try_into().unwrap();
            prop_assert_eq!(back, (work, made));
        }

        #[test]
        fn a_refusal_survives_the_wire(
            (scope, message, tokens_left, left) in (
                prop::sample::select(BudgetScope::ALL), ".*", any::<Option<u64>>(), any::<Option<u64>>()
            )
        ) {
            let said = Exceeded { scope, message, tokens_left, money_left: left.map(Money) };
            let Answer::Exceeded(wire) = Answer::from(Reserved::Refused(said.clone())) else {
                panic!("another answer");
            };
            prop_assert_eq!(Exceeded::try_from(wire).unwrap(), said);
        }
    }

    #[test]
    fn what_was_spent_survives_the_wire() {
        let spent = Spent {
            calls: 1,
            input_tokens: 2,
            cache_read_tokens: 3,
            cache_write_tokens: 4,
            output_tokens: 5,
            reasoning_tokens: 6,
            usd: Money(7),
            estimated: true,
            unpriced_calls: 8,
        };
        assert_eq!(Spent::from(&v1::Spent::from(&spent)), spent);
    }

    #[test]
    fn a_call_without_a_name_is_refused_by_its_field() {
        let work = Work {
            task: TaskId::new(),
            attempt: AttemptNumber(1),
        };
        for (call, wrong) in [
            ("", "it is empty"),
            (&*"x".repeat(201), "more than 200 bytes"),
            ("a\0b", "NUL"),
        ] {
            let request = v1::ReservationRequest {
                work: Some(work.into()),
                call: call.to_owned(),
                provider: "p".to_owned(),
                model: "m".to_owned(),
                tokens: 1,
                cost_micros: None,
                ..v1::ReservationRequest::default()
            };
            let error = <(Work, Reservation)>::try_from(request)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("reservation_request.call") && error.contains(wrong),
                "{error}"
            );
        }
    }
}
