//! Keeping the conversation within the model's window: old output is masked where that is worth it, all
//! of it when the window is full, and old turns are summarized when that is not enough.
//!
//! Each is done once a step and has to make the conversation shorter by a tenth; then the work ends as
//! it is. A summary is a call like any other: allowed, counted and kept.

use patchfleet_model::{Answer as Said, ModelError, Stop};

use super::Turns;
use super::going::Going;
use crate::draft::DraftError;
use crate::tools::prompt;
use crate::tools::transcript::Masked;

impl Turns<'_> {
    /// Masks old output where that is worth it.
    pub(super) fn make_room(&mut self, going: &mut Going) {
        if let Some(masked) = going.transcript.mask() {
            self.tools.forget(&masked.calls);
            let (before, after) = masked.bytes;
            let count = masked.calls.len();
            (self.on_line)(&format!(
                "old output of {count} calls is masked: {before} bytes are {after} now"
            ));
        }
    }

    /// Makes the conversation shorter that can't fit by what is known. What an earlier attempt was
    /// answered fitted, and where it had its turns summarized, they are again.
    pub(super) async fn fit(
        &mut self,
        going: &mut Going,
    ) -> Result<Result<(), ModelError>, DraftError> {
        match self.again(going) {
            Some(asked) if asked.summarized.is_some() => self.compact(going, None).await,
            Some(_) => Ok(Ok(())),
            None if !going.transcript.is_full() => Ok(Ok(())),
            None if self.shrink(going) && !going.transcript.is_full() => Ok(Ok(())),
            None => self.compact(going, None).await,
        }
    }

    /// Makes a conversation shorter that was too long, for a window of so many tokens where its server
    /// says that.
    pub(super) async fn shorten(
        &mut self,
        going: &mut Going,
        limit: Option<u64>,
    ) -> Result<Result<(), ModelError>, DraftError> {
        if self.shrink(going) {
            return Ok(Ok(()));
        }
        self.compact(going, limit).await
    }

    /// Masks all that can go; false when that takes too little, or was done for this step before.
    fn shrink(&mut self, going: &mut Going) -> bool {
        if std::mem::replace(&mut going.has_shrunk, true) {
            return false;
        }
        let Some(masked) = going.transcript.shrink() else {
            return false;
        };
        self.shortened("the window is full", &masked);
        true
    }

    /// Has old turns summarized. The error says why that is no help.
    async fn compact(
        &mut self,
        going: &mut Going,
        limit: Option<u64>,
    ) -> Result<Result<(), ModelError>, DraftError> {
        let window = limit.map_or(self.bounds.window, |limit| limit.min(self.bounds.window));
        let too_long = ModelError::ContextTooLong {
            limit: Some(window),
        };
        let has_compacted = std::mem::replace(&mut going.has_compacted, true);
        let count = match self.again(going) {
            // The answer that comes next is none to this question.
            Some(asked) if asked.summarized.is_none() => return Ok(Ok(())),
            Some(asked) => asked.summarized,
            None if has_compacted => None,
            None => going.transcript.old_messages(window),
        };
        let Some(count) = count else {
            return Ok(Err(too_long));
        };
        let question = (count, window);
        let question = going.transcript.about_old(question, prompt::compact());
        let (usage, answer) = self.put(&question, (&*going, Some(count))).await;
        let said = match self.account(usage, answer, going)? {
            Ok(said) => said,
            Err(error) => return Ok(Err(error)),
        };
        let Some(summary) = summary_in(&said) else {
            (self.on_line)("the window is full, and the model did not sum up its work");
            return Ok(Err(match said.stop {
                Stop::Refused(why) => ModelError::Refused { why },
                _ => too_long,
            }));
        };
        let Some(compacted) = going.transcript.compact(count, prompt::compacted(&summary)) else {
            (self.on_line)("the window is full, and a summary does not make enough room");
            return Ok(Err(too_long));
        };
        going.compactions += 1;
        self.shortened("the window is full, old turns are summed up", &compacted);
        Ok(Ok(()))
    }

    fn shortened(&mut self, why: &str, shorter: &Masked) {
        self.tools.forget(&shorter.calls);
        let (before, after) = shorter.bytes;
        (self.on_line)(&format!("{why}: {before} bytes are {after} now"));
    }
}

/// The summary that an answer is. One that calls tools goes on with the work instead.
fn summary_in(said: &Said) -> Option<String> {
    let is_whole = matches!(said.stop, Stop::End | Stop::OutputCut);
    let text = said.text();
    let is_summary = is_whole && said.calls().is_empty() && !text.trim().is_empty();
    is_summary.then_some(text)
}
