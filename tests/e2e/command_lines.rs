//! Coding command lines behind the gateway: the real ones, from an issue to a pull request, against the
//! model simulator; and a budget that ends in the middle of a draft.

mod installed;
mod planted;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchfleet_domain::{Task, TaskState};
use patchfleet_testkit::model::{Script, Simulator, State};
use serde_json::{Value, json};

use crate::drafting_model;
use crate::world::{Plan, World, kit};

/// The key, in the script in two pieces: whoever looks for it must not find the search itself.
const KEY: &str = "kept-outside-4f1c9a7be2d0";

/// How long one of these programs may take, which compute a lot before they ask anything, on a machine that
/// is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(150);

/// Looks for the model's key in all that the sandbox shows: variables, command lines, files.
const SEARCH: &str = r#"python3 - <<'END'
import os, pathlib
key = b"kept-" + b"outside-4f1c9a7be2d0"
files = [it / name for it in pathlib.Path("/proc").glob("[0-9]*") for name in ("environ", "cmdline")]
for top in ("/workspace", "/home", "/tmp", "/run", "/etc", "/var"):
    files += [pathlib.Path(folder, name) for folder, _, names in os.walk(top) for name in names]
seen, found = 0, 0
for file in files:
    try:
        data = file.read_bytes() if file.is_file() else b""
    except OSError:
        continue
    seen, found = seen + len(data), found + data.count(key)
pathlib.Path("orders/seen.txt").write_text(f"{found} keys, {seen > 10_000}\n")
END"#;

/// Mends what the program's own tool for edits is not used for.
const MEND: &str = "sed -i 's/ROUND_HALF_EVEN/ROUND_HALF_UP/' orders/money.py && sed -i \
    's/self._quantities\\[sku\\] = quantity/self._quantities[sku] = self._quantities.get(sku, 0) + quantity/' orders/order.py";

/// A model that looks for the key, mends the sample and says so.
async fn model(name: &str, turns: Value) -> Simulator {
    let script = json!({
        "key": KEY,
        "merge_roles": true,
        "models": [{"name": name, "context": 400_000, "max_output": 128_000}],
        "turns": turns,
    });
    let script = Script::parse("script", &script.to_string()).unwrap();
    Simulator::start(script).await.unwrap()
}

/// From an issue to a merged pull request by that program: without the key in the sandbox, and without
/// anything that the repository has set up for it.
async fn drafted(draft: Value, shown: Vec<PathBuf>, models: &Simulator) -> Option<(Task, State)> {
    let (world, issue) = World::isolating(Plan {
        draft: Some(draft),
        more_files: planted::SETTINGS,
        shown,
        patience: PATIENCE,
        ..Plan::default()
    })
    .await?;
    world.merge_and_check(issue).await;
    world.no_key_was_seen();
    assert_eq!(world.merged(planted::PLANTED), None);
    let log = std::fs::read_to_string(world.folder().join("agent.log")).unwrap();
    assert!(!log.contains(KEY));
    let task = world.tasks().await.remove(0);
    Some((task, models.state()))
}

/// What the coordinator has of a task is what the provider bills.
fn is_billed(task: &Task, state: &State) {
    let (spent, billed) = (&task.spent, state.total);
    assert!(state.failures.is_empty(), "{state:#?}");
    assert_eq!(spent.calls, state.calls as u64, "{spent:?}");
    assert_eq!(
        (
            spent.input_tokens,
            spent.cache_read_tokens,
            spent.cache_write_tokens
        ),
        (billed.input, billed.cache_read, billed.cache_write),
    );
    assert_eq!(
        (spent.output_tokens, spent.reasoning_tokens),
        (billed.output, billed.reasoning)
    );
    assert!(!spent.estimated && spent.unpriced_calls == 0, "{spent:?}");
    assert!(spent.usd.0 > 0);
}

fn profiled(profile: &str, program: &Path, name: &str, models: &Simulator) -> Value {
    json!({
        "mode": "cli",
        "profile": profile,
        "command": [program],
        "model": {"model": name, "key": KEY, "url": models.base_url()},
    })
}

