//! Backup, restore, and the way from one database to another.

use std::path::PathBuf;
use std::time::Duration;

use patchfleet_coordinator::store::archive::{ArchiveError, backup, restore, unused};
use patchfleet_coordinator::store::{
    Act, Acted, Address, Cas, Checkpoint, Commanded, Look, Reply, Scope, SqlStore, Store,
    TaskFilter, WorkEvent,
};
use patchfleet_domain::{Agent, IssueNumber, SessionId, Task, TaskState};
use patchfleet_testkit::postgres::Database;

use crate::fixture::{Fixture, LEASE, Place, agent, failure, pull_request, repository};
use crate::presence::{description, presence};

/// A store with something of everything.
async fn grown() -> Fixture {
    let fixture = Fixture::sqlite().await;
    let known = description(agent("backend-1"));
    let presence = presence(SessionId::new(), LEASE);
    let registered = fixture.store.register_agent(&known, presence).await;
    assert_eq!(registered.unwrap(), Cas::Applied(()));
    let work = fixture.started(1).await;
    let checkpoint = Checkpoint {
        node: "draft".to_owned(),
        visit: 1,
        output: serde_json::json!({ "text": "a \"quoted\" line\n\u{1F600}" }),
    };
    fixture
        .applied(work, 2, WorkEvent::Checkpoint(checkpoint))
        .await;
    let lines = vec!["one".to_owned(), "two \\u0000 'three'".to_owned()];
    let log = WorkEvent::Log { lines, dropped: 1 };
    fixture.applied(work, 3, log).await;
    let done = fixture.started(2).await;
    fixture
        .applied(done, 2, WorkEvent::Finished(pull_request(7)))
        .await;
    let failed = fixture.started(3).await;
    let permanent = WorkEvent::Finished(failure(false, true));
    fixture.applied(failed, 2, permanent).await;
    let reply = Act::Reply {
        repository: repository(),
        issue: IssueNumber(3),
        reply: Reply::Status,
    };
    assert_eq!(fixture.act(reply).await, Acted::Replied);
    let back = fixture.claimed(4).await.work;
    let reason = "full".to_owned();
    let refused = WorkEvent::Refused { reason };
    fixture.applied(back, 1, refused).await;
    let scope = Scope::AgentType("frontend".parse().unwrap());
    assert!(fixture.store.pause(&scope, "operator", None).await.unwrap());
    fixture.comes_after(5, &[4]).await;
    while fixture.store.tally(Duration::ZERO).await.unwrap() {}
    assert!(fixture.store.claim_sweep(LEASE).await.unwrap());
    fixture
}

fn address(fixture: &Fixture) -> Address {
    match &fixture.place {
        Place::File(folder) => Address::Sqlite(folder.path().join("my tasks, 100%?#.db")),
        Place::Server(database) => Address::Postgres(database.url().to_owned().into()),
    }
}

