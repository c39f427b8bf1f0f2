//! Coding command lines behind the gateway: the real ones, from an issue to a pull request, against the
//! model simulator; and a budget that ends in the middle of a draft.

use std::path::{Path, PathBuf};

use patchfleet_domain::{Task, TaskState};
use patchfleet_testkit::model::{Script, Simulator, State};
use serde_json::{Value, json};

use crate::world::{Plan, World, kit};

/// The key, in the script in two pieces: whoever looks for it must not find the search itself.
const KEY: &str = "kept-outside-4f1c9a7be2d0";

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

/// The program of an installed package, for this machine.
fn installed(package: &str, file: &str) -> Option<PathBuf> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => ("x64", "x86_64"),
        "aarch64" => ("arm64", "aarch64"),
        _ => return skipped("there is none for this machine"),
    };
    let folder = kit("command-lines")
        .join("node_modules")
        .join(format!("{package}-linux-{}", machine.0));
    let program = folder.join(file.replace("MACHINE", machine.1));
    if program.exists() {
        return Some(program);
    }
    skipped(&format!(
        "{package} is not installed: the npm registry was away when `make setup` ran"
    ))
}

#[expect(
    clippy::print_stdout,
    reason = "whoever reads the test's output has to know"
)]
fn skipped(why: &str) -> Option<PathBuf> {
    println!("skipped: {why}");
    None
}

/// From an issue to a merged pull request by that program, without the key in the sandbox.
async fn drafted(draft: Value, models: &Simulator) -> Option<(Task, State)> {
    let world = World::with(Plan {
        draft: Some(draft),
        ..Plan::default()
    })
    .await;
    if !world.isolates {
        return None;
    }
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;
    let seen = world
        .github
        .file(crate::world::REPOSITORY, "main", "orders/seen.txt");
    let seen = String::from_utf8(seen.unwrap().unwrap()).unwrap();
    assert_eq!(seen, "0 keys, True\n");
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
    let Some(program) = installed("@anthropic-ai/claude-code", "claude") else {
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
    let Some((task, state)) = drafted(draft, &models).await else {
        return;
    };
    assert_eq!(state.calls, 3);
    is_billed(&task, &state);
}

#[tokio::test]
async fn codex_drafts_behind_the_gateway() {
    let file = "vendor/MACHINE-unknown-linux-musl/bin/codex";
    let Some(program) = installed("@openai/codex", file) else {
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
    let Some((task, state)) = drafted(draft, &models).await else {
        return;
    };
    assert_eq!(state.calls, 3);
    is_billed(&task, &state);
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
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all).unwrap();
    let program = folder.path().join("draft.py");
    std::fs::write(&program, ASKS).unwrap();
    let draft = json!({
        "mode": "cli",
        "command": ["python3", program, kit("sample/answers/1.diff")],
        "model": {"url": models.base_url(), "key": KEY, "header": "bearer"},
    });
    let world = World::with(Plan {
        draft: Some(draft),
        // The first call costs $0.0069, and the second may cost $0.005 and a little.
        budgets: Some(json!({"task": {"usd": 0.01}})),
        ..Plan::default()
    })
    .await;
    if !world.isolates {
        return;
    }
    let issue = world.open();
    world.label(issue);
    world.task_in(TaskState::Waiting).await;
    world.status_says(issue, "budget").await;
    assert_eq!(models.state().calls, 1, "the second was not sent");
    world.say(issue, "/patchfleet approve --budget 5");
    world.merge_and_check(issue).await;
    let kept = world
        .github
        .file(crate::world::REPOSITORY, "main", "orders/first.txt");
    assert_eq!(
        kept.unwrap().unwrap(),
        b"done before the budget was spent\n"
    );
    let task = world.tasks().await.remove(0);
    is_billed(&task, &models.state());
    assert_eq!(task.spent.usd.0, 2 * 6_900);
}
