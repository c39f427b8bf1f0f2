//! Redis beside the store: quicker while it is there, and never missed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cache/access.rs"]
mod access;
#[path = "cache/line.rs"]
mod line;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use patchfleet_coordinator::cache::{Buckets, Cache, Rate, Server, fan_out};
use patchfleet_coordinator::store::{Scope, SqlStore, Store as _};
use patchfleet_domain::{Agent, AgentId, AgentState, AgentType, SecurityLevel};
use patchfleet_github::{Keeper as _, KeptAnswer};
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::redis::Redis;
use tokio_util::sync::CancellationToken;

const TTL: Duration = Duration::from_mins(1);
const RATE: Rate = Rate {
    per_minute: NonZeroU32::MIN,
    burst: NonZeroU32::new(3).unwrap(),
};

fn open(redis: &Redis, metrics: &Metrics) -> Cache {
    Cache::open(
        Server::new(&redis.url(), None).unwrap(),
        "test",
        metrics.clone(),
    )
}

/// Redis that was away is asked again when its circuit has rested.
async fn until_it_answers(cache: &Cache) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let answered = async {
        while cache.may_know_delivery("x").await.is_none() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answered)
        .await
        .unwrap();
}

fn agent(id: &str, load: f32) -> Agent {
    Agent {
        id: id.parse().unwrap(),
        agent_type: AgentType::general(),
        capabilities: BTreeSet::new(),
        clearance: SecurityLevel::Public,
        state: AgentState::Busy,
        slots: 2,
        free_slots: 1,
        reason: None,
        load,
        warm_repositories: BTreeSet::new(),
        version: "1".to_owned(),
    }
}

