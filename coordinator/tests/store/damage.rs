//! One row that can't be decoded among others: it stops nobody but itself, and is as it was.

use std::time::Duration;

use futures::future::join_all;
use patchfleet_coordinator::store::{
    Act, Acted, Cas, Checkpoint, Claim, Effect, Look, NewPresence, QueuedTask, Recorded, Reply,
    Report, Retention, StoreError, TaskFilter, WorkEvent,
};
use patchfleet_domain::outcome::Outcome;
use patchfleet_domain::{IssueNumber, SessionId, TaskAnalysis, TaskId, TaskState, Work};
use patchfleet_telemetry::Metrics;
use uuid::Uuid;

use crate::fixture::{Fixture, LEASE, agent, analysis, repository};
use crate::presence::description;

/// Damages a task so that its state and its place in the queue can still be read.
async fn damage(fixture: &Fixture, task: TaskId) {
    let text = format!("UPDATE tasks SET request = 'x' || request WHERE id = '{task}'");
    fixture.place.execute(text).await;
}

async fn mend(fixture: &Fixture, task: TaskId) {
    let text = format!("UPDATE tasks SET request = SUBSTR(request, 2) WHERE id = '{task}'");
    fixture.place.execute(text).await;
}

/// The error names the row.
fn names<T: std::fmt::Debug>(result: Result<T, StoreError>, table: &str, id: impl ToString) {
    let error = result.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    let row = format!("table {table}, row {}", id.to_string());
    assert!(error.to_string().contains(&row), "{error}");
}

fn log(line: &str) -> WorkEvent {
    WorkEvent::Log {
        lines: vec![line.to_owned()],
        dropped: 0,
    }
}

fn answer() -> WorkEvent {
    WorkEvent::Finished(Outcome::Answer {
        summary: "done".to_owned(),
    })
}

pub(crate) async fn lists_skip_it_and_whoever_asks_for_it_hears_which_it_is(fixture: &Fixture) {
    let mut ids = Vec::new();
    for issue in 1..=4 {
        ids.push(fixture.create(issue).await);
    }
    damage(fixture, ids[1]).await;
    let metrics = Metrics::new();
    let store = fixture.place.counted(metrics.clone()).await;
    let good = [ids[0], ids[2], ids[3]];
    let ids_of = |tasks: Vec<patchfleet_domain::Task>| -> Vec<TaskId> {
        tasks.into_iter().map(|task| task.id).collect()
    };
    assert_eq!(ids_of(store.unanalyzed(3).await.unwrap()), good);
    assert_eq!(
        ids_of(store.active_tasks(&repository()).await.unwrap()),
        good
    );
    // A page is full although a row of it can't be read, so that it is not taken for the last.
    let filter = TaskFilter {
        limit: 2,
        before: Some(ids[3]),
        ..TaskFilter::default()
    };
    let page = ids_of(store.tasks(&filter).await.unwrap());
    assert_eq!(page, [ids[2], ids[0]]);
    names(store.task(ids[1]).await, "tasks", ids[1]);
    // Not as if the issue had none.
    let of_issue = store.task_of_issue(&repository(), IssueNumber(2)).await;
    names(of_issue, "tasks", ids[1]);
    let text = metrics.render();
    assert!(
        text.contains("patchfleet_unreadable_rows_total{table=\"tasks\"}"),
        "{text}"
    );
    mend(fixture, ids[1]).await;
    assert_eq!(store.task(ids[1]).await.unwrap().unwrap().id, ids[1]);
}

