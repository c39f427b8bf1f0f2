//! How the program ends when a part of it can't go on: with an exit code that service managers see,
//! and with the reason.

use std::path::Path;
use std::time::Duration;

use patchfleet_testkit::process::{Process, Start};
use serde_json::{Value, json};

use crate::world::{Kept, Plan, World, address};

/// How long a process may take to end, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

/// Starts the program beside the world's own, with a file that is like the coordinator's but for some
/// changes.
fn beside(world: &World, args: &[&str], change: impl FnOnce(&mut Value)) -> Process {
    let text = std::fs::read_to_string(world.folder().join("coordinator.toml")).unwrap();
    let mut tree: Value = toml::from_str(&text).unwrap();
    let elsewhere = json!(address());
    tree["coordinator"]["listen"] = elsewhere.clone();
    tree["coordinator"]["fleet"]["listen"] = elsewhere;
    if let Some(agents) = tree.get_mut("agents") {
        agents[0]["coordinator"]["url"] = json!(world.fleet_url());
        agents[0]["workspace"]["root"] = json!(world.folder().join("elsewhere"));
    }
    change(&mut tree);
    let config = world.folder().join("beside.toml");
    std::fs::write(&config, toml::to_string(&tree).unwrap()).unwrap();
    let mut args: Vec<_> = args.iter().copied().map(str::to_owned).collect();
    args.extend(["--config".to_owned(), config.display().to_string()]);
    let started = Process::start(Start {
        program: Path::new(env!("CARGO_BIN_EXE_patchfleet")),
        name: "beside",
        args,
        secrets: world.keys.for_coordinator(&world.database_url()),
        folder: world.folder(),
    });
    started.unwrap()
}

/// Waits until it has ended with a failure; returns what it said.
async fn failed(world: &World, mut process: Process) -> String {
    let status = tokio::time::timeout(PATIENCE, process.ended()).await;
    let status = status.expect("it ends").unwrap();
    let said = std::fs::read_to_string(world.folder().join("beside.log")).unwrap();
    assert_eq!(status.code(), Some(1), "{status}: {said}");
    said
}

async fn together(kept: Kept) -> World {
    World::with(Plan {
        kept,
        together: true,
        lease: Some("1s"),
        ..Plan::default()
    })
    .await
}

#[tokio::test]
async fn a_second_up_with_an_agent_that_is_heard_already_ends_and_says_so() {
    let world = together(Kept::Postgres).await;
    let second = beside(&world, &["up"], |_| {});
    let said = failed(&world, second).await;
    assert!(
        said.contains("another process with the id `general-1` is connected"),
        "{said}"
    );
    world.idle_agent().await;
}

#[tokio::test]
async fn an_agent_that_is_heard_already_ends_and_says_so() {
    let world = together(Kept::Sqlite).await;
    let second = beside(&world, &["agent"], |_| {});
    let said = failed(&world, second).await;
    assert!(
        said.contains("another process with the id `general-1` is connected"),
        "{said}"
    );
}

#[tokio::test]
async fn a_wrong_key_ends_agent_and_up_and_says_so() {
    let world = together(Kept::Sqlite).await;
    let wrong_key = |tree: &mut Value| {
        tree["agents"][0]["id"] = json!("outsider-1");
        tree["agents"][0]["coordinator"]["key"] = json!({"env": "E2E_API_KEY"});
    };
    let reason = "does not admit the agent `outsider-1`: its key is wrong";
    for command in ["agent", "up"] {
        let outsider = beside(&world, &[command], |tree| {
            wrong_key(tree);
            let own = world.folder().join("beside.db").display().to_string();
            tree["coordinator"]["database"]["url"] = json!(format!("sqlite:{own}"));
        });
        let said = failed(&world, outsider).await;
        assert!(said.contains(reason), "{command}: {said}");
        std::fs::remove_file(world.folder().join("beside.log")).unwrap();
    }
}
