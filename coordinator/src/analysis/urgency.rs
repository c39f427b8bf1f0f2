//! How soon a task is wanted.

use patchfleet_domain::{Priority, Task};

/// What the trigger said; else the most urgent label; else normal.
pub(super) fn priority(task: &Task, reasons: &mut Vec<String>) -> Priority {
    if task.priority != Priority::default() {
        return task.priority;
    }
    let labels = task.request.labels.iter();
    let said = labels.filter_map(|label| Some((of_label(label)?, label)));
    let Some((priority, label)) = said.max_by_key(|(priority, _)| *priority) else {
        return Priority::default();
    };
    reasons.push(format!("priority {priority}: label `{label}`"));
    priority
}

/// `priority: high`, `Priority/7`, `P1`, `urgent`…
fn of_label(label: &str) -> Option<Priority> {
    let label = label.to_lowercase();
    let value = label
        .strip_prefix("priority")
        .or_else(|| label.strip_prefix("prio"));
    let value = value.map(|value| value.trim_start_matches([':', '/', '-', '_', ' ', '=']));
    let word = value.unwrap_or(&label);
    match word {
        "p0" | "critical" | "urgent" | "blocker" | "highest" => Some(Priority::CRITICAL),
        "p1" => Some(Priority::HIGH),
        "p2" => Some(Priority::NORMAL),
        "p3" | "p4" => Some(Priority::LOW),
        // These mean many things unless they stand behind `priority`.
        "important" | "major" if value.is_some() => Some(Priority::HIGH),
        "medium" if value.is_some() => Some(Priority::NORMAL),
        "minor" | "trivial" | "lowest" if value.is_some() => Some(Priority::LOW),
        _ => value.and_then(|value| value.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_speak_of_priority() {
        let number = |label| of_label(label).map(Priority::get);
        assert_eq!(number("priority: high"), Some(8));
        assert_eq!(number("Priority/critical"), Some(10));
        assert_eq!(number("P0"), Some(10));
        assert_eq!(number("P1"), Some(8));
        assert_eq!(number("prio-low"), Some(3));
        assert_eq!(number("priority 7"), Some(7));
        for other in [
            "high",
            "priority: soon",
            "priority: 11",
            "bug",
            "p5",
            "minor",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
