//! What a model answers: events while it streams, and the whole at the end.

use serde::{Deserialize, Serialize};

use crate::conversation::{Opaque, Part, ToolCall, Turn, calls};
use crate::{ModelError, Usage};

/// One step of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More text of the answer.
    Text(String),
    /// A call, complete with its arguments.
    ToolCall(ToolCall),
    /// An opaque part, complete.
    Opaque(Opaque),
    /// What was used so far; it replaces what an earlier event said.
    Usage(Usage),
}

/// A stream that came to its protocol's own end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What the model said, in its order.
    pub parts: Vec<Part>,
    /// Why it stopped.
    pub stop: Stop,
    /// What it used.
    pub usage: Usage,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It said what it wanted to say.
    End,
    /// It waits for the results of its calls.
    ToolCalls,
    /// The answer reached the limit of the output. Its last call may be missing.
    OutputCut,
    /// The conversation and the answer fill the model's window.
    ContextFull,
    /// The model or the provider's filter refused to go on.
    Refused(String),
    /// The provider interrupted a long turn; the conversation may be sent again to go on.
    Paused,
}

impl Stop {
    /// The error that this stop is to a caller who needs the whole answer.
    pub fn error(&self) -> Option<ModelError> {
        match self {
            Self::End | Self::ToolCalls | Self::Paused => None,
            Self::OutputCut => Some(ModelError::OutputCut),
            Self::ContextFull => Some(ModelError::ContextTooLong { limit: None }),
            Self::Refused(why) => Some(ModelError::Refused { why: why.clone() }),
        }
    }
}

impl Answer {
    /// The text of the answer, without its other parts.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::ToolCall(_) | Part::Opaque(_) => None,
        });
        texts.collect()
    }

    /// The calls that may be executed: all of a turn that came to its end, none of one that was
    /// cut or refused, because what is missing from it can't be known.
    pub fn calls(&self) -> Vec<&ToolCall> {
        match self.stop {
            Stop::End | Stop::ToolCalls => calls(&self.parts).collect(),
            Stop::OutputCut | Stop::ContextFull | Stop::Refused(_) | Stop::Paused => Vec::new(),
        }
    }

    /// The answer as a turn of the conversation, whose results are still to come.
    pub fn into_turn(self) -> Turn {
        Turn {
            parts: self.parts,
            results: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arguments;

    #[test]
    fn the_calls_of_a_turn_that_was_cut_are_not_executed() {
        let call = ToolCall {
            id: "c1".into(),
            name: "edit_file".into(),
            arguments: Arguments::from_text("{}"),
        };
        let mut answer = Answer {
            parts: vec![Part::Text("now".into()), Part::ToolCall(call)],
            stop: Stop::ToolCalls,
            usage: Usage::default(),
        };
        assert_eq!(answer.calls().len(), 1);
        assert_eq!(answer.stop.error(), None);
        answer.stop = Stop::OutputCut;
        assert!(answer.calls().is_empty());
        assert_eq!(answer.stop.error(), Some(ModelError::OutputCut));
    }
}
