//! How large a task is, roughly.

use patchfleet_domain::Complexity;

use super::clues::Clues;

/// Words of those who ask for much.
const LARGE: [&str; 8] = [
    "refactor",
    "rewrite",
    "redesign",
    "migrate",
    "migration",
    "architecture",
    "overhaul",
    "across the codebase",
];
/// Words and labels of those who ask for little.
const SMALL: [&str; 3] = ["typo", "good first issue", "one liner"];

pub(super) fn complexity(clues: &Clues, reasons: &mut Vec<String>) -> Complexity {
    let mut score = 0_i32;
    let mut count = |holds: bool, weight: i32, why: String| {
        if holds {
            score += weight;
            reasons.push(why);
        }
    };
    count(
        clues.words > 400,
        1,
        format!("a long request: {} words", clues.words),
    );
    count(clues.words > 1200, 1, "a very long request".to_owned());
    count(
        clues.files.len() > 3,
        1,
        format!("names {} files", clues.files.len()),
    );
    count(clues.files.len() > 8, 1, "names many files".to_owned());
    count(
        clues.open_items > 3,
        1,
        format!("lists {} open items", clues.open_items),
    );
    if let Some(word) = LARGE.iter().find(|word| clues.mentions(word)) {
        count(true, 2, format!("speaks of `{word}`"));
    }
    let small =
        |word: &&&str| clues.mentions(word) || clues.labels.iter().any(|label| label == **word);
    if let Some(word) = SMALL.iter().find(small) {
        count(true, -1, format!("speaks of `{word}`"));
    }
    match score {
        ..=0 => Complexity::Simple,
        1..=2 => Complexity::Moderate,
        3.. => Complexity::Complex,
    }
}

/// A stated estimate: a base by size, the request itself, and each file read and written once.
pub(super) fn tokens(clues: &Clues, complexity: Complexity) -> u64 {
    let base = match complexity {
        Complexity::Simple => 8_000,
        Complexity::Moderate => 30_000,
        Complexity::Complex => 100_000,
    };
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    base + count(clues.characters) / 4 + 2_000 * count(clues.files.len())
}
