//! A double of a model for tests: it answers by a script and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use patchfleet_model::{
    Answer as Said, Arguments, Broken, Conversation, Message, Model, ModelError, Origin, Part,
    Stop, ToolCall, ToolResult, Usage,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::model::LanguageModel;

/// A model that answers by a script, and remembers what it was asked.
pub(crate) struct Script {
    origin: Origin,
    answers: Mutex<VecDeque<Result<Said, Broken>>>,
    asked: Mutex<Vec<Conversation>>,
}

#[async_trait]
impl Model for Script {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    async fn answer(
        &self,
        conversation: &Conversation,
        cancel: &CancellationToken,
    ) -> Result<Said, Broken> {
        self.asked.lock().unwrap().push(conversation.clone());
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            Some(answer) => answer,
            // Who is asked more often than the script has answers for thinks for ever.
            None => {
                cancel.cancelled().await;
                Err(ModelError::Cancelled.into())
            }
        }
    }
}

impl Script {
    pub(crate) fn new(answers: impl IntoIterator<Item = Result<Said, Broken>>) -> Self {
        Self {
            origin: Origin {
                provider: "script".to_owned(),
                model: "script-1".to_owned(),
            },
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
        }
    }

    /// The script as an agent's model.
    pub(crate) fn language_model(self: &Arc<Self>) -> LanguageModel {
        LanguageModel {
            model: Arc::clone(self) as Arc<dyn Model>,
            remote: None,
            entry: None,
            role: None,
            max_output: 16_000,
            window: 128_000,
            temperature: None,
        }
    }

    pub(crate) fn asked(&self) -> Vec<Conversation> {
        self.asked.lock().unwrap().clone()
    }

    /// The results of the newest turn that was sent.
    pub(crate) fn last_results(&self) -> Vec<ToolResult> {
        let asked = self.asked();
        let turns = asked.last().unwrap().messages.iter().rev();
        let mut turns = turns.filter_map(|message| match message {
            Message::Assistant(turn) => Some(turn.results.clone()),
            Message::User(_) => None,
        });
        turns.next().unwrap()
    }

    /// All that the user said, but for the first message.
    pub(crate) fn told(&self) -> Vec<String> {
        let asked = self.asked();
        let said = asked.last().unwrap().messages.iter().skip(1);
        let said = said.filter_map(|message| match message {
            Message::User(text) => Some(text.clone()),
            Message::Assistant(_) => None,
        });
        said.collect()
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "scripts are made of answers and of breaks"
)]
pub(crate) fn said(parts: Vec<Part>, stop: Stop) -> Result<Said, Broken> {
    let usage = Usage {
        input: 100,
        output: 10,
        ..Usage::default()
    };
    Ok(Said { parts, stop, usage })
}

pub(crate) fn call_of(id: &str, name: &str, arguments: Value) -> Part {
    Part::ToolCall(ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: Arguments::from_text(arguments.to_string()),
    })
}

pub(crate) fn calls<const N: usize>(calls: [(&str, Value); N]) -> Result<Said, Broken> {
    let parts = calls.into_iter().enumerate();
    let parts =
        parts.map(|(number, (name, arguments))| call_of(&number.to_string(), name, arguments));
    said(parts.collect(), Stop::ToolCalls)
}

pub(crate) fn finish() -> (&'static str, Value) {
    ("finish", json!({"summary": "It adds now."}))
}

pub(crate) fn edit() -> (&'static str, Value) {
    let change = json!({"path": "calc.py", "old": "a - b", "new": "a + b"});
    ("edit_file", change)
}
