//! Untrusted code prints as much as it likes: the store bounds what it keeps and what it reads.

use patchfleet_coordinator::store::{Cas, HISTORY_PAGE, Report, Store, TaskEvent, WorkEvent};
use patchfleet_domain::outcome::Outcome;
use patchfleet_domain::{Phase, TaskId, TaskState, Work};

use crate::fixture::{Fixture, LEASE, pull_request};

/// Lines and bytes of one report, as an agent sends them.
const BATCH: usize = 128;
const MIB: usize = 1024 * 1024;

/// Lines with their numbers; each takes as much as it does at an agent that says all it can.
async fn print(store: &dyn Store, work: Work, seq: u64, length: usize) {
    let first = usize::try_from(seq - 2).unwrap() * BATCH;
    let lines = (first..first + BATCH).map(|number| format!("{number:<length$}"));
    let lines = lines.collect();
    let event = WorkEvent::Log { lines, dropped: 0 };
    let applied = store.report(&Report { work, seq, event }).await.unwrap();
    assert_eq!(applied, Cas::Applied(()));
}

fn volume(lines: &[String]) -> usize {
    lines.iter().map(String::len).sum()
}

/// What a line of a log is: a printed one with its number, or so many that were left out.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Line {
    Printed(usize),
    LeftOut(usize),
}

fn parsed(text: &str) -> Line {
    let left_out = text.strip_suffix(" lines were left out here: the log is too long]");
    match left_out.and_then(|text| text.strip_prefix('[')) {
        Some(count) => Line::LeftOut(count.parse().unwrap()),
        None => Line::Printed(text.trim_end().parse().unwrap()),
    }
}

/// Checks that every line is there from the first to the last, or told to be left out.
fn check(lines: &[String], printed: usize) {
    let (mut next, mut gaps) = (0, 0);
    for line in lines {
        next = match parsed(line) {
            Line::Printed(number) => {
                assert_eq!(number, next);
                next + 1
            }
            Line::LeftOut(count) => {
                gaps += 1;
                next + count
            }
        };
    }
    assert_eq!((next, gaps), (printed, 1));
}

pub(crate) async fn output_without_end_keeps_its_head_and_its_tail(fixture: &Fixture) {
    let (long, short) = (fixture.started(1).await, fixture.started(2).await);
    // Replicas take turns.
    let stores = [fixture.place.open().await, fixture.place.open().await];
    // Three times what there is room for.
    for seq in 2..50 {
        print(&*stores[usize::from(seq % 2 == 0)], long, seq, 4096).await;
    }
    let page = fixture.store.logs(long.task, 0).await.unwrap();
    assert_eq!(page.attempt, Some(long.attempt));
    assert!(volume(&page.lines) <= 8 * MIB, "{}", volume(&page.lines));
    assert!(
        volume(&page.lines) > 7 * MIB,
        "what there is room for is kept"
    );
    check(&page.lines, 48 * BATCH);
    let gap = page
        .lines
        .iter()
        .position(|it| !it.starts_with(char::is_numeric));
    let (head, tail) = page.lines.split_at(gap.unwrap());
    assert!(volume(head) > 3 * MIB && volume(tail) > 3 * MIB);
    for seq in 2..250 {
        print(&*fixture.store, short, seq, 1).await;
    }
    let page = fixture.store.logs(short.task, 0).await.unwrap();
    assert!(page.lines.len() <= 21_000, "many short lines");
    check(&page.lines, 248 * BATCH);
}

pub(crate) async fn a_line_without_end_is_cut(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let lines = vec!["ä".repeat(9 * MIB), "and on".to_owned()];
    let event = WorkEvent::Log { lines, dropped: 0 };
    fixture.applied(work, 2, event).await;
    let lines = fixture.store.logs(work.task, 0).await.unwrap().lines;
    let bytes = 18 * MIB - 64 * 1024;
    let said = format!("ä [{bytes} bytes were left out]");
    assert!(lines[0].ends_with(&said) && lines[0].len() < 65 * 1024);
    assert_eq!(lines[1..], ["and on"]);
}

pub(crate) async fn whoever_follows_a_log_gets_each_line_once_and_hears_of_each_gap(
    fixture: &Fixture,
) {
    let work = fixture.started(1).await;
    // Each looks after so many batches; the slowest sees parts of the log only.
    let mut followers = [1, 5, 17, 23].map(|pace| (pace, Vec::new(), 0));
    for seq in 2..50 {
        print(&*fixture.store, work, seq, 4096).await;
        for (pace, seen, after) in &mut followers {
            if seq % *pace == 0 {
                let page = fixture.store.logs(work.task, *after).await.unwrap();
                seen.extend(page.lines.iter().map(|it| parsed(it)));
                *after = page.last;
            }
        }
    }
    for (pace, seen, after) in &mut followers {
        let page = fixture.store.logs(work.task, *after).await.unwrap();
        seen.extend(page.lines.iter().map(|it| parsed(it)));
        let nothing = fixture.store.logs(work.task, page.last).await.unwrap();
        assert_eq!((nothing.lines.len(), nothing.last), (0, page.last));
        let mut gaps = 0;
        let mut last: Option<usize> = None;
        let mut is_gap = false;
        for line in seen.iter() {
            let Line::Printed(number) = *line else {
                assert!(!is_gap, "one line for each gap");
                (gaps, is_gap) = (gaps + 1, true);
                continue;
            };
            let next = last.map_or(0, |last| last + 1);
            assert_eq!(number > next, is_gap, "{next} is missing at pace {pace}");
            assert!(number >= next, "{number} comes again at pace {pace}");
            (last, is_gap) = (Some(number), false);
        }
        assert_eq!(last, Some(48 * BATCH - 1));
        assert_eq!(gaps > 0, *pace > 5, "{gaps} gaps at pace {pace}");
    }
}

