//! Budgets: what may be spent is reserved before a call and settled after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use patchfleet_coordinator::scheduler::unfit;
use patchfleet_coordinator::store::{
    Act, Acted, Cas, Commanded, Report, Retention, ScopeSpending, Store, WorkEvent,
};
use patchfleet_domain::outcome::{Failure, Outcome};
use patchfleet_domain::{
    AgentState, BudgetScope, Budgets, Exceeded, FailureKind, Limit, Money, Phase, Reservation,
    Reserved, TaskState, Usage, WaitReason, Work,
};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, LEASE, TERMS, agent};

const CENT: u64 = 10_000;

const fn cents(count: u64) -> Limit {
    Limit {
        usd: Some(Money(count * CENT)),
        tokens: None,
    }
}

fn call(name: &str, tokens: u64, cost: u64) -> Reservation {
    Reservation {
        call: name.to_owned(),
        provider: "anthropic".to_owned(),
        model: "sonnet".to_owned(),
        tokens,
        cost: Some(Money(cost * CENT)),
        task_limit: Limit::default(),
    }
}

fn usage(name: &str, tokens: u64, cost: u64) -> Usage {
    Usage {
        call: name.to_owned(),
        provider: "anthropic".to_owned(),
        model: "sonnet".to_owned(),
        input_tokens: tokens,
        cost: Some(Money(cost * CENT)),
        ..Usage::default()
    }
}

/// A store with that budget for each task, on the same database.
async fn per_task(fixture: &Fixture, limit: Limit) -> Arc<dyn Store> {
    let budgets = Budgets {
        task: limit,
        ..Budgets::default()
    };
    fixture.place.budgeted(budgets).await
}

async fn reserve(store: &dyn Store, work: Work, call: &Reservation) -> Reserved {
    match store.reserve(work, call).await.unwrap() {
        Cas::Applied(reserved) => reserved,
        Cas::Stale => panic!("{work} is stale"),
    }
}

async fn granted(store: &dyn Store, work: Work, call: &Reservation) {
    assert_eq!(reserve(store, work, call).await, Reserved::Granted);
}

async fn refused(store: &dyn Store, work: Work, call: &Reservation) -> Exceeded {
    match reserve(store, work, call).await {
        Reserved::Refused(exceeded) => exceeded,
        Reserved::Granted => panic!("{call:?} is granted"),
    }
}

fn spent(kind: FailureKind) -> WorkEvent {
    WorkEvent::Finished(Outcome::Failed(Failure {
        kind,
        message: "the budget of this task is spent".to_owned(),
        retryable: false,
        discard_checkpoints: false,
    }))
}

pub(crate) async fn a_call_counts_in_full_until_its_usage_is_known(fixture: &Fixture) {
    let store = per_task(fixture, cents(100)).await;
    let work = fixture.started(1).await;
    granted(&*store, work, &call("a", 10, 60)).await;
    let left = refused(&*store, work, &call("b", 10, 60)).await;
    assert_eq!(left.scope, BudgetScope::Task);
    assert_eq!(left.money_left, Some(Money(40 * CENT)));
    assert!(left.message.contains("$0.60 of $1.00"), "{}", left.message);
    // What fits exactly is granted, and what was refused left nothing behind.
    granted(&*store, work, &call("c", 10, 40)).await;
    fixture
        .applied(work, 2, WorkEvent::Usage(usage("a", 7, 5)))
        .await;
    granted(&*store, work, &call("d", 10, 55)).await;
    let task = fixture.task(work.task).await;
    assert_eq!((task.spent.calls, task.spent.usd), (1, Money(5 * CENT)));
    let history = store.history(work.task, 0).await.unwrap();
    let told = |event: &&patchfleet_coordinator::store::TaskEvent| {
        event.kind == "note" && event.detail.contains("the budget of this task is spent")
    };
    assert_eq!(history.iter().filter(told).count(), 1);
}

pub(crate) async fn a_repository_only_tightens_the_budget_of_its_tasks(fixture: &Fixture) {
    let store = per_task(fixture, cents(100)).await;
    let work = fixture.started(1).await;
    let within = |name: &str, cost: u64, most: Limit| Reservation {
        task_limit: most,
        ..call(name, 10, cost)
    };
    let left = refused(&*store, work, &within("a", 60, cents(50))).await;
    assert_eq!(
        (left.scope, left.money_left),
        (BudgetScope::Task, Some(Money(50 * CENT)))
    );
    assert!(left.message.contains("of $0.50"), "{}", left.message);
    granted(&*store, work, &within("b", 50, cents(50))).await;
    // What a person adds is added to that limit too.
    let raised = store
        .allow(work.task, cents(10), "maintainer")
        .await
        .unwrap();
    assert!(matches!(raised, Commanded::Done(_)), "{raised:?}");
    granted(&*store, work, &within("c", 10, cents(50))).await;
    refused(&*store, work, &within("d", 1, cents(50))).await;
    // A limit above the operator's is none, and tokens are limited beside money.
    refused(&*store, work, &within("e", 51, cents(1000))).await;
    let tokens = Limit {
        usd: None,
        tokens: Some(29),
    };
    refused(&*store, work, &within("f", 1, tokens)).await;
    granted(&*store, work, &within("g", 50, cents(1000))).await;
}

