//! A Redis that does not let everybody in: TLS with an authority of its own, users with few rights.

use std::path::{Path, PathBuf};

use patchfleet_config::Secret;
use patchfleet_coordinator::check_redis;
use patchfleet_coordinator::config::RedisConfig;
use patchfleet_testkit::tls::Authority;
use tempfile::TempDir;

use super::*;

const OPERATIONS: &str = include_str!("../../../docs/OPERATIONS.md");

fn saved(authority: &Authority, folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, authority.pem()).unwrap();
    path
}

async fn check(url: &str, ca_file: Option<&Path>) -> Result<String, String> {
    let config = RedisConfig {
        url: Secret::Inline(url.to_owned().into()),
        ca_file: ca_file.map(Path::to_owned),
        prefix: "test".to_owned(),
    };
    let found = check_redis(&config).await;
    found.map_err(|error| format!("{error:#}"))
}

/// What the doctor says is wrong.
async fn reason(url: &str, ca_file: Option<&Path>) -> String {
    let reason = check(url, ca_file).await.unwrap_err();
    assert!(!reason.contains("hush"), "{reason}");
    reason
}

#[tokio::test]
async fn redis_is_used_over_tls_with_an_authority_of_its_own() {
    let (authority, folder) = (Authority::new().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::with_tls(&authority, None).await.unwrap();
    let url = format!("rediss://{}", redis.address());
    let ca_file = saved(&authority, &folder, "authority.pem");
    let found = check(&url, Some(&ca_file)).await;
    assert_eq!(found.unwrap(), "answers, and may be used");

    let server = Server::new(&url, Some(&ca_file)).unwrap();
    let cache = Cache::open(server, "test", Metrics::new());
    until_it_answers(&cache).await;
    cache.remember_delivery("one").await;
    assert_eq!(cache.may_know_delivery("one").await, Some(true));
}

#[tokio::test]
async fn faults_of_tls_are_told_apart() {
    let (authority, folder) = (Authority::new().unwrap(), tempfile::tempdir().unwrap());
    let ca_file = saved(&authority, &folder, "authority.pem");
    let stranger = saved(&Authority::new().unwrap(), &folder, "stranger.pem");
    let redis = Redis::with_tls(&authority, Some("redis.test"))
        .await
        .unwrap();
    let address = redis.address();
    let url = format!("rediss://fleet:hush@{address}");

    for unknown in [None, Some(stranger.as_path())] {
        let unknown = reason(&url, unknown).await;
        assert!(
            unknown.contains("no authority that is trusted"),
            "{unknown}"
        );
    }
    let other = reason(&url, Some(&ca_file)).await;
    assert!(other.contains("for another host"), "{other}");
    let plain = reason(&format!("redis://{address}"), None).await;
    assert!(
        plain.contains("if it speaks TLS, write rediss://"),
        "{plain}"
    );
    let redis = Redis::start().await.unwrap();
    let no_tls = reason(&format!("rediss://{}", redis.address()), Some(&ca_file)).await;
    assert!(
        no_tls.contains("TLS on this port, write redis://"),
        "{no_tls}"
    );
}

#[tokio::test]
async fn what_can_not_be_meant_is_refused_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let missing = folder.path().join("missing.pem");
    for (url, ca_file, words) in [
        (
            "rediss://:hush@redis.test#insecure",
            None,
            "anybody on the way",
        ),
        (
            "redis://:hush@redis.test",
            Some(&empty),
            "no use without TLS",
        ),
        (
            "rediss://:hush@redis.test",
            Some(&empty),
            "no certificate in it",
        ),
        (
            "rediss://:hush@redis.test",
            Some(&missing),
            "missing.pem: No such file",
        ),
        ("http://:hush@redis.test", None, "not an address of Redis"),
    ] {
        let refused = reason(url, ca_file.map(PathBuf::as_path)).await;
        assert!(refused.contains(words), "{refused}");
        assert!(refused.contains("coordinator.redis"), "{refused}");
    }
}

