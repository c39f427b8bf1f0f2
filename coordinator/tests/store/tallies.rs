//! Tallies of states beside transactions that take long.

use std::time::Duration;

use patchfleet_domain::TaskState;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

use crate::fixture::{Fixture, Place};

/// A row's number is given out before the row can be seen: what is counted past it is lost for good.
#[tokio::test]
async fn a_change_that_was_committed_late_is_counted() {
    let fixture = Fixture::postgres().await;
    let Place::Server(database) = &fixture.place else {
        unreachable!("it was made on a server");
    };
    let first = fixture.create(1).await;
    let mut slow = AnyConnection::connect(database.url()).await.unwrap();
    let mut slow = slow.begin().await.unwrap();
    let late = format!(
        "INSERT INTO task_events (task, attempt, at, kind, from_state, to_state, actor, detail) \
         SELECT task, attempt, at, kind, from_state, to_state, actor, detail FROM task_events \
         WHERE task = '{first}' AND to_state IS NOT NULL ORDER BY id LIMIT 1"
    );
    let written = slow.execute(AssertSqlSafe(late)).await.unwrap();
    assert_eq!(written.rows_affected(), 1);
    fixture.create(2).await;

    let total = async || {
        while fixture.store.tally(Duration::ZERO).await.unwrap() {}
        let tallies = fixture.store.tallies().await.unwrap();
        tallies
            .get(&TaskState::Pending)
            .copied()
            .unwrap_or_default()
    };
    assert_eq!(
        total().await,
        1,
        "the second task comes after what is still open"
    );
    slow.commit().await.unwrap();
    assert_eq!(total().await, 3);
}
