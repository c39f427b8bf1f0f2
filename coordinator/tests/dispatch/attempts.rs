//! What becomes of attempts: finished, refused, cut, lost, called off.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use patchfleet_coordinator::scheduler::SchedulerOptions;
use patchfleet_coordinator::scheduler::plan::Limits;
use patchfleet_coordinator::store::{Commanded, Store as _};
use patchfleet_domain::{
    AgentState, Checkpoint, Outcome, Phase, Priority, TaskId, TaskState, Work, WorkEvent,
};
use patchfleet_proto::v1::CredentialScope;
use patchfleet_proto::v1::credential::Answer;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, sample_pull_request};
use sqlx::Executor as _;

use super::fleet::{Fleet, assigned, hold};

fn progress(phase: Phase) -> WorkEvent {
    WorkEvent::Progress {
        phase,
        detail: format!("{phase} begins"),
    }
}

fn checkpoint(node: &str) -> WorkEvent {
    WorkEvent::Checkpoint(Checkpoint {
        node: node.to_owned(),
        visit: 1,
        output: serde_json::json!({ "node": node }),
    })
}

fn pull_request() -> WorkEvent {
    WorkEvent::Finished(sample_pull_request(7))
}

/// Two agents, the task that the first one works at, and its attempt.
async fn one_at_work(fleet: &Fleet) -> (MockAgent, MockAgent, TaskId, Work) {
    let first = fleet.agent("a-first", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    let work = assigned(&first, 1).await;
    fleet.wait_state(id, TaskState::InProgress).await;
    let second = fleet.agent("b-second", hold()).await;
    (first, second, id, work)
}

#[tokio::test]
async fn a_task_goes_from_the_queue_to_a_pull_request() {
    let fleet = Fleet::start().await;
    let outcome = sample_pull_request(7);
    let events = vec![
        progress(Phase::Analyze),
        checkpoint("inspect"),
        progress(Phase::Test),
    ];
    let agent = fleet
        .agent("backend-1", Conduct::Finish { events, outcome })
        .await;
    let id = fleet.task("acme/orders", 7).await;
    let task = fleet.wait_state(id, TaskState::Review).await;
    assert_eq!(task.pull_request.unwrap().number, 7);
    let path = fleet.path(id).await;
    let work = [
        TaskState::Queued,
        TaskState::Assigned,
        TaskState::InProgress,
        TaskState::Testing,
        TaskState::Review,
    ];
    assert!(path.ends_with(&work), "{path:?}");
    let seen = agent
        .wait("all acknowledgements", |seen| seen.unacknowledged == 0)
        .await
        .unwrap();
    assert_eq!(seen.acknowledged, 5);
    let assign = &seen.assigns[0];
    let wire = assign.task.as_ref().unwrap();
    assert_eq!(
        (wire.repository.as_str(), wire.issue),
        ("acme/orders", Some(7))
    );
    assert_eq!(wire.target_files, ["orders/money.py"]);
    assert_eq!(wire.priority, u32::from(Priority::NORMAL.get()));
    let text = fleet.metrics.render();
    for line in [
        "patchfleet_dispatch_latency_seconds_count 1",
        "patchfleet_queue_wait_seconds_count 1",
        "patchfleet_tasks_total{agent_type=\"none\",state=\"pending\"} 1",
        "patchfleet_tasks_total{agent_type=\"backend\",state=\"assigned\"} 1",
        "patchfleet_tasks_total{agent_type=\"backend\",state=\"review\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing from\n{text}");
    }
}

#[tokio::test]
async fn a_cut_stream_costs_nothing_and_reports_count_once() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("backend-1", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    let work = assigned(&agent, 1).await;
    fleet.wait_state(id, TaskState::InProgress).await;

    agent.cut();
    agent.report(work, checkpoint("inspect"));
    agent.report(work, progress(Phase::Test));
    agent.reconnect();
    let seen = agent
        .wait("what was said while away", |seen| {
            seen.welcomes == 2 && seen.unacknowledged == 0
        })
        .await
        .unwrap();
    assert_eq!(seen.kept, [work]);
    agent.repeat_last_report(work);
    agent.report(work, pull_request());
    fleet.wait_state(id, TaskState::Review).await;
    let seen = agent
        .wait("all acknowledgements", |seen| seen.unacknowledged == 0)
        .await
        .unwrap();
    agent.repeat_last_report(work);
    let again = seen.acknowledged;
    agent
        .wait("the finish once more", |seen| seen.acknowledged > again)
        .await
        .unwrap();

    let history = fleet.store.history(id, 0).await.unwrap();
    let count = |kind: &str| history.iter().filter(|event| event.kind == kind).count();
    assert_eq!(
        (count("checkpoint"), count("phase")),
        (1, 1),
        "{history:#?}"
    );
    let done = ("backend-1".to_owned(), Some("pull_request".to_owned()));
    assert_eq!(fleet.attempts(id).await, [done]);
    assert_eq!(agent.calls(), 1);
    assert!(agent.seen().stale.is_empty());
}