/// The rule of the handbook, for the prefix of these tests.
fn rule() -> String {
    let rule = OPERATIONS
        .lines()
        .find(|line| line.starts_with("ACL SETUSER"));
    let rule = rule.unwrap().replace("PASSWORD", "hush");
    rule.replace("~patchfleet:", "~test:")
        .replace("&patchfleet:", "&test:")
}

async fn tell(redis: &Redis, command: &str) {
    let answer = redis.ask(command).await.unwrap();
    assert!(answer.starts_with("+OK"), "{command}: {answer}");
}

#[tokio::test]
async fn the_rule_of_the_handbook_is_enough_for_all_that_is_done() {
    let redis = Redis::start().await.unwrap();
    tell(&redis, &rule()).await;
    let url = format!("redis://patchfleet:hush@{}/1", redis.address());
    assert_eq!(check(&url, None).await.unwrap(), "answers, and may be used");

    let metrics = Metrics::new();
    let cache = Cache::open(Server::new(&url, None).unwrap(), "test", metrics.clone());
    until_it_answers(&cache).await;
    cache.remember_delivery("one").await;
    let answer = KeptAnswer {
        tag: "1".to_owned(),
        body: "[]".to_owned(),
        seal: "sealed".to_owned(),
    };
    cache.keep("/one", answer.clone()).await;
    assert_eq!(cache.look("/one").await, Some(answer));
    cache.present(|| vec![agent("a", 0.5)], TTL).await;
    assert_eq!(cache.presence(&["a".parse().unwrap()]).await.len(), 1);
    Buckets::new(cache.clone(), "address", RATE)
        .take("a")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.db");
    let store = SqlStore::sqlite(&file).await.unwrap();
    let scope = Scope::AgentType(AgentType::general());
    let stop = CancellationToken::new();
    let telling = async {
        while !metrics
            .render()
            .contains(r#"operation="hint",outcome="ok""#)
        {
            store.pause(&scope, "operator", None).await.unwrap();
        }
        stop.cancel();
    };
    tokio::join!(fan_out(cache, store.hints(), stop.clone()), telling);
    let text = metrics.render();
    assert!(!text.contains(r#"outcome="failed""#), "{text}");
}

#[tokio::test]
async fn the_doctor_tells_faults_of_users_apart_and_changes_nothing() {
    let redis = Redis::start().await.unwrap();
    tell(&redis, &rule()).await;
    let address = redis.address();
    let url = format!("redis://patchfleet:hush@{address}");
    let wrong = reason(&format!("redis://patchfleet:hushed@{address}"), None).await;
    assert!(wrong.contains("WRONGPASS"), "{wrong}");

    tell(
        &redis,
        "ACL SETUSER patchfleet -publish -script|load -multi",
    )
    .await;
    let multi = reason(&url, None).await;
    assert!(multi.contains("may not use MULTI"), "{multi}");
    tell(&redis, "ACL SETUSER patchfleet +multi").await;
    let two = reason(&url, None).await;
    assert!(two.contains("may not use PUBLISH, SCRIPT LOAD on"), "{two}");
    tell(
        &redis,
        "ACL SETUSER patchfleet +publish +script|load resetkeys ~other:*",
    )
    .await;
    let keys = reason(&url, None).await;
    assert!(
        keys.contains("EXISTS") && keys.contains("EVALSHA"),
        "{keys}"
    );
    tell(
        &redis,
        "ACL SETUSER patchfleet resetkeys ~test:* resetchannels",
    )
    .await;
    let channels = reason(&url, None).await;
    assert!(channels.contains("may not use PUBLISH on"), "{channels}");
    assert_eq!(redis.ask("DBSIZE").await.unwrap(), ":0\r\n");

    tell(&redis, "ACL SETUSER default off").await;
    let nobody = reason(&format!("redis://{address}"), None).await;
    assert!(nobody.contains("NOAUTH"), "{nobody}");
}
