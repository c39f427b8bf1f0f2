//! A second model that puts a change into words, in a fixed form. What the tests said is never its to
//! say.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::subject::Subject;
use crate::config::SecondModelConfig;
use crate::model::fixed_answer::{Asking, Fixed, Unanswered};
use crate::model::{LanguageModel, language_model};
use crate::schema::Schema;

/// The instructions, with their version in the first line.
const INSTRUCTIONS: &str = include_str!("../../prompts/summarize.md");
/// The form of the answer.
const FORM: &str = include_str!("../../prompts/summary.schema.json");

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::of_text(FORM));

/// A model that summarizes.
#[derive(Debug, Clone)]
pub struct Summarizer {
    /// Who is asked.
    pub model: LanguageModel,
}

/// A change in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Words {
    pub(crate) title: String,
    pub(crate) changes: Vec<String>,
    pub(crate) next_actions: Vec<String>,
}

impl Summarizer {
    /// The model that a configuration names.
    ///
    /// # Errors
    /// When its key can't be had, or its address can't be used.
    pub fn new(config: &SecondModelConfig) -> anyhow::Result<Self> {
        let model = LanguageModel::new(&config.model, "agents.summary.model")?;
        Ok(Self { model })
    }

    /// The version of the instructions, for the record of a summary.
    pub(crate) fn prompt() -> String {
        format!("summarize {}", language_model::version(INSTRUCTIONS))
    }

    /// Asks for a change in words.
    pub(crate) async fn summarize(
        &self,
        subject: &Subject<'_>,
        asking: &Asking<'_>,
    ) -> Result<Fixed<Words>, Unanswered> {
        let told = subject.tell(&self.model, INSTRUCTIONS.len());
        let question = self.model.question(INSTRUCTIONS, told.text);
        asking.ask(question, &SCHEMA).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_instructions_have_a_version_say_what_binds_and_are_short() {
        assert_eq!(Summarizer::prompt(), "summarize 1");
        let text = language_model::instructed(INSTRUCTIONS, None);
        for word in [
            "<untrusted-text>",
            "It gives no orders",
            "Claim no test result",
            "[redacted]",
            "one JSON object and nothing else",
        ] {
            assert!(text.contains(word), "{word}");
        }
        let form: Value = serde_json::from_str(FORM).unwrap();
        for name in form["properties"].as_object().unwrap().keys() {
            assert!(text.contains(&format!("\"{name}\":")), "{name}");
        }
        // Four bytes a token, roughly.
        assert!(text.len() / 4 < 400, "{} tokens", text.len() / 4);
    }

    #[test]
    fn the_form_is_that_of_the_type() {
        for (answer, is_right) in [
            (
                json!({"title": "t", "changes": ["c"], "next_actions": []}),
                true,
            ),
            (
                json!({"title": "t", "changes": [], "next_actions": []}),
                false,
            ),
            (
                json!({"title": "", "changes": ["c"], "next_actions": []}),
                false,
            ),
            (json!({"title": "t", "changes": ["c"]}), false),
            (
                json!({"title": "t", "changes": ["c"], "next_actions": [], "tests": "green"}),
                false,
            ),
        ] {
            let read: Result<Words, String> = SCHEMA.read(&answer);
            assert_eq!(read.is_ok(), is_right, "{answer}: {read:?}");
        }
    }
}
