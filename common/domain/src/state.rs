//! The eleven states of a task and the one function that says which may follow which.

/// An enum of words. After `unknown` stands the value that a word of a newer version is read as,
/// where such words stand in rows and messages: what one version wrote must not make another one
/// that runs beside it fail.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $what:literal $(, unknown $unknown:ident)? {
        $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in SQL, JSON, YAML and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            $(
            /// Reads a word that any version may have written.
            pub fn read(word: &str) -> Self {
                word.parse().unwrap_or(Self::$unknown)
            }
            )?
        }

        impl std::str::FromStr for $name {
            type Err = $crate::id::InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::id::InvalidId {
                        what: $what,
                        text: text.to_owned(),
                        expected: concat!("one of:", $(" ", $word),+),
                    }),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                let read: Result<Self, $crate::id::InvalidId> = word.parse();
                $(let read = Ok::<_, $crate::id::InvalidId>(read.unwrap_or(Self::$unknown));)?
                read.map_err(serde::de::Error::custom)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a task stands.
    TaskState: "task state" {
        /// Taken in, nothing done yet.
        Pending = "pending",
        /// Being analyzed: which agent type, how urgent, what it depends on.
        Analyzing = "analyzing",
        /// Held back; the task's [`WaitReason`] says by what.
        Waiting = "waiting",
        /// Ready for an agent.
        Queued = "queued",
        /// Given to an agent that has not accepted yet.
        Assigned = "assigned",
        /// An agent works on it.
        InProgress = "in_progress",
        /// The agent runs the tests.
        Testing = "testing",
        /// The pull request is open and awaits people.
        Review = "review",
        /// Done. Final.
        Completed = "completed",
        /// Ended without the result; a person may still retry it.
        Failed = "failed",
        /// Called off by a person. Final.
        Cancelled = "cancelled",
    }
}

words! {
    /// Why a task is `waiting`.
    WaitReason: "wait reason", unknown Unknown {
        /// Another task has to complete first.
        Dependency = "dependency",
        /// A person has to approve the plan.
        Approval = "approval",
        /// A person has to answer a question.
        Clarification = "clarification",
        /// The budget is spent.
        Budget = "budget",
        /// A remote asked to be left alone for a while.
        RateLimit = "rate_limit",
        /// No agent takes it: the task's [`Returns`](crate::Returns) say which and why.
        Agent = "agent",
        /// A reason of a newer version.
        Unknown = "unknown",
    }
}

/// A change of state that the rules do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task can't go from {from} to {to}")]
pub struct TransitionError {
    /// The state it is in.
    pub from: TaskState,
    /// The state that was asked for.
    pub to: TaskState,
}

impl TaskState {
    /// Says whether `to` may follow `self`: the table of `docs/ARCHITECTURE.md`.
    ///
    /// That `in_progress → completed` is for kinds without pull request only, that
    /// `failed → queued` needs attempts left or a person, `failed → review` a pull request that was
    /// closed and is open again, and `failed → analyzing` a person who mended what the analysis goes by,
    /// is decided by the callers who know.
    ///
    /// # Errors
    /// [`TransitionError`] when the table has no such line.
    pub fn transition(self, to: Self) -> Result<Self, TransitionError> {
        if self.successors().contains(&to) {
            Ok(to)
        } else {
            Err(TransitionError { from: self, to })
        }
    }

