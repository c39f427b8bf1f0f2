//! Backup, restore, and the way from one database to another.

use std::time::Duration;

use patchfleet_coordinator::store::archive::{ArchiveError, backup, restore};
use patchfleet_coordinator::store::{
    Act, Acted, Address, Cas, Checkpoint, Commanded, Exclusive, Look, Reply, Scope, SeenRepository,
    SqlStore, Store, TaskFilter, WorkEvent, migrate,
};
use patchfleet_domain::{
    Agent, IssueNumber, Limit, Reservation, Reserved, SessionId, Task, TaskState,
};
use patchfleet_testkit::postgres::Database;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;

use crate::fixture::{Fixture, LEASE, Place, agent, failure, pull_request, repository};
use crate::follow_ups::say;
use crate::presence::{description, presence};
use crate::restoring::saved;

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
    let call = Reservation {
        call: "call-1".to_owned(),
        provider: "test".to_owned(),
        model: "double".to_owned(),
        tokens: 100,
        cost: None,
        task_limit: Limit::default(),
    };
    let reserved = fixture.store.reserve(work, &call).await.unwrap();
    assert_eq!(reserved, Cas::Applied(Reserved::Granted));
    let added = say(&fixture, 7, "Round \"up\".\n").await;
    assert_eq!(added, Acted::Noted(work.task));
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
    fixture.comes_after(5, &[4, 99]).await;
    let seen = SeenRepository {
        id: Some(9),
        name: repository(),
        was: None,
        clone_url: String::new(),
    };
    fixture.store.repository_seen(&seen).await.unwrap();
    fixture.defer(6, LEASE).await;
    while fixture.store.tally(Duration::ZERO).await.unwrap() {}
    assert!(fixture.store.claim_sweep(LEASE).await.unwrap());
    fixture
}

fn address(fixture: &Fixture) -> Address {
    match &fixture.place {
        Place::File(folder, _) => Address::Sqlite(folder.path().join("my tasks, 100%?#.db")),
        Place::Server(database) => Address::Postgres(database.url().to_owned().into()),
    }
}

fn address_of(database: &Database) -> Address {
    Address::Postgres(database.url().to_owned().into())
}

/// Ends the coordinator; its place stays.
fn ended(fixture: Fixture) -> Place {
    match fixture.place {
        // The lock goes with those who have it.
        Place::File(folder, _) => Place::File(folder, OnceCell::new()),
        server @ Place::Server(_) => server,
    }
}