#[tokio::test]
async fn claude_code_drafts_behind_the_gateway() {
    let Some(program) = installed::binary("@anthropic-ai/claude-code-linux-MACHINE", "claude")
    else {
        return;
    };
    let file = "/workspace/orders/discounts.py";
    let models = model(
        "claude-sonnet-4-5",
        json!([
            {"thinking": "First a look.", "text": "I look at the discounts.", "calls": [
                {"name": "Read", "arguments": {"file_path": file}},
                {"name": "Bash", "arguments": {"command": SEARCH}},
            ]},
            {"thinking": "Now the change.", "calls": [
                {"name": "Edit", "arguments": {"file_path": file,
                    "old_string": "if quantity > least:", "new_string": "if quantity >= least:"}},
                {"name": "Bash", "arguments": {"command": MEND}},
            ]},
            {"text": "Discounts begin at their least quantity."},
        ]),
    )
    .await;
    let draft = profiled("claude-code", &program, "claude-sonnet-4-5", &models);
    let Some((task, state)) = drafted(draft, Vec::new(), &models).await else {
        return;
    };
    assert_eq!(state.calls, 3);
    is_billed(&task, &state);
}

#[tokio::test]
async fn codex_drafts_behind_the_gateway() {
    let file = "vendor/MACHINE-unknown-linux-musl/bin/codex";
    let Some(program) = installed::binary("@openai/codex-linux-MACHINE", file) else {
        return;
    };
    let discounts = "sed -i 's/quantity > least/quantity >= least/' orders/discounts.py";
    let models = model(
        "gpt-5.3-codex",
        json!([
            {"thinking": "First a look.", "calls": [{"name": "exec_command", "arguments": {"cmd": SEARCH}}]},
            {"calls": [{"name": "exec_command", "arguments": {"cmd": format!("{discounts} && {MEND}")}}]},
            {"text": "Discounts begin at their least quantity."},
        ]),
    )
    .await;
    let draft = profiled("codex", &program, "gpt-5.3-codex", &models);
    let Some((task, state)) = drafted(draft, Vec::new(), &models).await else {
        return;
    };
    assert_eq!(state.calls, 3);
    is_billed(&task, &state);
}

#[tokio::test]
async fn gemini_drafts_behind_the_gateway() {
    let Some(program) = installed::gemini() else {
        return;
    };
    let file = "orders/discounts.py";
    let models = model(
        "gemini-3.7-flash",
        json!([
            {"when": {"text": "PINEAPPLE"}, "thinking": "First a look.", "text": "I look at the discounts.", "calls": [
                {"name": "read_file", "arguments": {"file_path": file}},
                {"name": "run_shell_command", "arguments": {"command": SEARCH}},
            ]},
            {"thinking": "Now the change.", "calls": [
                {"name": "replace", "arguments": {"file_path": file, "instruction": "Begin at the least quantity",
                    "old_string": "if quantity > least:", "new_string": "if quantity >= least:"}},
                {"name": "run_shell_command", "arguments": {"command": MEND}},
            ]},
            {"text": "Discounts begin at their least quantity."},
        ]),
    )
    .await;
    let draft = profiled("gemini", &program, "gemini-3.7-flash", &models);
    let shown = vec![kit("command-lines")];
    let Some((task, state)) = drafted(draft, shown, &models).await else {
        return;
    };
    assert_eq!(state.calls, 3);
    is_billed(&task, &state);
}

/// By the protocol of that provider; the model mends one file by `mends`, the others by its shell.
async fn opencode_drafts((provider, name): (&str, &str), mends: Value) {
    let Some(program) = installed::binary("opencode-linux-MACHINE-baseline", "bin/opencode") else {
        return;
    };
    let shell = |command: &str| {
        let arguments = json!({"command": command, "description": "look and mend"});
        json!({"name": "bash", "arguments": arguments})
    };
    let models = model(
        name,
        json!([
            {"when": {"system": "PINEAPPLE"}, "thinking": "First a look.", "text": "I look at the discounts.",
                "calls": [{"name": "read", "arguments": {"filePath": "/workspace/orders/discounts.py"}}, shell(SEARCH)]},
            {"calls": [mends, shell(MEND)]},
            {"text": "Discounts begin at their least quantity."},
        ]),
    )
    .await;
    let mut draft = profiled("opencode", &program, name, &models);
    draft["model"]["provider"] = json!(provider);
    let Some((task, state)) = drafted(draft, Vec::new(), &models).await else {
        return;
    };
    // A title is not asked for.
    assert_eq!(state.calls, 3);
    is_billed(&task, &state);
}