pub(crate) async fn what_comes_after_it_in_a_lane_is_given_away(fixture: &Fixture) {
    let bad = fixture.queued(1).await;
    let worse = fixture.queued(2).await;
    let good = fixture.queued(3).await;
    let negative = format!("UPDATE tasks SET attempt = -5 WHERE id = '{}'", worse.id);
    fixture.place.execute(negative).await;
    damage(fixture, bad.id).await;
    let store = fixture.place.open().await;
    let me = agent("backend-1");
    let head = async || -> Vec<QueuedTask> { store.queued(&Look::all(1, 10)).await.unwrap() };
    // Nothing that the planner reads is damaged of the first one.
    assert_eq!(head().await[0].id, bad.id);
    let claims = [&bad, &worse, &good].map(|task| Claim::new(task, &me));
    let won = store.claim_all(&claims[..2], LEASE).await.unwrap();
    assert_eq!(won, [Cas::Stale, Cas::Stale]);
    // It is not tried again and again.
    assert_eq!(head().await[0].id, good.id);
    let won = store.claim_all(&claims, LEASE).await.unwrap();
    let won: Vec<_> = won.iter().map(|it| matches!(it, Cas::Applied(_))).collect();
    assert_eq!(won, [false, false, true]);
    mend(fixture, bad.id).await;
    let bad = fixture.task(bad.id).await;
    assert_eq!((bad.state, bad.attempt.0), (TaskState::Queued, 0));
}

pub(crate) async fn a_checkpoint_and_those_after_it_are_done_again(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let nodes = ["inspect", "draft", "apply"];
    for (seq, node) in (2..).zip(nodes) {
        let checkpoint = Checkpoint {
            node: node.to_owned(),
            visit: 1,
            output: serde_json::json!({}),
        };
        fixture
            .applied(work, seq, WorkEvent::Checkpoint(checkpoint))
            .await;
    }
    let text = "UPDATE checkpoints SET output = '{' WHERE node = 'draft'";
    fixture.place.execute(text.to_owned()).await;
    let _ = fixture.store.lose(work, "test").await.unwrap();
    let again = fixture.in_queue(work.task).await;
    let assignment = fixture.claim(&again, LEASE).await;
    let nodes: Vec<_> = assignment.checkpoints.iter().map(|it| &it.node).collect();
    assert_eq!(nodes, ["inspect"]);
}

pub(crate) async fn the_leases_of_others_end(fixture: &Fixture) {
    let mut works = Vec::new();
    for issue in 1..=3 {
        let queued = fixture.queued(issue).await;
        works.push(fixture.claim(&queued, Duration::ZERO).await.work);
    }
    damage(fixture, works[0].task).await;
    let text = format!(
        "UPDATE attempts SET agent = 'no id!' WHERE task = '{}'",
        works[1].task
    );
    fixture.place.execute(text).await;
    let store = fixture.place.open().await;
    let lost = async || -> Vec<Work> {
        let lost = store.expire().await.unwrap();
        lost.into_iter().map(|it| it.work).collect()
    };
    assert_eq!(lost().await, [works[2]]);
    assert!(lost().await.is_empty());
    names(
        store.lose(works[1], "test").await,
        "attempts",
        works[1].task,
    );
    names(store.holder(works[1]).await, "attempts", works[1]);
    mend(fixture, works[0].task).await;
    let later = fixture.place.open().await;
    assert_eq!(later.expire().await.unwrap()[0].work, works[0]);
}

/// The agent keeps what it has to say, and its work.
pub(crate) async fn a_report_on_it_is_not_stale(fixture: &Fixture) {
    let works = join_all((1..=3).map(|issue| fixture.started(issue))).await;
    let bad = works[0];
    damage(fixture, bad.task).await;
    let reports = works.iter().map(|work| Report {
        work: *work,
        seq: 2,
        event: log("a line"),
    });
    let reports: Vec<_> = reports.collect();
    // A process that gave them away knows how it left them, and reads nothing that is damaged.
    let store = fixture.place.open().await;
    let alone = reports.iter().map(|report| store.report(report));
    let mut applied = join_all(alone).await;
    names(applied.remove(0), "tasks", bad.task);
    assert!(
        applied
            .into_iter()
            .all(|it| it.unwrap() == Cas::Applied(()))
    );
    // None of those that come together counts.
    names(store.report_all(&reports).await, "tasks", bad.task);
    let live = store.live_attempts(&agent("backend-1")).await.unwrap();
    assert_eq!(live.len(), 3);
    mend(fixture, bad.task).await;
    let applied = store.report(&reports[0]).await.unwrap();
    assert_eq!(applied, Cas::Applied(()));
    assert_eq!(store.logs(bad.task, 0).await.unwrap().lines, ["a line"]);
}

