//! The store's contract, held against SQLite and against a real PostgreSQL.
//!
//! Every case is written once and runs on both.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "store/archive.rs"]
mod archive;
#[path = "store/batches.rs"]
mod batches;
#[path = "store/budgets.rs"]
mod budgets;
#[path = "store/cases.rs"]
mod cases;
#[path = "store/checker.rs"]
mod checker;
#[path = "store/collation.rs"]
mod collation;
#[path = "store/commands.rs"]
mod commands;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/deferred.rs"]
mod deferred;
#[path = "store/dependencies.rs"]
mod dependencies;
#[path = "store/endings.rs"]
mod endings;
#[path = "store/examining.rs"]
mod examining;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/follow_ups.rs"]
mod follow_ups;
#[path = "store/hanging.rs"]
mod hanging;
#[path = "store/limits.rs"]
mod limits;
#[path = "store/linear.rs"]
mod linear;
#[path = "store/memory.rs"]
mod memory;
#[path = "store/migrations.rs"]
mod migrations;
#[path = "store/outbox.rs"]
mod outbox;
#[path = "store/plans.rs"]
mod plans;
#[path = "store/presence.rs"]
mod presence;
#[path = "store/random.rs"]
mod random;
#[path = "store/replicas.rs"]
mod replicas;
#[path = "store/restoring.rs"]
mod restoring;
#[path = "store/retention.rs"]
mod retention;
#[path = "store/returns.rs"]
mod returns;
#[path = "store/tallies.rs"]
mod tallies;
#[path = "store/upgrade.rs"]
mod upgrade;
#[path = "store/volume.rs"]
mod volume;

macro_rules! on_both {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = crate::fixture::Fixture::sqlite().await;
                crate::$module::$case(&fixture).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = crate::fixture::Fixture::postgres().await;
                crate::$module::$case(&fixture).await;
            })+
        }
    };
}

