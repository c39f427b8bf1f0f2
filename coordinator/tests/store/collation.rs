//! A database sorts text as its operator chose, by a language or by bytes; the store does not depend
//! on it.

use patchfleet_coordinator::store::{Act, Acted, NewTask, SqlStore, Store as _, TaskFilter};
use patchfleet_domain::{IssueNumber, TaskId};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::fixture::{Fixture, Place, repository};

/// Ids in the order of their making, which in Danish come in another: `aa` is sorted as `å`, after `z`.
const IDS: [&str; 3] = [
    "019012aa-0000-7000-8000-000000000001",
    "019012ab-0000-7000-8000-000000000002",
    "019012b0-0000-7000-8000-000000000003",
];

/// A database beside the fixture's that sorts as Danes do.
async fn danish(place: &Place) -> String {
    let Place::Server(database) = place else {
        panic!("PostgreSQL is a server");
    };
    let name = format!("danish_{}", uuid::Uuid::now_v7().simple());
    let create = format!(
        "CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'da' LOCALE 'C'"
    );
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    connection
        .execute(sqlx::AssertSqlSafe(create))
        .await
        .unwrap();
    let (server, _) = database.url().rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

/// The newest task of an issue is the one that was made last, and pages follow each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_in_the_order_of_their_making_whatever_the_language() {
    let fixture = Fixture::postgres().await;
    let store = SqlStore::postgres(&danish(&fixture.place).await, 4)
        .await
        .unwrap();
    let ids = IDS.map(|id| id.parse::<TaskId>().unwrap());
    for id in ids {
        let new = NewTask {
            id,
            ..fixture.new_task(1)
        };
        let act = [Act::Create(Box::new(new))];
        let delivery = fixture.delivery();
        let done = store.record_delivery(&delivery, &act);
        let created = vec![Acted::Created(id)];
        let expected = patchfleet_coordinator::store::Recorded::New(created);
        assert_eq!(done.await.unwrap(), expected);
        // Only one task of an issue is active.
        let _ = store.cancel(id, "maintainer").await.unwrap();
    }
    let repository = repository();
    let newest = store.task_of_issue(&repository, IssueNumber(1));
    assert_eq!(newest.await.unwrap().map(|task| task.id), Some(ids[2]));
    for repository in [None, Some(repository)] {
        let (mut paged, mut before) = (Vec::new(), None);
        loop {
            let filter = TaskFilter {
                repository: repository.clone(),
                before,
                limit: 1,
                ..TaskFilter::default()
            };
            let page = store.tasks(&filter).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            paged.push(last.id);
        }
        assert_eq!(paged, [ids[2], ids[1], ids[0]], "of {repository:?}");
    }
}

/// The kit's own server is one of those that sort by a language.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kits_server_sorts_by_a_language() {
    let fixture = Fixture::postgres().await;
    let Place::Server(database) = &fixture.place else {
        panic!("PostgreSQL is a server");
    };
    if !database.is_private() {
        return;
    }
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let by_language: bool = sqlx::query_scalar("SELECT 'b' < 'C' AND '~' < '0'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(by_language);
}
