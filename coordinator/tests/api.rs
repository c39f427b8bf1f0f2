//! The REST API over HTTP, on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use patchfleet_coordinator::api::{ApiState, Bounds, router};
use patchfleet_coordinator::store::{SqlStore, Store};
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::postgres::Database;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const KEY: &str = "api-key-of-the-tests";

struct Api {
    url: String,
    http: reqwest::Client,
    database: Database,
    _server: JoinSet<()>,
}

impl Api {
    async fn start(bounds: Bounds) -> Self {
        let database = Database::create().await.unwrap();
        let store = SqlStore::postgres(database.url(), 10).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let app = router(ApiState {
            store,
            metrics: Metrics::new(),
            key: Arc::new(KEY.to_owned().into()),
            bounds,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            url,
            http: reqwest::Client::new(),
            database,
            _server: server,
        }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.http.get(format!("{}{path}", self.url));
        request.bearer_auth(KEY).send().await.unwrap()
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
