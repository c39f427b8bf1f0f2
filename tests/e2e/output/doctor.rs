//! What the doctor finds: all is well, and each kind of fault.

use std::path::Path;

use patchfleet_testkit::github::Simulator;
use patchfleet_testkit::model as models;
use serde_json::{Value, json};

use super::Transcript;
use crate::world::{Part, Plan, World};

const TOOL: &str = "coding-tool-that-is-not-installed";

#[tokio::test]
async fn a_fleet_that_is_well_and_one_with_an_unfit_agent() {
    let mut world = World::with(Plan {
        together: true,
        ..Plan::default()
    })
    .await;
    // The file names the coordinator's ports from the second start on.
    world.end(Part::Coordinator).await;
    world.start(Part::Coordinator).await;
    world.idle_agent().await;
    let mut shell = Transcript::new(world.folder());
    shell.environment = world.keys.for_coordinator(&world.database_url());
    let doctor = ["doctor", "--config", "coordinator.toml"];
    shell.run(&doctor).await;
    shell.run(&[&doctor[..], &["--json"]].concat()).await;
    shell.matches("doctor_finds_nothing");

    world.start_beside("a-broken", TOOL);
    crate::fitness::unfit(&world).await;
    let mut shell = Transcript::new(world.folder());
    shell.environment = world.keys.for_coordinator(&world.database_url());
    shell.run(&doctor).await;
    shell.matches("doctor_finds_an_unfit_agent");
}

/// A configuration in which nothing has to be mended, while nothing runs.
fn sound(github: &Simulator, folder: &Path) -> Value {
    json!({
        "coordinator": {
            "listen": "127.0.0.1:1",
            "fleet": {"listen": "127.0.0.1:2", "key": "not-a-guess-7f3a"},
            "database": {"url": format!("sqlite:{}", folder.join("patchfleet.db").display())},
            "github": {
                "api_url": github.base_url(),
                "token": github.bot_token(),
                "webhook_secrets": ["s"],
            },
            "api": {"key": "not-a-guess-7f3a"},
        },
        "agents": [{
            "id": "general-1",
            "type": "general",
            "coordinator": {"url": "http://127.0.0.1:2", "key": "not-a-guess-7f3a"},
            "workspace": {"root": folder.join("workspaces")},
            "draft": {"mode": "cli", "command": ["sh"]},
        }],
    })
}

/// Things that may be wrong: what, in which field, and what stands there then.
fn faults(folder: &Path) -> Vec<(&'static str, &'static str, Value)> {
    let file = folder.join("file");
    std::fs::write(
        &file,
        "not a database, but long enough to be read as one".repeat(40),
    )
    .unwrap();
    let in_file = file.join("below").display().to_string();
    let sqlite = |path: &Path| json!(format!("sqlite:{}", path.display()));
    vec![
        (
            "a secret in a variable that is not set",
            "/coordinator/fleet/key",
            json!({"env": "NOT_SET"}),
        ),
        (
            "a key that is soon guessed",
            "/coordinator/api/key",
            json!("k"),
        ),
        (
            "a secret in a file that is not there",
            "/coordinator/api/key",
            json!({"file": folder.join("none")}),
        ),
        (
            "no webhook secret",
            "/coordinator/github/webhook_secrets",
            json!([]),
        ),
        (
            "a folder of the database that is not there",
            "/coordinator/database/url",
            sqlite(&folder.join("none/patchfleet.db")),
        ),
        (
            "a file that is no database",
            "/coordinator/database/url",
            sqlite(&file),
        ),
        (
            "a database server that is away",
            "/coordinator/database/url",
            json!("postgres://me:hush@127.0.0.1:1/tasks"),
        ),
        (
            "a kind of database that is not known",
            "/coordinator/database/url",
            json!("mysql://me:hush@127.0.0.1/tasks"),
        ),
        (
            "a Redis that is away",
            "/coordinator/redis",
            json!({"url": "redis://:hush@127.0.0.1:1"}),
        ),
        (
            "a token that GitHub does not know",
            "/coordinator/github/token",
            json!("ghp_guessed"),
        ),
        (
            "a GitHub that is away",
            "/coordinator/github/api_url",
            json!("http://127.0.0.1:1/"),
        ),
        (
            "the API on every address",
            "/coordinator/listen",
            json!("0.0.0.0:1"),
        ),
        (
            "the agents' address on every address",
            "/coordinator/fleet/listen",
            json!("[::]:2"),
        ),
        (
            "an agent's key in a variable that is not set",
            "/agents/0/coordinator/key",
            json!({"env": "NOT_SET"}),
        ),
        (
            "workspaces below a file",
            "/agents/0/workspace/root",
            json!(in_file),
        ),
        (
            "a draft command that is not installed",
            "/agents/0/draft/command",
            json!([TOOL]),
        ),
    ]
}