pub(crate) async fn an_analysis_that_needs_it_waits_and_the_others_do_not(fixture: &Fixture) {
    let first = fixture.create(1).await;
    let after = fixture.create(2).await;
    let other = fixture.create(3).await;
    damage(fixture, first).await;
    let needs = TaskAnalysis {
        depends_on: vec![1],
        ..analysis()
    };
    let analyses = [
        (first, analysis()),
        (after, needs.clone()),
        (other, analysis()),
    ];
    let done = fixture.store.analyzed_all(&analyses).await.unwrap();
    assert_eq!(done, [Cas::Stale, Cas::Stale, Cas::Applied(())]);
    assert_eq!(fixture.task(after).await.state, TaskState::Pending);
    mend(fixture, first).await;
    let done = fixture.store.analyzed_all(&analyses[..2]).await.unwrap();
    assert_eq!(done, [Cas::Applied(()), Cas::Applied(())]);
    assert_eq!(fixture.task(after).await.state, TaskState::Waiting);
}

pub(crate) async fn what_waits_goes_on_when_it_can_be_read_again(fixture: &Fixture) {
    let first = fixture.queued(1).await;
    let waiting = [
        fixture.comes_after(2, &[1]).await,
        fixture.comes_after(3, &[1]).await,
    ];
    damage(fixture, waiting[0]).await;
    let work = fixture.claim(&first, LEASE).await.work;
    fixture.applied(work, 1, WorkEvent::Accepted).await;
    fixture.applied(work, 2, answer()).await;
    assert_eq!(fixture.task(first.id).await.state, TaskState::Completed);
    assert_eq!(fixture.task(waiting[1]).await.state, TaskState::Queued);
    let keep = Retention {
        tasks: Duration::from_hours(1000),
        deliveries: Duration::from_hours(1000),
    };
    fixture.store.retire(keep).await.unwrap();
    mend(fixture, waiting[0]).await;
    assert_eq!(fixture.task(waiting[0]).await.state, TaskState::Waiting);
    let later = fixture.place.open().await;
    later.retire(keep).await.unwrap();
    assert_eq!(fixture.task(waiting[0]).await.state, TaskState::Queued);
}

pub(crate) async fn an_entry_holds_its_issue_up_for_a_while_and_no_other(fixture: &Fixture) {
    let hold = Duration::from_mins(1);
    fixture.create(1).await;
    fixture.create(2).await;
    let reply = Act::Reply {
        repository: repository(),
        issue: IssueNumber(1),
        reply: Reply::Status,
    };
    fixture.act(reply).await;
    let text = "UPDATE outbox SET effect = '{\"effect\":\"moonshine\"}' \
        WHERE issue = 1 AND task IS NOT NULL";
    fixture.place.execute(text.to_owned()).await;
    let taken = fixture.store.take_outbox(10, hold).await.unwrap();
    let issues: Vec<_> = taken.iter().map(|entry| entry.issue.0).collect();
    assert_eq!(issues, [2]);
    // It is tried again later, and so often that an upgrade is over by then.
    let due = "UPDATE outbox SET next_at = 0, tries = 59 WHERE issue = 1 AND tries = 1 \
        AND next_at > 0 AND done_at IS NULL AND error LIKE '%column effect%'";
    fixture.place.execute(due.to_owned()).await;
    assert!(
        fixture
            .store
            .take_outbox(10, hold)
            .await
            .unwrap()
            .is_empty()
    );
    let taken = fixture.store.take_outbox(10, hold).await.unwrap();
    assert_eq!(taken[0].effect, Effect::Reply(Reply::Status));
    assert_eq!(fixture.store.outbox_pending().await.unwrap(), 2);
    // Its row stays, with the reason.
    let there = "UPDATE outbox SET tries = tries WHERE issue = 1 AND tries = 60 \
        AND done_at IS NOT NULL AND error LIKE '%column effect%'";
    fixture.place.execute(there.to_owned()).await;
}

