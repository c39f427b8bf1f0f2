//! The simulated GitHub as a command: a person drives it by REST, the product works against it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use patchfleet_testkit::process::{Process, Ready, Start};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{address, issue, kit};

/// How long anything may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);
const SECRET: &str = "what-deliveries-are-signed-with";
const KEY: &str = "key-of-the-api";

/// A running simulator, and what it said.
struct GitHub {
    process: Process,
    said: Value,
}

impl GitHub {
    async fn start(folder: &Path, args: &[&str]) -> Self {
        let args = [&["simulator", "github"], args].concat();
        let mut process = Process::start(Start {
            program: Path::new(env!("CARGO_BIN_EXE_patchfleet")),
            name: "simulator",
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            secrets: Vec::new(),
            folder,
        })
        .unwrap();
        let said = process.ready_as().await.unwrap();
        Self { process, said }
    }

    /// A call as one of those that have a token.
    async fn call(&self, who: &str, line: (Method, &str), body: Value) -> (u16, Value) {
        let url = format!("{}{}", self.said["api_url"].as_str().unwrap(), line.1);
        let request = reqwest::Client::new().request(line.0, url);
        let request = request.bearer_auth(self.said["tokens"][who].as_str().unwrap());
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }
}

/// The sample as a repository with a work tree.
fn repository(folder: &Path) -> PathBuf {
    let path = folder.join("orders");
    let sample = kit("sample/repository");
    let script = "cp -r \"$1\" \"$2\" && cd \"$2\" && git init -q -b main && git add -A && \
        git -c user.name=t -c user.email=t@localhost commit -qm sample";
    let args = ["-c", script, "sh"].map(Path::new);
    let made = run("sh", &[&args[..], &[&sample, &path]].concat());
    assert!(made.status.success(), "{made:?}");
    path
}

fn run(program: &str, args: &[&Path]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "a person's shell")]
    let mut command = std::process::Command::new(program);
    command.args(args).output().unwrap()
}

/// A port that nobody else asks for: of an address of this test's own.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind(address()).unwrap();
    listener.local_addr().unwrap()
}

/// Starts `patchfleet up` against it, where its webhooks go.
async fn up(folder: &Path, github: &GitHub, http: SocketAddr) -> (Process, Ready) {
    let fleet = SocketAddr::new(http.ip(), 0);
    let apply = format!("git apply {}", kit("sample/answers/1.diff").display());
    let tree = json!({
        "coordinator": {
            "listen": http,
            "fleet": {"listen": fleet, "key": "key-of-the-fleet"},
            "database": {"url": format!("sqlite:{}", folder.join("tasks.db").display())},
            "github": {
                "api_url": github.said["api_url"],
                "token": github.said["tokens"]["bot"],
                "webhook_secrets": [SECRET],
            },
            "api": {"key": KEY},
        },
        "agents": [{
            "id": "general-1",
            "type": "general",
            "coordinator": {"url": "http://127.0.0.1:1", "key": "key-of-the-fleet"},
            "workspace": {"root": folder.join("workspaces")},
            "draft": {"mode": "cli", "command": ["sh", "-c", apply]},
            "sandbox": {"read_only": [kit("sample/answers/1.diff")]},
            "publish": {"draft": false},
        }],
    });
    let config = folder.join("patchfleet.toml");
    std::fs::write(&config, toml::to_string(&tree).unwrap()).unwrap();
    let mut process = Process::start(Start {
        program: Path::new(env!("CARGO_BIN_EXE_patchfleet")),
        name: "up",
        args: ["up", "--config", config.to_str().unwrap()]
            .map(str::to_owned)
            .into(),
        secrets: Vec::new(),
        folder,
    })
    .unwrap();
    let ready = process.ready().await.unwrap();
    (process, ready)
}

async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, search).await;
    found.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

#[tokio::test]
async fn a_person_drives_the_product_through_a_whole_issue_by_rest() {
    let folder = tempfile::tempdir().unwrap();
    let origin = repository(folder.path());
    let http = free_address();
    let github = GitHub::start(
        folder.path(),
        &[
            "--listen",
            "127.0.0.1:0",
            "--repository",
            &format!("acme/orders={}", origin.display()),
            "--webhook",
            &format!("http://{http}/webhooks/github"),
            "--secret",
            SECRET,
        ],
    )
    .await;
    assert_eq!(github.said["event"], "ready");
    let (product, ready) = up(folder.path(), &github, http).await;

    let (title, body) = issue();
    let issues = "/repos/acme/orders/issues";
    let new = json!({"title": title, "body": body, "labels": ["patchfleet"]});
    let (status, opened) = github.call("outsider", (Method::POST, issues), new).await;
    assert_eq!((status, &opened["labels"]), (201, &json!([])));
    let labels = format!("{issues}/{}/labels", opened["number"]);
    let trigger = json!({"labels": ["patchfleet"]});
    let (status, _) = github
        .call("outsider", (Method::POST, &labels), trigger.clone())
        .await;
    assert_eq!(status, 403);
    let (status, _) = github
        .call("maintainer", (Method::POST, &labels), trigger)
        .await;
    assert_eq!(status, 200);

    let pulls = "/repos/acme/orders/pulls";
    let look = async || {
        let (_, list) = github
            .call("outsider", (Method::GET, pulls), Value::Null)
            .await;
        list[0]["number"].as_u64()
    };
    let pull = eventually("a pull request", look).await;
    let merge = format!("{pulls}/{pull}/merge");
    let (status, merged) = github
        .call("maintainer", (Method::PUT, &merge), json!({}))
        .await;
    assert_eq!((status, &merged["merged"]), (200, &json!(true)), "{merged}");
    let look = async || {
        let url = format!("http://{}/api/v1/tasks", ready.http);
        let request = reqwest::Client::new().get(url).bearer_auth(KEY);
        let list: Value = request.send().await.ok()?.json().await.ok()?;
        (list["tasks"][0]["state"] == "completed").then_some(())
    };
    eventually("a completed task", look).await;

    product.end().await.unwrap();
    github.process.end().await.unwrap();
    let heads = std::fs::read_dir(origin.join(".git/refs/heads")).unwrap();
    assert_eq!(heads.count(), 1, "the repository is a copy");
}

#[tokio::test]
async fn wrong_arguments_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let origin = repository(folder.path());
    let taken = std::net::TcpListener::bind(address()).unwrap();
    let taken_by = taken.local_addr().unwrap().to_string();
    let right = format!("acme/orders={}", origin.display());
    let plain = format!("acme/orders={}", folder.path().display());
    for (args, expected) in [
        (vec!["--repository", "acme/orders"], "OWNER/NAME=PATH"),
        (vec!["--repository", "orders=."], "OWNER/NAME"),
        (vec!["--repository", "acme/orders=/no/such"], "/no/such"),
        (vec!["--repository", &plain], "no git repository"),
        (
            vec!["--repository", &right, "--repository", &right],
            "already",
        ),
        (
            vec!["--repository", &right, "--webhook", "http://h/"],
            "--secret",
        ),
        (
            vec!["--repository", &right, "--listen", &taken_by],
            "in use",
        ),
        (vec![], "--repository"),
    ] {
        let args: Vec<_> = ["simulator", "github"]
            .iter()
            .chain(&args)
            .map(Path::new)
            .collect();
        let output = run(env!("CARGO_BIN_EXE_patchfleet"), &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}