/// What may be wrong with a model: what, and the section of the draft then.
fn drafting(server: &models::Simulator, folder: &Path) -> Vec<(&'static str, Value)> {
    let section = |name: &str, more: Value| {
        let mut model = json!({
            "provider": "anthropic",
            "model": name,
            "url": server.base_url(),
            "key": server.key(),
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            model[field] = value.clone();
        }
        json!({"mode": "tools", "model": model})
    };
    vec![
        (
            "a model that does all it should",
            section("claude-opus-5", json!({})),
        ),
        (
            "a model that only talks, and whose price nobody knows",
            section("talker", json!({})),
        ),
        ("a model that takes no tools", section("small", json!({}))),
        (
            "a model that its server does not have",
            section("imagined", json!({})),
        ),
        (
            "a key that the server does not accept",
            section("talker", json!({"key": "a-wrong-key-4711"})),
        ),
        (
            "a model's key in a variable that is not set",
            section("talker", json!({"key": {"env": "NOT_SET"}})),
        ),
        (
            "a server of models that is away",
            section("talker", json!({"url": "http://127.0.0.1:1/"})),
        ),
        (
            "a window that is too small",
            section("talker", json!({"window": 8192})),
        ),
        ("a model that writes its change in one answer", {
            let mut section = section("small", json!({}));
            section["mode"] = json!("diff");
            section
        }),
        (
            "the model of a coding command line, which is too old",
            json!({"mode": "cli", "profile": "claude-code", "command": [folder.join("claude")],
                "model": {"model": "talker", "url": server.base_url(), "key": server.key()}}),
        ),
    ]
}

/// A second agent with the first one's model, and second models of the first agent's.
fn more_models(tree: &mut Value, server: &models::Simulator) {
    let model = |name: &str| json!({"provider": "anthropic", "model": name, "url": server.base_url(), "key": server.key()});
    tree["agents"][0]["draft"] = json!({"mode": "tools", "model": model("claude-opus-5")});
    let mut second = tree["agents"][0].clone();
    second["id"] = json!("general-2");
    second["draft"]["mode"] = json!("diff");
    tree["agents"][0]["review"] = json!({"model": model("talker")});
    tree["agents"][0]["summary"] = json!({"model": model("talker")});
    tree["agents"].as_array_mut().unwrap().push(second);
}

/// What the models say that the doctor asks.
const ANSWERS: &str = "
allow_repeats: true
models:
  - {name: claude-opus-5}
  - {name: talker}
  - {name: small, tools: false}
conversations:
  - when: {model: claude-opus-5}
    turns: [{calls: [{name: ready}], usage: {input: 400, output: 20}, forever: true}]
turns: [{text: I am ready., usage: {input: 400, output: 6}, forever: true}]
";

/// The findings that a sound configuration does not have.
fn new_findings(sound: &str, faulty: &str) -> String {
    let known: Vec<&str> = sound.lines().collect();
    let new = faulty.lines().filter(|line| !known.contains(line));
    new.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn each_kind_of_fault_is_named_with_what_to_do() {
    let github = Simulator::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sound = sound(&github, folder.path());
    let file = folder.path().join("patchfleet.toml");
    let mut shell = Transcript::new(folder.path());
    std::fs::write(&file, toml::to_string(&sound).unwrap()).unwrap();
    let usual = shell.run(&["doctor"]).await;
    for (what, field, value) in faults(folder.path()) {
        let mut tree = sound.clone();
        let (section, name) = field.rsplit_once('/').unwrap();
        tree.pointer_mut(section).unwrap()[name] = value;
        std::fs::write(&file, toml::to_string(&tree).unwrap()).unwrap();
        let found = Transcript::new(folder.path()).run(&["doctor"]).await;
        shell.note(what, &new_findings(&usual, &found));
    }
    let script = models::Script::parse("script", ANSWERS).unwrap();
    let server = models::Simulator::start(script).await.unwrap();
    let claude = folder.path().join("claude");
    std::fs::write(&claude, "#!/bin/sh\necho '2.0.1 (Claude Code)'\n").unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&claude, all).unwrap();
    for (what, draft) in drafting(&server, folder.path()) {
        let mut tree = sound.clone();
        tree["agents"][0]["draft"] = draft;
        std::fs::write(&file, toml::to_string(&tree).unwrap()).unwrap();
        let found = Transcript::new(folder.path()).run(&["doctor"]).await;
        shell.note(what, &new_findings(&usual, &found));
    }
    let mut tree = sound.clone();
    more_models(&mut tree, &server);
    std::fs::write(&file, toml::to_string(&tree).unwrap()).unwrap();
    let before = server.state().calls;
    let found = Transcript::new(folder.path()).run(&["doctor"]).await;
    shell.note(
        "two agents with one model, and second models",
        &new_findings(&usual, &found),
    );
    assert_eq!(server.state().calls - before, 2, "each model is asked once");
    for (what, text) in [
        ("nothing configured", "[log]\nformat = 'json'\n"),
        (
            "a field that does not exist",
            "[coordinator]\nlisten = '127.0.0.1:1'\nport = 1\n",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let found = Transcript::new(folder.path()).run(&["doctor"]).await;
        shell.note(what, &new_findings(&usual, &found));
    }
    std::fs::remove_file(&file).unwrap();
    shell.run(&["doctor"]).await;
    shell.run(&["doctor", "--json"]).await;
    shell.matches("doctor_finds_each_fault");
}