pub(crate) async fn a_delivery_about_it_may_come_again_and_spoils_no_other(fixture: &Fixture) {
    let bad = fixture.create(1).await;
    for issue in 2..=6 {
        fixture.create(issue).await;
    }
    damage(fixture, bad).await;
    let cancels = (1..=6).map(|issue| {
        let cancel = Act::CancelIssue {
            repository: repository(),
            issue: IssueNumber(issue),
            actor: "m".to_owned(),
        };
        (fixture.delivery(), [cancel])
    });
    let cancels: Vec<_> = cancels.collect();
    let all = cancels
        .iter()
        .map(|(delivery, acts)| fixture.store.record_delivery(delivery, acts));
    let mut recorded = join_all(all).await;
    names(recorded.remove(0), "tasks", bad);
    for recorded in recorded {
        let Recorded::New(acted) = recorded.unwrap() else {
            panic!("a new delivery is no duplicate");
        };
        assert!(matches!(
            acted[..],
            [Acted::Changed(_, TaskState::Cancelled)]
        ));
    }
    let (delivery, acts) = &cancels[0];
    assert!(!fixture.store.delivery_seen(&delivery.id).await.unwrap());
    mend(fixture, bad).await;
    let again = fixture.store.record_delivery(delivery, acts).await.unwrap();
    let cancelled = Acted::Changed(bad, TaskState::Cancelled);
    assert_eq!(again, Recorded::New(vec![cancelled]));
}

pub(crate) async fn a_sweep_sees_the_other_repositories(fixture: &Fixture) {
    let id = fixture.create(1).await;
    let text = format!(
        "INSERT INTO task_triggers (repository, issue, kind, object, task) \
         VALUES ('a/b/c', 1, 'label', '1', '{id}')"
    );
    fixture.place.execute(text).await;
    let repositories = fixture.store.repositories().await.unwrap();
    assert_eq!(repositories, [repository()]);
}

pub(crate) async fn what_is_around_a_task_is_told_without_it(fixture: &Fixture) {
    let work = fixture.started(1).await;
    for name in ["backend-1", "backend-2"] {
        let me = description(agent(name));
        let presence = NewPresence {
            session: SessionId::new(),
            instance: Uuid::now_v7(),
            present: LEASE,
        };
        let registered = fixture.store.register_agent(&me, presence).await.unwrap();
        assert_eq!(registered, Cas::Applied(()));
    }
    let whole = fixture.store.history(work.task, 0).await.unwrap();
    for text in [
        format!(
            "UPDATE task_events SET to_state = 'moonlit' WHERE task = '{}' AND to_state = 'queued'",
            work.task
        ),
        "UPDATE agents SET description = '{}' WHERE id = 'backend-1'".to_owned(),
        "INSERT INTO attempts (task, number, agent, lease_until, assigned_at, ended_at) \
         SELECT task, 9, 'no id!', 0, 0, 0 FROM attempts"
            .to_owned(),
    ] {
        fixture.place.execute(text).await;
    }
    let store = &fixture.store;
    let history = store.history(work.task, 0).await.unwrap();
    assert_eq!(history.len(), whole.len() - 1);
    let newest = store.newest_history(work.task, 100).await.unwrap();
    assert_eq!(newest, history);
    assert_eq!(store.attempts(work.task).await.unwrap().len(), 1);
    let agents = store.agents().await.unwrap();
    let agents: Vec<_> = agents.iter().map(|it| it.id.to_string()).collect();
    assert_eq!(agents, ["backend-2"]);
}