pub(crate) async fn asked_again_it_is_the_same_call(fixture: &Fixture) {
    let store = per_task(fixture, cents(100)).await;
    let work = fixture.started(1).await;
    for _ in 0..5 {
        granted(&*store, work, &call("a", 10, 60)).await;
    }
    granted(&*store, work, &call("b", 10, 40)).await;
}

pub(crate) async fn every_scope_has_a_budget_of_its_own(fixture: &Fixture) {
    let (one, two) = (fixture.started(1).await, fixture.started(2).await);
    for scope in [BudgetScope::Repository, BudgetScope::User, BudgetScope::Day] {
        let mut budgets = Budgets::default();
        let limit = Limit {
            usd: None,
            tokens: Some(100),
        };
        match scope {
            BudgetScope::Repository => budgets.repository = limit,
            BudgetScope::User => budgets.user = limit,
            _ => budgets.day = limit,
        }
        let store = fixture.place.budgeted(budgets).await;
        let name = |part: &str| format!("{scope}-{part}");
        granted(&*store, one, &call(&name("a"), 70, 0)).await;
        let exceeded = refused(&*store, two, &call(&name("b"), 31, 0)).await;
        assert_eq!((exceeded.scope, exceeded.tokens_left), (scope, Some(30)));
        for work in [one, two] {
            let seq = 2 + BudgetScope::ALL.iter().position(|it| *it == scope).unwrap();
            let used = usage(&name("a"), 0, 0);
            if work == one {
                let seq = u64::try_from(seq).unwrap();
                fixture.applied(work, seq, WorkEvent::Usage(used)).await;
            }
        }
        granted(&*store, two, &call(&name("b"), 31, 0)).await;
        let used = usage(&name("b"), 0, 0);
        let seq = 2 + BudgetScope::ALL.iter().position(|it| *it == scope).unwrap();
        fixture
            .applied(two, u64::try_from(seq).unwrap(), WorkEvent::Usage(used))
            .await;
    }
}

pub(crate) async fn a_call_without_a_price_is_refused_by_a_budget_in_money(fixture: &Fixture) {
    let unknown = Reservation {
        cost: None,
        ..call("a", 10, 0)
    };
    let work = fixture.started(1).await;
    let store = per_task(fixture, cents(100)).await;
    let exceeded = refused(&*store, work, &unknown).await;
    assert!(
        exceeded.message.contains("price of model `sonnet`"),
        "{}",
        exceeded.message
    );
    // One in tokens knows what it needs to know, and free is a price.
    let tokens = Limit {
        usd: None,
        tokens: Some(10),
    };
    granted(&*per_task(fixture, tokens).await, work, &unknown).await;
    granted(&*store, work, &call("b", 10, 0)).await;
}

pub(crate) async fn a_spent_task_waits_for_a_person(fixture: &Fixture) {
    let store = per_task(fixture, cents(100)).await;
    for phase in [Phase::Generate, Phase::Test] {
        let issue = if phase == Phase::Test { 2 } else { 1 };
        let work = fixture.started(issue).await;
        let begins = WorkEvent::Progress {
            phase,
            detail: String::new(),
        };
        fixture.applied(work, 2, begins).await;
        granted(&*store, work, &call("a", 10, 100)).await;
        refused(&*store, work, &call("b", 10, 1)).await;
        fixture
            .applied(work, 3, spent(FailureKind::BudgetSpent))
            .await;
        let task = fixture.task(work.task).await;
        assert_eq!(task.state, TaskState::Waiting, "{phase}");
        assert_eq!(task.wait_reason, Some(WaitReason::Budget));
        assert_eq!(task.failures, 0);
        assert!(store.due_for_budget(10).await.unwrap().is_empty());

        let more = Act::AllowSpending {
            repository: task.repository.clone(),
            issue: task.issue.unwrap(),
            actor: "maintainer".to_owned(),
            more: cents(50),
        };
        let acted = fixture.act(more).await;
        assert_eq!(acted, Acted::Changed(work.task, TaskState::Queued));
        let queued = fixture.in_queue(work.task).await;
        let next = fixture.claim(&queued, LEASE).await.work;
        fixture.applied(next, 1, WorkEvent::Accepted).await;
        granted(&*store, next, &call("a", 10, 50)).await;
        refused(&*store, next, &call("b", 10, 1)).await;
        // In advance, while it is at work.
        let allowed = store.allow(work.task, cents(1), "maintainer").await;
        assert_eq!(allowed.unwrap(), Commanded::Done(TaskState::InProgress));
        granted(&*store, next, &call("b", 10, 1)).await;
    }
}

