//! Commands that can't be done: what is wrong, where, and what to do.

use super::Transcript;
use crate::world::World;

const UNKNOWN: &str = "0195c0de-0000-7000-8000-000000000000";

#[tokio::test]
async fn a_coordinator_that_is_away_or_refuses_is_named_with_the_reason() {
    let world = World::new().await;
    let mut shell = Transcript::of_operator(&world);
    shell.run(&["task", "show", UNKNOWN]).await;
    shell.run(&["task", "cancel", UNKNOWN, "--json"]).await;
    shell
        .run(&["queue", "resume", "--repository", "acme/orders"])
        .await;
    shell.run(&["task", "list", "--api-key", "a-guess"]).await;
    let away = ["--url", "http://127.0.0.1:1", "--api-key", "any"];
    shell.run(&[&["task", "list"], &away[..]].concat()).await;
    shell
        .run(&[&["queue", "show", "--json"], &away[..]].concat())
        .await;
    // The agents' door speaks gRPC only.
    let fleet = world.fleet_url();
    shell.run(&["task", "list", "--url", &fleet]).await;
    shell.matches("coordinator_refuses_or_is_away");
}

#[tokio::test]
async fn arguments_that_can_not_be_meant_are_refused_with_what_could_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Transcript::new(folder.path());
    for args in [
        &["task", "show", "7"][..],
        &["task", "list", "--state", "done"],
        &["task", "list", "--limit", "many"],
        &["task", "list", "--limit", "0"],
        &["task", "list", "--url", "http://127.0.0.1:1"],
        &["queue", "pause"],
        &["queue", "pause", "--repository", "orders"],
        &["queue", "resume", "--agent-type", "Back End"],
        &["agents"],
    ] {
        shell.run(args).await;
    }
    shell.matches("arguments_are_refused");
}

#[tokio::test]
async fn a_configuration_that_is_not_there_or_not_enough_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("empty.toml", "");
    write("typo.toml", "[coordinator.fleet]\nkye = 'k'\n");
    write("words.toml", "[coordinator\n");
    let agent = "type = 'general'\ncoordinator = { url = 'http://127.0.0.1:1', key = 'k' }\n\
                 workspace = { root = 'w' }\ndraft = { mode = 'cli', command = ['x'] }\n";
    let agents = ["a", "b"].map(|id| format!("[[agents]]\nid = '{id}'\n{agent}"));
    write("two.toml", &agents.concat());
    let mut shell = Transcript::new(folder.path());
    for args in [
        &["task", "list"][..],
        &["queue", "show", "--config", "empty.toml"],
        &["coordinator"],
        &["coordinator", "--json"],
        &["coordinator", "--config", "empty.toml"],
        &["coordinator", "--config", "typo.toml"],
        &["coordinator", "--config", "words.toml"],
        &["up", "--config", "empty.toml"],
        &["agent", "--config", "empty.toml"],
        &["agent", "--config", "two.toml"],
        &["agent", "--config", "two.toml", "--id", "c"],
        &["backup", "--config", "empty.toml", "--to", "x"],
        &["restore", "--config", "empty.toml", "--from", "x"],
        &["migrate", "--from", "mysql://h/d", "--to", "sqlite:x"],
        &[
            "migrate",
            "--from",
            "sqlite:none.db",
            "--to",
            "postgres://127.0.0.1:1/d",
        ],
    ] {
        shell.run(args).await;
    }
    shell.matches("configuration_is_missing");
}
