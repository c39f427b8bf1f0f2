//! Where what a repository brings runs, and what is installed for it before a draft is asked for.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::Uri;
use patchfleet_domain::{FailureKind, TaskState};
use tokio::net::TcpListener;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::world::{Plan, REPOSITORY, World, kit};

/// A setup that installs a module, and tests that need it.
pub(crate) const INSTALLS: &str = "setup:\n  - python3 -c 'open(\"installed.py\", \"w\").write(\"three = 3\")'\n\
    test: python3 -c 'import installed, unittest; unittest.main(module=None, argv=[\"x\", \"discover\"])'\n";

#[tokio::test]
async fn tests_find_what_was_installed_and_the_pull_request_says_by_what() {
    let Some((world, issue)) = World::isolating(Plan {
        repository_config: Some(INSTALLS),
        ..Plan::default()
    })
    .await
    else {
        return;
    };
    let pull_request = world.pull_request().await;
    let body = pull_request.body.clone().unwrap_or_default();
    assert!(
        body.contains("Dependencies were installed by `python3 -c open("),
        "{body}"
    );
    assert!(!body.contains("`installed.py`"), "{body}");
    world.merge_and_check(issue).await;
    world.idle_agent().await;
}

#[tokio::test]
async fn a_second_task_with_the_same_base_finds_what_the_first_one_installed() {
    let world = World::with(Plan {
        repository_config: Some(INSTALLS),
        ..Plan::default()
    })
    .await;
    if !world.isolates {
        return;
    }
    for (number, words) in [
        (1, "Dependencies were installed by `python3"),
        (2, "Dependencies are from the cache of "),
    ] {
        world.label(world.open());
        let look = async || {
            let pulls = world.github.pulls(REPOSITORY).unwrap();
            (pulls.len() == number).then(|| pulls.into_iter().max_by_key(|pull| pull.number))
        };
        let pull = world
            .eventually("the next pull request", look)
            .await
            .unwrap();
        let body = pull.body.unwrap_or_default();
        assert!(body.contains(words), "{body}");
        world.idle_agent().await;
    }
}

/// This process, and so the agent, may mount: it has `CAP_SYS_ADMIN`.
fn may_mount() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rights = status.lines().find_map(|it| it.strip_prefix("CapEff:"));
    let rights = u64::from_str_radix(rights.unwrap().trim(), 16).unwrap();
    rights & (1 << 21) != 0
}

#[tokio::test]
async fn two_tasks_at_one_commit_share_its_check_out_and_keep_only_what_differs() {
    let world = World::new().await;
    if !world.isolates || !may_mount() {
        return;
    }
    for number in 1..=2 {
        world.label(world.open());
        let look = async || {
            let pulls = world.github.pulls(REPOSITORY).unwrap();
            (pulls.len() == number).then_some(())
        };
        world.eventually("the next pull request", look).await;
        world.idle_agent().await;
    }
    let tasks = world.folder().join("workspaces/general-1/tasks");
    let tasks = std::fs::read_dir(tasks).unwrap().flatten();
    let mut templates = Vec::new();
    for task in tasks.map(|it| it.path()) {
        let note = std::fs::read(task.join("metadata.json")).unwrap();
        let note: serde_json::Value = serde_json::from_slice(&note).unwrap();
        let template = std::path::PathBuf::from(note["template"].as_str().unwrap());
        assert!(template.join("orders/invoice.py").exists());
        assert!(task.join("repo-clone/orders/discounts.py").exists());
        assert!(!task.join("repo-clone/orders/invoice.py").exists());
        templates.push(template);
    }
    assert_eq!(templates.len(), 2);
    assert_eq!(templates[0], templates[1]);
    world.nothing_is_left().await;
}

