//! Engines that lie, and that have not what is asked of them.

use std::os::unix::fs::PermissionsExt;

use super::container::config;
use super::*;

/// A program that answers as an engine does, with these words of a shell for `run` and `rm`.
fn engine(place: &Place, run: &str, rm: &str) -> Sandbox {
    let path = place.0.path().join("engine");
    let script = format!(
        "#!/bin/sh\ncase $1 in --version) echo 'podman version 9' ;; image) echo 0123 ;; \
         run) {run} ;; rm) {rm} ;; esac\n"
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let mut config = config("tools");
    config.container.engine = path.display().to_string();
    Sandbox::new(&config, [])
}

#[tokio::test]
async fn an_image_that_is_not_there_is_pulled_where_that_is_configured_and_only_there() {
    let place = Place::new();
    let (engine, pulled) = (place.0.path().join("engine"), place.0.path().join("pulled"));
    let script = format!(
        "#!/bin/sh\ncase $1 in --version) echo 'podman version 9' ;; \
         image) [ -e {pulled} ] && echo 0123 || {{ echo no such image >&2; exit 1; }} ;; \
         pull) echo attempt 1 >&2; [ $3 = good ] && touch {pulled} || {{ echo denied >&2; exit 1; }} \
         ;; esac\n",
        pulled = pulled.display()
    );
    std::fs::write(&engine, script).unwrap();
    std::fs::set_permissions(&engine, PermissionsExt::from_mode(0o755)).unwrap();
    let check = async |image: &str, pull: bool| {
        let mut config = config(image);
        config.container.engine = engine.display().to_string();
        config.container.pull = pull;
        Sandbox::new(&config, []).check().await.unwrap_err()
    };
    let why = check("good", false).await;
    assert!(matches!(why, CantIsolate::NoImage { .. }), "{why}");
    assert!(!pulled.exists());
    let why = check("bad", true).await.to_string();
    assert!(why.ends_with("bad can't be pulled: denied"), "{why}");
    // What it runs then says nothing, as this engine runs nothing.
    let why = check("good", true).await;
    assert!(matches!(why, CantIsolate::Engine { .. }), "{why}");
    assert!(pulled.exists());
}

#[tokio::test]
async fn an_engine_that_says_that_all_is_well_is_not_believed() {
    let place = Place::new();
    for run in ["true", "exit 3", "echo out of space >&2; exit 125"] {
        let sandbox = engine(&place, run, "true");
        let error = place.run(&sandbox, &["true"]).await.unwrap_err();
        assert!(matches!(error, SandboxError::Broken { .. }), "{error}");
    }
    let sandbox = engine(&place, "echo out of space >&2; exit 125", "true");
    let error = place.run(&sandbox, &["true"]).await.unwrap_err();
    assert!(error.to_string().contains("out of space"), "{error}");
}

#[tokio::test]
async fn a_container_that_can_not_be_removed_leaves_no_result() {
    let place = Place::new();
    let sandbox = engine(&place, "true", "echo the daemon is away >&2; exit 1");
    let error = place.run(&sandbox, &["true"]).await.unwrap_err();
    assert!(matches!(error, SandboxError::Left { .. }), "{error}");
    assert!(error.to_string().contains("the daemon is away"), "{error}");
    // One that is gone already was removed.
    let gone = "echo Error: no such container: x >&2; exit 1";
    let sandbox = engine(&place, "true", gone);
    let error = place.run(&sandbox, &["true"]).await.unwrap_err();
    assert!(matches!(error, SandboxError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn a_work_tree_that_is_a_link_is_not_shown_in_a_container() {
    let place = Place::new();
    let sandbox = engine(&place, "true", "true");
    std::fs::remove_dir(place.tree()).unwrap();
    symlink("/etc", place.tree()).unwrap();
    let error = place.run(&sandbox, &["true"]).await.unwrap_err();
    assert!(error.to_string().contains("it is no folder"), "{error}");
}