/// All that can be read of a store.
async fn contents(store: &dyn Store) -> Vec<(Task, String)> {
    let mut contents = Vec::new();
    for task in store.tasks(&TaskFilter::default()).await.unwrap() {
        let beside = (
            store.history(task.id, 0).await.unwrap(),
            store.attempts(task.id).await.unwrap(),
            store.logs(task.id).await.unwrap(),
        );
        contents.push((task, format!("{beside:?}")));
    }
    let agents: Vec<Agent> = store.agents().await.unwrap();
    assert_eq!(agents.len(), 1);
    assert_eq!(contents.len(), 5);
    contents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grown_store_moves_to_postgres_and_back_without_loss() {
    let fixture = grown().await;
    let database = Database::create().await.unwrap();
    let old = address(&fixture).open(2).await.unwrap();
    let new = SqlStore::postgres(database.url(), 4).await.unwrap();
    let moved = old.transfer(&new).await.unwrap();
    assert_eq!(moved.rows.iter().filter(|(_, rows)| *rows == 0).count(), 0);
    assert_eq!(contents(&new).await, contents(&old).await);
    assert_eq!(
        new.outbox_pending().await.unwrap(),
        old.outbox_pending().await.unwrap()
    );
    // A dump of it, as PostgreSQL's own tools make it, is a store as well.
    let dumped = Database::create().await.unwrap();
    database.dump_into(&dumped).unwrap();
    let dumped = SqlStore::postgres(dumped.url(), 2).await.unwrap();
    assert_eq!(contents(&dumped).await, contents(&old).await);
    let again = old.transfer(&new).await.unwrap_err().to_string();
    assert!(again.contains("not empty"), "{again}");

    let folder = tempfile::tempdir().unwrap();
    let back = SqlStore::sqlite(&folder.path().join("back.db"))
        .await
        .unwrap();
    new.transfer(&back).await.unwrap();
    assert_eq!(contents(&back).await, contents(&old).await);

    // Life goes on there, with numbers that nobody had.
    let queued = new.queued(&Look::all(10, 10)).await.unwrap();
    let claimed = new
        .claim(&queued[0], &agent("backend-1"), LEASE)
        .await
        .unwrap();
    assert!(matches!(claimed, Cas::Applied(_)));
    let history = new.history(queued[0].id, 0).await.unwrap();
    assert!(history.is_sorted_by_key(|event| event.id));
    let failed = new
        .task_of_issue(&repository(), IssueNumber(3))
        .await
        .unwrap()
        .unwrap();
    let retried = new.retry(failed.id, "maintainer").await.unwrap();
    assert_eq!(retried, Commanded::Done(TaskState::Queued));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_made_while_the_store_is_in_use_and_brings_it_back() {
    let fixture = grown().await;
    let address = address(&fixture);
    let before = contents(fixture.store.as_ref()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("back up.db");
    let (made, _) = tokio::join!(backup(&address, &file), fixture.create(6));
    let made = made.unwrap();
    assert!((5..=6).contains(&made.tasks), "{made:?}");
    assert!(matches!(
        backup(&address, &file).await,
        Err(ArchiveError::Exists(_))
    ));
    // In use, it stays as it is.
    let refused = restore(&address, &file).await.unwrap_err();
    assert!(matches!(refused, ArchiveError::InUse(_)), "{refused}");
    fixture.create(7).await;

    let Fixture { store, place, .. } = fixture;
    drop(store);
    let restored = loop {
        // The connections of a store that was dropped are closed soon after.
        match restore(&address, &file).await {
            Err(ArchiveError::InUse(_)) => tokio::task::yield_now().await,
            restored => break restored.unwrap(),
        }
    };
    assert_eq!(restored.tasks, made.tasks);
    let kept: PathBuf = restored.kept.expect("what was there is kept");
    assert!(kept.is_file());
    let store = address.open(2).await.unwrap();
    let after: Vec<_> = store.tasks(&TaskFilter::default()).await.unwrap();
    assert!(before.iter().all(|(task, _)| after.contains(task)));
    drop((store, place));
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Address::Sqlite(folder.path().join("tasks.db"));
    drop(store.open(1).await.unwrap());
    let file = folder.path().join("backup.db");
    let unfit = async |what: &str| {
        let refused = restore(&store, &file).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("backup.db"), "{what}: {text}");
        assert!(
            matches!(
                refused,
                ArchiveError::Unfit { .. } | ArchiveError::File { .. }
            ),
            "{what}: {text}"
        );
    };
    unfit("a missing file").await;
    std::fs::write(&file, "no database").unwrap();
    unfit("a text").await;
    std::fs::remove_file(&file).unwrap();
    backup(&store, &file).await.unwrap();
    let url = format!("sqlite:{}", file.display());
    let other = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', 1, x'00', 0)",
    )
    .execute(&other)
    .await
    .unwrap();
    other.close().await;
    unfit("one of a newer version").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_works_with_a_server_is_seen() {
    let fixture = Fixture::postgres().await;
    let address = address(&fixture);
    let seen = unused(&address).await.unwrap_err();
    assert!(matches!(seen, ArchiveError::InUse(_)), "{seen}");
    assert!(matches!(
        backup(&address, "nowhere".as_ref()).await,
        Err(ArchiveError::Postgres)
    ));
}

/// The store's file and what SQLite keeps beside it.
fn beside(file: &std::path::Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_store_that_is_gone_is_not_played_into_the_backup() {
    let folder = tempfile::tempdir().unwrap();
    let (file, saved) = (folder.path().join("pf.db"), folder.path().join("backup"));
    let address = Address::Sqlite(file.clone());
    let fixture = Fixture::sqlite().await;
    let store = SqlStore::sqlite(&file).await.unwrap();
    let deliver = async |issue| {
        let act = [Act::Create(Box::new(fixture.new_task(issue)))];
        let recorded = store.record_delivery(&fixture.delivery(), &act).await;
        recorded.unwrap();
    };
    deliver(1).await;
    assert_eq!(backup(&address, &saved).await.unwrap().tasks, 1);
    for issue in 2..6 {
        deliver(issue).await;
    }
    // Somebody moved the damaged file away after a crash and left its log.
    let log = std::fs::read(beside(&file, "-wal")).unwrap();
    assert!(!log.is_empty(), "the log holds the later tasks");
    drop(store);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(beside(&file, "-wal"), &log).unwrap();
    let restored = restore(&address, &saved).await.unwrap();
    let kept = restored.kept.unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), log, "nothing is thrown away");
    let store = SqlStore::sqlite(&file).await.unwrap();
    let tasks = store.tasks(&TaskFilter::default()).await.unwrap();
    assert_eq!(tasks.len(), 1, "what the backup holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_replaced_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (file, saved) = (folder.path().join("pf.db"), folder.path().join("backup"));
    let address = Address::Sqlite(file.clone());
    drop(SqlStore::sqlite(&file).await.unwrap());
    backup(&address, &saved).await.unwrap();
    std::fs::write(&file, "this is no database at all".repeat(500)).unwrap();
    let restored = restore(&address, &saved).await.unwrap();
    let kept = std::fs::read_to_string(restored.kept.unwrap()).unwrap();
    assert!(kept.starts_with("this is no database"));
    SqlStore::sqlite(&file).await.unwrap();
}