/// All that can be read of a store.
async fn contents(store: &dyn Store) -> Vec<(Task, String)> {
    let mut contents = Vec::new();
    for task in store.tasks(&TaskFilter::default()).await.unwrap() {
        let beside = (
            store.history(task.id, 0).await.unwrap(),
            store.attempts(task.id).await.unwrap(),
            store.logs(task.id, 0).await.unwrap(),
            store.follow_ups(task.id).await.unwrap(),
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
    let (file, server) = (address(&fixture), address_of(&database));
    let before = contents(fixture.store.as_ref()).await;
    let pending = fixture.store.outbox_pending().await.unwrap();
    let _place = ended(fixture);
    let moved = migrate(&file, &server).await.unwrap();
    assert_eq!(moved.rows.iter().filter(|(_, rows)| *rows == 0).count(), 0);
    let again = migrate(&file, &server).await.unwrap_err().to_string();
    assert!(again.contains("not empty"), "{again}");
    // A dump of it, as PostgreSQL's own tools make it, is a store as well.
    let dumped = Database::create().await.unwrap();
    database.dump_into(&dumped).unwrap();
    let dumped = SqlStore::postgres(dumped.url(), 2).await.unwrap();
    assert_eq!(contents(&dumped).await, before);

    let folder = tempfile::tempdir().unwrap();
    let back = folder.path().join("back.db");
    migrate(&server, &Address::Sqlite(back.clone()))
        .await
        .unwrap();
    let back = SqlStore::sqlite(&back).await.unwrap();
    assert_eq!(contents(&back).await, before);
    let new = SqlStore::postgres(database.url(), 4).await.unwrap();
    assert_eq!(contents(&new).await, before);
    assert_eq!(new.outbox_pending().await.unwrap(), pending);

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

    let place = ended(fixture);
    let restored = restore(&address, &file).await.unwrap();
    assert_eq!(restored.tasks, made.tasks);
    let [kept] = &restored.kept[..] else {
        panic!("what was there is kept: {restored:?}");
    };
    let kept = SqlStore::sqlite(kept).await.unwrap();
    let all = kept.tasks(&TaskFilter::default()).await.unwrap();
    assert_eq!(all.len(), 7, "with all that was in its log");
    let store = address.open(2).await.unwrap();
    let after: Vec<_> = store.tasks(&TaskFilter::default()).await.unwrap();
    assert!(before.iter().all(|(task, _)| after.contains(task)));
    drop((store, place, kept));
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Address::Sqlite(folder.path().join("tasks.db"));
    store.open(1).await.unwrap().close().await;
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
async fn a_store_that_is_used_is_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path, _) = saved(folder.path()).await;
    let fixture = Fixture::postgres().await;
    let server = address(&fixture);
    let refused = async |from: &Address, to: &Address, which: &str| {
        let refused = migrate(from, to).await.unwrap_err();
        let text = format!("{refused:#}");
        assert!(text.contains(which), "{text}");
        assert!(text.contains("is in use by"), "{text}");
        assert!(refused.downcast_ref::<ArchiveError>().is_some(), "{text}");
    };
    refused(&file, &server, "the new database").await;
    refused(&server, &file, "the old database").await;
    // Whatever a session is called, and without the lock that ours share.
    let database = Database::create().await.unwrap();
    let mut other = PgConnection::connect(database.url()).await.unwrap();
    other
        .execute("SET application_name = 'psql'")
        .await
        .unwrap();
    refused(&file, &address_of(&database), "(psql)").await;
    other.close().await.unwrap();
    let coordinator = SqlStore::sqlite(&path).await.unwrap();
    refused(&file, &address_of(&database), "the old database").await;
    coordinator.close().await;
    migrate(&file, &address_of(&database)).await.unwrap();
    assert!(matches!(
        backup(&server, "nowhere".as_ref()).await,
        Err(ArchiveError::Postgres)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_coordinator_starts_on_what_is_being_moved() {
    let database = Database::create().await.unwrap();
    let lock = Exclusive::acquire(database.url()).await.unwrap();
    let refused = SqlStore::postgres(database.url(), 2).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("`patchfleet migrate` is copying it"),
        "{text}"
    );
    assert!(text.contains("(patchfleet migrate) from"), "{text}");
    let second = Exclusive::acquire(database.url()).await.unwrap_err();
    assert!(matches!(second, ArchiveError::InUse(_)), "{second}");
    lock.release().await.unwrap();
    SqlStore::postgres(database.url(), 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_lost_its_lock_goes_on_and_acquires_it_again() {
    let fixture = Fixture::postgres().await;
    let Place::Server(database) = &fixture.place else {
        panic!("it is on a server");
    };
    let mut operator = PgConnection::connect(database.url()).await.unwrap();
    let lost = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' \
                AND mode = 'ShareLock' AND database = \
                (SELECT oid FROM pg_database WHERE datname = current_database())";
    let ended: Vec<bool> = sqlx::query_scalar(lost)
        .fetch_all(&mut operator)
        .await
        .unwrap();
    assert_eq!(ended, [true]);
    fixture.create(1).await;
    let shared = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                  WHERE locktype = 'advisory' AND mode = 'ShareLock' \
                  AND datname = current_database()";
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        let count: i64 = sqlx::query_scalar(shared)
            .fetch_one(&mut operator)
            .await
            .unwrap();
        if count == 1 {
            break;
        }
        looks.tick().await;
    }
    fixture.create(2).await;
}