pub(crate) async fn a_spent_day_ends_by_itself(fixture: &Fixture) {
    let work = fixture.started(1).await;
    fixture
        .applied(work, 2, spent(FailureKind::DailyBudgetSpent))
        .await;
    let task = fixture.task(work.task).await;
    assert_eq!(task.wait_reason, Some(WaitReason::Budget));
    assert!(fixture.store.due_for_budget(10).await.unwrap().is_empty());
    unfit::look(&*fixture.store, Duration::ZERO).await.unwrap();
    assert_eq!(fixture.task(work.task).await.state, TaskState::Waiting);
    let midnight = format!("UPDATE tasks SET not_before = 1 WHERE id = '{}'", work.task);
    fixture.place.execute(midnight).await;
    unfit::look(&*fixture.store, Duration::ZERO).await.unwrap();
    assert_eq!(fixture.task(work.task).await.state, TaskState::Queued);
    // A person need not wait for it.
    let other = fixture.started(2).await;
    fixture
        .applied(other, 2, spent(FailureKind::DailyBudgetSpent))
        .await;
    let retried = fixture.store.retry(other.task, "maintainer").await.unwrap();
    assert_eq!(retried, Commanded::Done(TaskState::Queued));
}

pub(crate) async fn an_attempt_that_is_not_live_reserves_nothing(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let lost = fixture.store.lose(work, "gone").await.unwrap();
    assert_eq!(lost, Cas::Applied(TaskState::Queued));
    let reserved = fixture.store.reserve(work, &call("a", 1, 1)).await.unwrap();
    assert_eq!(reserved, Cas::Stale);
    assert_eq!(fixture.store.spending().await.unwrap(), []);
}

pub(crate) async fn a_call_whose_attempt_was_lost_is_shown_as_an_estimate(fixture: &Fixture) {
    let store = per_task(fixture, cents(100)).await;
    let work = fixture.started(1).await;
    granted(&*store, work, &call("a", 10, 60)).await;
    let lost = store.lose(work, "gone").await.unwrap();
    assert_eq!(lost, Cas::Applied(TaskState::Queued));
    let queued = fixture.in_queue(work.task).await;
    let next = fixture.claim(&queued, LEASE).await.work;
    fixture.applied(next, 1, WorkEvent::Accepted).await;
    // The call was perhaps paid for, and people see that also when there is no other one.
    refused(&*store, next, &call("b", 10, 41)).await;
    let task = fixture.task(work.task).await;
    assert_eq!((task.spent.calls, task.spent.usd), (1, Money(60 * CENT)));
    granted(&*store, next, &call("b", 10, 40)).await;
    let task = fixture.task(work.task).await;
    assert_eq!((task.spent.calls, task.spent.usd), (1, Money(60 * CENT)));
    assert!(task.spent.estimated);
}

pub(crate) async fn usage_counts_once(fixture: &Fixture) {
    let work = fixture.started(1).await;
    granted(&*fixture.store, work, &call("a", 10, 60)).await;
    let report = |seq, used: &Usage| Report {
        work,
        seq,
        event: WorkEvent::Usage(used.clone()),
    };
    let (a, unknown) = (usage("a", 7, 5), usage("never asked for", 1, 2));
    for _ in 0..3 {
        for report in [report(2, &a), report(3, &unknown)] {
            let applied = fixture.store.report(&report).await.unwrap();
            assert_eq!(applied, Cas::Applied(()));
        }
    }
    // An agent that says it under another number changes no budget.
    let again = fixture.store.report(&report(4, &a)).await.unwrap();
    assert_eq!(again, Cas::Applied(()));
    let spending = fixture.store.spending().await.unwrap();
    let day = spending.iter().find(|it| it.scope == BudgetScope::Day);
    let day = day.expect("the day has spent something");
    assert_eq!((day.tokens, day.usd), (8, Money(7 * CENT)));
    assert_eq!(spending.len(), 3, "repository, user and day");
}

pub(crate) async fn people_are_warned_once(fixture: &Fixture) {
    let store = per_task(fixture, cents(100)).await;
    let work = fixture.started(1).await;
    granted(&*store, work, &call("a", 10, 79)).await;
    let warnings = async || {
        let history = store.history(work.task, 0).await.unwrap();
        let of_budget = history.into_iter().map(|event| event.detail);
        let of_budget = of_budget.filter(|detail| detail.contains("% of the budget"));
        of_budget.collect::<Vec<_>>()
    };
    assert_eq!(warnings().await, [""; 0]);
    granted(&*store, work, &call("b", 10, 2)).await;
    granted(&*store, work, &call("c", 10, 3)).await;
    let all = warnings().await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].starts_with("81 % of the budget of this task"),
        "{all:?}"
    );
}

