//! The gateway against a server that quotes what it was sent.

mod calls;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use patchfleet_proxy::Proxies;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use url::Url;

use super::upstream::ModelUpstreamError;
use super::{Credential, Gateway, Model, ModelLimits, ModelUpstream};
use crate::model::Budgets;

const KEY: &str = "sk-own-0123456789abcdef";

/// What the server was sent.
#[derive(Debug, Default)]
struct Asked {
    requests: Mutex<Vec<(String, HeaderMap, Bytes)>>,
    /// Where pieces of a streamed answer come from.
    pieces: Mutex<Option<tokio::sync::mpsc::Receiver<Result<Bytes, std::io::Error>>>>,
}

struct Rig {
    gateway: Gateway,
    asked: Arc<Asked>,
    /// Where the server is.
    base: String,
    _server: AbortOnDropHandle<()>,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        Self::with(ModelLimits::default()).await
    }

    async fn with(limits: ModelLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Asked::default());
        let router = Router::new().fallback(quote).with_state(Arc::clone(&asked));
        let server = TaskTracker::new().spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        let (gateway, folder) = gateway(&base, limits, Budgets::none());
        Self {
            gateway,
            asked,
            base,
            _server: AbortOnDropHandle::new(server),
            _folder: folder,
        }
    }

    /// The answer to a request, whole.
    async fn answer(&self, request: &str) -> String {
        answer(self.gateway.socket(), request).await
    }

    fn requests(&self) -> usize {
        self.asked.requests.lock().unwrap().len()
    }
}