on_both!(
    batches::many_deliveries_at_once_each_count_once,
    batches::reports_of_a_task_are_applied_in_the_order_of_their_coming,
    batches::a_stale_claim_spoils_no_other,
    batches::what_a_column_cannot_hold_is_left_out,
    batches::one_that_is_impossible_spoils_no_other,
    cases::a_delivery_is_done_once,
    cases::an_issue_has_one_active_task_whoever_asks,
    cases::a_trigger_counts_once_its_issue_is_free,
    cases::a_task_is_claimed_once,
    cases::the_whole_way_to_a_merged_pull_request,
    cases::an_old_fence_changes_nothing,
    cases::a_report_said_twice_counts_once,
    cases::a_lease_that_ran_out_puts_the_task_back,
    cases::a_loss_before_acceptance_costs_nothing,
    cases::attempts_are_spent,
    cases::checkpoints_reach_the_next_attempt_unless_discarded,
    cases::a_cancelled_task_has_no_live_attempt,
    cases::a_failed_task_is_retried_unless_the_issue_has_another,
    cases::a_merge_before_the_report_is_remembered,
    cases::the_outbox_keeps_the_order_of_an_issue,
    cases::the_history_tells_every_change_of_state,
    cases::lists_are_filtered_and_paged,
    commands::a_command_counts_once_and_is_answered_when_it_changes_nothing,
    damage::lists_skip_it_and_whoever_asks_for_it_hears_which_it_is,
    damage::what_comes_after_it_in_a_lane_is_given_away,
    damage::a_checkpoint_and_those_after_it_are_done_again,
    damage::the_leases_of_others_end,
    damage::a_report_on_it_is_not_stale,
    damage::an_analysis_that_needs_it_waits_and_the_others_do_not,
    damage::what_waits_goes_on_when_it_can_be_read_again,
    damage::an_entry_holds_its_issue_up_for_a_while_and_no_other,
    damage::a_delivery_about_it_may_come_again_and_spoils_no_other,
    damage::a_sweep_sees_the_other_repositories,
    damage::what_is_around_a_task_is_told_without_it,
    deferred::they_are_taken_in_the_order_of_their_issues,
    deferred::what_comes_after_one_that_waits_is_not_recorded,
    deferred::whoever_lost_its_hold_on_one_changes_nothing,
    deferred::one_that_was_given_up_may_come_again,
    deferred::only_what_was_given_up_is_removed,
    deferred::one_that_cannot_be_read_stops_its_issue_and_no_other,
    dependencies::a_task_waits_until_the_last_of_those_before_it_is_completed,
    dependencies::a_pull_request_has_to_be_merged_before_what_depends_on_it_begins,
    dependencies::a_failure_is_passed_on_or_passed_over,
    dependencies::what_is_over_is_not_waited_for,
    dependencies::a_pull_request_that_is_opened_again_goes_on_and_so_does_what_waits,
    dependencies::a_merge_after_the_closing_completes_although_the_opening_was_not_told,
    dependencies::a_closed_pull_request_that_a_retry_replaces_is_waited_for_no_more,
    dependencies::a_pull_request_is_not_brought_back_beside_another_task,
    dependencies::an_issue_without_a_task_is_waited_for_until_it_has_one,
    dependencies::a_cycle_over_an_issue_without_a_task_is_refused_by_name,
    dependencies::github_says_when_an_issue_without_a_task_is_over,
    dependencies::what_is_stored_follows_a_repository_to_its_new_name,
    dependencies::a_double_under_the_new_name_stays_and_the_old_one_is_called_off,
    dependencies::a_deleted_repository_ends_its_tasks_in_words,
    dependencies::a_cycle_is_refused_by_name,
    dependencies::nobody_is_forgotten_whoever_is_faster,
    dependencies::nobody_is_forgotten_by_a_report,
    dependencies::a_cycle_is_not_closed_from_two_sides,
    endings::every_state_that_is_not_over_can_be_cancelled,
    endings::an_attempt_tells_its_own_failure_and_success_forgets_it,
    endings::a_pull_request_of_an_earlier_attempt_decides_nothing,
    endings::a_retry_after_a_closed_pull_request_leads_to_its_own,
    endings::an_answer_completes_from_any_working_state,
    endings::a_stopped_attempt_costs_nothing,
    endings::the_queue_is_in_the_order_of_priority,
    endings::the_queue_shows_the_heads_of_all_lanes,
    follow_ups::a_comment_counts_once_while_an_attempt_can_hear_of_it,
    follow_ups::whoever_works_on_a_task_is_told,
    follow_ups::what_comes_when_the_work_is_done_is_not_kept,
    follow_ups::what_comes_after_a_failure_is_there_for_the_retry,
    follow_ups::with_its_task_a_comment_goes,
    linear::what_is_told_of_a_task_has_an_order,
    memory::an_agent_that_changes_replicas_is_understood,
    memory::what_another_took_away_is_not_reported_on,
    memory::the_next_attempt_counts_and_the_last_one_does_not,
    memory::a_merge_that_another_heard_of_counts,
    memory::what_another_did_to_a_waiting_task_counts,
    memory::what_another_did_to_a_new_task_counts,
    memory::what_another_queued_is_given_away,
    memory::a_pause_by_another_counts,
    limits::no_more_is_at_work_than_the_limits_say,
    limits::what_is_paused_is_not_given_away,
    outbox::an_entry_knows_since_when_it_is_tried_and_is_held_for_longer,
    outbox::one_whose_publisher_died_is_not_held_for_longer,
    outbox::what_the_issue_was_told_is_remembered,
    outbox::what_was_dropped_is_in_the_history,
    outbox::rounds_of_drafting_and_testing_are_told_with_what_comes_next,
    outbox::what_waits_for_an_agent_is_told_after_a_while_and_what_is_at_work_at_once,
    presence::an_agent_is_offline_when_it_left_or_gives_no_sign_of_life,
    presence::signs_of_life_renew_the_leases_of_many_agents,
    presence::work_that_hangs_loses_its_lease,
    presence::a_broken_stream_leaves_a_grace_unless_there_is_a_newer_one,
    presence::what_is_taken_away_is_told_and_what_ended_by_itself_is_not,
    random::actors_at_random_break_no_invariant,
    retention::what_is_over_goes_and_what_is_not_stays,
    retention::replicas_may_remove_at_once,
    budgets::a_call_counts_in_full_until_its_usage_is_known,
    budgets::a_repository_only_tightens_the_budget_of_its_tasks,
    budgets::asked_again_it_is_the_same_call,
    budgets::every_scope_has_a_budget_of_its_own,
    budgets::a_call_without_a_price_is_refused_by_a_budget_in_money,
    budgets::a_spent_task_waits_for_a_person,
    budgets::a_spent_day_ends_by_itself,
    budgets::an_attempt_that_is_not_live_reserves_nothing,
    budgets::a_call_whose_attempt_was_lost_is_shown_as_an_estimate,
    budgets::usage_counts_once,
    budgets::people_are_warned_once,
    budgets::what_was_spent_long_ago_is_forgotten,
    budgets::hundreds_of_calls_at_once_exceed_nothing,
    returns::an_offer_that_comes_back_is_not_repeated_at_once,
    returns::a_task_that_comes_back_ten_times_waits_with_the_reasons,
    returns::what_waits_for_an_agent_is_offered_again_by_itself_and_by_people,
    returns::progress_forgets_what_came_back_before,
    returns::offers_that_come_back_tell_github_nothing,
    returns::a_fault_of_the_host_costs_the_task_nothing,
    returns::an_operator_calls_a_task_off_at_its_agent,
    returns::what_only_unfit_agents_could_take_waits_until_one_is_fit,
    returns::a_reason_of_a_newer_version_stops_nobody,
    replicas::all_of_them_may_start_at_once,
    replicas::an_agent_id_has_one_process_over_all_of_them,
    replicas::two_of_them_never_share_a_task,
    replicas::a_retry_and_a_new_trigger_make_one_active_task,
    replicas::the_last_state_is_always_told,
    replicas::a_renewed_lease_is_not_over,
    replicas::loops_are_woken_by_what_is_theirs,
    volume::output_without_end_keeps_its_head_and_its_tail,
    volume::a_line_without_end_is_cut,
    volume::whoever_follows_a_log_gets_each_line_once_and_hears_of_each_gap,
    volume::a_log_of_before_it_had_a_bound_says_that_a_page_is_not_all_of_it,
    volume::a_history_is_read_in_pages,
    volume::a_history_has_a_bound_and_tells_every_change_of_state,
    volume::an_agent_that_moves_its_task_to_and_fro_comes_to_an_end,
);

mod postgres_alone {
    use crate::fixture::Fixture;
    use crate::{memory, plans, replicas};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lost_connections_cost_nothing() {
        memory::lost_connections_cost_nothing(&Fixture::postgres().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_claim_waits_for_nobody() {
        memory::a_claim_waits_for_nobody(&Fixture::postgres().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_remembered_is_not_read() {
        plans::what_is_remembered_is_not_read().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_statement_reads_no_more_when_its_tables_have_grown() {
        plans::a_statement_reads_no_more_when_its_tables_have_grown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn replicas_hear_of_each_other_also_after_the_connection_was_lost() {
        let fixture = Fixture::postgres().await;
        replicas::they_hear_of_each_other(&fixture).await;
    }
}