/// An earlier version kept every line that was printed.
pub(crate) async fn a_log_of_before_it_had_a_bound_says_that_a_page_is_not_all_of_it(
    fixture: &Fixture,
) {
    let work = fixture.started(1).await;
    let count = 30_000;
    let task = work.task;
    let attempt = work.attempt.0;
    let all = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
         INSERT INTO task_logs (task, attempt, line) \
         SELECT '{task}', {attempt}, 'line ' || CAST(i AS TEXT) FROM n"
    );
    assert_eq!(fixture.place.execute_many(all).await, count);
    let first = fixture.store.logs(task, 0).await.unwrap();
    assert!(first.more);
    let rest = fixture.store.logs(task, first.last).await.unwrap();
    assert!(!rest.more);
    assert_eq!(rest.lines.last().unwrap(), "line 30000");
    assert_eq!((first.lines.len() + rest.lines.len()) as u64, count);
    let nothing = fixture.store.logs(task, rest.last).await.unwrap();
    assert!(!nothing.more && nothing.lines.is_empty());
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

/// A whole history, page by page.
async fn whole(fixture: &Fixture, task: TaskId) -> Vec<TaskEvent> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = fixture.store.history(task, after).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = last.id;
        all.extend(page);
    }
}

fn phase(phase: Phase, detail: &str) -> WorkEvent {
    WorkEvent::Progress {
        phase,
        detail: detail.to_owned(),
    }
}

/// Says so many things one after the other; returns the number of the next report.
async fn loops(
    fixture: &Fixture,
    (work, from): (Work, u64),
    count: u64,
    event: impl Fn(u64) -> WorkEvent,
) -> u64 {
    let report = |seq| Report {
        work,
        seq,
        event: event(seq),
    };
    let reports: Vec<_> = (from..from + count).map(report).collect();
    for batch in reports.chunks(4 * BATCH) {
        let applied = fixture.store.report_all(batch).await.unwrap();
        assert!(applied.iter().all(|it| *it == Cas::Applied(())));
    }
    from + count
}

/// The states that a history tells of, in their order; each begins where the last one ended.
fn states(history: &[TaskEvent]) -> Vec<TaskState> {
    let changes = history.iter().filter_map(|it| Some((it.from, it.to?)));
    let mut states = Vec::new();
    for (from, to) in changes {
        assert_eq!(from, states.last().copied());
        states.push(to);
    }
    states
}

pub(crate) async fn a_history_has_a_bound_and_tells_every_change_of_state(fixture: &Fixture) {
    use TaskState::{Assigned, InProgress, Queued, Review, Testing};
    let work = fixture.started(1).await;
    let long = "x".repeat(4096);
    let next = loops(fixture, (work, 2), 1100, |_| phase(Phase::Analyze, &long)).await;
    let full = whole(fixture, work.task).await;
    let next = loops(fixture, (work, next), 100, |_| phase(Phase::Analyze, &long)).await;
    let there = whole(fixture, work.task).await;
    assert_eq!(there.len(), full.len(), "it has a bound");
    let said = "the history is full: progress, checkpoints and usage are no longer kept";
    let last = full.last().unwrap();
    assert_eq!((last.kind.as_str(), last.detail.as_str()), ("note", said));
    assert!(full.len() > 900, "what there is room for is kept");

    fixture.applied(work, next, phase(Phase::Test, "")).await;
    let now = fixture.store.lose(work, "its host is gone").await.unwrap();
    assert_eq!(now, Cas::Applied(Queued));
    let queued = fixture.in_queue(work.task).await;
    let work = fixture.claim(&queued, LEASE).await.work;
    fixture.applied(work, 1, WorkEvent::Accepted).await;
    let next = loops(fixture, (work, 2), 100, |_| phase(Phase::Analyze, &long)).await;
    for (seq, event) in [
        (next, phase(Phase::Test, "")),
        (next + 1, WorkEvent::Finished(pull_request(1))),
    ] {
        fixture.applied(work, seq, event).await;
    }
    let history = whole(fixture, work.task).await;
    let ended = [
        InProgress, Testing, Queued, Assigned, InProgress, Testing, Review,
    ];
    assert!(states(&history).ends_with(&ended), "{:?}", states(&history));
    assert_eq!(history.len(), full.len() + 6, "nothing else is written");
}

pub(crate) async fn an_agent_that_moves_its_task_to_and_fro_comes_to_an_end(fixture: &Fixture) {
    let work = fixture.started(1).await;
    let to_and_fro = |seq| match seq % 2 {
        0 => phase(Phase::Test, ""),
        _ => phase(Phase::Generate, ""),
    };
    let next = loops(fixture, (work, 2), 20_000, to_and_fro).await;
    let full = whole(fixture, work.task).await;
    assert!(full.len() < 20_000, "{}", full.len());
    let next = loops(fixture, (work, next), 100, to_and_fro).await;
    assert_eq!(whole(fixture, work.task).await.len(), full.len());
    let answer = Outcome::Answer {
        summary: "done".to_owned(),
    };
    let finished = WorkEvent::Finished(answer);
    fixture.applied(work, next, finished).await;
    let history = whole(fixture, work.task).await;
    assert_eq!(states(&history).last(), Some(&TaskState::Completed));
    assert_eq!(fixture.task(work.task).await.state, TaskState::Completed);
}
