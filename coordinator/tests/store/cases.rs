//! The cases of the store's contract.

use std::time::Duration;

use futures::future::join_all;
use patchfleet_coordinator::store::{
    Act, Acted, Cas, Checkpoint, Commanded, Effect, Look, Recorded, Reply, Sent, TaskFilter,
    WorkEvent,
};
use patchfleet_domain::outcome::Outcome;
use patchfleet_domain::{FailureKind, IssueNumber, Phase, TaskState};

use crate::fixture::{Fixture, LEASE, agent, failure, pull_request, repository};

pub(crate) async fn a_delivery_is_done_once(fixture: &Fixture) {
    let delivery = fixture.delivery();
    let act = || [Act::Create(Box::new(fixture.new_task(1)))];
    assert!(!fixture.store.delivery_seen(&delivery.id).await.unwrap());
    let first = fixture
        .store
        .record_delivery(&delivery, &act())
        .await
        .unwrap();
    assert!(matches!(first, Recorded::New(_)));
    assert!(fixture.store.delivery_seen(&delivery.id).await.unwrap());
    let other_issue = [Act::Create(Box::new(fixture.new_task(2)))];
    let again = fixture
        .store
        .record_delivery(&delivery, &other_issue)
        .await
        .unwrap();
    assert_eq!(again, Recorded::Duplicate);
    assert_eq!(
        fixture
            .store
            .tasks(&TaskFilter::default())
            .await
            .unwrap()
            .len(),
        1
    );
}

pub(crate) async fn an_issue_has_one_active_task_whoever_asks(fixture: &Fixture) {
    let acts =
        join_all((0..20).map(|_| fixture.act(Act::Create(Box::new(fixture.new_task(7)))))).await;
    let created = acts
        .iter()
        .filter(|acted| matches!(acted, Acted::Created(_)))
        .count();
    let existing = acts
        .iter()
        .filter(|acted| matches!(acted, Acted::Exists(_)))
        .count();
    assert_eq!((created, existing), (1, 19), "{acts:?}");
    // The same trigger again is the same task, also when it is over.
    let new = fixture.new_task(8);
    let Acted::Created(id) = fixture.act(Act::Create(Box::new(new.clone()))).await else {
        panic!()
    };
    fixture.store.cancel(id, "maintainer").await.unwrap();
    let again = Act::Create(Box::new(patchfleet_coordinator::store::NewTask {
        id: patchfleet_domain::TaskId::new(),
        ..new
    }));
    assert_eq!(fixture.act(again).await, Acted::Exists(id));
}

/// A trigger that found its issue busy has led to nothing, so it is not known when it comes again.
pub(crate) async fn a_trigger_counts_once_its_issue_is_free(fixture: &Fixture) {
    let busy = fixture.create(7).await;
    let late = fixture.new_task(7);
    let act = Act::Create(Box::new(late.clone()));
    assert_eq!(fixture.act(act.clone()).await, Acted::Exists(busy));
    fixture.store.cancel(busy, "maintainer").await.unwrap();
    assert_eq!(fixture.act(act).await, Acted::Created(late.id));
    let repository = repository();
    let newest = fixture.store.task_of_issue(&repository, IssueNumber(7));
    assert_eq!(newest.await.unwrap().unwrap().id, late.id);
}

