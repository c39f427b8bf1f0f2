//! The session's contract for agents: each scenario is written once and runs against the real agent
//! and against the kit's mock, so that the mock is never kinder than what it stands for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod parts;
mod scenarios;

patchfleet_testkit::contract!(
    [
        the_same_process_says_the_same_on_each_stream,
        an_agent_that_is_asked_to_come_back_later_does,
        a_process_whose_id_is_taken_gives_up,
        a_process_that_was_taken_over_does_not_come_back,
        a_new_stream_hears_what_was_not_durable_and_nothing_else,
        what_is_more_than_the_slots_is_refused,
        a_draining_agent_refuses,
        called_off_work_ends_as_cancelled,
        stale_work_ends_and_nobody_hears_of_it,
        dropped_work_ends_and_is_not_resumed,
        an_assignment_that_comes_twice_is_accepted_once,
        a_kind_of_message_that_is_not_known_is_left_out,
        thousands_of_messages_leave_an_agent_as_it_was,
        a_busy_agent_whose_leases_are_not_renewed_connects_again,
        an_unanswered_request_for_a_credential_is_made_again,
        a_goodbye_is_the_last_word,
    ] for mock_agent = crate::parts::Mock, real_agent = crate::parts::Real
);
