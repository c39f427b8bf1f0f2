//! The session's contract for coordinators: each scenario is written once and runs against the real
//! coordinator and against the kit's stub, driven by a client that says exactly what it is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod parts;
mod scenarios;

patchfleet_testkit::contract!(
    [
        a_wrong_key_is_refused,
        the_first_message_is_a_registration,
        a_wrong_registration_is_refused_by_field,
        a_registration_comes_once,
        a_second_process_is_refused_until_the_first_is_gone,
        a_newer_stream_of_the_same_process_takes_over,
        one_agent_too_many_is_asked_to_come_back,
        an_agent_that_falls_silent_is_cut_off,
        a_kind_of_message_that_is_not_known_is_left_out,
        a_heartbeat_that_can_not_be_understood_ends_the_stream,
        a_report_of_no_attempt_ends_the_stream,
        a_goodbye_ends_the_stream,
        a_shutdown_sends_agents_away_to_come_back,
        an_assignment_is_accepted_reported_on_and_finished,
        a_report_that_comes_twice_is_acknowledged_twice,
        an_assignment_is_answered_once_before_anything_else,
        a_refusal_ends_the_attempt,
        a_report_that_can_not_be_understood_ends_the_attempt,
        what_is_said_of_an_attempt_of_nobody_is_stale,
        what_is_said_of_the_attempt_of_another_agent_is_stale,
        a_heartbeat_renews_what_is_its_own,
        a_renewal_names_all_that_was_accepted_and_nothing_else,
        what_a_heartbeat_names_and_is_not_its_own_is_stale_once,
        the_same_process_keeps_what_it_resumes_and_nothing_else,
        what_a_new_process_does_not_know_is_lost,
        an_assignment_that_was_not_answered_comes_again,
        a_goodbye_gives_the_attempts_up,
        what_is_called_off_is_stopped_and_over,
        what_is_called_off_while_the_agent_is_away_is_cancelled_when_it_is_back,
        what_was_called_off_is_cancelled_also_when_the_agent_names_it_late,
        what_was_called_off_is_cancelled_also_when_a_report_on_it_is_faster,
        a_credential_is_for_a_live_attempt_of_the_agent,
    ] for stub = crate::parts::Stub, real = crate::parts::Real
);
