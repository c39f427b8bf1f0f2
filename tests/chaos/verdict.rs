//! The invariants, read off the database and GitHub once everything is quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use patchfleet_coordinator::store::{AttemptRecord, SqlStore, Store, TaskEvent, TaskFilter};
use patchfleet_domain::{IssueNumber, Task, TaskState, WaitReason};

use crate::world::{REPOSITORY, World};
use crate::{agents, daemons};

/// Between two looks whether everything is quiet.
const LOOK: Duration = Duration::from_millis(100);
/// What a task's status comment is known by.
const STATUS_MARK: &str = "<!-- patchfleet:task:";

/// Waits until all is over, then checks everything; says how many tasks ended in which state.
pub(crate) async fn pronounce(world: &World) -> BTreeMap<String, usize> {
    let store = SqlStore::postgres(world.database.url(), 4).await.unwrap();
    let quiet = async {
        while !is_quiet(world, &store).await {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(world.patience, quiet).await.is_err() {
        let tasks = all_tasks(&store).await;
        let stuck: Vec<_> = tasks.iter().filter(|task| !is_over(task)).collect();
        let pending = store.outbox_pending().await.unwrap();
        let deferred = store.deferred_deliveries().await.unwrap();
        panic!(
            "not quiet: {pending} to be told, {deferred} to be judged, {stuck:#?}\n{}",
            world.story()
        );
    }
    // The last words to GitHub are webhooks, too, and may still be on their way.
    let settled = world.github.deliveries_settled(world.patience).await;
    settled.unwrap();
    for delivery in world.github.deliveries() {
        assert_eq!(delivery.status(), Some(202), "not taken: {delivery:?}");
        let known = store.delivery_seen(&delivery.id.to_string()).await.unwrap();
        assert!(known, "answered 2xx and not kept: {delivery:?}");
    }
    let mut ends = BTreeMap::new();
    for issue in &world.issues {
        let task = check_issue(world, &store, *issue).await;
        *ends.entry(task.state.to_string()).or_default() += 1;
    }
    ends
}

async fn all_tasks(store: &SqlStore) -> Vec<Task> {
    let mut all: Vec<Task> = Vec::new();
    loop {
        let page = TaskFilter {
            before: all.last().map(|task| task.id),
            limit: 500,
            ..TaskFilter::default()
        };
        let found = store.tasks(&page).await.unwrap();
        if found.is_empty() {
            return all;
        }
        all.extend(found);
    }
}

/// Nothing more will happen to it by itself. What waits for another does so until a person merges
/// the other's pull request.
fn is_over(task: &Task) -> bool {
    let waits = task.wait_reason == Some(WaitReason::Dependency);
    waits || task.state == TaskState::Review || !task.state.is_active()
}

async fn is_quiet(world: &World, store: &SqlStore) -> bool {
    let tasks = all_tasks(store).await;
    let agents_done = world
        .agents
        .iter()
        .all(|agent| agent.seen().unacknowledged == 0);
    tasks.len() >= world.issues.len()
        && tasks.iter().all(is_over)
        && agents_done
        && store.deferred_deliveries().await.unwrap() == 0
        && store.outbox_pending().await.unwrap() == 0
}

async fn only_task(store: &SqlStore, issue: u64) -> Task {
    let filter = TaskFilter {
        issue: Some(IssueNumber(issue)),
        ..TaskFilter::default()
    };
    let tasks = store.tasks(&filter).await.unwrap();
    let count = tasks.len();
    let [task] = <[Task; 1]>::try_from(tasks)
        .unwrap_or_else(|_| panic!("issue {issue} was triggered once and has {count} tasks"));
    task
}

async fn check_issue(world: &World, store: &SqlStore, issue: u64) -> Task {
    let task = only_task(store, issue).await;
    let history = store.history(task.id, 0).await.unwrap();
    let attempts = store.attempts(task.id).await.unwrap();
    check_history(&task, &history);
    check_attempts(&task, &attempts, &history);
    check_end(world, &task, issue);
    check_pull_requests(world, &task, &attempts);
    let first = match world.depends_on.get(&issue) {
        Some(first) => Some(only_task(store, *first).await),
        None => None,
    };
    check_dependency(&task, first.as_ref(), &history);
    task
}

/// What comes after another waits as long as the other is not over, and goes with it. Where webhooks
/// came in another order, there was nothing to wait for, and the history says so.
fn check_dependency(task: &Task, first: Option<&Task>, history: &[TaskEvent]) {
    let early = |event: &TaskEvent| event.detail.contains("no task to wait for");
    let first = first.filter(|_| !history.iter().any(early));
    let expected: &[TaskState] = match first.map(|first| first.state) {
        None | Some(TaskState::Completed) => {
            &[TaskState::Review, TaskState::Completed, TaskState::Failed]
        }
        Some(TaskState::Review | TaskState::Waiting) => &[TaskState::Waiting],
        Some(_) => &[TaskState::Cancelled],
    };
    assert!(
        expected.contains(&task.state),
        "{task:#?} after {first:#?}: {history:#?}"
    );
}

/// No task has two pull requests, and what an attempt says that it opened is there.
fn check_pull_requests(world: &World, task: &Task, attempts: &[AttemptRecord]) {
    let mut pulls = world.github.pulls(REPOSITORY).unwrap();
    pulls.retain(|it| {
        it.pull
            .as_ref()
            .is_some_and(|pull| pull.head == task.branch)
    });
    assert!(pulls.len() <= 1, "two pull requests: {pulls:#?}");
    let won = attempts
        .iter()
        .find(|it| it.outcome.as_deref() == Some("pull_request"));
    if won.is_some_and(|it| it.agent.as_str().starts_with(daemons::NAME)) {
        let told = task.pull_request.as_ref().unwrap();
        let pull = pulls.first().expect("the pull request is there");
        assert_eq!(pull.number, told.number);
        assert_eq!(pull.pull.as_ref().unwrap().head_sha, told.head_sha);
    }
}

/// No gap, no change that the table does not have, and its end is where the task is.
fn check_history(task: &Task, history: &[TaskEvent]) {
    let mut state = TaskState::Pending;
    for event in history.iter().filter(|event| event.kind == "state") {
        assert_eq!(event.from, Some(state), "a gap: {history:#?}");
        state = state.transition(event.to.unwrap()).unwrap();
    }
    assert_eq!(state, task.state);
    let created = history.iter().filter(|event| event.kind == "created");
    assert_eq!(created.count(), 1, "{history:#?}");
}

/// One live attempt at a time; what an attempt did is told while it lived, and no other time.
fn check_attempts(task: &Task, attempts: &[AttemptRecord], history: &[TaskEvent]) {
    for (number, attempt) in (1..).zip(attempts) {
        assert_eq!(attempt.number.0, number, "{attempts:#?}");
        assert!(attempt.ended_at.is_some(), "it is over: {attempts:#?}");
    }
    for pair in attempts.windows(2) {
        assert!(
            pair[0].ended_at <= Some(pair[1].assigned_at),
            "two at once: {attempts:#?}"
        );
    }
    let succeeded = [Some("pull_request"), Some("answer")];
    let won = attempts
        .iter()
        .filter(|it| succeeded.contains(&it.outcome.as_deref()));
    let done = [TaskState::Review, TaskState::Completed];
    let expected = usize::from(done.contains(&task.state));
    assert_eq!(won.count(), expected, "{attempts:#?}");
    assert!(task.failures <= task.max_attempts);
    for event in history.iter().filter(|event| {
        event.actor.starts_with(agents::NAME) || event.actor.starts_with(daemons::NAME)
    }) {
        let attempt = attempts
            .iter()
            .find(|attempt| attempt.number == event.attempt);
        let attempt = attempt.unwrap_or_else(|| panic!("of no attempt: {event:?}"));
        assert_eq!(
            attempt.agent.as_str(),
            event.actor,
            "of another's attempt: {event:?}"
        );
        assert!(event.at >= attempt.assigned_at && Some(event.at) <= attempt.ended_at);
    }
}

/// A person can read on the issue how it ended, once.
fn check_end(world: &World, task: &Task, issue: u64) {
    let label = match task.state {
        TaskState::Review => Some("patchfleet:review"),
        TaskState::Completed => Some("patchfleet:done"),
        TaskState::Failed => Some("patchfleet:failed"),
        TaskState::Waiting => Some("patchfleet:queued"),
        _ => None,
    };
    let failed = matches!(task.state, TaskState::Failed | TaskState::Cancelled);
    assert_eq!(task.failure.is_some(), failed, "the reason: {task:#?}");
    let labels = world.github.labels(REPOSITORY, issue).unwrap();
    let own = labels.iter().filter(|it| it.starts_with("patchfleet:"));
    let own: Vec<_> = own.map(String::as_str).collect();
    assert_eq!(own, Vec::from_iter(label), "issue {issue}");
    let comments = world.github.comments(REPOSITORY, issue).unwrap();
    let told = comments.iter().filter(|it| it.body.contains(STATUS_MARK));
    assert_eq!(told.count(), 1, "issue {issue}: {comments:#?}");
}
