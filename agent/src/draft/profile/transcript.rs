//! What a known program says, line by line: for the task's log, and for how its work ended.
//!
//! Its own word on how it ended goes before its exit code, which several of these programs get wrong.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::{Profile, events};
use crate::process::OnLine;

/// What one line of output means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meaning {
    /// For the log.
    pub(super) lines: Vec<String>,
    /// The work is over.
    pub(super) end: Option<Ending>,
}

/// How a program says that its work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::draft) enum Ending {
    /// It did what it could.
    Done,
    /// It failed, in its words.
    Failed(String),
}

/// What one run of a program says. Clones share it.
#[derive(Clone)]
pub(in crate::draft) struct Transcript(Arc<Shared>);

struct Shared {
    profile: Profile,
    ended: Mutex<Option<Ending>>,
    over: CancellationToken,
}

impl Transcript {
    pub(in crate::draft) fn new(profile: Profile) -> Self {
        Self(Arc::new(Shared {
            profile,
            ended: Mutex::new(None),
            over: CancellationToken::new(),
        }))
    }

    /// Takes the program's lines, and passes on what they mean.
    pub(in crate::draft) fn listen(&self, on_line: OnLine) -> OnLine {
        let transcript = self.clone();
        Arc::new(move |line| {
            let meaning = events::meaning(transcript.0.profile, line);
            for line in &meaning.lines {
                on_line(line);
            }
            if let Some(end) = meaning.end {
                *transcript.ended_mut() = Some(end);
                transcript.0.over.cancel();
            }
        })
    }

    /// How the program says that it ended; nothing while it has not said so.
    pub(in crate::draft) fn ended(&self) -> Option<Ending> {
        self.ended_mut().clone()
    }

    /// Returns when the program has said that it is done.
    pub(in crate::draft) async fn is_over(&self) {
        self.0.over.cancelled().await;
    }

    /// True for a program that always says how it ended.
    pub(in crate::draft) fn says_its_end(&self) -> bool {
        match self.0.profile {
            Profile::ClaudeCode | Profile::Codex | Profile::Gemini => true,
            Profile::Opencode | Profile::Aider => false,
        }
    }

    fn ended_mut(&self) -> MutexGuard<'_, Option<Ending>> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
