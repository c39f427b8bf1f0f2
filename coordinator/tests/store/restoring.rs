//! Restore beside what a crash, a damaged disk or another coordinator left in the store's place.

use std::path::{Path, PathBuf};

use patchfleet_coordinator::store::archive::{ArchiveError, backup, restore};
use patchfleet_coordinator::store::{Act, Address, SqlStore, Store as _, TaskFilter};

use sqlx::{Connection as _, Executor as _};

use crate::fixture::Fixture;

/// The store's file and what SQLite keeps beside it.
fn beside(file: &Path, suffix: &str) -> PathBuf {
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
    store.close().await;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(beside(&file, "-wal"), &log).unwrap();
    let restored = restore(&address, &saved).await.unwrap();
    let [kept] = &restored.kept[..] else {
        panic!("the log is kept: {restored:?}");
    };
    assert_eq!(std::fs::read(kept).unwrap(), log, "nothing is thrown away");
    let store = SqlStore::sqlite(&file).await.unwrap();
    let tasks = store.tasks(&TaskFilter::default()).await.unwrap();
    assert_eq!(tasks.len(), 1, "what the backup holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_replaced_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (file, saved) = (folder.path().join("pf.db"), folder.path().join("backup"));
    let address = Address::Sqlite(file.clone());
    SqlStore::sqlite(&file).await.unwrap().close().await;
    backup(&address, &saved).await.unwrap();
    let damaged = "this is no database at all".repeat(500);
    std::fs::write(&file, &damaged).unwrap();
    std::fs::write(beside(&file, "-wal"), "nor is this a log").unwrap();
    let restored = restore(&address, &saved).await.unwrap();
    let kept = |suffix: &str| {
        let mut kept = restored.kept.iter();
        let kept = kept.find(|kept| kept.to_str().unwrap().ends_with(suffix));
        std::fs::read_to_string(kept.unwrap()).unwrap()
    };
    assert_eq!(kept("Z"), damaged, "{restored:?}");
    assert_eq!(kept("Z-wal"), "nor is this a log", "{restored:?}");
    assert!(!beside(&file, "-wal").exists());
    SqlStore::sqlite(&file).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_not_played_into_a_store_that_is_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (address, file, saved) = saved(folder.path()).await;
    let store = SqlStore::sqlite(&file).await.unwrap();
    let fixture = Fixture::sqlite().await;
    for issue in 2..60 {
        let act = [Act::Create(Box::new(fixture.new_task(issue)))];
        let recorded = store.record_delivery(&fixture.delivery(), &act).await;
        recorded.unwrap();
    }
    let log = std::fs::read(beside(&file, "-wal")).unwrap();
    store.close().await;
    // After a crash somebody put an old file, which is damaged as well, beside the log.
    let mut other = std::fs::read(&saved).unwrap();
    let end = other.len();
    other[end / 2..end - 4096].fill(7);
    std::fs::write(&file, &other).unwrap();
    std::fs::write(beside(&file, "-wal"), &log).unwrap();
    let restored = restore(&address, &saved).await.unwrap();
    let kept = |suffix: &str| {
        let mut kept = restored.kept.iter();
        let kept = kept.find(|kept| kept.to_str().unwrap().ends_with(suffix));
        std::fs::read(kept.unwrap()).unwrap()
    };
    assert!(kept("Z") == other, "byte for byte: {restored:?}");
    assert!(kept("Z-wal") == log, "byte for byte: {restored:?}");
    assert_eq!(tasks(&file).await, 1);
}

/// A store with a task, and a backup of it.
pub(crate) async fn saved(folder: &Path) -> (Address, PathBuf, PathBuf) {
    let (file, saved) = (folder.join("pf.db"), folder.join("backup"));
    let address = Address::Sqlite(file.clone());
    let fixture = Fixture::sqlite().await;
    let store = SqlStore::sqlite(&file).await.unwrap();
    let act = [Act::Create(Box::new(fixture.new_task(1)))];
    let recorded = store.record_delivery(&fixture.delivery(), &act).await;
    recorded.unwrap();
    store.close().await;
    backup(&address, &saved).await.unwrap();
    (address, file, saved)
}

async fn tasks(file: &Path) -> usize {
    let store = SqlStore::sqlite(file).await.unwrap();
    let tasks = store.tasks(&TaskFilter::default()).await.unwrap();
    store.close().await;
    tasks.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_noticed_whatever_became_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (address, file, saved) = saved(folder.path()).await;
    let coordinator = SqlStore::sqlite(&file).await.unwrap();
    let refused = async |what: &str| {
        let there = std::fs::read(&file).ok();
        let refused = restore(&address, &saved).await.unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, ArchiveError::InUse(_)), "{what}: {text}");
        let holder = format!("process {} (coordinator)", std::process::id());
        assert!(text.contains(&holder), "{what}: {text}");
        assert_eq!(std::fs::read(&file).ok(), there, "{what}");
    };
    refused("as it was").await;
    std::fs::remove_file(&file).unwrap();
    refused("removed").await;
    std::fs::copy(&saved, &file).unwrap();
    refused("replaced").await;
    std::fs::write(&file, "no database").unwrap();
    refused("damaged").await;
    coordinator.close().await;
    restore(&address, &saved).await.unwrap();
    assert_eq!(tasks(&file).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_one_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pf.db");
    let first = SqlStore::sqlite(&file).await.unwrap();
    let refused = SqlStore::sqlite(&file).await.unwrap_err().to_string();
    let holder = format!("in use by process {}", std::process::id());
    assert!(refused.contains(&holder), "{refused}");
    assert!(refused.contains("one coordinator"), "{refused}");
    drop(first);
    SqlStore::sqlite(&file).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_never_changed_and_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (address, file, saved) = saved(folder.path()).await;
    // The log of a store that was copied by other means, which would be played into this one.
    let store = SqlStore::sqlite(&file).await.unwrap();
    let fixture = Fixture::sqlite().await;
    // The first one's id is that of the task which is there.
    fixture.delivery();
    let act = [Act::Create(Box::new(fixture.new_task(2)))];
    let recorded = store.record_delivery(&fixture.delivery(), &act).await;
    recorded.unwrap();
    let log = std::fs::read(beside(&file, "-wal")).unwrap();
    store.close().await;
    let as_it_was = async || {
        let seen = std::fs::metadata(&saved).unwrap();
        (std::fs::read(&saved).unwrap(), seen.modified().unwrap())
    };
    let before = as_it_was().await;
    for suffix in ["-wal", "-journal"] {
        std::fs::write(beside(&saved, suffix), &log).unwrap();
        let refused = restore(&address, &saved).await.unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains(&format!("backup{suffix} lies beside")),
            "{text}"
        );
        assert_eq!(std::fs::read(beside(&saved, suffix)).unwrap(), log);
        std::fs::remove_file(beside(&saved, suffix)).unwrap();
        assert_eq!(tasks(&file).await, 2, "the store is what it was");
    }
    let mut readable = std::fs::metadata(&saved).unwrap().permissions();
    readable.set_readonly(true);
    std::fs::set_permissions(&saved, readable).unwrap();
    restore(&address, &saved).await.unwrap();
    assert_eq!(as_it_was().await, before);
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let beside: Vec<_> = names.filter(|name| name.starts_with("backup")).collect();
    assert_eq!(beside, ["backup"], "nothing was made beside it");
    assert_eq!(
        tasks(&file).await,
        1,
        "what a read-only backup brings back can be written"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_can_not_be_brought_up_to_date_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (address, file, saved) = saved(folder.path()).await;
    let mut old = sqlx::SqliteConnection::connect(saved.to_str().unwrap())
        .await
        .unwrap();
    // As if an earlier version had written it, and somebody had made a table since.
    let last = "DELETE FROM _sqlx_migrations WHERE version = \
                (SELECT MAX(version) FROM _sqlx_migrations)";
    old.execute(last).await.unwrap();
    old.close().await.unwrap();
    let refused = restore(&address, &saved).await.unwrap_err();
    assert!(matches!(refused, ArchiveError::Upgrade { .. }), "{refused}");
    assert_eq!(tasks(&file).await, 1, "the store is what it was");
    let left = std::fs::read_dir(folder.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = left
        .filter(|name| name.contains("before-restore"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_can_not_be_looked_at_is_not_taken_for_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (address, file, saved) = saved(folder.path()).await;
    std::fs::create_dir(beside(&file, "-wal")).unwrap();
    let refused = restore(&address, &saved).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, ArchiveError::Present { .. }), "{text}");
    assert!(text.contains("pf.db can't be looked at"), "{text}");
    std::fs::remove_dir(beside(&file, "-wal")).unwrap();
    assert_eq!(tasks(&file).await, 1);
    std::fs::rename(&file, folder.path().join("elsewhere")).unwrap();
    std::fs::create_dir(&file).unwrap();
    let refused = restore(&address, &saved).await.unwrap_err();
    assert!(matches!(refused, ArchiveError::File { .. }), "{refused}");
    assert!(file.is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_of_an_earlier_restore_left_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (address, file, saved) = saved(folder.path()).await;
    for suffix in [
        ".partial",
        ".partial-wal",
        ".partial-journal",
        ".partial-shm",
    ] {
        std::fs::write(beside(&file, suffix), "left behind").unwrap();
    }
    restore(&address, &saved).await.unwrap();
    assert_eq!(tasks(&file).await, 1);
    assert!(!beside(&file, ".partial-wal").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_a_store_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let (_, file, saved) = saved(folder.path()).await;
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let restored = restore(&Address::Sqlite(link.clone()), &saved)
        .await
        .unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(restored.kept.len(), 1);
    let name = restored.kept[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("pf.db.before-restore-"), "{name}");
}
