//! The REST API over HTTP, on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use futures::future::join_all;
use patchfleet_coordinator::api::{ApiState, Bounds, router};
use patchfleet_coordinator::cache::{Cache, Rate, Server};
use patchfleet_coordinator::dispatch::Registry;
use patchfleet_coordinator::stages::Liveness;
use patchfleet_coordinator::store::{Cas, NewPresence, SqlStore, Store};
use patchfleet_domain::{Agent, AgentState, AgentType, SecurityLevel, SessionId};
use patchfleet_resilience::{Remote, StageEnded};
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::gateway::{Gateway, Line};
use patchfleet_testkit::postgres::Database;
use patchfleet_testkit::redis::Redis;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

const KEY: &str = "api-key-of-the-tests";

/// More than any test asks.
const PLENTY: Rate = Rate {
    per_minute: NonZeroU32::new(60_000).unwrap(),
    burst: NonZeroU32::new(6000).unwrap(),
};

struct Api {
    /// The routes themselves, for requests from elsewhere.
    app: Router,
    url: String,
    http: reqwest::Client,
    database: Database,
    /// What is between the API and the database.
    gateway: Gateway,
    store: Arc<dyn Store>,
    liveness: Liveness,
    _server: JoinSet<()>,
}

impl Api {
    async fn start(bounds: Bounds) -> Self {
        Self::with(bounds, PLENTY, Cache::default()).await
    }

    async fn with(bounds: Bounds, rate: Rate, cache: Cache) -> Self {
        let database = Database::create().await.unwrap();
        let gateway = Gateway::start(1).await.unwrap();
        let url = database.url_through(&gateway).unwrap();
        let store = SqlStore::postgres(&url, 10).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let metrics = Metrics::new();
        let health = cache.remote().cloned();
        let liveness = Liveness::default();
        let app = router(ApiState {
            store: Arc::clone(&store),
            registry: Registry::new(metrics.clone()),
            metrics,
            key: KEY.parse().unwrap(),
            bounds,
            rate,
            remotes: Arc::new(move || health.iter().map(Remote::health).collect()),
            liveness: liveness.clone(),
            cache: cache.clone(),
        });
        let routes = app.clone();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            app: routes,
            url,
            http: reqwest::Client::new(),
            database,
            gateway,
            store,
            liveness,
            _server: server,
        }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.http.get(format!("{}{path}", self.url));
        request.bearer_auth(KEY).send().await.unwrap()
    }

    async fn metrics(&self) -> String {
        self.get("/metrics").await.text().await.unwrap()
    }

    async fn post(&self, path: &str, document: &Value) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}{path}", self.url));
        let answer = request.bearer_auth(KEY).json(document).send().await;
        let answer = answer.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }
}

#[tokio::test]
async fn a_part_of_the_queue_is_paused_shown_and_resumed() {
    let api = Api::start(Bounds::default()).await;
    let pause = json!({ "repository": "acme/orders", "reason": "a freeze" });
    let (status, done) = api.post("/api/v1/queue/pause", &pause).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        done,
        json!({ "repository": "acme/orders", "paused": true, "changed": true })
    );
    let backend = json!({ "agent_type": "backend" });
    api.post("/api/v1/queue/pause", &backend).await;
    let view: Value = api.get("/api/v1/queue").await.json().await.unwrap();
    assert_eq!(view["pauses"][0]["agent_type"], "backend");
    assert_eq!(view["pauses"][1]["repository"], "acme/orders");
    assert_eq!(view["pauses"][1]["reason"], "a freeze");
    assert_eq!(view["pauses"][1]["actor"], "operator");
    assert_eq!(view["at_work"], json!([]));
    let (_, done) = api.post("/api/v1/queue/resume", &backend).await;
    assert_eq!(
        done,
        json!({ "agent_type": "backend", "paused": false, "changed": true })
    );
    for wrong in [
        json!({}),
        json!({ "repository": "no name" }),
        json!({ "user": "x" }),
    ] {
        let (status, problem) = api.post("/api/v1/queue/pause", &wrong).await;
        assert!(status.is_client_error(), "{status}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("agent_type"), "{detail}");
    }
}

