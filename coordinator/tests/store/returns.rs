//! Assignments that come back without work: exponential backoff, and in the end a wait that people
//! see.

use std::time::Duration;

use patchfleet_coordinator::scheduler::unfit;
use patchfleet_coordinator::store::{
    Cas, Checkpoint, Commanded, Look, NewPresence, QueuedTask, Sent, TaskFilter, WorkEvent,
};
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{
    Agent, AgentState, AttemptNumber, FailureKind, Outcome, SessionId, Task, TaskId, TaskState,
    WaitReason, Work,
};

use uuid::Uuid;

use crate::fixture::{Fixture, LEASE, agent};
use crate::presence::{description, presence};

fn refused(reason: &str) -> WorkEvent {
    WorkEvent::Refused {
        reason: reason.to_owned(),
    }
}

/// The agent gets the task, whenever it may be given away, and refuses it.
async fn refuse(fixture: &Fixture, by: &str, task: &QueuedTask, attempt: u32) -> Work {
    let task = QueuedTask {
        attempt: AttemptNumber(attempt),
        ..task.clone()
    };
    let work = fixture.claim_by(by, &task, LEASE).await.work;
    fixture
        .applied(work, 1, refused(&format!("{by} is full")))
        .await;
    work
}

/// A task that ten assignments in a row came back of.
async fn waiting(fixture: &Fixture, issue: u64) -> Task {
    let queued = fixture.queued(issue).await;
    for attempt in 0..10 {
        let by = ["backend-1", "backend-2"][attempt as usize % 2];
        refuse(fixture, by, &queued, attempt).await;
    }
    fixture.task(queued.id).await
}

async fn is_queued(fixture: &Fixture, id: TaskId) -> bool {
    let queue = fixture.store.queued(&Look::all(100, 100)).await.unwrap();
    queue.iter().any(|task| task.id == id)
}

pub(crate) async fn an_offer_that_comes_back_is_not_repeated_at_once(fixture: &Fixture) {
    let queued = fixture.queued(1).await;
    refuse(fixture, "backend-1", &queued, 0).await;
    let task = fixture.in_queue(queued.id).await;
    let [rest] = &task.rests[..] else {
        panic!("{task:?}");
    };
    assert_eq!(rest.agent, agent("backend-1"));
    assert!(
        rest.left <= Duration::from_secs(1),
        "others may have it at once"
    );
    refuse(fixture, "backend-1", &queued, 1).await;
    refuse(fixture, "backend-1", &queued, 2).await;
    let rest = fixture.task(queued.id).await;
    let left = rest.returns.by[0].rests_until - rest.updated_at;
    assert_eq!((rest.returns.count, left.num_seconds()), (3, 4));
    // From here on nobody gets it at once.
    let work = refuse(fixture, "backend-2", &queued, 3).await;
    assert!(!is_queued(fixture, work.task).await);
    let task = fixture.task(work.task).await;
    assert_eq!((task.state, task.failures), (TaskState::Queued, 0));
}

pub(crate) async fn a_task_that_comes_back_ten_times_waits_with_the_reasons(fixture: &Fixture) {
    let task = waiting(fixture, 1).await;
    assert_eq!(task.state, TaskState::Waiting);
    assert_eq!(task.wait_reason, Some(WaitReason::Agent));
    assert_eq!((task.failures, task.attempt), (0, AttemptNumber(10)));
    let reasons: Vec<_> = task
        .returns
        .by
        .iter()
        .map(|it| it.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        ["refused: backend-1 is full", "refused: backend-2 is full"]
    );
    let until = task.returns.until.unwrap() - task.updated_at;
    assert_eq!(until.num_seconds(), 600);
    let history = fixture.store.history(task.id, 0).await.unwrap();
    let last = history.iter().rfind(|event| event.kind == "state").unwrap();
    assert_eq!(last.to, Some(TaskState::Waiting));
    assert_eq!(last.detail, "refused: backend-2 is full");
}

pub(crate) async fn what_waits_for_an_agent_is_offered_again_by_itself_and_by_people(
    fixture: &Fixture,
) {
    let task = waiting(fixture, 1).await;
    let store = fixture.store.as_ref();
    unfit::look(store, Duration::ZERO).await.unwrap();
    assert_eq!(fixture.task(task.id).await.state, TaskState::Waiting);
    let due = format!("UPDATE tasks SET not_before = 1 WHERE id = '{}'", task.id);
    fixture.place.execute(due).await;
    unfit::look(store, Duration::ZERO).await.unwrap();
    let again = fixture.task(task.id).await;
    assert_eq!((again.state, again.wait_reason), (TaskState::Queued, None));
    assert!(again.returns.is_empty());
    assert!(is_queued(fixture, task.id).await);
    let other = waiting(fixture, 2).await;
    let done = store.retry(other.id, "maintainer").await.unwrap();
    assert_eq!(done, Commanded::Done(TaskState::Queued));
    assert!(is_queued(fixture, other.id).await);
    // One that waits can be called off as well.
    let third = waiting(fixture, 3).await;
    let done = store.cancel(third.id, "maintainer").await.unwrap();
    assert_eq!(done, Commanded::Done(TaskState::Cancelled));
}