pub(crate) async fn a_task_is_claimed_once(fixture: &Fixture) {
    let queued = fixture.queued(1).await;
    let agents: Vec<_> = (0..20).map(|n| agent(&format!("agent-{n}"))).collect();
    let claims = join_all(
        agents
            .iter()
            .map(|agent| fixture.store.claim(&queued, agent, LEASE)),
    )
    .await;
    let won = claims
        .into_iter()
        .filter(|claim| matches!(claim, Ok(Cas::Applied(_))))
        .count();
    assert_eq!(won, 1);
    assert!(
        fixture
            .store
            .queued(&Look::all(10, 10))
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn the_whole_way_to_a_merged_pull_request(fixture: &Fixture) {
    let work = fixture.started(1).await;
    for (seq, phase) in [
        (2, Phase::Workspace),
        (3, Phase::Generate),
        (4, Phase::Test),
    ] {
        let event = WorkEvent::Progress {
            phase,
            detail: "…".to_owned(),
        };
        assert_eq!(fixture.report(work, seq, event).await, Cas::Applied(()));
    }
    assert_eq!(fixture.task(work.task).await.state, TaskState::Testing);
    fixture
        .applied(work, 5, WorkEvent::Finished(pull_request(9)))
        .await;
    assert_eq!(fixture.task(work.task).await.state, TaskState::Review);
    let closed = Act::PullRequestClosed {
        repository: repository(),
        number: 9,
        head: "patchfleet/1-fix".to_owned(),
        merged: true,
        actor: "maintainer".to_owned(),
    };
    assert_eq!(
        fixture.act(closed.clone()).await,
        Acted::Changed(work.task, TaskState::Completed)
    );
    assert_eq!(fixture.act(closed).await, Acted::Nothing);
    assert!(fixture.task(work.task).await.pull_request.unwrap().merged);
}

pub(crate) async fn an_old_fence_changes_nothing(fixture: &Fixture) {
    let old = fixture.started(1).await;
    assert_eq!(
        fixture.store.lose(old, "test").await.unwrap(),
        Cas::Applied(TaskState::Queued)
    );
    let queued = fixture.in_queue(old.task).await;
    let new = fixture.claim(&queued, LEASE).await.work;
    assert!(new.attempt > old.attempt);
    let before = fixture.task(old.task).await;
    for event in [
        WorkEvent::Accepted,
        WorkEvent::Progress {
            phase: Phase::Test,
            detail: String::new(),
        },
        WorkEvent::Checkpoint(checkpoint("draft")),
        WorkEvent::Finished(pull_request(1)),
        WorkEvent::Finished(Outcome::Cancelled { by_operator: false }),
    ] {
        assert_eq!(
            fixture.report(old, 50, event.clone()).await,
            Cas::Stale,
            "{event:?}"
        );
    }
    assert_eq!(fixture.store.lose(old, "again").await.unwrap(), Cas::Stale);
    assert_eq!(fixture.task(old.task).await, before);
}

pub(crate) async fn a_report_said_twice_counts_once(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let log = || WorkEvent::Log {
        lines: vec!["once".to_owned()],
        dropped: 0,
    };
    for _ in 0..3 {
        assert_eq!(fixture.report(work, 2, log()).await, Cas::Applied(()));
    }
    assert_eq!(
        fixture.store.logs(work.task, 0).await.unwrap().lines,
        ["once"]
    );
    // Also the last one, after which the attempt is over.
    for _ in 0..2 {
        let finished = fixture
            .report(work, 3, WorkEvent::Finished(pull_request(1)))
            .await;
        assert_eq!(finished, Cas::Applied(()));
    }
    assert_eq!(fixture.report(work, 4, log()).await, Cas::Stale);
}

pub(crate) async fn a_lease_that_ran_out_puts_the_task_back(fixture: &Fixture) {
    let kept = fixture.started(1).await;
    let queued = fixture.queued(2).await;
    let lost = fixture.claim(&queued, Duration::ZERO).await.work;
    let expired = fixture.store.expire().await.unwrap();
    assert_eq!(expired.iter().map(|it| it.work).collect::<Vec<_>>(), [lost]);
    assert_eq!(fixture.task(lost.task).await.state, TaskState::Queued);
    assert_eq!(fixture.task(kept.task).await.state, TaskState::InProgress);
    let me = agent("backend-1");
    let renewed = fixture.renew(&[&me]).await;
    assert_eq!(renewed, [(me, kept)]);
}

pub(crate) async fn a_loss_before_acceptance_costs_nothing(fixture: &Fixture) {
    let mut queued = fixture.queued(1).await;
    for _ in 0..3 {
        let work = fixture.claim(&queued, LEASE).await.work;
        assert_eq!(
            fixture.store.lose(work, "test").await.unwrap(),
            Cas::Applied(TaskState::Queued)
        );
        queued = fixture.in_queue(work.task).await;
    }
    assert_eq!(fixture.task(queued.id).await.failures, 0);
    let work = fixture.claim(&queued, LEASE).await.work;
    let refused = WorkEvent::Refused {
        reason: "full".to_owned(),
    };
    assert_eq!(fixture.report(work, 1, refused).await, Cas::Applied(()));
    assert_eq!(fixture.task(work.task).await.state, TaskState::Queued);
}

pub(crate) async fn attempts_are_spent(fixture: &Fixture) {
    let mut queued = fixture.queued(1).await;
    for expected in [TaskState::Queued, TaskState::Queued, TaskState::Failed] {
        let work = fixture.claim(&queued, LEASE).await.work;
        fixture.applied(work, 1, WorkEvent::Accepted).await;
        assert_eq!(
            fixture.store.lose(work, "test").await.unwrap(),
            Cas::Applied(expected)
        );
        if expected == TaskState::Queued {
            queued = fixture.in_queue(work.task).await;
        }
    }
    let task = fixture.task(queued.id).await;
    assert_eq!(task.failure.unwrap().kind, FailureKind::AgentLost);
    // A permanent failure spends them at once.
    let work = fixture.started(2).await;
    fixture
        .applied(work, 2, WorkEvent::Finished(failure(false, false)))
        .await;
    assert_eq!(fixture.task(work.task).await.state, TaskState::Failed);
    // A retryable one is queued again, after a pause.
    let work = fixture.started(3).await;
    fixture
        .applied(work, 2, WorkEvent::Finished(failure(true, false)))
        .await;
    assert_eq!(fixture.task(work.task).await.state, TaskState::Queued);
    assert!(
        fixture
            .store
            .queued(&Look::all(10, 10))
            .await
            .unwrap()
            .is_empty(),
        "there is a pause"
    );
}

fn checkpoint(node: &str) -> Checkpoint {
    Checkpoint {
        node: node.to_owned(),
        visit: 1,
        output: serde_json::json!({ "of": node }),
    }
}

pub(crate) async fn checkpoints_reach_the_next_attempt_unless_discarded(fixture: &Fixture) {
    let work = fixture.started(1).await;
    for (seq, node) in [(2, "inspect"), (3, "draft")] {
        fixture
            .applied(work, seq, WorkEvent::Checkpoint(checkpoint(node)))
            .await;
    }
    let state = fixture.store.lose(work, "test").await.unwrap();
    assert_eq!(state, Cas::Applied(TaskState::Queued));
    let next = fixture
        .claim(&fixture.in_queue(work.task).await, LEASE)
        .await;
    assert_eq!(
        next.checkpoints,
        [checkpoint("inspect"), checkpoint("draft")]
    );
    assert_eq!(
        fixture
            .store
            .assignment(next.work)
            .await
            .unwrap()
            .unwrap()
            .checkpoints,
        next.checkpoints
    );
    fixture.applied(next.work, 1, WorkEvent::Accepted).await;
    fixture
        .applied(next.work, 2, WorkEvent::Finished(failure(false, true)))
        .await;
    fixture.store.retry(work.task, "maintainer").await.unwrap();
    let last = fixture
        .claim(&fixture.in_queue(work.task).await, LEASE)
        .await;
    assert!(last.checkpoints.is_empty());
}

pub(crate) async fn a_cancelled_task_has_no_live_attempt(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let cancel = Act::CancelIssue {
        repository: repository(),
        issue: IssueNumber(1),
        actor: "m".to_owned(),
    };
    assert_eq!(
        fixture.act(cancel.clone()).await,
        Acted::Changed(work.task, TaskState::Cancelled)
    );
    assert!(
        fixture
            .store
            .live_attempts(&agent("backend-1"))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        fixture
            .report(work, 2, WorkEvent::Finished(pull_request(1)))
            .await,
        Cas::Stale
    );
    assert_eq!(fixture.act(cancel).await, Acted::Nothing);
    let again = fixture.store.cancel(work.task, "m").await.unwrap();
    assert_eq!(again, Commanded::NotAllowed(TaskState::Cancelled));
    let unknown = patchfleet_domain::TaskId::new();
    assert_eq!(
        fixture.store.cancel(unknown, "m").await.unwrap(),
        Commanded::NotFound
    );
}

pub(crate) async fn a_failed_task_is_retried_unless_the_issue_has_another(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let early = fixture.store.retry(work.task, "m").await.unwrap();
    assert_eq!(early, Commanded::NotAllowed(TaskState::InProgress));
    fixture
        .applied(work, 2, WorkEvent::Finished(failure(false, false)))
        .await;
    let other = fixture.create(1).await;
    assert_eq!(
        fixture.store.retry(work.task, "m").await.unwrap(),
        Commanded::Conflict(other)
    );
    fixture.store.cancel(other, "m").await.unwrap();
    assert_eq!(
        fixture.store.retry(work.task, "m").await.unwrap(),
        Commanded::Done(TaskState::Queued)
    );
    let task = fixture.task(work.task).await;
    assert_eq!((task.failures, task.failure), (0, None));
}

pub(crate) async fn a_merge_before_the_report_is_remembered(fixture: &Fixture) {
    for (issue, merged, end) in [
        (1, true, TaskState::Completed),
        (2, false, TaskState::Failed),
    ] {
        let work = fixture.started(issue).await;
        let closed = Act::PullRequestClosed {
            repository: repository(),
            number: 40 + issue,
            head: format!("patchfleet/{issue}-fix"),
            merged,
            actor: "m".to_owned(),
        };
        assert_eq!(
            fixture.act(closed).await,
            Acted::Changed(work.task, TaskState::InProgress)
        );
        fixture
            .applied(work, 2, WorkEvent::Finished(pull_request(40 + issue)))
            .await;
        assert_eq!(fixture.task(work.task).await.state, end);
    }
}

pub(crate) async fn the_outbox_keeps_the_order_of_an_issue(fixture: &Fixture) {
    let hold = Duration::from_mins(1);
    let id = fixture.create(1).await;
    let reply = |issue| Act::Reply {
        repository: repository(),
        issue: IssueNumber(issue),
        reply: Reply::Status,
    };
    fixture.act(reply(1)).await;
    fixture.act(reply(2)).await;
    let first = fixture.store.take_outbox(10, hold).await.unwrap();
    assert_eq!(
        first.iter().map(|entry| entry.issue.0).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(first[0].effect, Effect::Status { task: id });
    assert!(
        fixture
            .store
            .take_outbox(10, hold)
            .await
            .unwrap()
            .is_empty(),
        "they are held"
    );
    let again = Sent::Again {
        after: Duration::ZERO,
        error: "500".to_owned(),
    };
    fixture
        .store
        .settle_outbox(&first[0], &again)
        .await
        .unwrap();
    let second = fixture.store.take_outbox(10, hold).await.unwrap();
    assert_eq!(
        (second.len(), second[0].id, second[0].tries),
        (1, first[0].id, 2)
    );
    fixture
        .store
        .settle_outbox(&second[0], &Sent::Done { comment: Some(77) })
        .await
        .unwrap();
    assert_eq!(fixture.store.status_comment(id).await.unwrap(), Some(77));
    let third = fixture.store.take_outbox(10, hold).await.unwrap();
    assert_eq!(third[0].effect, Effect::Reply(Reply::Status));
    fixture
        .store
        .settle_outbox(
            &third[0],
            &Sent::Dropped {
                error: "gone".to_owned(),
            },
        )
        .await
        .unwrap();
    fixture
        .store
        .settle_outbox(&first[1], &Sent::Done { comment: None })
        .await
        .unwrap();
    assert_eq!(fixture.store.outbox_pending().await.unwrap(), 0);
}

pub(crate) async fn the_history_tells_every_change_of_state(fixture: &Fixture) {
    let work = fixture.started(1).await;
    fixture
        .applied(work, 2, WorkEvent::Finished(failure(true, false)))
        .await;
    let history = fixture.store.history(work.task, 0).await.unwrap();
    let states: Vec<_> = history
        .iter()
        .filter_map(|event| event.to)
        .map(TaskState::as_str)
        .collect();
    let expected = "pending analyzing queued assigned in_progress failed queued";
    assert_eq!(states.join(" "), expected);
    for pair in history
        .iter()
        .filter(|event| event.to.is_some())
        .collect::<Vec<_>>()
        .windows(2)
    {
        assert_eq!(pair[1].from, pair[0].to, "the history has a gap");
    }
    let later = fixture
        .store
        .history(work.task, history[2].id)
        .await
        .unwrap();
    assert_eq!(later, history[3..]);
    let attempts = fixture.store.attempts(work.task).await.unwrap();
    assert_eq!(attempts[0].outcome.as_deref(), Some("failed"));
}

pub(crate) async fn lists_are_filtered_and_paged(fixture: &Fixture) {
    let mut ids = Vec::new();
    for issue in 1..=5 {
        ids.push(fixture.create(issue).await);
    }
    fixture.store.cancel(ids[0], "m").await.unwrap();
    ids.reverse();
    let page = |before, limit| TaskFilter {
        before,
        limit,
        ..TaskFilter::default()
    };
    let first = fixture.store.tasks(&page(None, 2)).await.unwrap();
    assert_eq!(
        first.iter().map(|task| task.id).collect::<Vec<_>>(),
        ids[..2]
    );
    let rest = fixture.store.tasks(&page(Some(ids[1]), 50)).await.unwrap();
    assert_eq!(
        rest.iter().map(|task| task.id).collect::<Vec<_>>(),
        ids[2..]
    );
    let states = vec![TaskState::Cancelled, TaskState::Completed];
    let cancelled = fixture
        .store
        .tasks(&TaskFilter {
            states,
            ..page(None, 0)
        })
        .await
        .unwrap();
    assert_eq!(cancelled.len(), 1);
    let newest = fixture
        .store
        .task_of_issue(&repository(), IssueNumber(3))
        .await
        .unwrap();
    assert_eq!(newest.unwrap().id, ids[2]);
    assert_eq!(fixture.store.unanalyzed(10).await.unwrap().len(), 4);
}