#[tokio::test]
async fn a_restarted_agent_loses_its_attempt_at_once_and_goes_on_from_its_checkpoints() {
    let fleet = Fleet::start().await;
    let events = vec![checkpoint("inspect")];
    let agent = fleet.agent("backend-1", Conduct::Hold { events }).await;
    let id = fleet.task("acme/orders", 1).await;
    let first = assigned(&agent, 1).await;
    agent
        .wait("a durable checkpoint", |seen| seen.acknowledged == 2)
        .await
        .unwrap();
    agent.restart();
    let second = assigned(&agent, 2).await;
    assert_eq!(second.attempt, first.attempt.next());
    let assign = agent.seen().assigns[1].clone();
    let nodes: Vec<_> = assign.checkpoints.iter().map(|it| &it.node).collect();
    assert_eq!(nodes, ["inspect"]);
    agent.report(second, pull_request());
    let task = fleet.wait_state(id, TaskState::Review).await;
    assert_eq!(task.failures, 1);
}

#[tokio::test]
async fn an_assignment_that_was_never_accepted_is_sent_again() {
    let fleet = Fleet::start().await;
    let calls = AtomicUsize::new(0);
    let profile = fleet.profile("backend-1");
    let agent = MockAgent::start(profile, move |_| {
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Conduct::Ignore,
            _ => Conduct::pull_request(1),
        }
    });
    let id = fleet.task("acme/orders", 1).await;
    let first = assigned(&agent, 1).await;
    agent.restart();
    let again = assigned(&agent, 2).await;
    assert_eq!(first, again);
    let task = fleet.wait_state(id, TaskState::Review).await;
    assert_eq!(task.failures, 0);
}

#[tokio::test]
async fn a_lease_that_runs_out_gives_the_task_to_another_and_late_results_change_nothing() {
    let fleet = Fleet::with_lease(Duration::from_secs(2)).await;
    let (first, second, id, lost) = one_at_work(&fleet).await;
    first.cut();
    let taken = assigned(&second, 1).await;
    assert_eq!(taken.attempt, lost.attempt.next());
    assert!(
        fleet
            .metrics
            .render()
            .contains("patchfleet_lease_expiries_total 1")
    );

    first.reconnect();
    let seen = first
        .wait("a second welcome", |seen| seen.welcomes == 2)
        .await
        .unwrap();
    assert_eq!(seen.dropped, [lost]);
    first.report(
        lost,
        WorkEvent::Finished(Outcome::Cancelled { by_operator: false }),
    );
    let seen = first.wait("stale", |seen| !seen.stale.is_empty()).await;
    // A heartbeat that names the attempt before its report was answered is told the same.
    assert!(seen.unwrap().stale.iter().all(|stale| *stale == lost));
    let task = fleet.store.task(id).await.unwrap().unwrap();
    assert_eq!(task.attempt, taken.attempt);
    assert!(task.state.has_live_attempt(), "{task:?}");

    second.report(taken, pull_request());
    fleet.wait_state(id, TaskState::Review).await;
    let ends: Vec<_> = fleet.attempts(id).await;
    let ends: Vec<_> = ends
        .iter()
        .map(|(_, how)| how.as_deref().unwrap())
        .collect();
    assert_eq!(ends, ["lost", "pull_request"]);
}

#[tokio::test]
async fn an_agent_whose_stream_broke_has_a_grace_to_come_back() {
    // A lease that the test does not live to see the end of.
    let fleet = Fleet::with_lease(Duration::from_hours(1)).await;
    let (first, second, _, lost) = one_at_work(&fleet).await;
    first.cut();
    first.reconnect();
    let back = first
        .wait("a second welcome", |seen| seen.welcomes == 2)
        .await;
    assert_eq!(back.unwrap().kept, [lost]);
    first.crash();
    fleet.wait_agent("a-first", AgentState::Offline).await;
    let taken = assigned(&second, 1).await;
    assert_eq!(taken.attempt, lost.attempt.next());
    assert_eq!(first.calls(), 1);
}

/// Its stream is alive, but it says nothing any more: the lease decides.
#[tokio::test]
async fn an_agent_that_falls_silent_loses_its_lease() {
    let fleet = Fleet::with_lease(Duration::from_secs(1)).await;
    let (first, second, _, lost) = one_at_work(&fleet).await;
    first.fall_silent();
    let taken = assigned(&second, 1).await;
    assert_eq!(taken.attempt, lost.attempt.next());
}

