//! The simulated models as a command: what it answers, counts and refuses to start with.

use std::path::Path;
use std::process::Output;

use patchfleet_testkit::process::{Process, Start};
use serde_json::{Value, json};

use crate::world::address;

const SCRIPT: &str = "
key: open-sesame
models: [{name: small, context: 1000}]
turns:
  - text: Hello.
    usage: {input: 12, output: 3}
";

async fn start(folder: &Path, listen: &str) -> (Process, Value) {
    let script = folder.join("script.yaml");
    std::fs::write(&script, SCRIPT).unwrap();
    let script = script.to_string_lossy();
    let args = ["model-simulator", "--script", &script, "--listen", listen];
    let mut process = Process::start(Start {
        program: Path::new(env!("CARGO_BIN_EXE_patchfleet")),
        name: "model-simulator",
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        secrets: Vec::new(),
        folder,
    })
    .unwrap();
    let said = process.ready_as().await.unwrap();
    (process, said)
}

async fn ask(base_url: &str) -> (u16, Value) {
    let request = reqwest::Client::new()
        .post(format!("{base_url}/v1/chat/completions"))
        .bearer_auth("open-sesame")
        .json(&json!({ "model": "small", "messages": [{ "role": "user", "content": "Hi" }] }));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn the_command_answers_counts_and_ends_with_failure_after_a_repeated_request() {
    let folder = tempfile::tempdir().unwrap();
    let (process, said) = start(folder.path(), "127.0.0.1:0").await;
    let base_url = said["base_url"].as_str().unwrap();
    assert_eq!(said["key"], "open-sesame");
    let (status, answer) = ask(base_url).await;
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &json!("Hello."))
    );
    let state = reqwest::get(format!("{base_url}/_simulator/state"))
        .await
        .unwrap();
    let state: Value = state.json().await.unwrap();
    assert_eq!(state["calls"], 1);
    assert_eq!(state["billed"]["small"]["input"], 12);
    assert_eq!(state["failures"], json!([]));
    let (status, answer) = ask(base_url).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("repeated_request"))
    );
    let ended = process.end().await.unwrap_err().to_string();
    assert!(ended.contains("exit status: 1"), "{ended}");

    let (process, _) = start(folder.path(), "127.0.0.1:0").await;
    process.end().await.unwrap();
}

fn run(args: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "a person's shell")]
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_patchfleet"));
    command.arg("model-simulator").args(args).output().unwrap()
}

#[test]
fn a_mistake_of_who_starts_it_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind(address()).unwrap();
    let taken_by = taken.local_addr().unwrap().to_string();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let good = write("good.yaml", SCRIPT);
    let typo = write("typo.yaml", "turns:\n  - text: a\n  - texts: b\n");
    let json = write(
        "typo.json",
        "{\"turns\": [\n{\"text\": \"a\", \"stop\": \"never\"}]}",
    );
    let nothing = write("nothing.yaml", "models: [{name: a}]\n");
    for (args, expected) in [
        (vec![], "--script <FILE>"),
        (
            vec!["--script", "/no/such.yaml"],
            "can't read the script /no/such.yaml",
        ),
        (
            vec!["--script", &typo],
            "typo.yaml:3:5: turns[1]: unknown field `texts`",
        ),
        (
            vec!["--script", &json],
            "typo.json:2:23: turns[0].stop: unknown variant `never`",
        ),
        (
            vec!["--script", &nothing],
            "nothing.yaml:1:1: there is neither",
        ),
        (vec!["--script", &good, "--listen", &taken_by], "in use"),
        (
            vec!["--script", &good, "--listen", "nowhere"],
            "--listen <ADDR>",
        ),
    ] {
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}
