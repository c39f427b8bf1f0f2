//! The session's contract for coordinators: each scenario is written once and runs against the real
//! coordinator and against the kit's stub, driven by a client that says exactly what it is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod parts;
mod scenarios;

/// Makes a test of each scenario, for a part.
macro_rules! instantiate {
    ($module:ident, $part:ty, $($scenario:ident),+ $(,)?) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $scenario() {
                    crate::scenarios::$scenario::<$part>().await;
                }
            )+
        }
    };
}

/// All scenarios, for a part.
macro_rules! coordinators {
    ($module:ident, $part:ty) => {
        instantiate!(
            $module,
            $part,
            a_wrong_key_is_refused,
            the_first_message_is_a_registration,
            a_wrong_registration_is_refused_by_field,
            a_registration_comes_once,
            a_second_process_is_refused_until_the_first_is_gone,
            a_newer_stream_of_the_same_process_takes_over,
            a_kind_of_message_that_is_not_known_is_left_out,
            a_goodbye_ends_the_stream,
            what_is_said_of_an_attempt_of_nobody_is_stale,
            a_credential_is_for_an_attempt_of_the_agent,
        );
    };
}

coordinators!(stub, crate::parts::Stub);
coordinators!(real, crate::parts::Real);
