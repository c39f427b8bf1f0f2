//! The client against servers that misbehave, on real sockets.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patchfleet_model::{
    Client, Conversation, Effort, Model as _, ModelError, Origin, POLICY, Parameter, Protocol,
    Retrying, Settings, Target,
};
use patchfleet_resilience::{Policy, Remote};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the server does with one request.
enum Step {
    /// Sends the bytes and closes.
    Send(Vec<u8>),
    /// Sends the bytes and says nothing more.
    Hang(Vec<u8>),
}

/// A server that does one step a connection, and keeps the bodies that it was sent.
struct Server {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for step in steps {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let body = read(&mut stream).await;
                kept.lock().expect("no panic").push(body);
                match step {
                    Step::Send(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                        let _ = stream.shutdown().await;
                    }
                    Step::Hang(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                        let mut rest = Vec::new();
                        let _ = stream.read_to_end(&mut rest).await;
                    }
                }
            }
        });
        Self {
            url,
            bodies,
            _tasks: tasks,
        }
    }

    fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().expect("no panic").clone()
    }
}

/// The body of a request.
async fn read(stream: &mut tokio::net::TcpStream) -> Value {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.expect("a request");
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.split("content-length: ").nth(1).unwrap_or("0");
        let length: usize = length
            .split("\r\n")
            .next()
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        if body.len() >= length || count == 0 {
            return serde_json::from_str(body).unwrap_or_default();
        }
    }
}

fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

fn stream(body: impl AsRef<[u8]>) -> Vec<u8> {
    response("200 OK", "content-type: text/event-stream\r\n", body)
}

