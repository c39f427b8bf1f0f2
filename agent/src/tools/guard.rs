//! When a model goes in circles: it is told once, and stopped when it goes on.
//!
//! The same call with the same result on the same files counts, wherever among the last calls, so
//! that calls in turns are noticed as well. Numbers in results do not: times differ in each run.
//! Apart from that, a turn has to change a file to what it was not before, or read one that was not
//! read. A comment of a person begins all counts anew.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::git::ObjectId;

/// How often a call may have the same result before it is told, and before it is the end.
const REPEATED: (usize, usize) = (3, 4);
/// How many turns may bring nothing before it is told, and before it is the end.
const IDLE: (u32, u32) = (8, 12);
/// Calls that are looked back on.
const LOOKED_AT: usize = 20;

/// What a turn did.
pub(super) struct Did<'a> {
    /// Each call: the name, the arguments, and the result.
    pub(super) calls: Vec<(&'a str, &'a str, &'a str)>,
    /// The tree afterwards; nothing when it can't be known.
    pub(super) tree: Option<&'a ObjectId>,
    /// A file was read that had not been read before as it is.
    pub(super) is_news: bool,
}

/// What a guard has to say of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    GoOn,
    /// The model is told.
    Tell(String),
    /// The work ends; why.
    Stop(String),
}

/// Counts what a model repeats.
#[derive(Debug, Default)]
pub(super) struct Guard {
    calls: VecDeque<u64>,
    trees: BTreeSet<ObjectId>,
    idle: u32,
    told_of_repeats: bool,
    told_of_idleness: bool,
}

impl Guard {
    /// A guard over work that begins with this tree.
    pub(super) fn new(start: &ObjectId) -> Self {
        Self {
            trees: [start.clone()].into(),
            ..Self::default()
        }
    }

    /// A person said something new.
    pub(super) fn restart(&mut self) {
        *self = Self {
            trees: std::mem::take(&mut self.trees),
            ..Self::default()
        };
    }

    /// Takes note of a turn.
    pub(super) fn judge(&mut self, did: &Did<'_>) -> Judged {
        let is_new_tree = did.tree.is_some_and(|tree| self.trees.insert(tree.clone()));
        self.idle = if is_new_tree || did.is_news {
            0
        } else {
            self.idle + 1
        };
        let mut most = (0, "");
        for (name, arguments, result) in &did.calls {
            let print = print((name, arguments, result), did.tree);
            self.calls.push_back(print);
            if self.calls.len() > LOOKED_AT {
                self.calls.pop_front();
            }
            let count = self.calls.iter().filter(|it| **it == print).count();
            most = most.max((count, *name));
        }
        self.verdict(most)
    }

    fn verdict(&mut self, (count, name): (usize, &str)) -> Judged {
        if count >= REPEATED.1 {
            return Judged::Stop(format!(
                "`{name}` was called {count} times with the same result"
            ));
        }
        if self.idle >= IDLE.1 {
            return Judged::Stop(format!(
                "{} turns in a row changed no file and read none that was new",
                self.idle
            ));
        }
        if count >= REPEATED.0 && !std::mem::replace(&mut self.told_of_repeats, true) {
            return Judged::Tell(format!(
                "`{name}` had the same result {count} times. Once more ends the work as it is: do \
                 something else, or call `finish`"
            ));
        }
        if self.idle >= IDLE.0 && !std::mem::replace(&mut self.told_of_idleness, true) {
            return Judged::Tell(format!(
                "{} turns changed no file and read none that was new. After {} the work ends as it \
                 is: make the change, or call `finish`",
                self.idle, IDLE.1
            ));
        }
        Judged::GoOn
    }
}

fn print(call: (&str, &str, &str), tree: Option<&ObjectId>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (call.0, call.1).hash(&mut hasher);
    for byte in call.2.bytes().filter(|byte| !byte.is_ascii_digit()) {
        hasher.write_u8(byte);
    }
    tree.map(ObjectId::as_str).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(letter: &str) -> ObjectId {
        letter.repeat(40).parse().unwrap()
    }

    fn turn(guard: &mut Guard, call: (&str, &str), (now, is_news): (&str, bool)) -> Judged {
        let now = tree(now);
        guard.judge(&Did {
            calls: vec![("run", call.0, call.1)],
            tree: Some(&now),
            is_news,
        })
    }

    #[test]
    fn the_third_equal_call_is_told_and_the_fourth_is_the_end() {
        let mut guard = Guard::new(&tree("0"));
        let mut again = |result| turn(&mut guard, ("a", result), ("0", true));
        assert_eq!(again("took 1 s"), Judged::GoOn);
        assert_eq!(again("took 2 s"), Judged::GoOn);
        assert!(matches!(again("took 3 s"), Judged::Tell(text) if text.contains("3 times")));
        assert!(matches!(again("took 4 s"), Judged::Stop(text) if text.contains("4 times")));
    }

    #[test]
    fn two_calls_in_turns_are_noticed_and_a_change_of_a_file_makes_them_new() {
        let mut guard = Guard::new(&tree("0"));
        for _ in 0..2 {
            assert_eq!(turn(&mut guard, ("a", "x"), ("0", true)), Judged::GoOn);
            assert_eq!(turn(&mut guard, ("b", "y"), ("0", true)), Judged::GoOn);
        }
        assert!(matches!(
            turn(&mut guard, ("a", "x"), ("0", true)),
            Judged::Tell(_)
        ));
        assert_eq!(turn(&mut guard, ("a", "x"), ("1", true)), Judged::GoOn);
        // It is told once.
        assert_eq!(turn(&mut guard, ("b", "y"), ("0", true)), Judged::GoOn);
    }

    #[test]
    fn turns_that_bring_nothing_are_told_at_eight_and_ended_at_twelve() {
        let mut guard = Guard::new(&tree("0"));
        assert_eq!(turn(&mut guard, ("edit", ""), ("1", false)), Judged::GoOn);
        let mut judged = Vec::new();
        for number in 1..=12 {
            // Back and forth between states that were there before is nothing new.
            let now = if number % 2 == 0 { "0" } else { "1" };
            judged.push(turn(&mut guard, (&number.to_string(), ""), (now, false)));
        }
        assert!(
            judged[..7].iter().all(|it| *it == Judged::GoOn),
            "{judged:?}"
        );
        assert!(matches!(judged[7], Judged::Tell(_)), "{judged:?}");
        assert!(
            judged[8..11].iter().all(|it| *it == Judged::GoOn),
            "{judged:?}"
        );
        assert!(matches!(judged[11], Judged::Stop(_)), "{judged:?}");
    }

    #[test]
    fn a_comment_of_a_person_begins_all_counts_anew() {
        let mut guard = Guard::new(&tree("0"));
        for _ in 0..3 {
            turn(&mut guard, ("a", "x"), ("0", false));
        }
        guard.restart();
        assert_eq!(turn(&mut guard, ("a", "x"), ("0", false)), Judged::GoOn);
    }
}
