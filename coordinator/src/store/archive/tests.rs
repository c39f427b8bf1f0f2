use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::*;

async fn rows(file: &Path) -> i64 {
    let url = format!("sqlite:{}", file.display());
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(whole, "ok");
    let rows = sqlx::query_scalar("SELECT COUNT(*) FROM rows")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    rows
}

/// A file with one row, and its log with 500 more, as a process leaves them that is killed.
async fn crashed(folder: &Path) -> PathBuf {
    sqlx::any::install_default_drivers();
    let (live, file) = (folder.join("live.db"), folder.join("pf.db"));
    let url = format!("sqlite:{}?mode=rwc", live.display());
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    for text in [
        "CREATE TABLE rows (text)",
        "INSERT INTO rows VALUES ('first')",
        "PRAGMA journal_mode = WAL",
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 500) \
         INSERT INTO rows SELECT hex(randomblob(50)) FROM numbers",
    ] {
        connection.execute(text).await.unwrap();
    }
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (
            swap::with_suffix(&live, suffix),
            swap::with_suffix(&file, suffix),
        );
        fs::copy(from, to).unwrap();
    }
    connection.close().await.unwrap();
    file
}

#[tokio::test]
async fn a_crash_between_any_two_steps_leaves_the_old_store_or_the_new_one() {
    let mut renamed = false;
    for steps in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let store = crashed(folder.path()).await;
        let old = folder.path().join("live.db");
        let old = rows(&old).await;
        let backup = folder.path().join("backup");
        let url = format!("sqlite:{}?mode=rwc", backup.display());
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        connection
            .execute("CREATE TABLE rows (text)")
            .await
            .unwrap();
        connection.close().await.unwrap();

        unused(&store).await.unwrap();
        let draft = swap::Draft::copy_of(&backup, &store).unwrap();
        let plan = swap::replacing(draft.path(), &store).unwrap();
        let Some(taken) = plan.get(..steps) else {
            assert!(renamed);
            break;
        };
        swap::run(taken).unwrap();
        // What a process leaves that is killed here.
        std::mem::forget(draft);
        renamed |= taken
            .iter()
            .any(|step| matches!(step, swap::Step::Rename { .. }));
        assert_eq!(
            rows(&store).await,
            if renamed { 0 } else { old },
            "{taken:?}"
        );
        if renamed {
            for kept in swap::kept(&plan) {
                assert_eq!(rows(&kept).await, old);
            }
        }
    }
}

/// What can't be checked in, as it is damaged, is kept as it lies there.
#[test]
fn a_step_that_fails_is_taken_back_with_those_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["pf.db", "pf.db-wal", "pf.db-shm", "new"] {
        fs::write(path(name), name).unwrap();
    }
    let plan = swap::replacing(&path("new"), &path("pf.db")).unwrap();
    let names = || {
        let names = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    for steps in 0..plan.len() {
        let mut plan = plan[..steps].to_vec();
        if plan
            .iter()
            .any(|step| matches!(step, swap::Step::Rename { .. }))
        {
            break;
        }
        plan.push(swap::Step::Remove(path("not there")));
        let refused = swap::run(&plan).unwrap_err().to_string();
        assert!(refused.contains("not there"), "{refused}");
        assert_eq!(names(), before, "{plan:?}");
        assert_eq!(fs::read_to_string(path("pf.db-wal")).unwrap(), "pf.db-wal");
    }
    // A name that is taken is not taken away.
    let swap::Step::Keep { name, .. } = &plan[0] else {
        panic!("the first step keeps the store");
    };
    fs::write(name, "kept before").unwrap();
    swap::run(&plan).unwrap_err();
    assert_eq!(fs::read_to_string(name).unwrap(), "kept before");
    assert_eq!(fs::read_to_string(path("pf.db")).unwrap(), "pf.db");
    fs::remove_file(name).unwrap();
    swap::run(&plan).unwrap();
    assert_eq!(fs::read_to_string(path("pf.db")).unwrap(), "new");
    let kept: Vec<_> = swap::kept(&plan)
        .iter()
        .map(fs::read_to_string)
        .map(Result::unwrap)
        .collect();
    assert_eq!(kept, ["pf.db", "pf.db-wal", "pf.db-shm"]);
}
