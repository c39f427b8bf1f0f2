//! A look at a store that changes nothing, and says why a coordinator could not work with it.

use patchfleet_coordinator::store::{Address, SqlStore, examine};
use patchfleet_testkit::postgres::Database;

#[tokio::test]
async fn a_look_at_a_file_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pf.db");
    let seen = examine(&Address::Sqlite(file.clone())).await.unwrap();
    assert!(seen.contains("will be made"), "{seen}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let nowhere = folder.path().join("nowhere/pf.db");
    let error = examine(&Address::Sqlite(nowhere)).await.unwrap_err();
    assert!(format!("{error:#}").contains("nowhere: there is no such folder"));

    drop(SqlStore::sqlite(&file).await.unwrap());
    let seen = examine(&Address::Sqlite(file)).await.unwrap();
    assert!(seen.ends_with(", up to date"), "{seen}");
    let damaged = folder.path().join("damaged.db");
    std::fs::write(&damaged, "no database").unwrap();
    let error = examine(&Address::Sqlite(damaged)).await.unwrap_err();
    assert!(format!("{error:#}").contains("not a database"), "{error:#}");
}

#[tokio::test]
async fn a_look_at_a_server_makes_no_table_and_names_the_servers_reason() {
    let database = Database::create().await.unwrap();
    let address = Address::Postgres(database.url().to_owned().into());
    let seen = examine(&address).await.unwrap();
    assert!(seen.contains("empty"), "{seen}");
    assert!(database.row_counts().await.unwrap().is_empty());
    SqlStore::postgres(database.url(), 2).await.unwrap();
    let seen = examine(&address).await.unwrap();
    assert!(seen.ends_with(", up to date"), "{seen}");

    let mut nope = url::Url::parse(database.url()).unwrap();
    nope.set_path("nope");
    let error = examine(&Address::Postgres(nope.to_string().into())).await;
    let why = format!("{:#}", error.unwrap_err());
    assert!(why.contains("\"nope\" does not exist"), "{why}");
}