    /// The states that may follow this one.
    pub const fn successors(self) -> &'static [Self] {
        use TaskState::{
            Analyzing, Assigned, Cancelled, Completed, Failed, InProgress, Pending, Queued, Review,
            Testing, Waiting,
        };
        match self {
            Pending => &[Analyzing, Cancelled],
            Analyzing => &[Queued, Waiting, Failed, Cancelled],
            Waiting => &[Queued, Failed, Cancelled],
            Queued => &[Assigned, Waiting, Cancelled],
            Assigned => &[InProgress, Queued, Cancelled],
            InProgress => &[Testing, Completed, Waiting, Failed, Queued, Cancelled],
            Testing => &[InProgress, Review, Failed, Queued, Cancelled],
            Review => &[Completed, Failed, Queued, Cancelled],
            Failed => &[Queued, Review, Analyzing],
            Completed | Cancelled => &[],
        }
    }

    /// True where nothing can follow.
    pub const fn is_final(self) -> bool {
        self.successors().is_empty()
    }

    /// True while an attempt of the task holds, or may hold, a lease.
    pub const fn has_live_attempt(self) -> bool {
        matches!(self, Self::Assigned | Self::InProgress | Self::Testing)
    }

    /// True while the task's attempt, or the next one, can take in what people add to the request. After a
    /// failure that is the attempt that a retry begins; in review the work is done.
    pub const fn takes_follow_ups(self) -> bool {
        match self {
            Self::Pending
            | Self::Analyzing
            | Self::Waiting
            | Self::Queued
            | Self::Assigned
            | Self::InProgress
            | Self::Testing
            | Self::Failed => true,
            Self::Review | Self::Completed | Self::Cancelled => false,
        }
    }

    /// True while the task counts as its issue's one active task.
    pub const fn is_active(self) -> bool {
        !matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state() -> impl Strategy<Value = TaskState> {
        proptest::sample::select(TaskState::ALL)
    }

    /// The documentation's table, so that a slip in either shows.
    const ARCHITECTURE: &str = include_str!("../../../docs/ARCHITECTURE.md");

    #[test]
    fn the_table_is_that_of_the_documentation() {
        let (_, section) = ARCHITECTURE
            .split_once("## The states of a task")
            .expect("the documentation has a section about states");
        let rows = section
            .lines()
            .skip_while(|line| !line.starts_with("| ---"));
        let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
        let mut states = Vec::new();
        for row in rows {
            let mut words = row.split('`').skip(1).step_by(2);
            let from: TaskState = words.next().unwrap().parse().unwrap();
            let to: Vec<TaskState> = words.map(|word| word.parse().unwrap()).collect();
            assert_eq!(from.successors(), to, "successors of {from}");
            states.push(from);
        }
        assert_eq!(states, TaskState::ALL);
    }

    /// A newer version that runs beside this one may have written it.
    #[test]
    fn a_word_of_a_newer_version_is_read_where_it_only_explains() {
        let waits: WaitReason = serde_json::from_str("\"moonlight\"").unwrap();
        assert_eq!(waits, WaitReason::Unknown);
        assert_eq!(WaitReason::read("moonlight"), WaitReason::Unknown);
        assert_eq!(WaitReason::read("budget"), WaitReason::Budget);
        let state = serde_json::from_str::<TaskState>("\"moonlit\"");
        assert!(state.is_err(), "a state decides what may follow");
    }

    proptest! {
        #[test]
        fn no_path_leaves_a_final_state(path in proptest::collection::vec(state(), 0..40)) {
            let mut now = TaskState::Pending;
            for to in path {
                let was_final = now.is_final();
                if let Ok(next) = now.transition(to) {
                    prop_assert!(!was_final, "left {now} for {next}");
                    now = next;
                }
            }
        }

        #[test]
        fn every_state_reaches_a_final_one(start in state()) {
            let mut reached = vec![start];
            let mut at = 0;
            while at < reached.len() {
                for next in reached[at].successors() {
                    if !reached.contains(next) {
                        reached.push(*next);
                    }
                }
                at += 1;
            }
            prop_assert!(reached.iter().any(|state| state.is_final()));
        }

        #[test]
        fn words_round_trip_as_json(state in state()) {
            let json = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(serde_json::from_str::<TaskState>(&json).unwrap(), state);
        }

        #[test]
        fn words_round_trip(state in state()) {
            prop_assert_eq!(state.as_str().parse::<TaskState>(), Ok(state));
        }
    }
}
