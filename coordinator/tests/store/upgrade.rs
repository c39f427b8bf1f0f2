//! A store that was made by an earlier version: its rows are all there after the upgrade, and what
//! the earlier version writes is still taken, as it may run beside the new one for a while.

use std::path::Path;

use patchfleet_coordinator::store::{Act, Acted, Cas, Look, NewTask, SqlStore, Store};
use patchfleet_domain::{IssueNumber, TaskId, TaskState, WaitReason};
use sqlx::any::install_default_drivers;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection as _, Executor as _};

use crate::fixture::{Fixture, LEASE, Place, agent, repository};

/// The rows of the first version: each table has some, each with all that it had to have.
fn rows(of: &str, issue: u64) -> Vec<String> {
    let [done, queued] = [1, 2].map(|n| id(of, n));
    let request = r#"{"title":"Totals","body":"","labels":[],"author":"mona","triggered_by":"mona","clone_url":"","default_branch":"main","agent_type":null}"#;
    let analysis = r#"{"requirement":{"agent_type":"backend","capabilities":[],"security_level":"public"},"complexity":"simple","estimated_tokens":1,"priority":5,"target_files":[],"depends_on":[],"reasons":[]}"#;
    let task = |id: &str, state: &str, issue: u64, object: &str| {
        format!(
            "INSERT INTO tasks (id, kind, state, attempt, max_attempts, priority, repository, issue, \
             trigger_kind, trigger_object, branch, request, analysis, queued_at, created_at, updated_at) \
             VALUES ('{id}', 'issue', '{state}', 1, 3, 5, 'acme/orders', {issue}, 'label', \
             '{object}', 'patchfleet/{issue}-totals', '{request}', '{analysis}', 1, 1, 1)"
        )
    };
    vec![
        format!(
            "INSERT INTO deliveries (id, event, received_at) VALUES ('{of}-delivery', 'issues', 1)"
        ),
        task(&done, "completed", issue, &format!("{of}-done")),
        task(&queued, "queued", issue + 1, &format!("{of}-queued")),
        format!(
            "INSERT INTO attempts (task, number, agent, lease_until, assigned_at, ended_at, outcome) \
             VALUES ('{queued}', 1, 'backend-1', 2, 1, 2, 'refused')"
        ),
        format!(
            "INSERT INTO checkpoints (task, node, visit, output) VALUES ('{queued}', 'draft', 1, '{{}}')"
        ),
        format!(
            "INSERT INTO task_events (task, attempt, at, kind, to_state, actor, detail) \
             VALUES ('{queued}', 0, 1, 'created', 'pending', 'mona', 'label by mona')"
        ),
        format!("INSERT INTO task_logs (task, attempt, line) VALUES ('{queued}', 1, 'a line')"),
        format!(
            "INSERT INTO outbox (repository, issue, task, effect) VALUES ('acme/orders', {}, '{queued}', \
             '{{\"effect\":\"status\",\"task\":\"{queued}\"}}')",
            issue + 1
        ),
    ]
}

fn id(of: &str, number: u8) -> String {
    // Ids grow with time: those of the second set are later.
    let age = if of == "before" { '1' } else { '2' };
    format!("0190000{age}-0000-7000-8000-00000000000{number}")
}

/// The schema as the first version made it, with its own record of that.
async fn first_version(url: &str, dialect: &str) -> AnyConnection {
    install_default_drivers();
    let all = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = all.join("migrations").join(dialect);
    let mut connection = AnyConnection::connect(url).await.unwrap();
    let migrator = Migrator::new(all).await.unwrap();
    migrator.run_to(1, &mut connection).await.unwrap();
    connection
}

async fn upgraded(place: Place) {
    let (url, dialect) = match &place {
        Place::File(folder, _) => {
            let file = folder.path().join("old.db");
            (format!("sqlite:{}?mode=rwc", file.display()), "sqlite")
        }
        Place::Server(database) => (database.url().to_owned(), "postgres"),
    };
    let mut old = first_version(&url, dialect).await;
    for text in rows("before", 1) {
        old.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
    }
    let store = match &place {
        Place::File(folder, _) => SqlStore::sqlite(&folder.path().join("old.db")).await,
        Place::Server(_) => SqlStore::postgres(&url, 4).await,
    };
    let store = store.unwrap();
    for text in rows("after", 11) {
        let done = old.execute(sqlx::AssertSqlSafe(text.clone())).await;
        assert!(done.is_ok(), "the earlier version's {text}: {done:?}");
    }
    check(&store).await;
}

async fn check(store: &dyn Store) {
    assert!(store.delivery_seen("before-delivery").await.unwrap());
    let queued: TaskId = id("before", 2).parse().unwrap();
    let task = store.task(queued).await.unwrap().unwrap();
    assert_eq!(task.state, TaskState::Queued);
    assert_eq!(store.history(queued, 0).await.unwrap().len(), 1);
    assert_eq!(store.logs(queued, 0).await.unwrap().lines, ["a line"]);
    let newest = store
        .task_of_issue(&repository(), IssueNumber(1))
        .await
        .unwrap();
    assert_eq!(newest.unwrap().id.to_string(), id("before", 1));
    // It is in its lane, with what was done before.
    let queue = store.queued(&Look::all(10, 10)).await.unwrap();
    let waiting = queue.iter().find(|it| it.id == queued).unwrap();
    let claimed = store
        .claim(waiting, &agent("backend-2"), LEASE)
        .await
        .unwrap();
    let Cas::Applied(assignment) = claimed else {
        panic!("it can't be claimed")
    };
    assert_eq!(assignment.checkpoints.len(), 1);
    assert_eq!(assignment.task.wait_reason, None::<WaitReason>);
    assert_eq!(store.take_outbox(10, LEASE).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_versions_file_is_brought_up_to_date() {
    upgraded(Place::file()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_versions_database_is_brought_up_to_date() {
    let fixture = Fixture::postgres().await;
    upgraded(fixture.place.fresh().await).await;
}

/// The trigger of a task that was there before is known after the upgrade.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_trigger_is_not_new() {
    let fixture = Fixture::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.db");
    let mut old = first_version(&format!("sqlite:{}?mode=rwc", file.display()), "sqlite").await;
    for text in rows("before", 1) {
        old.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
    }
    let store = SqlStore::sqlite(&file).await.unwrap();
    let mut new: NewTask = fixture.new_task(1);
    "before-done".clone_into(&mut new.key.object);
    let act = [Act::Create(Box::new(new))];
    let recorded = store
        .record_delivery(&fixture.delivery(), &act)
        .await
        .unwrap();
    let known: TaskId = id("before", 1).parse().unwrap();
    let expected = patchfleet_coordinator::store::Recorded::New(vec![Acted::Exists(known)]);
    assert_eq!(recorded, expected);
}
