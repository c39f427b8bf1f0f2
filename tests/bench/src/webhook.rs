//! How many webhooks a second are answered, each when it is durable, and beside it what the same
//! payloads and the same row take with Probot.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use patchfleet_testkit::github::examples::webhook_examples;
use patchfleet_testkit::github::{Permission, Simulator, sign};
use patchfleet_testkit::postgres::Database;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::figures::{distribution, ratio, value};
use crate::peers;
use crate::program::{Coordinator, KEY};

/// Connections at once, as GitHub might have.
const CONNECTIONS: usize = 32;
const REPOSITORY: &str = "acme/orders";
const SENDER: &str = "mona";
/// What is not measured.
const WARM_UP: &str = "warm-up";

/// Measures both.
pub(crate) async fn measure(program: &Path) -> anyhow::Result<()> {
    let github = simulator().await?;
    let database = Database::durable().await?;
    let coordinator = Coordinator::of(program, database.url(), &github).await?;
    let url = format!("{}/webhooks/github", coordinator.http);
    drive(&url, (WARM_UP, 500), opened).await?;
    let kept = drive(&url, ("webhook", 20_000), opened).await?;
    let made = drive(&url, ("webhook_with_task", 2000), labelled).await?;
    value(
        "webhook_per_s",
        kept,
        "signed deliveries answered when durable",
    );
    value(
        "webhook_with_task_per_s",
        made,
        "the same with a task each, the sender's permission asked of the simulator",
    );
    coordinator.kill().await?;
    let probot = probot().await?;
    value(
        "probot_webhook_per_s",
        probot,
        "the same payloads and row with Probot",
    );
    ratio("webhook_per_s over probot", kept, probot);
    Ok(())
}

async fn simulator() -> anyhow::Result<Simulator> {
    let github = Simulator::start().await?;
    let seed = tempfile::tempdir()?;
    std::fs::write(seed.path().join("README.md"), "# Orders\n")?;
    github.create_repository(REPOSITORY, seed.path())?;
    github.set_permission(REPOSITORY, SENDER, Permission::Write)?;
    Ok(github)
}

async fn probot() -> anyhow::Result<f64> {
    let database = Database::durable().await?;
    let mut command = peers::node("probot.js")?;
    command
        .env("DATABASE_URL", database.url())
        .env("WEBHOOK_SECRET", KEY)
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let out = child.stdout.take().context("its output is piped")?;
    let line = BufReader::new(out).lines().next_line().await?;
    let ready: Value = serde_json::from_str(&line.context("probot ended at once")?)?;
    let url = format!("http://127.0.0.1:{}/webhooks/github", ready["port"]);
    drive(&url, (WARM_UP, 500), opened).await?;
    let rate = drive(&url, ("probot_webhook", 10_000), opened).await?;
    child.kill().await?;
    Ok(rate)
}

/// A delivery that is ready to be sent, so that its making is not measured.
struct Prepared {
    id: String,
    signature: String,
    body: String,
}

impl Prepared {
    fn new(payload: &Value) -> Self {
        let body = payload.to_string();
        Self {
            id: Uuid::new_v4().to_string(),
            signature: sign(KEY, body.as_bytes()),
            body,
        }
    }
}

/// Sends so many deliveries over all connections; how many a second were taken.
async fn drive(
    url: &str,
    (name, count): (&str, u64),
    payload: fn(u64) -> Value,
) -> anyhow::Result<f64> {
    let all: Vec<_> = (0..count)
        .map(|number| Prepared::new(&payload(number)))
        .collect();
    let waiting = Arc::new(Mutex::new(all));
    let mut connections = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        connections.spawn(one_after_the_other(url.to_owned(), Arc::clone(&waiting)));
    }
    let mut times = Vec::new();
    while let Some(connection) = connections.join_next().await {
        times.extend(connection??);
    }
    let rate = f64::from(u32::try_from(count)?) / began.elapsed().as_secs_f64();
    if name != WARM_UP {
        let what = "one delivery until it is answered, over 32 connections";
        distribution(&format!("{name}_ms"), times, what);
    }
    Ok(rate)
}

/// Sends what is left over one connection; how long each took, in ms.
async fn one_after_the_other(
    url: String,
    waiting: Arc<Mutex<Vec<Prepared>>>,
) -> anyhow::Result<Vec<f64>> {
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(1)
        .build()?;
    let mut times = Vec::new();
    loop {
        let next = waiting
            .lock()
            .map_err(|_| anyhow!("another one panicked"))?
            .pop();
        let Some(delivery) = next else {
            return Ok(times);
        };
        let took = deliver(&client, &url, delivery).await?;
        times.push(took.as_secs_f64() * 1000.0);
    }
}

async fn deliver(
    client: &reqwest::Client,
    url: &str,
    delivery: Prepared,
) -> anyhow::Result<Duration> {
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("user-agent", "GitHub-Hookshot/bench")
        .header("x-github-event", "issues")
        .header("x-github-delivery", delivery.id)
        .header("x-hub-signature-256", delivery.signature)
        .body(delivery.body);
    let began = Instant::now();
    let answer = request.send().await?;
    let status = answer.status();
    ensure!(
        status.is_success(),
        "answered {status}: {}",
        answer.text().await?
    );
    Ok(began.elapsed())
}

/// Somebody opens an issue that is not for us: the delivery is kept and nothing else.
fn opened(number: u64) -> Value {
    event("opened", number, json!([]))
}

/// Somebody asks for an issue to be worked on.
fn labelled(number: u64) -> Value {
    let label = json!({"id": 1, "name": "patchfleet"});
    let mut event = event("labeled", number, json!([label]));
    event["label"] = label;
    event
}

/// An event as GitHub sends it: one of its published examples, in our repository.
fn event(action: &str, number: u64, labels: Value) -> Value {
    static EXAMPLE: LazyLock<Value> = LazyLock::new(|| {
        let examples = webhook_examples().expect("`make setup` installs the examples");
        let opened =
            |(name, payload): &(String, Value)| name == "issues" && payload["action"] == "opened";
        let example = examples.into_iter().find(opened);
        example.expect("GitHub publishes one").1
    });
    let mut event = EXAMPLE.clone();
    event["action"] = json!(action);
    event["issue"]["number"] = json!(number + 1);
    event["issue"]["id"] = json!(number + 1);
    event["issue"]["labels"] = labels;
    event["repository"]["full_name"] = json!(REPOSITORY);
    event["sender"]["login"] = json!(SENDER);
    event
}