pub(crate) async fn progress_forgets_what_came_back_before(fixture: &Fixture) {
    let queued = fixture.queued(1).await;
    refuse(fixture, "backend-1", &queued, 0).await;
    let next = fixture.in_queue(queued.id).await;
    let work = fixture.claim_by("backend-2", &next, LEASE).await.work;
    fixture.applied(work, 1, WorkEvent::Accepted).await;
    assert_eq!(fixture.task(work.task).await.returns.count, 1);
    let checkpoint = Checkpoint {
        node: "inspect".to_owned(),
        visit: 1,
        output: serde_json::json!({}),
    };
    fixture
        .applied(work, 2, WorkEvent::Checkpoint(checkpoint))
        .await;
    assert!(fixture.task(work.task).await.returns.is_empty());
}

/// What people see is the same before and after, so it costs no request to GitHub.
pub(crate) async fn offers_that_come_back_tell_github_nothing(fixture: &Fixture) {
    let queued = fixture.queued(1).await;
    let told = async || {
        let entries = fixture.store.take_outbox(10, LEASE).await.unwrap();
        for entry in &entries {
            let done = Sent::Done { comment: None };
            fixture.store.settle_outbox(entry, &done).await.unwrap();
        }
        entries.len()
    };
    assert_eq!(told().await, 1);
    for attempt in 0..9 {
        refuse(fixture, "backend-1", &queued, attempt).await;
        assert_eq!(told().await, 0, "return {attempt}");
    }
    refuse(fixture, "backend-1", &queued, 9).await;
    assert_eq!(told().await, 1, "it waits");
}

pub(crate) async fn a_fault_of_the_host_costs_the_task_nothing(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let fault = Failure {
        kind: FailureKind::HostFault,
        message: "the draft command does not exist".to_owned(),
        retryable: true,
        discard_checkpoints: false,
    };
    let ended = WorkEvent::Finished(Outcome::Failed(fault.clone()));
    fixture.applied(work, 2, ended).await;
    let task = fixture.task(work.task).await;
    assert_eq!((task.state, task.failures), (TaskState::Queued, 0));
    assert_eq!((task.failure, task.returns.count), (None, 1));
    let attempts = fixture.store.attempts(work.task).await.unwrap();
    assert_eq!(attempts[0].failure, Some(fault));
}

pub(crate) async fn an_operator_calls_a_task_off_at_its_agent(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let by_operator = true;
    let ended = WorkEvent::Finished(Outcome::Cancelled { by_operator });
    fixture.applied(work, 2, ended).await;
    assert_eq!(fixture.task(work.task).await.state, TaskState::Cancelled);
    let history = fixture.store.history(work.task, 0).await.unwrap();
    let last = &history.last().unwrap().detail;
    assert_eq!(last, "cancelled at the agent `backend-1` by an operator");
}

pub(crate) async fn what_only_unfit_agents_could_take_waits_until_one_is_fit(fixture: &Fixture) {
    let store = fixture.store.as_ref();
    let register = async |name: &str, state: AgentState, reason: Option<&str>| {
        let known = Agent {
            state,
            reason: reason.map(str::to_owned),
            ..description(agent(name))
        };
        // One process says now this, now that.
        let presence = NewPresence {
            instance: Uuid::nil(),
            ..presence(SessionId::new(), LEASE)
        };
        let registered = store.register_agent(&known, presence).await.unwrap();
        assert_eq!(registered, Cas::Applied(()));
    };
    let id = fixture.queued(1).await.id;
    let look = async || unfit::look(store, Duration::ZERO).await.unwrap();
    look().await;
    assert_eq!(
        fixture.task(id).await.state,
        TaskState::Queued,
        "nobody is there"
    );
    register("backend-1", AgentState::Error, Some("git is not installed")).await;
    register("backend-2", AgentState::Overloaded, None).await;
    look().await;
    assert_eq!(
        fixture.task(id).await.state,
        TaskState::Queued,
        "one is only busy"
    );
    register("backend-2", AgentState::Error, Some("the disk is full")).await;
    look().await;
    let task = fixture.task(id).await;
    assert_eq!(task.wait_reason, Some(WaitReason::Agent));
    let reasons: Vec<_> = task
        .returns
        .by
        .iter()
        .map(|it| it.reason.as_str())
        .collect();
    assert_eq!(reasons, ["git is not installed", "the disk is full"]);
    look().await;
    assert_eq!(fixture.task(id).await.state, TaskState::Waiting);
    register("backend-1", AgentState::Idle, None).await;
    look().await;
    assert_eq!(fixture.task(id).await.state, TaskState::Queued);
}

/// A newer version runs beside this one and has reasons that this one does not know.
pub(crate) async fn a_reason_of_a_newer_version_stops_nobody(fixture: &Fixture) {
    let waits = waiting(fixture, 1).await;
    let failed = fixture.started(2).await;
    let ended = WorkEvent::Finished(crate::fixture::failure(false, false));
    fixture.applied(failed, 2, ended).await;
    for text in [
        format!(
            "UPDATE tasks SET wait_reason = 'moonlight' WHERE id = '{}'",
            waits.id
        ),
        format!(
            "UPDATE tasks SET failure = REPLACE(failure, 'push_refused', 'moon_set') WHERE id = '{}'",
            failed.task
        ),
    ] {
        fixture.place.execute(text).await;
    }
    let all = fixture.store.tasks(&TaskFilter::default()).await.unwrap();
    assert_eq!(all.len(), 2);
    let waits = fixture.task(waits.id).await;
    assert_eq!(waits.wait_reason, Some(WaitReason::Unknown));
    let failed = fixture.task(failed.task).await;
    assert_eq!(failed.failure.unwrap().kind, FailureKind::Unknown);
}
