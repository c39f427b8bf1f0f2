//! How figures are printed: the median and the percentiles of what was measured.

use std::io::Write as _;

use serde_json::{Value, json};

/// What the figures were measured on.
pub(crate) fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_once(':')
            .map_or("", |(_, value)| value)
            .trim()
            .to_owned()
    };
    print(&json!({
        "machine": {
            "cpu": field(&read("/proc/cpuinfo"), "model name"),
            "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            "memory": field(&read("/proc/meminfo"), "MemTotal"),
            "kernel": read("/proc/sys/kernel/osrelease").trim(),
        }
    }));
}

/// One number.
pub(crate) fn value(name: &str, value: f64, what: &str) {
    print(&json!({ "figure": name, "value": rounded(value), "of": what }));
}

/// One number over another of the same run.
pub(crate) fn ratio(name: &str, own: f64, other: f64) {
    value(
        &format!("ratio: {name}"),
        own / other,
        "more than 1: Patchfleet is quicker",
    );
}

/// Many numbers of one kind.
pub(crate) fn distribution(name: &str, mut values: Vec<f64>, what: &str) {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let index = (values.len() * percent).div_ceil(100).saturating_sub(1);
        values.get(index).copied().map(rounded)
    };
    print(&json!({
        "figure": name, "runs": values.len(), "p50": at(50), "p90": at(90), "p99": at(99),
        "max": at(100), "of": what,
    }));
}

/// Bytes as megabytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    let kilobytes = u32::try_from(bytes / 1000).unwrap_or(u32::MAX);
    f64::from(kilobytes) / 1000.0
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn print(object: &Value) {
    // A reader that went away is no reason to stop.
    let _ = writeln!(std::io::stdout().lock(), "{object}");
}