fn gateway(base: &str, limits: ModelLimits, budgets: Budgets) -> (Gateway, tempfile::TempDir) {
    let credential = Credential::ApiKey(SecretString::from(KEY));
    let upstream = ModelUpstream::new(&Url::parse(base).unwrap(), credential).unwrap();
    let model = Model::new(upstream, limits, &Proxies::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::bind(&folder.path().join("model.sock"), model, budgets, None);
    (gateway.unwrap(), folder)
}

/// A question of a model that the server answers with a status.
fn asks(status: u16) -> String {
    format!("{{\"model\":\"m\",\"status\":{status}}}")
}

async fn answer(socket: &Path, request: &str) -> String {
    let mut client = UnixStream::connect(socket).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // What was not read on the other side makes the end a reset.
    let _ = client.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// Quotes the key in headers and body, with the status that the body asks for.
async fn quote(State(asked): State<Arc<Asked>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let uri = head.uri.to_string();
    asked
        .requests
        .lock()
        .unwrap()
        .push((uri, head.headers.clone(), body.clone()));
    let wanted: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let wanted = wanted["status"].as_u64().unwrap_or(200);
    let status = StatusCode::from_u16(wanted.try_into().unwrap()).unwrap();
    if let Some(pieces) = asked.pieces.lock().unwrap().take() {
        let stream = tokio_stream::wrappers::ReceiverStream::new(pieces);
        return axum::body::Body::from_stream(stream).into_response();
    }
    let key = head.headers["x-api-key"].to_str().unwrap().to_owned();
    let headers = [
        ("x-request-id", "request-1".to_owned()),
        ("retry-after", key.clone()),
        ("location", format!("http://evil.test/?{key}")),
        ("set-cookie", "session=1".to_owned()),
        ("anthropic-organization-id", "org".to_owned()),
        ("anthropic-ratelimit-tokens-remaining", "7".to_owned()),
    ];
    (status, headers, format!("the key is {key}.")).into_response()
}

#[tokio::test]
async fn requests_go_to_the_upstream_with_the_agents_key_alone() {
    let rig = Rig::new().await;
    let headers = "x-api-key: sk-client\r\nAuthorization: Bearer client\r\nX_Api_Key: a\r\n\
                   x.api.key: b\r\nCookie: c\r\nProxy-Authorization: d\r\nx-goog-api-key: e\r\n\
                   OpenAI-Organization: f\r\nX-Forwarded-For: g\r\nX-Forwarded_Host: h\r\nTE: trailers\r\n\
                   anthropic-version: 2023-06-01\r\nanthropic-beta: tools\r\n";
    let answer = rig
        .answer(&post("/v1/messages?beta=true", headers, &asks(200)))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let requests = rig.asked.requests.lock().unwrap();
    let (uri, headers, body) = &requests[0];
    assert_eq!(
        (uri.as_str(), &body[..]),
        ("/v1/messages?beta=true", asks(200).as_bytes())
    );
    let mut names: Vec<_> = headers.keys().map(axum::http::HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "content-length",
        "host",
        "x-api-key",
    ];
    assert_eq!(names, expected);
    assert_eq!(headers["x-api-key"], KEY);
    assert!(headers["host"].to_str().unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn the_key_can_not_be_read_from_answers() {
    let rig = Rig::new().await;
    for status in [200, 400, 401, 500, 302, 307] {
        let answer = rig.answer(&post("/v1/responses", "", &asks(status))).await;
        let status = status.to_string();
        assert!(
            !answer.contains(KEY) && !answer.contains("0123456789abcdef"),
            "{answer}"
        );
        let passed = if status.starts_with('3') {
            "502"
        } else {
            &status
        };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {passed} ")),
            "{answer}"
        );
        for name in ["location:", "set-cookie:", "retry-after:", "organization"] {
            assert!(!answer.contains(name), "{name} in {answer}");
        }
    }
    let answer = rig.answer(&post("/v1/responses", "", &asks(200))).await;
    assert!(answer.contains("the key is ***"), "{answer}");
    assert!(answer.contains("x-request-id: request-1\r\n"), "{answer}");
    assert!(
        answer.contains("anthropic-ratelimit-tokens-remaining: 7\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn only_the_models_paths_are_forwarded() {
    let rig = Rig::new().await;
    for request in [
        "GET /v1/files HTTP/1.1\r\n",
        "GET /v1/messages HTTP/1.1\r\n",
        "DELETE /v1/messages HTTP/1.1\r\n",
        "TRACE /v1/messages HTTP/1.1\r\n",
        "POST /v1/files HTTP/1.1\r\n",
        "POST /v1/messages/ HTTP/1.1\r\n",
        "POST /v1/messages/../files HTTP/1.1\r\n",
        "POST /v1/%6dessages HTTP/1.1\r\n",
        "POST //v1/messages HTTP/1.1\r\n",
        "POST /v1/messages?key=x HTTP/1.1\r\n",
        "POST /v1/messages/batches HTTP/1.1\r\n",
        "POST http://evil.test/v1/messages HTTP/1.1\r\n",
        "CONNECT evil.test:443 HTTP/1.1\r\n",
        "HEAD /v1/messages HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
    ] {
        let answer = rig
            .answer(&format!("{request}connection: close\r\n\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
    }
    let answer = rig
        .answer("HEAD / HTTP/1.1\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(rig.requests(), 0);
    for path in [
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/responses",
        "/v1/chat/completions",
    ] {
        let answer = rig.answer(&post(path, "", &asks(200))).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let list = "GET /v1/models?limit=7 HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answer = rig.answer(list).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(rig.asked.requests.lock().unwrap()[4].0, "/v1/models");
}

#[tokio::test]
async fn an_answer_is_passed_on_while_it_is_made() {
    let rig = Rig::new().await;
    let (sender, pieces) = tokio::sync::mpsc::channel(4);
    *rig.asked.pieces.lock().unwrap() = Some(pieces);
    let mut client = UnixStream::connect(rig.gateway.socket()).await.unwrap();
    client
        .write_all(post("/v1/messages", "", &asks(200)).as_bytes())
        .await
        .unwrap();
    let mut text = String::new();
    // Each piece arrives before the next one is made.
    for piece in ["event: first\n\n", "event: second\n\n"] {
        sender.send(Ok(Bytes::from(piece))).await.unwrap();
        let mut buffer = [0; 4096];
        while !text.contains(piece) {
            let count = client.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }
    // One who waits for the rest of an answer is known to wait.
    let record = rig.gateway.record();
    assert_eq!(record.requests(), (1, 1));
    drop(sender);
    client.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(record.requests(), (1, 0));
}

#[tokio::test]
async fn an_upstream_that_is_away_is_said_without_its_address() {
    // A port that was free just now.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (gateway, _folder) = gateway(&base, ModelLimits::default(), Budgets::none());
    let answer = answer(gateway.socket(), &post("/v1/messages", "", &asks(200))).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.contains("the model's server can't be reached"),
        "{answer}"
    );
    assert!(!answer.contains("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_answers_too_late_is_told_from_one_that_is_away() {
    // Connections are made, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let limit = Duration::from_millis(500);
    let limits = ModelLimits {
        answer: limit,
        ..ModelLimits::default()
    };
    let (gateway, _folder) = gateway(&base, limits, Budgets::none());
    let answer = answer(gateway.socket(), &post("/v1/messages", "", &asks(200))).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.contains("the model does not answer within 500ms"),
        "{answer}"
    );
    let used = gateway.close().await;
    assert_eq!(
        used.error.unwrap().1,
        patchfleet_model::ModelError::TimedOut { limit }
    );
}

#[tokio::test]
async fn a_request_that_is_too_long_is_refused() {
    let rig = Rig::new().await;
    let length = 33 << 20;
    let mut client = UnixStream::connect(rig.gateway.socket()).await.unwrap();
    let head = format!("POST /v1/messages HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = client.into_split();
    let sending = async {
        let piece = vec![b' '; 1 << 20];
        for _ in 0..33 {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut start = [0; 13];
    tokio::select! {
        read = reading.read_exact(&mut start) => { read.unwrap(); }
        () = sending => unreachable!("it waits"),
    }
    assert_eq!(&start, b"HTTP/1.1 413 ");
    assert_eq!(rig.requests(), 0);
}

#[tokio::test]
async fn what_a_sandbox_exchanges_with_its_model_is_bounded_as_a_whole() {
    let limits = ModelLimits {
        bytes_up: 75,
        ..ModelLimits::default()
    };
    let rig = Rig::with(limits).await;
    let body = asks(200);
    assert!(body.len() * 2 < 75 && body.len() * 3 > 75);
    for passes in [true, true, false, false] {
        let answer = rig.answer(&post("/v1/messages", "", &body)).await;
        let status = if passes { "200" } else { "413" };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    assert_eq!(rig.requests(), 2);
    let limits = ModelLimits {
        bytes_down: 40,
        ..ModelLimits::default()
    };
    let rig = Rig::with(limits).await;
    let whole = "the key is ".len() + KEY.len() + ".".len();
    assert!(whole < 40 && 2 * whole > 40);
    for (status, is_whole) in [("200", true), ("200", false), ("413", false)] {
        let answer = rig.answer(&post("/v1/messages", "", &asks(200))).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) || answer.is_empty(),
            "{answer}"
        );
        assert_eq!(answer.contains("*."), is_whole, "{answer}");
    }
    assert_eq!(rig.requests(), 2);
}

#[tokio::test]
async fn what_was_asked_and_what_was_refused_is_known_afterwards() {
    let rig = Rig::new().await;
    rig.answer(&post("/v1/messages", "", &asks(200))).await;
    for _ in 0..3 {
        rig.answer(&post("/v1/files", "", "{}")).await;
    }
    let asked = rig.gateway.close().await;
    assert_eq!(asked.requests, 1);
    let refused: Vec<_> = asked.refused.into_iter().collect();
    assert_eq!(refused, ["POST /v1/files is not forwarded to the model"]);
}

#[test]
fn a_key_goes_only_where_nobody_listens() {
    let upstream = |base: &str, credential: Credential| {
        ModelUpstream::new(&Url::parse(base).unwrap(), credential).map(|_| ())
    };
    let key = || Credential::Bearer(SecretString::from(KEY));
    for base in [
        "https://model.example/v2",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "http://localhost:8000",
    ] {
        assert_eq!(upstream(base, key()), Ok(()), "{base}");
    }
    let error = upstream("http://10.0.0.1:8000", key()).unwrap_err();
    assert!(
        matches!(error, ModelUpstreamError::NotEncrypted(_)),
        "{error}"
    );
    assert_eq!(upstream("http://10.0.0.1:8000", Credential::None), Ok(()));
    for base in [
        "ftp://model.example",
        "https://user:word@model.example",
        "https://model.example/?key=x",
    ] {
        assert!(
            matches!(upstream(base, key()), Err(ModelUpstreamError::NotBase(_))),
            "{base}"
        );
    }
    let broken = Credential::ApiKey(SecretString::from("a\r\nb: c"));
    assert_eq!(
        upstream("https://model.example", broken),
        Err(ModelUpstreamError::Key)
    );
}
