//! What is refused: counted, explained, and without a trace in the store.

use anyhow::Result;
use axum::body::Body;
use axum::http::Request;
use patchfleet_testkit::github::sign;
use serde_json::json;
use tower::ServiceExt as _;

use crate::scene::{OLD_SECRET, SECRET, Scene, answer};

const BODY: &str = r#"{"zen":"Design for failure."}"#;

#[tokio::test]
async fn a_missing_or_wrong_signature_is_401() -> Result<()> {
    let scene = Scene::start().await?;
    let without = reqwest::Client::new()
        .post(&scene.url)
        .header("content-type", "application/json")
        .header("x-github-event", "ping")
        .header("x-github-delivery", "d-1")
        .body(BODY);
    let wrong = scene
        .delivery("d-1", "ping", BODY)
        .body(BODY.replace("zen", "Zen"));
    for request in [without, wrong] {
        let response = request.send().await?;
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let (status, problem) = answer(response).await?;
        assert_eq!(status, 401);
        assert_eq!(
            problem,
            json!({
                "type": "about:blank",
                "title": "Unauthorized",
                "status": 401,
                "detail": "X-Hub-Signature-256 is missing or wrong. Set the same secret at GitHub's webhook and in `coordinator.github.webhook_secrets`.",
            })
        );
    }
    assert_eq!(scene.counted("ping", "bad_signature"), 2);
    assert!(!scene.store.delivery_seen("d-1").await?);
    Ok(())
}

#[tokio::test]
async fn malformed_requests_are_400_and_say_what_is_wrong() -> Result<()> {
    let scene = Scene::start().await?;
    let broken = scene.delivery("d-1", "issues", "{\"action\":");
    let list = scene.delivery("d-1", "issues", "[]");
    let anonymous = scene.delivery("", "issues", BODY);
    let nameless = scene.delivery("d-1", "", BODY);
    let odd = scene.delivery("a b", "issues", BODY);
    let cases = [
        (
            broken,
            "The payload is not JSON: EOF while parsing a value at line 1 column 10.",
        ),
        (list, "The payload is no JSON object."),
        (anonymous, "The header X-GitHub-Delivery is missing or odd."),
        (nameless, "The header X-GitHub-Event is missing or odd."),
        (odd, "The header X-GitHub-Delivery is missing or odd."),
    ];
    for (request, expected) in cases {
        let (status, problem) = answer(request.send().await?).await?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert_eq!(
            (status, detail.strip_suffix(" Send it as GitHub does.")),
            (400, Some(expected))
        );
    }
    assert_eq!(scene.counted("issues", "bad_request"), 4);
    assert_eq!(scene.counted("other", "bad_request"), 1);
    assert!(scene.tasks().await?.is_empty());
    assert!(!scene.store.delivery_seen("d-1").await?);
    Ok(())
}

#[tokio::test]
async fn more_than_25_mib_is_413() -> Result<()> {
    let scene = Scene::start().await?;
    let body = vec![b' '; 25 * 1024 * 1024 + 1];
    let request = Request::post("/webhooks/github")
        .header("content-type", "application/json")
        .header("x-github-event", "issues")
        .header("x-github-delivery", "d-1")
        .header("x-hub-signature-256", sign(SECRET, &body));
    let response = scene
        .router
        .clone()
        .oneshot(request.body(Body::from(body))?)
        .await?;
    assert_eq!(response.status(), 413);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(scene.counted("issues", "too_large"), 1);
    assert!(!scene.store.delivery_seen("d-1").await?);
    Ok(())
}

#[tokio::test]
async fn either_secret_and_either_content_type_will_do() -> Result<()> {
    let scene = Scene::start().await?;
    let old = sign(OLD_SECRET, BODY.as_bytes());
    let rotated = reqwest::Client::new()
        .post(&scene.url)
        .header("content-type", "application/json")
        .header("x-github-event", "ping")
        .header("x-github-delivery", "d-1")
        .header("x-hub-signature-256", old)
        .body(BODY);
    let form = "payload=%7B%22zen%22%3A%22Design%22%7D";
    let form = reqwest::Client::new()
        .post(&scene.url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-github-event", "ping")
        .header("x-github-delivery", "d-2")
        .header("x-hub-signature-256", sign(SECRET, form.as_bytes()))
        .body(form);
    for (id, request) in [("d-1", rotated), ("d-2", form)] {
        let (status, body) = answer(request.send().await?).await?;
        let expected =
            json!({ "delivery": id, "outcome": "ignored", "reason": "a ping", "tasks": [] });
        assert_eq!((status, body), (202, expected));
        assert!(scene.store.delivery_seen(id).await?);
    }
    Ok(())
}

#[tokio::test]
async fn labels_of_metrics_are_bounded() -> Result<()> {
    let scene = Scene::start().await?;
    for event in ["made_up_1", "made_up_2"] {
        let (status, _) = scene
            .deliver(event, event, &json!({ "action": "x" }))
            .await?;
        assert_eq!(status, 202);
    }
    assert_eq!(scene.counted("other", "ignored"), 2);
    assert!(!scene.metrics.render().contains("made_up"));
    Ok(())
}