#[tokio::test]
async fn opencode_drafts_behind_the_gateway_by_responses() {
    let patch = "*** Begin Patch\n*** Update File: orders/discounts.py\n@@\n-        if quantity > least:\n\
                 +        if quantity >= least:\n*** End Patch";
    let patch = json!({"name": "apply_patch", "arguments": {"patchText": patch}});
    opencode_drafts(("openai", "gpt-5.4-mini"), patch).await;
}

#[tokio::test]
async fn opencode_drafts_behind_the_gateway_by_messages() {
    let edit = json!({"name": "edit", "arguments": {"filePath": "/workspace/orders/discounts.py",
        "oldString": "if quantity > least:", "newString": "if quantity >= least:"}});
    opencode_drafts(("anthropic", "claude-haiku-4-5"), edit).await;
}

#[tokio::test]
async fn aider_drafts_behind_the_gateway() {
    let Some(library) = installed::aider() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("aider");
    // Its model has no shell: the search comes before it, in the same sandbox.
    let script = format!(
        "#!/bin/sh\n{SEARCH}\nPYTHONPATH='{}' exec python3 -m aider \"$@\"\n",
        library.display()
    );
    std::fs::write(&program, script).unwrap();
    for path in [folder.path(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let models = model("claude-haiku-4-5", json!([{"text": blocks()}])).await;
    let mut draft = profiled("aider", &program, "claude-haiku-4-5", &models);
    draft["model"]["provider"] = json!("anthropic");
    // The files that it begins with, or it asks once more when its model names them.
    let paths = drafting_model::MENDED.iter().map(|(path, ..)| json!(path));
    draft["command"].as_array_mut().unwrap().extend(paths);
    let Some((task, state)) = drafted(draft, vec![library], &models).await else {
        return;
    };
    assert_eq!(state.calls, 1);
    is_billed(&task, &state);
}

/// The change as aider wants it: the file's name on a line of its own before each block.
fn blocks() -> String {
    let blocks = drafting_model::MENDED.iter().map(|(path, old, new)| {
        format!("{path}\n```python\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n```\n\n")
    });
    format!("Three amounts are wrong.\n\n{}", blocks.collect::<String>())
}

/// Asks twice as often as its budget allows, and goes on from its own work when that was raised.
const ASKS: &str = r#"
import json, os, pathlib, subprocess, sys, urllib.request

def ask(text):
    body = {"model": "claude-haiku-4-5", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]}
    headers = {"anthropic-version": "2023-06-01", "x-api-key": os.environ["ANTHROPIC_API_KEY"]}
    url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request, timeout=30).read()

first = pathlib.Path("orders/first.txt")
if first.exists():
    assert "So far" in os.environ["PATCHFLEET_REQUEST"]
    ask("third")
else:
    ask("first")
    first.write_text("done before the budget was spent\n")
    ask("second")
subprocess.run(["git", "apply", sys.argv[1]], check=True)
"#;

#[tokio::test]
async fn a_spent_budget_ends_a_draft_in_the_middle_and_the_next_attempt_goes_on_from_its_work() {
    let models = model(
        "claude-haiku-4-5",
        json!([{"text": "Go on.", "usage": {"input": 900, "output": 1200}, "times": 2}]),
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all).unwrap();
    let program = folder.path().join("draft.py");
    std::fs::write(&program, ASKS).unwrap();
    let draft = json!({
        "mode": "cli",
        "command": ["python3", program, kit("sample/answers/1.diff")],
        "model": {"url": models.base_url(), "key": KEY, "header": "bearer"},
    });
    let Some((world, issue)) = World::isolating(Plan {
        draft: Some(draft),
        // The first call costs $0.0069, and the second may cost $0.005 and a little.
        budgets: Some(json!({"task": {"usd": 0.01}})),
        ..Plan::default()
    })
    .await
    else {
        return;
    };
    world.task_in(TaskState::Waiting).await;
    world.status_says(issue, "budget").await;
    assert_eq!(models.state().calls, 1, "the second was not sent");
    world.say(issue, "/patchfleet approve --budget 5");
    world.merge_and_check(issue).await;
    let kept = world.merged("orders/first.txt");
    assert_eq!(kept.as_deref(), Some("done before the budget was spent\n"));
    let task = world.tasks().await.remove(0);
    is_billed(&task, &models.state());
    assert_eq!(task.spent.usd.0, 2 * 6_900);
}