fn good() -> String {
    let text =
        json!({"choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}});
    format!("data: {text}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

fn half() -> String {
    let text = json!({"choices": [{"index": 0, "delta": {"content": "hal"}}]});
    format!("data: {text}\n\n")
}

fn client(server: &str, settings: Settings) -> Client {
    let origin = Origin {
        provider: "test".into(),
        model: "m".into(),
    };
    let target = Target::new(Protocol::Chat, origin).at(server.parse().expect("an address"));
    let key = Some(SecretString::from("sk-test-secret-key"));
    Client::new(Target { key, ..target }, settings).expect("a client")
}

fn question() -> Conversation {
    Conversation::question("", "hello?", 100)
}

async fn ask(step: Step) -> Result<patchfleet_model::Answer, patchfleet_model::Broken> {
    let server = Server::start(vec![step]).await;
    let client = client(&server.url, Settings::default());
    client.answer(&question(), &CancellationToken::new()).await
}

async fn error(step: Step) -> ModelError {
    ask(step).await.expect_err("it fails").error
}

#[tokio::test]
async fn an_answer_arrives_whatever_its_content_type_says() {
    for kind in [
        "text/event-stream",
        "text/plain",
        "application/json",
        "text/html",
    ] {
        let headers = format!("content-type: {kind}\r\n");
        let answer = ask(Step::Send(response("200 OK", &headers, good()))).await;
        assert_eq!(answer.unwrap().text(), "hello", "{kind}");
    }
}

#[tokio::test]
async fn a_compressed_answer_arrives_too() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(good().as_bytes()).unwrap();
    let body = encoder.finish().unwrap();
    let answer = ask(Step::Send(response(
        "200 OK",
        "content-encoding: gzip\r\n",
        body,
    )))
    .await;
    assert_eq!(answer.unwrap().text(), "hello");
}

#[tokio::test]
async fn pages_and_documents_instead_of_streams_say_what_to_check() {
    let html = "<html><title>Sign in</title></html>";
    let page = error(Step::Send(response(
        "200 OK",
        "content-type: text/html\r\n",
        html,
    )))
    .await;
    assert!(matches!(page, ModelError::Malformed { .. }), "{page:?}");
    assert!(page.to_string().contains("Sign in") && page.to_string().contains("check `url`"));
    let gateway = error(Step::Send(response("502 Bad Gateway", "", html))).await;
    assert_eq!(gateway, ModelError::Overloaded { after: None });
    let not_found = error(Step::Send(response("404 Not Found", "", html))).await;
    assert!(not_found.to_string().contains("check `url`"), "{not_found}");
    let document = error(Step::Send(stream("{\"choices\": []}"))).await;
    assert!(
        matches!(document, ModelError::Malformed { .. }),
        "{document:?}"
    );
    let refused = error(Step::Send(stream(
        "{\"error\": {\"code\": \"insufficient_quota\", \"message\": \"pay\"}}",
    )))
    .await;
    assert_eq!(refused, ModelError::Quota { until: None });
    let empty = error(Step::Send(stream(""))).await;
    assert!(matches!(empty, ModelError::Away { .. }), "{empty:?}");
}

#[tokio::test]
async fn a_redirection_is_not_followed_with_the_key() {
    let headers = "location: http://127.0.0.1:9/elsewhere\r\n";
    let moved = error(Step::Send(response("307 Temporary Redirect", headers, ""))).await;
    let text = moved.to_string();
    assert!(
        text.contains("http://127.0.0.1:9/elsewhere") && text.contains("make it the `url`"),
        "{text}"
    );
}

#[tokio::test]
async fn a_provider_that_repeats_the_key_does_not_get_it_into_the_error() {
    let body = json!({"error": {"message": "Incorrect API key provided: sk-test-secret-key",
        "code": "invalid_api_key"}});
    let refused = error(Step::Send(response(
        "401 Unauthorized",
        "",
        body.to_string(),
    )))
    .await;
    assert_eq!(refused.word(), "authentication");
    assert!(!refused.to_string().contains("secret-key"), "{refused}");
}

#[tokio::test]
async fn a_cut_stream_is_broken_with_what_was_received() {
    let broken = ask(Step::Send(stream(half()))).await.unwrap_err();
    assert_eq!(broken.text_so_far, "hal");
    assert!(broken.started && broken.usage_so_far.estimated);
    assert_eq!(broken.usage_so_far.output, 1);
    assert!(broken.usage_so_far.input > 0);
    let headers = "content-length: 5000\r\n";
    let short = ask(Step::Send(response("200 OK", headers, half())))
        .await
        .unwrap_err();
    assert!(matches!(short.error, ModelError::Away { .. }), "{short:?}");
}

#[tokio::test]
async fn a_server_that_is_away_costs_nothing() {
    let client = client("http://127.0.0.1:1", Settings::default());
    let away = client
        .answer(&question(), &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(away.error, ModelError::Away { .. }));
    assert!(away.usage_so_far.is_zero() && !away.started);
    assert!(away.to_string().contains("refused"), "{away}");
}

#[tokio::test]
async fn a_request_that_arrived_and_has_no_answer_is_charged_by_an_estimate() {
    let brief = Settings {
        timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let compressed = response("200 OK", "content-encoding: br\r\n", "?");
    let document = r#"{"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 7}}"#;
    for (name, step, word, input) in [
        ("closed", Step::Send(Vec::new()), "away", None),
        ("late", Step::Hang(Vec::new()), "timed_out", None),
        ("compressed", Step::Send(compressed), "malformed", None),
        (
            "document",
            Step::Send(stream(document)),
            "malformed",
            Some(300),
        ),
        (
            "document that does not end",
            Step::Hang(stream(document)),
            "timed_out",
            Some(300),
        ),
    ] {
        let server = Server::start(vec![step]).await;
        let is_late = word == "timed_out";
        let settings = if is_late {
            brief.clone()
        } else {
            Settings::default()
        };
        let client = client(&server.url, settings);
        let cancel = CancellationToken::new();
        let broken = client.answer(&question(), &cancel).await.unwrap_err();
        assert_eq!(broken.error.word(), word, "{name}: {broken}");
        let usage = broken.usage_so_far;
        assert!(usage.input > 0, "{name}: {usage:?}");
        assert_eq!(usage.estimated, input.is_none(), "{name}: {usage:?}");
        assert!(
            input.is_none_or(|it| it == usage.input),
            "{name}: {usage:?}"
        );
        assert_eq!(broken.tries, 1, "{name}");
    }
}

#[tokio::test]
async fn whoever_gives_up_after_the_request_arrived_is_charged_and_before_it_is_not() {
    let server = Server::start(vec![Step::Hang(Vec::new())]).await;
    let client = client(&server.url, Settings::default());
    let cancel = CancellationToken::new();
    let stop = async {
        // Nobody tells of it but the server.
        while server.bodies().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let question = question();
    let (after, ()) = tokio::join!(client.answer(&question, &cancel), stop);
    let after = after.unwrap_err();
    assert_eq!(after.error, ModelError::Cancelled);
    assert!(after.usage_so_far.estimated && after.usage_so_far.input > 0);
    let before = client.answer(&question, &cancel).await.unwrap_err();
    assert_eq!(before.error, ModelError::Cancelled);
    assert!(before.usage_so_far.is_zero());
    assert_eq!(server.bodies().len(), 1);
}

#[tokio::test]
async fn silence_ends_a_stream_and_slowness_a_request() {
    let brief = Duration::from_millis(100);
    let idle = Settings {
        idle: brief,
        ..Settings::default()
    };
    let slow = Settings {
        timeout: brief,
        ..Settings::default()
    };
    for (settings, words) in [
        (idle, "silent"),
        (
            slow.clone(),
            "the answer took longer than the 100ms of `answer_timeout`",
        ),
    ] {
        let server = Server::start(vec![Step::Hang(stream(half()))]).await;
        let client = client(&server.url, settings);
        let broken = client
            .answer(&question(), &CancellationToken::new())
            .await
            .unwrap_err();
        assert!(broken.to_string().contains(words), "{broken}");
        assert_eq!(broken.text_so_far, "hal");
    }
    let server = Server::start(vec![Step::Hang(Vec::new())]).await;
    let client = client(&server.url, slow);
    let broken = client
        .answer(&question(), &CancellationToken::new())
        .await
        .unwrap_err();
    let limit = brief;
    assert_eq!(broken.error, ModelError::TimedOut { limit });
}

#[tokio::test]
async fn a_cancelled_call_ends_and_says_what_it_used() {
    let server = Server::start(vec![Step::Hang(stream(half()))]).await;
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let client = client(&server.url, Settings::default()).observed(move |_| stop.cancel());
    let broken = client.answer(&question(), &cancel).await.unwrap_err();
    assert_eq!(broken.error, ModelError::Cancelled);
    assert_eq!(broken.text_so_far, "hal");
    assert!(broken.usage_so_far.output > 0);
    let server = Server::start(vec![Step::Hang(Vec::new())]).await;
    let client = self::client(&server.url, Settings::default());
    let before = client.answer(&question(), &cancel).await.unwrap_err();
    assert_eq!(before.error, ModelError::Cancelled);
    assert!(before.usage_so_far.is_zero());
}

#[tokio::test]
async fn a_parameter_that_is_refused_is_left_out_once_and_for_all() {
    let refusal = |param: &str| {
        let body = json!({"error": {"message": "no", "param": param, "code": "unsupported_value"}});
        Step::Send(response("400 Bad Request", "", body.to_string()))
    };
    let good = || Step::Send(stream(good()));
    let steps = vec![
        refusal("temperature"),
        good(),
        good(),
        refusal("temperature"),
    ];
    let server = Server::start(steps).await;
    let client = client(&server.url, Settings::default());
    let mut warm = question();
    warm.sampling.temperature = Some(0.5);
    warm.sampling.effort = Some(Effort::High);
    let cancel = CancellationToken::new();
    assert_eq!(client.answer(&warm, &cancel).await.unwrap().text(), "hello");
    assert_eq!(client.answer(&warm, &cancel).await.unwrap().text(), "hello");
    let refused = client.answer(&warm, &cancel).await.unwrap_err();
    assert_eq!(
        refused.tries, 1,
        "it was not sent, so that nothing is left to leave out"
    );
    let sent: Vec<_> = server
        .bodies()
        .iter()
        .map(|body| body["temperature"].is_f64())
        .collect();
    assert_eq!(sent, [true, false, false, false]);
    assert!(!client.target().takes.contains(&Parameter::Temperature));
}

#[tokio::test]
async fn the_limit_of_the_output_is_sent_by_the_name_that_the_server_knows() {
    let body = json!({"error": {"message": "Use 'max_completion_tokens' instead.",
        "param": "max_tokens", "code": "unsupported_parameter"}});
    let refusal = Step::Send(response("400 Bad Request", "", body.to_string()));
    let server = Server::start(vec![refusal, Step::Send(stream(good()))]).await;
    let client = client(&server.url, Settings::default());
    client
        .answer(&question(), &CancellationToken::new())
        .await
        .unwrap();
    let bodies = server.bodies();
    assert_eq!(
        (
            &bodies[0]["max_tokens"],
            &bodies[1]["max_completion_tokens"]
        ),
        (&json!(100), &json!(100))
    );
}

#[tokio::test]
async fn waits_are_kept_to_and_the_answer_comes_after_them() {
    let limited = |headers: &str, message: &str| {
        let body = json!({"error": {"message": message, "code": "rate_limit_exceeded"}});
        Step::Send(response("429 Too Many Requests", headers, body.to_string()))
    };
    let steps = vec![
        limited("retry-after-ms: 1\r\nretry-after: 3600\r\n", ""),
        limited("retry-after: 0.001\r\n", ""),
        limited("", "Please try again in 1ms."),
        Step::Send(stream(
            "data: {\"error\": {\"code\": 503, \"message\": \"try again in 1ms\"}}\n\n",
        )),
        Step::Send(stream(good())),
    ];
    let server = Server::start(steps).await;
    let policy = Policy {
        base: Duration::from_hours(1),
        ..POLICY
    };
    let model = Retrying::new(
        client(&server.url, Settings::default()),
        Remote::new("test", policy),
    );
    let answer = model
        .answer(&question(), &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(answer.text(), "hello");
    assert_eq!(server.bodies().len(), 5);
    assert_eq!(answer.usage.total(), 4, "what was refused is not charged");
    let server = Server::start(vec![limited("retry-after: 3600\r\n", "")]).await;
    let model = Retrying::new(
        client(&server.url, Settings::default()),
        Remote::new("test", policy),
    );
    let refused = model
        .answer(&question(), &CancellationToken::new())
        .await
        .unwrap_err();
    let after = Some(Duration::from_hours(1));
    assert_eq!(refused.error, ModelError::RateLimited { after });
    assert_eq!(server.bodies().len(), 1);
}

#[tokio::test]
async fn a_retry_ends_with_the_first_byte_of_content() {
    let steps = vec![
        Step::Send(stream(": nothing yet\n\n")),
        Step::Send(stream(half())),
        Step::Send(stream(good())),
    ];
    let server = Server::start(steps).await;
    let policy = Policy {
        base: Duration::from_millis(1),
        ..POLICY
    };
    let model = Retrying::new(
        client(&server.url, Settings::default()),
        Remote::new("test", policy),
    );
    let broken = model
        .answer(&question(), &CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!((broken.tries, broken.text_so_far.as_str()), (2, "hal"));
    assert_eq!(server.bodies().len(), 2);
}