#[tokio::test]
async fn heartbeats_keep_a_short_lease_alive() {
    let fleet = Fleet::with_lease(Duration::from_secs(1)).await;
    let agent = fleet.agent("backend-1", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    let work = assigned(&agent, 1).await;
    // Renewals come three times in a lease: nine are three leases.
    agent
        .wait("three leases' renewals", |seen| seen.renewals >= 9)
        .await
        .unwrap();
    agent.report(work, pull_request());
    fleet.wait_state(id, TaskState::Review).await;
    assert_eq!(agent.calls(), 1);
}

#[tokio::test]
async fn a_refused_task_goes_to_somebody_else() {
    let fleet = Fleet::start().await;
    let reason = "the disk is full".to_owned();
    let mut specialist = fleet.profile("a-specialist");
    specialist.agent_type = "backend".to_owned();
    let refusing = MockAgent::start(specialist, move |_| Conduct::Refuse {
        reason: reason.clone(),
    });
    refusing.wait_connected().await.unwrap();
    let id = fleet.task("acme/orders", 1).await;
    assigned(&refusing, 1).await;
    let willing = fleet.agent("b-willing", Conduct::pull_request(1)).await;
    let task = fleet.wait_state(id, TaskState::Review).await;
    assert_eq!(task.failures, 0);
    assert_eq!(willing.calls(), 1);
    let history = fleet.store.history(id, 0).await.unwrap();
    assert!(
        history
            .iter()
            .any(|event| event.detail.contains("the disk is full"))
    );
}

#[tokio::test]
async fn the_history_says_when_a_general_agent_helped_out() {
    let limits = Limits {
        specialist_patience: Duration::ZERO,
    };
    let options = SchedulerOptions {
        limits,
        ..SchedulerOptions::default()
    };
    let fleet = Fleet::with_options(options).await;
    let _general = fleet.agent("general-1", Conduct::pull_request(1)).await;
    let id = fleet.task("acme/orders", 1).await;
    fleet.wait_state(id, TaskState::Review).await;
    let history = fleet.store.history(id, 0).await.unwrap();
    let fell_back = |detail: &str| detail.contains("fell back to the general agent general-1");
    let told = history
        .iter()
        .any(|event| event.kind == "note" && fell_back(&event.detail));
    assert!(told, "{history:#?}");
}

#[tokio::test]
async fn who_calls_a_task_off_reaches_the_agent() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("backend-1", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    let work = assigned(&agent, 1).await;
    fleet.wait_state(id, TaskState::InProgress).await;
    let commanded = fleet.store.cancel(id, "octocat").await.unwrap();
    assert_eq!(commanded, Commanded::Done(TaskState::Cancelled));
    let seen = agent
        .wait("a cancellation", |seen| !seen.cancelled.is_empty())
        .await
        .unwrap();
    let expected = (work, "the task was called off".to_owned());
    assert_eq!(seen.cancelled, [expected]);
    // The slot is free again: both tasks run at once.
    let one = fleet.task("acme/orders", 2).await;
    let two = fleet.task("acme/orders", 3).await;
    fleet.wait_state(one, TaskState::InProgress).await;
    fleet.wait_state(two, TaskState::InProgress).await;
    assert_eq!(agent.seen().overbooked, 0);
}

#[tokio::test]
async fn a_goodbye_gives_the_attempts_up_at_once() {
    let fleet = Fleet::start().await;
    let leaving = fleet.agent("a-leaving", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    assigned(&leaving, 1).await;
    fleet.wait_state(id, TaskState::InProgress).await;
    let staying = fleet.agent("b-staying", hold()).await;
    leaving.goodbye();
    assigned(&staying, 1).await;
    assert_eq!(fleet.attempts(id).await[0].1.as_deref(), Some("lost"));
    leaving
        .wait("the end", |seen| seen.endings > 0)
        .await
        .unwrap();
    assert_eq!(fleet.registry.connected().len(), 1);
}

#[tokio::test]
async fn tokens_are_for_the_live_attempt_only() {
    let fleet = Fleet::start().await;
    let holder = fleet.agent("a-holder", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    let work = assigned(&holder, 1).await;
    let other = fleet.agent("b-other", hold()).await;
    let publish = CredentialScope::Publish;
    let asked = async |agent: &MockAgent, scope, id: &str| {
        agent.request_credential(work, scope, id);
        let answered = |seen: &_| has_answer(seen, id);
        let seen = agent.wait("a credential", answered).await.unwrap();
        seen.credentials[id].clone()
    };
    let Answer::Token(token) = asked(&holder, publish, "1").await else {
        panic!("the holder got no token");
    };
    assert_eq!(token.token, "acme/orders Publish here");
    assert_eq!(token.api_url, "http://127.0.0.1:1/api");
    let Answer::Token(token) = asked(&holder, CredentialScope::Read, "2").await else {
        panic!("the holder got no token");
    };
    assert_eq!(token.token, "acme/orders Read here");
    let unspecified = asked(&holder, CredentialScope::Unspecified, "3").await;
    assert!(matches!(unspecified, Answer::Refused(why) if why.contains("scope")));
    assert!(matches!(
        asked(&other, publish, "4").await,
        Answer::Refused(_)
    ));

    holder.report(work, pull_request());
    fleet.wait_state(id, TaskState::Review).await;
    assert!(matches!(
        asked(&holder, publish, "5").await,
        Answer::Refused(_)
    ));
}

fn has_answer(seen: &patchfleet_testkit::mock_agent::Seen, id: &str) -> bool {
    seen.credentials.contains_key(id)
}

#[tokio::test]
async fn reports_about_the_attempt_of_somebody_else_do_not_count() {
    let fleet = Fleet::start().await;
    let holder = fleet.agent("a-holder", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    let work = assigned(&holder, 1).await;
    fleet.wait_state(id, TaskState::InProgress).await;
    let other = fleet.agent("b-other", hold()).await;
    for _ in 0..3 {
        other.report(work, pull_request());
    }
    let seen = other.wait("stale", |seen| !seen.stale.is_empty()).await;
    assert_eq!(seen.unwrap().stale[0], work);
    let task = fleet.store.task(id).await.unwrap().unwrap();
    assert_eq!(task.state, TaskState::InProgress);
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_store_has_it() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("backend-1", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    let work = assigned(&agent, 1).await;
    fleet.wait_state(id, TaskState::InProgress).await;
    let seen = agent.wait("an acceptance", |seen| seen.acknowledged == 1);
    let before = seen.await.unwrap().acknowledged;

    let mut locker = fleet.operator().await;
    locker.execute("BEGIN IMMEDIATE").await.unwrap();
    agent.report(work, pull_request());
    let acknowledged = agent.wait("an acknowledgement", |seen| seen.acknowledged > before);
    // Longer than the store waits for the lock, so that it says it is unavailable meanwhile.
    let early = tokio::time::timeout(Duration::from_secs(7), acknowledged).await;
    assert!(early.is_err(), "acknowledged while nothing could be stored");
    locker.execute("ROLLBACK").await.unwrap();
    fleet.wait_state(id, TaskState::Review).await;
    let acknowledged = agent.wait("an acknowledgement", |seen| seen.acknowledged > before);
    assert_eq!(acknowledged.await.unwrap().welcomes, 1, "the stream stayed");
}

/// The row is damaged, or a newer version wrote it.
#[tokio::test]
async fn reports_on_a_task_that_cannot_be_read_are_kept_and_hold_up_no_other() {
    let fleet = Fleet::with_lease(Duration::from_secs(2)).await;
    let agent = fleet.agent("backend-1", hold()).await;
    let bad = fleet.task("acme/orders", 1).await;
    let bad_work = assigned(&agent, 1).await;
    let good = fleet.task("acme/orders", 2).await;
    let good_work = assigned(&agent, 2).await;
    fleet.wait_state(bad, TaskState::InProgress).await;
    fleet.wait_state(good, TaskState::InProgress).await;
    let seen = agent.wait("both acceptances", |seen| seen.unacknowledged == 0);
    seen.await.unwrap();

    let mut operator = fleet.operator().await;
    let damage = "UPDATE tasks SET request = 'x' || request WHERE issue = 1";
    operator.execute(damage).await.unwrap();
    agent.report(bad_work, progress(Phase::Test));
    agent.report(good_work, progress(Phase::Test));
    agent.report(bad_work, pull_request());
    agent.report(good_work, pull_request());
    fleet.wait_state(good, TaskState::Review).await;
    let seen = agent.wait("acknowledgements", |seen| seen.unacknowledged == 2);
    assert_eq!(seen.await.unwrap().stale, []);
    let mend = "UPDATE tasks SET request = SUBSTR(request, 2) WHERE issue = 1";
    operator.execute(mend).await.unwrap();
    fleet.wait_state(bad, TaskState::Review).await;
    let path = fleet.path(bad).await;
    assert!(path.ends_with(&[TaskState::InProgress, TaskState::Testing, TaskState::Review]));
    let seen = agent.wait("all acknowledgements", |seen| seen.unacknowledged == 0);
    assert!(seen.await.unwrap().welcomes > 1, "it said them again");
}