#[tokio::test]
async fn a_delivery_is_known_until_redis_is_lost_and_then_nobody_can_say() {
    let mut redis = Redis::start().await.unwrap();
    let metrics = Metrics::new();
    let cache = open(&redis, &metrics);
    assert_eq!(cache.may_know_delivery("one").await, Some(false));
    cache.remember_delivery("one").await;
    assert_eq!(cache.may_know_delivery("one").await, Some(true));
    let server = Server::new(&redis.url(), None).unwrap();
    let other = Cache::open(server, "other", metrics.clone());
    assert_eq!(other.may_know_delivery("one").await, Some(false));

    redis.kill();
    for _ in 0..10 {
        assert_eq!(cache.may_know_delivery("one").await, None);
    }
    let text = metrics.render();
    // After a few failures it is not even asked.
    assert!(
        text.contains(r#"operation="delivery_look",outcome="failed"} 3"#),
        "{text}"
    );
    assert!(
        text.contains(r#"operation="delivery_look",outcome="skipped"} 7"#),
        "{text}"
    );

    redis.revive().await.unwrap();
    until_it_answers(&cache).await;
    assert_eq!(
        cache.may_know_delivery("one").await,
        Some(false),
        "it came back empty"
    );
}

#[tokio::test]
async fn what_github_answered_is_kept_for_a_day_unless_it_is_huge() {
    let mut redis = Redis::start().await.unwrap();
    let metrics = Metrics::new();
    let (here, there) = (open(&redis, &metrics), open(&redis, &metrics));
    let answer = |body: &str| KeptAnswer {
        tag: "W/\"1\"".to_owned(),
        body: body.to_owned(),
        seal: format!("sealed {body}"),
    };
    assert_eq!(there.look("/one?page=1").await, None);
    here.keep("/one?page=1", answer("[1]")).await;
    assert_eq!(there.look("/one?page=1").await, Some(answer("[1]")));
    assert_eq!(there.look("/one?page=2").await, None);
    here.keep("/one?page=1", answer("[2]")).await;
    assert_eq!(there.look("/one?page=1").await, Some(answer("[2]")));
    let left = redis.ask("TTL test:github:/one?page=1").await.unwrap();
    let left: i64 = left.trim().trim_start_matches(':').parse().unwrap();
    assert!((86_000..=86_400).contains(&left), "{left} s");
    here.keep("/huge", answer(&"x".repeat(1024 * 1024 + 1)))
        .await;
    assert_eq!(there.look("/huge").await, None);
    redis.kill();
    assert_eq!(there.look("/one?page=1").await, None);
}

#[tokio::test]
async fn without_redis_nothing_is_known_and_nothing_fails() {
    let cache = Cache::default();
    assert_eq!(cache.may_know_delivery("one").await, None);
    cache.remember_delivery("one").await;
    let id: AgentId = "general-1".parse().unwrap();
    assert_eq!(cache.presence(&[id]).await, [None]);
    let buckets = Buckets::new(cache, "address", RATE);
    for _ in 0..3 {
        buckets.take("a").await.unwrap();
    }
    assert!(buckets.take("a").await.unwrap_err() > Duration::from_secs(30));
    buckets.take("b").await.unwrap();
    for bad in ["", "http://x", "redis://:secret@"] {
        let error = Server::new(bad, None).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn presence_is_read_by_another_replica_while_it_lasts() {
    let redis = Redis::start().await.unwrap();
    let metrics = Metrics::new();
    let (here, there) = (open(&redis, &metrics), open(&redis, &metrics));
    let agents: Vec<_> = (0..1200).map(|n| agent(&format!("a-{n}"), 0.5)).collect();
    here.present(|| agents.clone(), TTL).await;
    let mut ids: Vec<_> = agents.iter().map(|it| it.id.clone()).collect();
    ids.insert(7, "nobody".parse().unwrap());
    let known = there.presence(&ids).await;
    assert_eq!(known.len(), 1201);
    assert_eq!(known[7], None);
    assert!(known[0] == Some(agents[0].clone()) && known[1200] == Some(agents[1199].clone()));
    // A moment's presence is over in a moment.
    here.present(|| vec![agent("a-0", 0.9)], Duration::from_millis(1))
        .await;
    let gone = async {
        while there.presence(&ids[..1]).await[0].is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_bucket_is_one_for_all_replicas_and_each_has_its_own_without_redis() {
    let mut redis = Redis::start().await.unwrap();
    let metrics = Metrics::new();
    let bucket = || Buckets::new(open(&redis, &metrics), "address", RATE);
    let (here, there) = (bucket(), bucket());
    here.take("a").await.unwrap();
    there.take("a").await.unwrap();
    here.take("a").await.unwrap();
    let wait = there.take("a").await.unwrap_err();
    assert!(
        (Duration::from_secs(50)..=Duration::from_mins(1)).contains(&wait),
        "{wait:?}"
    );
    there.take("b").await.unwrap();

    redis.kill();
    for _ in 0..3 {
        there.take("a").await.unwrap();
    }
    assert!(there.take("a").await.is_err(), "still bounded");
}

#[tokio::test]
async fn replicas_hear_of_commits_over_redis_also_after_it_was_lost() {
    let mut redis = Redis::start().await.unwrap();
    let metrics = Metrics::new();
    let folder = tempfile::tempdir().unwrap();
    // Two databases, so that only Redis can carry the hint.
    let one = SqlStore::sqlite(&folder.path().join("one.db"))
        .await
        .unwrap();
    let two = SqlStore::sqlite(&folder.path().join("two.db"))
        .await
        .unwrap();
    let mut heard = two.changed();
    let stop = CancellationToken::new();
    let mut replicas = tokio::task::JoinSet::new();
    for store in [&one, &two] {
        let cache = open(&redis, &metrics);
        replicas.spawn(fan_out(cache, store.hints(), stop.clone()));
    }
    let scope = Scope::AgentType(AgentType::general());
    for round in 0..2 {
        let telling = async {
            loop {
                one.pause(&scope, "operator", None).await.unwrap();
                heard.mark_unchanged();
                let told = tokio::time::timeout(Duration::from_millis(100), heard.changed());
                if told.await.is_ok() {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(20), telling).await;
        assert!(told.is_ok(), "round {round}");
        redis.revive().await.unwrap();
    }
    stop.cancel();
    while replicas.join_next().await.is_some() {}
}
