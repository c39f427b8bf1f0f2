//! The script that repairs the sample, played to its end by the plainest of agents.

use std::path::Path;

use patchfleet_testkit::model::{Protocol, Script, Simulator};
use serde_json::{Value, json};

use crate::client::{Client, ask, messages};

/// The output of the sample's tests, and whether they passed.
fn tests(folder: &Path) -> (bool, String) {
    #[expect(clippy::disallowed_methods, reason = "the sample's own tests")]
    let mut command = std::process::Command::new("python3");
    let output = command
        .args(["-B", "-m", "unittest"])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a tool answers; none ends the work.
fn perform(folder: &Path, name: &str, arguments: &Value) -> Option<String> {
    let text = |field: &str| arguments[field].as_str().unwrap();
    let path = || folder.join(text("path"));
    match name {
        "read_file" => Some(std::fs::read_to_string(path()).unwrap()),
        "edit_file" => {
            let before = std::fs::read_to_string(path()).unwrap();
            assert_eq!(before.matches(text("old")).count(), 1, "{arguments}");
            std::fs::write(path(), before.replace(text("old"), text("new"))).unwrap();
            Some("edited".to_owned())
        }
        "run_tests" => Some(tests(folder).1),
        "finish" => None,
        other => panic!("no agent has the tool {other}"),
    }
}

#[tokio::test]
async fn the_script_of_the_sample_repairs_it() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample");
    let folder = tempfile::tempdir().unwrap();
    copy(&sample.join("repository"), folder.path());
    assert!(!tests(folder.path()).0, "it is broken before");
    let script = Script::read(&sample.join("model.yaml")).unwrap();
    let client = Client::of(Simulator::start(script).await.unwrap());
    let issue: Value =
        serde_json::from_slice(&std::fs::read(sample.join("issue.json")).unwrap()).unwrap();
    let chat = Protocol::Chat;
    let mut body = ask(chat, issue["issue"]["title"].as_str().unwrap());
    let mut finished = false;
    while !finished {
        let answer = client.send(chat, &body, false).await.unwrap();
        let message = answer.json()["choices"][0]["message"].clone();
        let calls = message["tool_calls"].as_array().unwrap().clone();
        let list = messages(chat, &mut body);
        list.push(
            json!({ "role": "assistant", "content": message["content"], "tool_calls": calls }),
        );
        for call in &calls {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            let arguments = serde_json::from_str(arguments).unwrap();
            let name = call["function"]["name"].as_str().unwrap();
            let result = perform(folder.path(), name, &arguments);
            finished |= result.is_none();
            let content = result.unwrap_or_default();
            list.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": content }));
        }
    }
    let (passed, said) = tests(folder.path());
    assert!(passed, "{said}");
    client.nothing_failed();
}
