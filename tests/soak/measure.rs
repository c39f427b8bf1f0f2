//! What the fleet holds after each round, and whether that grew.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

/// Shorter runs are all beginning.
const JUDGED_FROM: Duration = Duration::from_mins(5);
/// Growth that is noise: a tenth, and so much of anything.
const NOISE: f64 = 1.1;
/// Rows of one table, files of the workspaces, descriptors and threads of one process, and MiB.
const SLACK: f64 = 16.0;
/// Tables that keep a row for each issue for good, so that an issue is worked on once.
const KEPT: &[&str] = &["task_triggers"];

/// What the fleet holds at one moment, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(BTreeMap<String, f64>);

impl Sample {
    pub(crate) async fn of(world: &World) -> Self {
        let mut all = BTreeMap::new();
        let lasting = [&world.coordinator, &world.agents[0]];
        for process in lasting {
            let folder = format!("/proc/{}", process.pid().unwrap());
            let (folder, name) = (Path::new(&folder), process.name());
            all.insert(format!("{name}.memory_mib"), memory(folder));
            all.insert(format!("{name}.descriptors"), entries(&folder.join("fd")));
            all.insert(format!("{name}.threads"), entries(&folder.join("task")));
        }
        all.insert("workspaces.files".to_owned(), files(&world.workspaces()));
        for (table, rows) in world.database.row_counts().await.unwrap() {
            if !KEPT.contains(&table.as_str()) {
                all.insert(format!("rows.{table}"), rows_as_f64(rows));
            }
        }
        Self(all)
    }

    pub(crate) fn line(&self, round: usize, took: Duration) -> Value {
        json!({"round": round, "seconds": took.as_secs_f64(), "held": self.0})
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of a test")]
fn rows_as_f64(rows: i64) -> f64 {
    rows as f64
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Measurements {
    samples: Vec<Sample>,
    rounds: Vec<f64>,
}

impl Measurements {
    pub(crate) fn push(&mut self, sample: Sample, took: Duration) {
        self.samples.push(sample);
        self.rounds.push(took.as_secs_f64());
    }

    /// Compares the second quarter of the run, when everything is warm and the first things have
    /// expired, with the last quarter.
    pub(crate) fn judge(&self, lasting: Duration) -> Value {
        let quarter = self.samples.len() / 4;
        let early = &self.samples[quarter..quarter * 2];
        let late = &self.samples[self.samples.len() - quarter..];
        let mut grown = BTreeMap::new();
        let mut held = BTreeMap::new();
        for name in self.samples.iter().flat_map(|sample| sample.0.keys()) {
            let (before, after) = (median(early, name), median(late, name));
            held.insert(name, json!([before, after]));
            if after > before * NOISE + SLACK {
                grown.insert(name, json!([before, after]));
            }
        }
        let rounds = |of: &[f64]| middle(of.to_vec());
        let summary = json!({
            "rounds": self.rounds.len(), "seconds": lasting.as_secs(), "held": held,
            "round_seconds": [
                rounds(&self.rounds[quarter..quarter * 2]),
                rounds(&self.rounds[self.rounds.len() - quarter..]),
            ],
            "grown": grown,
        });
        assert!(lasting < JUDGED_FROM || grown.is_empty(), "{summary:#}");
        summary
    }
}

fn median(samples: &[Sample], name: &str) -> f64 {
    let of = samples.iter().filter_map(|sample| sample.0.get(name));
    middle(of.copied().collect())
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Resident memory in MiB.
fn memory(process: &Path) -> f64 {
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<f64>().unwrap() / 1024.0
}

fn entries(folder: &Path) -> f64 {
    std::fs::read_dir(folder).unwrap().map(|_| 1.0).sum()
}

/// Files and folders below one.
fn files(folder: &Path) -> f64 {
    // What is removed while it is counted is gone.
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0.0;
    };
    let count = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let is_folder = entry.file_type().ok()?.is_dir();
        Some(1.0 + if is_folder { files(&entry.path()) } else { 0.0 })
    };
    entries.filter_map(count).sum()
}
