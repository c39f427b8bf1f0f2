//! What holds for every report of a run; see [`crate::properties`].

use std::time::Duration;

use super::verdict::{self, Verdict};
use crate::process::Finished;

/// Reads a report, as the backend does: a run succeeded only where a line of it says so, and no
/// fault beside it.
pub(crate) fn report(text: &str) {
    let verdict = Verdict::read(text);
    let line = |field: &str| {
        let lines = text.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line.get(field).cloned()
        });
        lines.collect::<Vec<_>>()
    };
    if let Verdict::Ended(code) = verdict {
        let said = line("exit-code");
        assert!(said.iter().any(|it| *it == code), "{code} in {text:?}");
        let mut finished = Finished {
            returncode: Some(0),
            signal: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            stdout_dropped: 0,
            stderr_dropped: 0,
            duration: Duration::ZERO,
            timed_out: false,
        };
        verdict::put(code, &mut finished);
        assert_eq!(finished.succeeded(), code == 0);
        assert!(finished.returncode.is_some() != finished.signal.is_some());
    }
    if matches!(verdict, Verdict::Fault(_)) {
        assert!(!line("fault").is_empty(), "{text:?}");
    }
    // Whatever a run says after it, the first verdict stays; a fault stands above it.
    let more = format!("{text}\n{{\"exit-code\":0}}\n");
    match (Verdict::read(text), Verdict::read(&more)) {
        (Verdict::Unknown, Verdict::Ended(0)) => {}
        (before, after) => assert_eq!(before, after),
    }
}
