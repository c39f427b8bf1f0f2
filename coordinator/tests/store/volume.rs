//! Untrusted code prints as much as it likes: the store bounds what it keeps and what it reads.

use patchfleet_coordinator::store::{Cas, HISTORY_PAGE, Report, WorkEvent};
use patchfleet_domain::{Phase, Work};

use crate::fixture::Fixture;

/// Lines and bytes of one report, as an agent sends them.
const BATCH: usize = 128;
const MIB: usize = 1024 * 1024;

async fn print(fixture: &Fixture, work: Work, seq: u64, line: &str) {
    let lines = vec![line.to_owned(); BATCH];
    let event = WorkEvent::Log { lines, dropped: 0 };
    fixture.applied(work, seq, event).await;
}

fn volume(lines: &[String]) -> usize {
    lines.iter().map(String::len).sum()
}

pub(crate) async fn output_without_end_is_cut_at_a_bound(fixture: &Fixture) {
    let (long, short) = (fixture.started(1).await, fixture.started(2).await);
    let line = "x".repeat(4096);
    // Three times what there is room for.
    for seq in 2..50 {
        print(fixture, long, seq, &line).await;
    }
    let kept = fixture.store.logs(long.task).await.unwrap();
    assert!(volume(&kept) <= 8 * MIB, "{}", volume(&kept));
    assert!(volume(&kept) > 7 * MIB, "what there is room for is kept");
    let said = "[the log is full: later lines were left out]";
    let ends: Vec<_> = kept.iter().filter(|it| *it == said).collect();
    assert_eq!((ends.len(), kept.last().unwrap().as_str()), (1, said));
    for seq in 2..250 {
        print(fixture, short, seq, "y").await;
    }
    let kept = fixture.store.logs(short.task).await.unwrap();
    assert!(kept.len() <= 21_000, "many short lines: {}", kept.len());
    assert_eq!(kept[0], "y", "an attempt's room is its own");
}

pub(crate) async fn a_history_is_read_in_pages(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let count = u64::from(HISTORY_PAGE) + 10;
    let reports = (2..count).map(|seq| Report {
        work,
        seq,
        event: WorkEvent::Progress {
            phase: Phase::Analyze,
            detail: format!("step {seq}"),
        },
    });
    let reports: Vec<_> = reports.collect();
    for batch in reports.chunks(BATCH) {
        let applied = fixture.store.report_all(batch).await.unwrap();
        assert!(applied.iter().all(|it| *it == Cas::Applied(())));
    }
    let first = fixture.store.history(work.task, 0).await.unwrap();
    assert_eq!(first.len(), HISTORY_PAGE as usize);
    let last = first.last().unwrap().id;
    let rest = fixture.store.history(work.task, last).await.unwrap();
    assert!(rest.first().unwrap().id > last);
    let newest = fixture.store.newest_history(work.task, 5).await.unwrap();
    assert_eq!(newest[..], rest[rest.len() - 5..]);
}
