//! Prometheus' text format, read as strictly as `promtool check metrics` does.
//!
//! Absent: timestamps, summaries and escapes in help texts, which Patchfleet does not write.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};

/// Units that Prometheus does not count in, and what a name must not say beside its unit.
const UNWANTED: [&str; 14] = [
    "milliseconds",
    "microseconds",
    "minutes",
    "hours",
    "days",
    "ms",
    "kilobytes",
    "megabytes",
    "kb",
    "mb",
    "percent",
    "counter",
    "gauge",
    "histogram",
];
/// Suffixes of the samples of histograms.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// A family of samples.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The value of each series, by name and labels as they were written.
    pub samples: BTreeMap<String, f64>,
}

/// The families of a scrape, by name.
///
/// # Errors
/// At the first line that Prometheus would refuse, or `promtool` would complain of.
pub fn families(text: &str) -> anyhow::Result<BTreeMap<String, Family>> {
    ensure!(text.ends_with('\n'), "the last line has no end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut described: Option<&str> = None;
    let mut current = "";
    for line in text.lines() {
        let fault = || format!("the line {line:?}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').with_context(fault)?;
            ensure!(!help.trim().is_empty(), "{name} has no help");
            described = Some(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').with_context(fault)?;
            ensure!(described.take() == Some(name), "{name} has no help");
            check_name(name, kind)?;
            let family = Family {
                kind: kind.to_owned(),
                ..Family::default()
            };
            let before = families.insert(name.to_owned(), family);
            ensure!(before.is_none(), "{name} comes twice");
            current = name;
        } else {
            let family = families.get_mut(current).with_context(fault)?;
            add(family, current, line).with_context(fault)?;
        }
    }
    for (name, family) in &families {
        check_histogram(name, family).with_context(|| name.clone())?;
    }
    Ok(families)
}

fn check_name(name: &str, kind: &str) -> anyhow::Result<()> {
    ensure!(is_label(name), "{name} is not written in snake_case");
    match kind {
        "counter" => ensure!(name.ends_with("_total"), "{name} is a counter"),
        "gauge" | "histogram" => ensure!(!name.ends_with("_total"), "{name} is no counter"),
        other => bail!("{name} is a {other}"),
    }
    let part = PARTS.iter().find(|part| name.ends_with(*part));
    ensure!(part.is_none(), "{name} looks like a part of a histogram");
    let word = name.split('_').find(|word| UNWANTED.contains(word));
    ensure!(word.is_none(), "{name} has the word {word:?} in it");
    Ok(())
}

fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain)
}

/// Adds a line such as `name{label="value"} 1`.
fn add(family: &mut Family, name: &str, line: &str) -> anyhow::Result<()> {
    let (series, value) = line.rsplit_once(' ').context("it has no value")?;
    let value: f64 = value.parse()?;
    ensure!(family.kind == "gauge" || value >= 0.0, "it is negative");
    let (sample, labels) = match series.split_once('{') {
        Some((sample, labels)) => (sample, labels.strip_suffix('}').context("no brace")?),
        None => (series, ""),
    };
    let suffix = sample.strip_prefix(name).context("another family's")?;
    let is_part = PARTS.contains(&suffix);
    ensure!(is_part == (family.kind == "histogram"), "not of its type");
    ensure!(is_part || suffix.is_empty(), "another family's");
    let names = label_names(labels)?;
    ensure!(
        names.contains("le") == (suffix == "_bucket") && !names.contains("quantile"),
        "its labels are not those of its type"
    );
    let before = family.samples.insert(series.to_owned(), value);
    ensure!(before.is_none(), "it comes twice");
    Ok(())
}

/// The names in `a="1",b="2"`.
fn label_names(mut labels: &str) -> anyhow::Result<BTreeSet<&str>> {
    let mut names = BTreeSet::new();
    while !labels.is_empty() {
        let (name, rest) = labels.split_once("=\"").context("a label has no value")?;
        ensure!(is_label(name), "the label {name:?} is not in snake_case");
        ensure!(names.insert(name), "the label {name:?} comes twice");
        let mut escaped = false;
        let end = rest.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let rest = &rest[end.context("a value has no end")? + 1..];
        labels = rest.strip_prefix(',').unwrap_or(rest);
        ensure!(labels.is_empty() || rest.len() > labels.len(), "no comma");
    }
    Ok(names)
}

/// Each series of a histogram has buckets that grow, the last of which has all that were counted.
fn check_histogram(name: &str, family: &Family) -> anyhow::Result<()> {
    let counts = family.samples.iter().filter(|(series, _)| {
        family.kind == "histogram" && series.starts_with(&format!("{name}_count"))
    });
    for (series, count) in counts {
        let labels = series.trim_start_matches(&format!("{name}_count"));
        let labels = labels.trim_matches(['{', '}']);
        let is_own = |bucket: &str| {
            let rest = bucket.strip_prefix(&format!("{name}_bucket{{"));
            let rest = rest.and_then(|rest| rest.split_once("le=\""));
            rest.is_some_and(|(before, _)| before.trim_end_matches(',') == labels)
        };
        let buckets = family.samples.iter().filter(|(bucket, _)| is_own(bucket));
        let mut buckets: Vec<_> = buckets
            .map(|(bucket, value)| {
                let limit = bucket.rsplit_once("le=\"").map(|(_, limit)| limit);
                let limit = limit.unwrap_or_default().trim_end_matches(['"', '}']);
                Ok((limit.parse::<f64>()?, *value))
            })
            .collect::<anyhow::Result<_>>()?;
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        ensure!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{series} falls");
        let last = buckets.last().context("it has no bucket")?;
        ensure!(
            last.0.is_infinite() && last.1.to_bits() == count.to_bits(),
            "{series} is not all"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n\
        a_seconds_bucket{x=\"1\",le=\"0.5\"} 1\na_seconds_bucket{x=\"1\",le=\"+Inf\"} 2\n\
        a_seconds_sum{x=\"1\"} 3.5\na_seconds_count{x=\"1\"} 2\n\
        # HELP b_total How many.\n# TYPE b_total counter\nb_total{x=\"a \\\"{,}\"} 1\n";

    #[test]
    fn what_prometheus_takes_is_read() {
        let families = families(GOOD).unwrap();
        assert_eq!(families["a_seconds"].samples.len(), 4);
        assert_eq!(families["b_total"].kind, "counter");
    }

    #[test]
    fn what_promtool_complains_of_is_refused() {
        for (good, bad) in [
            ("# HELP b_total How many.\n", ""),
            ("# HELP b_total How many.\n", "# HELP b_total  \n"),
            ("# TYPE b_total counter\n", ""),
            ("b_total counter", "b_total gauge"),
            ("b_total", "b"),
            ("b_total", "b_ms_total"),
            ("b_total", "bTotal_total"),
            ("b_total{x", "b_total{xY"),
            ("b_total{x", "b_total{le"),
            ("b_total{x", "c_total{x"),
            (",}\"} 1\n", ",}\"} one\n"),
            (",}\"} 1\n", ",}\"} 1"),
            ("le=\"+Inf\"} 2", "le=\"+Inf\"} 1"),
            ("le=\"+Inf\"} 2", "le=\"7\"} 2"),
            ("a_seconds_sum{x=\"1\"}", "a_seconds_total{x=\"1\"}"),
        ] {
            let text = GOOD.replace(good, bad);
            assert_ne!(text, GOOD, "{good}");
            assert!(families(&text).is_err(), "{good:?} became {bad:?}");
        }
        assert!(families(&GOOD.repeat(2)).is_err(), "twice");
    }
}