pub(crate) async fn what_was_spent_long_ago_is_forgotten(fixture: &Fixture) {
    let work = fixture.started(1).await;
    granted(&*fixture.store, work, &call("a", 10, 1)).await;
    let text = "UPDATE spending SET day = '2020-02-29' WHERE day <> ''".to_owned();
    assert_eq!(fixture.place.execute_many(text).await, 3);
    let retention = Retention {
        tasks: Duration::from_hours(24),
        deliveries: Duration::from_hours(24),
    };
    fixture.store.retire(retention).await.unwrap();
    let text = "UPDATE spending SET warned = warned".to_owned();
    assert_eq!(fixture.place.execute_many(text).await, 1, "the task's own");
    // With the task goes what belongs to it.
    fixture.answered_and_removed(work, 2).await;
    for table in ["spending", "model_calls"] {
        let text = format!("DELETE FROM {table}");
        assert_eq!(fixture.place.execute_many(text).await, 0, "{table}");
    }
}

/// Numbers that look like chance and are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        // Steele, Lea, Flood: SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

pub(crate) async fn hundreds_of_calls_at_once_exceed_nothing(fixture: &Fixture) {
    const TASKS: u64 = 40;
    const CALLS: u64 = 6;
    let limit = |cents: u64, tokens| Limit {
        usd: Some(Money(cents * CENT)),
        tokens: Some(tokens),
    };
    let budgets = Budgets {
        task: limit(120, 4000),
        repository: limit(2000, 60_000),
        user: limit(1800, 80_000),
        day: limit(1900, 70_000),
    };
    let store = fixture.place.budgeted(budgets).await;
    let mut works = Vec::new();
    for issue in 1..=TASKS {
        works.push(fixture.started(issue).await);
    }
    let mut agents = JoinSet::new();
    for (number, work) in works.iter().copied().enumerate() {
        let store = store.clone();
        agents.spawn(async move {
            let mut chance = Chance(u64::try_from(number).unwrap());
            let (mut open, mut billed) = ((0, 0), (0, 0));
            let mut seq = 1;
            for index in 0..CALLS {
                let asked = call(
                    &index.to_string(),
                    1 + chance.below(1500),
                    1 + chance.below(60),
                );
                let Reserved::Granted = reserve(&*store, work, &asked).await else {
                    continue;
                };
                let cost = asked.cost.unwrap().0;
                // Some calls are never reported; others cost less than was reserved.
                if chance.below(4) == 0 {
                    open = (open.0 + asked.tokens, open.1 + cost);
                    continue;
                }
                seq += 1;
                let used = Usage {
                    cost: Some(Money(chance.below(cost + 1))),
                    ..usage(&asked.call, chance.below(asked.tokens + 1), 0)
                };
                billed = (billed.0 + used.tokens(), billed.1 + used.cost.unwrap().0);
                let event = WorkEvent::Usage(used);
                let report = Report { work, seq, event };
                let applied = store.report(&report).await.unwrap();
                assert_eq!(applied, Cas::Applied(()));
            }
            (work.task, open, billed)
        });
    }
    let ended = agents.join_all().await;
    let mut sums = (0, 0);
    for (task, open, billed) in &ended {
        assert!(open.1 + billed.1 <= 120 * CENT, "{task}");
        assert!(open.0 + billed.0 <= 4000, "{task}");
        sums = (sums.0 + open.0 + billed.0, sums.1 + open.1 + billed.1);
        let spent = fixture.task(*task).await.spent;
        assert_eq!((spent.tokens(), spent.usd), (billed.0, Money(billed.1)));
    }
    let spending: BTreeMap<BudgetScope, ScopeSpending> = store
        .spending()
        .await
        .unwrap()
        .into_iter()
        .map(|it| (it.scope, it))
        .collect();
    for scope in [BudgetScope::Repository, BudgetScope::User, BudgetScope::Day] {
        let it = &spending[&scope];
        assert_eq!((it.tokens, it.usd), (sums.0, Money(sums.1)), "{scope}");
        assert!(it.usd <= it.limit.usd.unwrap(), "{scope}");
        assert!(it.tokens <= it.limit.tokens.unwrap(), "{scope}");
    }
    // The agents are still theirs.
    let busy = [(agent("backend-1"), AgentState::Busy)];
    let live = store.renew(&busy, TERMS).await.unwrap();
    assert_eq!(u64::try_from(live.len()).unwrap(), TASKS);
}