/// The database answers nobody: what the API can't hold is told to come back, and health and
/// metrics, which have no part in it, still answer.
#[tokio::test]
async fn too_many_requests_are_asked_to_come_back() {
    let api = Api::start(Bounds {
        at_once: 2,
        waiting: 3,
        patience: Duration::from_secs(1),
        ..Bounds::default()
    })
    .await;
    let mut other = sqlx::PgConnection::connect(api.database.url())
        .await
        .unwrap();
    other.execute("BEGIN; LOCK TABLE agents").await.unwrap();
    let requests = join_all((0..20).map(|_| api.get("/api/v1/agents")));
    let freed = async {
        // What finds no place is refused at once, while the others wait.
        assert_eq!(api.get("/health").await.status(), StatusCode::OK);
        assert_eq!(api.get("/metrics").await.status(), StatusCode::OK);
        let refused = loop {
            let answer = api.get("/api/v1/agents").await;
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                break answer;
            }
        };
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(
            refused.headers()["content-type"],
            "application/problem+json"
        );
        other.execute("ROLLBACK").await.unwrap();
    };
    let (answers, ()) = tokio::join!(requests, freed);
    let count = |wanted| answers.iter().filter(|it| it.status() == wanted).count();
    let (done, refused) = (count(StatusCode::OK), count(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(done + refused, 20);
    assert!((2..=5).contains(&done), "{done} were answered");
    assert_eq!(api.get("/api/v1/agents").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn strangers_empty_no_bucket_but_that_of_their_address() {
    let few = Rate {
        per_minute: NonZeroU32::new(6).unwrap(),
        burst: NonZeroU32::new(2).unwrap(),
    };
    let api = Api::with(Bounds::default(), few, Cache::default()).await;
    let stranger = async || {
        let url = format!("{}/api/v1/queue", api.url);
        api.http.get(url).send().await.unwrap().status()
    };
    for expected in [
        StatusCode::UNAUTHORIZED,
        StatusCode::UNAUTHORIZED,
        StatusCode::TOO_MANY_REQUESTS,
    ] {
        assert_eq!(stranger().await, expected);
    }
    // The operator has the same address here, as behind a proxy.
    assert_eq!(api.get("/api/v1/queue").await.status(), StatusCode::OK);
    assert_eq!(api.get("/api/v1/queue").await.status(), StatusCode::OK);
    let refused = api.get("/api/v1/queue").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!(api.get("/health").await.status(), StatusCode::OK);
}

/// Shows a key from an address of another host.
async fn show(api: &Api, key: &str, from: &str) -> StatusCode {
    let mut request = axum::http::Request::get("/api/v1/queue")
        .header("authorization", format!("Bearer {key}"))
        .body(axum::body::Body::empty())
        .unwrap();
    let peer = SocketAddr::new(from.parse().unwrap(), 40_000);
    request.extensions_mut().insert(ConnectInfo(peer));
    let answer = api.app.clone().oneshot(request).await.unwrap();
    answer.status()
}

/// Guesses until no guess is looked at any more.
async fn guess(api: &Api, from: &str) {
    for _ in 0..100 {
        if show(api, "wrong-key-of-a-stranger", from).await == StatusCode::TOO_MANY_REQUESTS {
            return;
        }
    }
    panic!("a hundred guesses were looked at");
}

#[tokio::test]
async fn whoever_guesses_too_often_does_not_learn_when_a_guess_is_right() {
    let api = Api::with(Bounds::default(), PLENTY, Cache::default()).await;
    for (from, same, other) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"),
        ("::ffff:192.0.2.3", "192.0.2.3", "192.0.2.4"),
    ] {
        guess(&api, from).await;
        assert_eq!(show(&api, KEY, same).await, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(show(&api, KEY, other).await, StatusCode::OK, "{other}");
    }
}

#[tokio::test]
async fn a_stranger_at_the_operators_address_locks_nobody_out() {
    let api = Api::with(Bounds::default(), PLENTY, Cache::default()).await;
    // Behind one NAT, where the operator was first.
    assert_eq!(show(&api, KEY, "192.0.2.1").await, StatusCode::OK);
    // Behind a proxy on the coordinator's host, where nobody was yet.
    for shared in ["192.0.2.1", "127.0.0.1"] {
        for _ in 0..100 {
            let refused = show(&api, "wrong-key-of-a-stranger", shared).await;
            assert_eq!(refused, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(show(&api, KEY, shared).await, StatusCode::OK, "{shared}");
    }
}

fn agent(load: f32) -> Agent {
    Agent {
        id: "general-1".parse().unwrap(),
        agent_type: AgentType::general(),
        capabilities: BTreeSet::new(),
        clearance: SecurityLevel::Public,
        state: AgentState::Idle,
        slots: 2,
        free_slots: 2,
        reason: None,
        load,
        warm_repositories: BTreeSet::new(),
        version: "1".to_owned(),
    }
}

#[tokio::test]
async fn agents_of_other_replicas_show_what_they_said_last_while_redis_is_there() {
    let mut redis = Redis::start().await.unwrap();
    let cache = Cache::open(
        Server::new(&redis.url(), None).unwrap(),
        "test",
        Metrics::new(),
    );
    let api = Api::with(Bounds::default(), PLENTY, cache.clone()).await;
    let minute = Duration::from_mins(1);
    let (known, session) = (agent(0.0), SessionId::new());
    let presence = NewPresence {
        session,
        instance: uuid::Uuid::now_v7(),
        present: minute,
    };
    let registered = api.store.register_agent(&known, presence).await;
    assert_eq!(registered.unwrap(), Cas::Applied(()));
    let load = async || {
        let list: Value = api.get("/api/v1/agents").await.json().await.unwrap();
        list["agents"][0]["load"].as_f64().unwrap()
    };
    assert!(load().await < 0.1);
    cache.present(|| vec![agent(0.5)], minute).await;
    assert!(load().await > 0.4);
    redis.kill();
    assert!(load().await < 0.1, "the registration is what is left");

    // Health tells of it, and the metrics too, once it is known to be away.
    for _ in 0..3 {
        load().await;
    }
    let health: Value = api.get("/health").await.json().await.unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["remotes"][0]["remote"], "redis");
    assert_eq!(health["remotes"][0]["circuit_breaker"]["state"], "open");
    let metrics = api.metrics().await;
    assert!(
        metrics.contains(r#"patchfleet_circuit_state{remote="redis"} 2"#),
        "{metrics}"
    );
    let counted = r#"patchfleet_api_requests_total{endpoint="/api/v1/agents",method="GET",status_code="200"} 6"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_database_that_is_away_is_told_to_readiness_and_not_to_liveness() {
    let Api {
        url,
        http,
        database,
        gateway: _gateway,
        _server,
        ..
    } = Api::start(Bounds::default()).await;
    let ask = async |path: &str| {
        let answer = http.get(format!("{url}{path}")).send().await;
        answer.unwrap().status()
    };
    for path in ["/health", "/health/ready", "/health/live"] {
        assert_eq!(ask(path).await, StatusCode::OK, "{path} wants no key");
    }
    drop(database);
    let away = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        // What was answered a moment ago counts for a second.
        while ask("/health/ready").await == StatusCode::OK {
            looks.tick().await;
        }
    };
    let away = tokio::time::timeout(Duration::from_secs(20), away).await;
    away.expect("readiness tells");
    assert_eq!(ask("/health").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask("/health/live").await, StatusCode::OK);
}

#[tokio::test]
async fn a_stage_that_ended_is_told_to_liveness_and_to_readiness() {
    let api = Api::start(Bounds::default()).await;
    api.liveness.note(StageEnded::returned("outbox"));
    for path in ["/health/live", "/health/ready", "/health"] {
        let answer = api.get(path).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        let report: Value = answer.json().await.unwrap();
        assert_eq!(report["status"], "failing");
        assert_eq!(report["failed_stages"], json!(["outbox"]));
    }
}

#[tokio::test]
async fn a_database_that_hangs_is_named_by_readiness_and_by_the_api_and_not_by_liveness() {
    let api = Api::start(Bounds {
        deadline: Duration::from_millis(200),
        ..Bounds::default()
    })
    .await;
    let health = async || -> Value { api.get("/health/ready").await.json().await.unwrap() };
    assert_eq!(health().await["database"], "ok");
    api.gateway.pass(Line::Held);
    let hangs = async {
        // What was answered a moment ago counts for a second.
        while health().await["status"] == "ok" {}
    };
    let hangs = tokio::time::timeout(Duration::from_secs(20), hangs).await;
    hangs.expect("readiness tells");
    assert_eq!(health().await["database"], "hangs");
    assert_eq!(api.get("/health/live").await.status(), StatusCode::OK);
    let answer = api.get("/api/v1/tasks").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "5");
    let problem: Value = answer.json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("The database did not answer"),
        "{detail}"
    );
}
