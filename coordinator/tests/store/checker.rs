//! A linearizability checker: whether what concurrent callers were told has an order in which one
//! caller after the other could have been told it (M. Herlihy and J. Wing, "Linearizability", 1990).
//!
//! A depth-first search over the operations that may come next (J. Wing and C. Gong, "Testing and
//! Verifying Concurrent Objects", 1993) that remembers the pairs of linearized operations and state
//! it has been at (G. Lowe, "Testing for Linearizability", 2017). As each caller does one operation
//! after the other, there are no more such sets than ways to cut every caller's operations in two:
//! the search is bounded by that and by the number of states, where without a memory it is
//! exponential in the length of the history.

use std::collections::HashSet;
use std::hash::Hash;

/// A sequential specification.
pub(crate) trait Sequential: Clone + Eq + Hash {
    /// What a caller asks for.
    type Op;
    /// What it is told.
    type Ret;

    /// Takes a step; false when the operation could not have been answered like that in this state.
    fn step(&mut self, op: &Self::Op, ret: &Self::Ret) -> bool;
}

/// An operation with the moments between which it had its effect.
#[derive(Debug)]
struct Call<O, R> {
    op: O,
    began: usize,
    /// Absent while it is under way.
    ended: Option<(usize, R)>,
}

/// What callers asked for and were told, in the order of their asking.
#[derive(Debug)]
pub(crate) struct History<S: Sequential> {
    calls: Vec<Call<S::Op, S::Ret>>,
    clock: usize,
}

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) is_linearizable: bool,
    /// Pairs of linearized operations and state that were looked at.
    pub(crate) visited: usize,
}

impl<S: Sequential> Default for History<S> {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            clock: 0,
        }
    }
}

impl<S: Sequential> History<S> {
    fn tick(&mut self) -> usize {
        self.clock += 1;
        self.clock
    }

    /// A caller asks; returns the number of its call.
    pub(crate) fn invoke(&mut self, op: S::Op) -> usize {
        let began = self.tick();
        let ended = None;
        self.calls.push(Call { op, began, ended });
        self.calls.len() - 1
    }

    /// The caller is told.
    pub(crate) fn complete(&mut self, call: usize, ret: S::Ret) {
        let now = self.tick();
        self.calls[call].ended = Some((now, ret));
    }

    /// Looks for an order of all calls that were answered; those that were not are left out.
    pub(crate) fn check(&self, initial: S) -> Verdict {
        let mut calls: Vec<_> = Vec::new();
        for call in &self.calls {
            if let Some((ended, ret)) = &call.ended {
                calls.push((call, *ended, ret));
            }
        }
        assert!(calls.len() < 64, "the set of calls is a word");
        let all = (1_u64 << calls.len()) - 1;
        let mut visited = HashSet::from([(0_u64, initial.clone())]);
        let mut open = vec![(0_u64, initial)];
        while let Some((done, state)) = open.pop() {
            if done == all {
                let visited = visited.len();
                return Verdict {
                    is_linearizable: true,
                    visited,
                };
            }
            let left = |at: &usize| done & (1 << at) == 0;
            let left: Vec<_> = (0..calls.len()).filter(left).collect();
            // Whatever began after another had ended comes after it.
            let first_end = left.iter().map(|at| calls[*at].1).min().unwrap_or(0);
            for at in left {
                let (call, _, ret) = calls[at];
                let mut next = state.clone();
                if call.began < first_end && next.step(&call.op, ret) {
                    let next = (done | 1 << at, next);
                    if visited.insert(next.clone()) {
                        open.push(next);
                    }
                }
            }
        }
        Verdict {
            is_linearizable: false,
            visited: visited.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: reading tells what was written last.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
    struct Register(u32);

    #[derive(Debug)]
    enum Op {
        Write(u32),
        Read,
    }

    impl Sequential for Register {
        type Op = Op;
        type Ret = u32;

        fn step(&mut self, op: &Op, ret: &u32) -> bool {
            if let Op::Write(value) = op {
                self.0 = *value;
            }
            self.0 == *ret
        }
    }

    fn verdict(history: &History<Register>) -> bool {
        history.check(Register::default()).is_linearizable
    }

    #[test]
    fn what_was_written_before_is_read_or_it_is_a_violation() {
        for (read, is_linearizable) in [(1, true), (0, false)] {
            let mut history = History::default();
            let write = history.invoke(Op::Write(1));
            history.complete(write, 1);
            let reading = history.invoke(Op::Read);
            history.complete(reading, read);
            assert_eq!(verdict(&history), is_linearizable, "{read} was read");
        }
    }

    #[test]
    fn what_is_written_meanwhile_may_be_read_but_not_unread() {
        for (second, is_linearizable) in [(1, true), (0, false)] {
            let mut history = History::default();
            let write = history.invoke(Op::Write(1));
            for value in [1, second] {
                let reading = history.invoke(Op::Read);
                history.complete(reading, value);
            }
            history.complete(write, 1);
            assert_eq!(verdict(&history), is_linearizable, "then {second} was read");
        }
    }

    /// Five callers at once that read and write, and in the end a value that nobody wrote: every
    /// order has to be tried.
    #[test]
    fn the_longest_search_is_bounded() {
        const CALLERS: usize = 5;
        const STEPS: usize = 8;
        let mut history = History::default();
        for step in 0..STEPS {
            let callers = 0..u32::try_from(CALLERS).unwrap();
            let calls: Vec<_> = callers
                .map(|caller| (history.invoke(Op::Write(caller)), caller))
                .collect();
            for (call, caller) in calls {
                let last = step + 1 == STEPS && caller == 4;
                history.complete(call, if last { 9 } else { caller });
            }
        }
        let verdict = history.check(Register::default());
        assert!(!verdict.is_linearizable);
        // One value of the register for each of its writers.
        let sets = (STEPS + 1).pow(u32::try_from(CALLERS).unwrap());
        assert!(verdict.visited <= sets * CALLERS, "{}", verdict.visited);
    }
}
