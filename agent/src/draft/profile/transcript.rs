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
    /// A part of a text, which goes on with the next one or is over.
    pub(super) piece: String,
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

/// Longest text that comes in pieces, in bytes, before it goes to the log without its end.
const LONGEST_OPEN: usize = 4096;

struct Shared {
    profile: Profile,
    /// What was said of a text that may go on.
    open: Mutex<String>,
    ended: Mutex<Option<Ending>>,
    over: CancellationToken,
}

impl Transcript {
    pub(in crate::draft) fn new(profile: Profile) -> Self {
        Self(Arc::new(Shared {
            profile,
            open: Mutex::default(),
            ended: Mutex::new(None),
            over: CancellationToken::new(),
        }))
    }

    /// Takes the program's lines, and passes on what they mean.
    pub(in crate::draft) fn listen(&self, on_line: OnLine) -> OnLine {
        let transcript = self.clone();
        Arc::new(move |line| {
            let meaning = events::meaning(transcript.0.profile, line);
            let joined = transcript.joined(&meaning.piece);
            for line in joined.iter().chain(&meaning.lines) {
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

    /// The whole lines of a text that came in pieces, after one more; all of it when the next event is
    /// no piece of it.
    fn joined(&self, piece: &str) -> Vec<String> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_str(piece);
        let end = if piece.is_empty() || open.len() > LONGEST_OPEN {
            open.len()
        } else {
            open.rfind('\n').map_or(0, |last| last + 1)
        };
        let said: String = open.drain(..end).collect();
        events::lines(&said)
    }

    fn ended_mut(&self) -> MutexGuard<'_, Option<Ending>> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
