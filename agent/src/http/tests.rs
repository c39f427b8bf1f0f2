//! The interface as callers see it.

use axum::body::{Body, to_bytes};
use patchfleet_domain::{AttemptNumber, Work};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;
use crate::config::AgentConfig;
use crate::sandbox::Sandbox;
use crate::workspace::{Retention, Workspaces};

struct Scene {
    member: Arc<Member>,
    guard: Guard,
    _root: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let root = TempDir::new().unwrap();
        let config: AgentConfig = serde_json::from_value(json!({
            "id": "backend-1",
            "type": "backend",
            "coordinator": {"url": "http://127.0.0.1:1", "key": "fleet-key"},
            "workspace": {"root": root.path()},
            "draft": {"mode": "replay", "replay_dir": root.path()},
        }))
        .unwrap();
        let retention = Retention {
            keep: chrono::TimeDelta::days(7),
            disk_limit: None,
        };
        let workspaces = Workspaces::open(root.path(), &config.id, retention).await;
        let member = Member::new(config, workspaces.unwrap(), Sandbox::default()).unwrap();
        Self {
            member: Arc::new(member),
            guard: Guard::new("http-key".parse().unwrap()),
            _root: root,
        }
    }

    async fn ask(&self, method: &str, path: &str, key: Option<&str>) -> (StatusCode, String) {
        let response = self.ask_from("192.0.2.1", (method, path), key).await;
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ask_from(
        &self,
        ip: &str,
        (method, path): (&str, &str),
        key: Option<&str>,
    ) -> Response {
        let peer = SocketAddr::new(ip.parse().unwrap(), 40_000);
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let router = router(Arc::clone(&self.member), self.guard.clone());
        let request = request.extension(ConnectInfo(peer)).body(Body::empty());
        router.oneshot(request.unwrap()).await.unwrap()
    }

    async fn cancel(&self, id: &str) -> StatusCode {
        let path = format!("/cancel_task/{id}");
        self.ask("POST", &path, Some("http-key")).await.0
    }
}

fn work() -> Work {
    Work {
        task: TaskId::new(),
        attempt: AttemptNumber(3),
    }
}

#[tokio::test]
async fn only_health_answers_without_the_key() {
    let scene = Scene::new().await;
    let (status, body) = scene.ask("GET", "/health", None).await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, r#"{"status":"ok"}"#)
    );
    let (status, _) = scene.ask("GET", "/health/live", None).await;
    assert_eq!(status, StatusCode::OK);
    let cancel = format!("/cancel_task/{}", TaskId::new());
    for (method, path) in [("GET", "/status"), ("GET", "/metrics"), ("POST", &cancel)] {
        for key in [None, Some("fleet-key"), Some("")] {
            let (status, body) = scene.ask(method, path, key).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {key:?}");
            assert!(body.contains("authentication failed"), "{body}");
        }
    }
}

#[tokio::test]
async fn whoever_guesses_too_often_does_not_learn_when_a_guess_is_right() {
    let scene = Scene::new().await;
    let status = ("GET", "/status");
    let mut guesses = 0;
    let refused = loop {
        let answer = scene.ask_from("192.0.2.7", status, Some("a-guess")).await;
        if answer.status() != StatusCode::UNAUTHORIZED {
            break answer;
        }
        guesses += 1;
        assert!(guesses < 100, "a hundred guesses were looked at");
    };
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    for (from, expected) in [
        ("192.0.2.7", StatusCode::TOO_MANY_REQUESTS),
        ("192.0.2.8", StatusCode::OK),
        ("127.0.0.1", StatusCode::OK),
    ] {
        let answer = scene.ask_from(from, status, Some("http-key")).await;
        assert_eq!(answer.status(), expected, "{from}");
    }
    let (health, _) = scene.ask("GET", "/health", None).await;
    assert_eq!(health, StatusCode::OK);
}

#[tokio::test]
async fn the_status_tells_slots_and_tasks() {
    let scene = Scene::new().await;
    let work = work();
    scene.member.desk.open(work, true);
    let (status, body) = scene.ask("GET", "/status", Some("http-key")).await;
    assert_eq!(status, StatusCode::OK);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["agent_id"], "backend-1");
    assert_eq!(
        (&body["slots"], &body["free_slots"]),
        (&json!(2), &json!(1))
    );
    let task = json!({"task": work.task.to_string(), "attempt": 3});
    assert_eq!(body["tasks"], json!([task]));
}

#[tokio::test]
async fn metrics_are_in_prometheus_format() {
    let scene = Scene::new().await;
    let (_, body) = scene.ask("GET", "/metrics", Some("http-key")).await;
    assert!(
        body.contains("# TYPE patchfleet_agent_free_slots gauge\npatchfleet_agent_free_slots{agent_id=\"backend-1\"} 2\n"),
        "{body}"
    );
    assert!(body.contains("patchfleet_agent_load{agent_id=\"backend-1\"} "));
}

#[tokio::test]
async fn a_task_is_called_off_when_it_runs_here() {
    let scene = Scene::new().await;
    let work = work();
    let cancel = scene.member.desk.open(work, true).unwrap();
    let elsewhere = TaskId::new().to_string();
    assert_eq!(scene.cancel("x").await, StatusCode::BAD_REQUEST);
    assert_eq!(scene.cancel(&elsewhere).await, StatusCode::NOT_FOUND);
    assert!(!cancel.is_cancelled());
    let here = work.task.to_string();
    assert_eq!(scene.cancel(&here).await, StatusCode::ACCEPTED);
    assert!(cancel.is_cancelled());
    assert_eq!(scene.member.desk.stopped(work), Some(Stop::CalledOff));
}

#[tokio::test]
async fn an_agent_is_ready_while_it_is_connected_fit_and_not_draining() {
    let scene = Scene::new().await;
    let ready = async || {
        let (status, body) = scene.ask("GET", "/health/ready", None).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        (status.as_u16(), body["reasons"].clone())
    };
    let away = json!(["the coordinator is not connected"]);
    assert_eq!(ready().await, (503, away.clone()));
    let connected = scene.member.connected();
    assert_eq!(ready().await, (200, Value::Null));
    drop(connected);
    assert_eq!(ready().await, (503, away));

    let _connected = scene.member.connected();
    scene.member.drain();
    assert_eq!(ready().await, (503, json!(["the agent is draining"])));
    let live = scene.ask("GET", "/health/live", None).await;
    assert_eq!(live.0, StatusCode::OK, "nothing that a restart would mend");
}

#[tokio::test]
async fn an_agent_whose_host_is_unfit_is_not_ready_and_tells_nobody_without_the_key_why() {
    let mut scene = Scene::new().await;
    let config = &mut Arc::get_mut(&mut scene.member).unwrap().config;
    config.draft = serde_json::from_value(json!({
        "mode": "cli", "command": ["a-tool-that-is-not-installed"],
    }))
    .unwrap();
    let member = Arc::get_mut(&mut scene.member).unwrap();
    member.fitness = crate::fitness::Fitness::of(&member.config, Sandbox::default());
    assert!(member.fitness.check().await.is_some());
    let _connected = scene.member.connected();
    let (status, body) = scene.ask("GET", "/health/ready", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("unfit"), "{body}");
    assert!(!body.contains("a-tool"), "{body}");
}