#[tokio::test]
async fn what_can_not_be_installed_ends_the_task_before_a_draft_is_asked_for() {
    let Some((world, issue)) = World::isolating(Plan {
        repository_config: Some("setup: [python3 -c 'print(\"no compiler\"); exit(3)']\n"),
        ..Plan::default()
    })
    .await
    else {
        return;
    };
    let task = world.task_in(TaskState::Failed).await;
    let failure = task.failure.unwrap();
    assert_eq!(
        failure.kind,
        FailureKind::SetupFailed,
        "{}",
        failure.message
    );
    // Attempts before the last one are told as well.
    let told = world.status_says(issue, "Patchfleet: failed").await;
    let advice = FailureKind::SetupFailed.advice();
    assert!(
        told.contains("no compiler") && told.contains(advice),
        "{told}"
    );
    assert_eq!(
        (
            world.drafts(),
            world.github.pulls(REPOSITORY).unwrap().len()
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn an_agent_that_need_not_isolate_works_and_its_pull_request_says_so() {
    let world = World::with(Plan {
        isolated: false,
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let body = world.pull_request().await.body.unwrap_or_default();
    for what in ["The draft command", "The tests"] {
        let line = format!("{what} ran **without isolation** on the agent's host");
        assert!(body.contains(&line), "{body}");
    }
    world.merge_and_check(issue).await;
}

/// Plants programs for whoever runs git, wherever it may write: in its work tree (at the top, in the
/// submodule's folder, and nested where it is a test that leaves it there), and without isolation in
/// the agent's own store and mirrors, which it finds by their files. A draft runs it, and so do the
/// tests.
const PLANTS: &str = include_str!("plants.py");

/// What somebody with plain git meets in a work tree with such plants.
const PLAIN_GIT: &str = "cd \"$0\" && git init -q . && python3 tests/test_plants.py && \
    git status; git -c user.name=a -c user.email=b add -A";

fn ran(world: &World) -> Vec<std::ffi::OsString> {
    let ran = std::fs::read_dir(world.marker_folder()).unwrap();
    ran.map(|entry| entry.unwrap().file_name()).collect()
}

async fn plants_are_run_by_nobody(isolated: bool) {
    let world = World::with(Plan {
        isolated,
        more_files: &[("tests/test_plants.py", PLANTS)],
        submodule: true,
        afterwards: "python3 tests/test_plants.py",
        ..Plan::default()
    })
    .await;
    // The second one's mirror and the first one's work tree have met the plants of the first.
    for number in 1..=2 {
        let issue = world.open();
        world.label(issue);
        let look = async || {
            let tasks = world.tasks().await;
            let all = tasks.iter().all(|task| task.state == TaskState::Review);
            (tasks.len() == number && all).then_some(())
        };
        world.eventually("a pull request", look).await;
        assert_eq!(ran(&world), [""; 0], "isolated: {isolated}");
    }
    world.idle_agent().await;
    let is_planted = world.folder().join("planted-in-the-agents-own").exists();
    assert_eq!(
        is_planted,
        !isolated || !world.isolates,
        "the agent's own folders"
    );
    // The plants are what they are taken for.
    let seed = world.folder().join("plain");
    let copied = crate::world::shell("cp -r \"$0/seed\" \"$0/plain\"", world.folder());
    assert!(copied.status.success(), "{copied:?}");
    crate::world::shell(PLAIN_GIT, &seed);
    assert!(!ran(&world).is_empty(), "they bite nobody");
}

#[tokio::test]
async fn what_a_draft_or_a_test_plants_for_git_is_run_by_nobody() {
    plants_are_run_by_nobody(true).await;
}

#[tokio::test]
async fn what_is_planted_without_isolation_even_in_the_agents_own_folders_is_run_by_nobody() {
    plants_are_run_by_nobody(false).await;
}

/// Asks the model for the change, looks for other ways out and for the key, and writes the change.
pub(crate) const ASKS: &str = include_str!("sandbox/asks.py");

/// What a model's server was sent.
pub(crate) type Asked = Arc<Mutex<Vec<(Uri, String, Bytes)>>>;

/// A model that answers with the sample's fix.
pub(crate) async fn model() -> (String, Asked, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let answer = |State(asked): State<Asked>, request: Request| async move {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let key = head.headers.get("authorization").cloned();
        let key = key.map_or_else(String::new, |key| key.to_str().unwrap().to_owned());
        asked.lock().unwrap().push((head.uri, key, body));
        std::fs::read_to_string(kit("sample/answers/1.diff")).unwrap()
    };
    let router = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&asked));
    let server = TaskTracker::new().spawn(async move {
        axum::serve(listener, router).await.unwrap();
    });
    (base, asked, AbortOnDropHandle::new(server))
}

#[tokio::test]
async fn a_draft_asks_its_model_with_a_key_that_it_never_sees_and_reaches_nothing_else() {
    let (base, asked, _server) = model().await;
    let program = ASKS.replace("@UPSTREAM@", &base);
    let Some((world, issue)) = World::isolating(Plan {
        model: Some((program, base)),
        ..Plan::default()
    })
    .await
    else {
        return;
    };
    let body = world.pull_request().await.body.unwrap_or_default();
    let line = "The draft command ran in the sandbox `namespace`, without network but for the \
                operator's model.";
    assert!(body.contains(line), "{body}");
    let line = "The tests ran in the sandbox `namespace`, without network";
    assert!(body.contains(line), "{body}");
    world.merge_and_check(issue).await;
    world.no_key_was_seen();
    let asked = asked.lock().unwrap();
    let key = format!("Bearer {}", world.keys.model);
    let expected = (
        "/v1/messages".parse::<Uri>().unwrap(),
        key,
        Bytes::from("{\"model\": \"m\", \"round\": 1}"),
    );
    assert_eq!(asked[..], [expected]);
}

#[tokio::test]
async fn the_tests_of_a_draft_with_a_model_do_not_reach_it() {
    let (base, asked, _server) = model().await;
    let program = ASKS.replace("@UPSTREAM@", &base);
    let Some((world, issue)) = World::isolating(Plan {
        model: Some((program, base)),
        repository_config: Some(
            "setup:\n  - python3 -c 'import os; assert \"ANTHROPIC_BASE_URL\" not in os.environ'\n\
             test: python3 -c 'import os, socket; assert \"ANTHROPIC_BASE_URL\" not in os.environ; \
             assert not os.path.exists(\"/run/patchfleet/proxy.sock\"); \
             assert socket.socket().connect_ex((\"127.0.0.1\", 3128))'\n",
        ),
        ..Plan::default()
    })
    .await
    else {
        return;
    };
    world.merge_and_check(issue).await;
    assert_eq!(asked.lock().unwrap().len(), 1);
}
