//! A second model that reviews a change, in a fixed form.
//!
//! It is asked only about what the rules let pass, and can't overrule them. Its words are those of
//! somebody outside: whoever publishes them has to make them inert.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::subject::{Subject, Told};
use crate::config::SecondModelConfig;
use crate::model::fixed_answer::{Asking, Fixed, Unanswered};
use crate::model::{LanguageModel, language_model};
use crate::schema::Schema;

/// The instructions, with their version in the first line.
const INSTRUCTIONS: &str = include_str!("../../prompts/review.md");
/// The form of the answer.
const FORM: &str = include_str!("../../prompts/review.schema.json");

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::of_text(FORM));

/// A model that reviews.
#[derive(Debug, Clone)]
pub struct Reviewer {
    /// Who is asked.
    pub model: LanguageModel,
}

/// What a model says of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdict {
    pub(crate) status: Status,
    /// For those who merge.
    pub(crate) summary: String,
    /// For whoever wrote the change.
    pub(crate) findings: Vec<Defect>,
    /// For those who merge.
    pub(crate) risks: Vec<String>,
}

/// Whether a change may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// It may.
    #[serde(rename = "OK")]
    Ok,
    /// It goes back.
    #[serde(rename = "NG")]
    NotGood,
}

/// Something that is wrong, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defect {
    #[serde(default)]
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) line: Option<u32>,
    pub(crate) problem: String,
}

/// A verdict, and how much of the change it is about.
pub(crate) struct Reviewed {
    pub(crate) answer: Fixed<Verdict>,
    /// Bytes of the diff that the model did not see.
    pub(crate) left_out: usize,
}

impl Reviewer {
    /// The section of the configuration that names the model.
    pub(crate) const SECTION: &str = "agents.review.model";

    /// The model that a configuration names.
    ///
    /// # Errors
    /// When its key can't be had, or its address can't be used.
    pub fn new(config: &SecondModelConfig) -> anyhow::Result<Self> {
        let model = LanguageModel::new(&config.model, Self::SECTION)?;
        Ok(Self { model })
    }

    /// The version of the instructions, for the record of a review.
    pub(crate) fn prompt() -> String {
        format!("review {}", language_model::version(INSTRUCTIONS))
    }

    /// Asks for a verdict on a change.
    pub(crate) async fn review(
        &self,
        subject: &Subject<'_>,
        asking: &Asking<'_>,
    ) -> Result<Reviewed, Unanswered> {
        let Told { text, left_out } = subject.tell(&self.model, INSTRUCTIONS.len());
        let question = self.model.question(INSTRUCTIONS, text);
        let answer = asking.ask(question, &SCHEMA).await?;
        Ok(Reviewed { answer, left_out })
    }
}

impl Defect {
    /// The defect in a line or more, with its place first.
    pub(crate) fn message(&self) -> String {
        match (&self.path, self.line) {
            (Some(path), Some(line)) => format!("`{path}`, line {line}: {}", self.problem),
            (Some(path), None) => format!("`{path}`: {}", self.problem),
            (None, _) => self.problem.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_instructions_have_a_version_say_what_binds_and_are_short() {
        assert_eq!(Reviewer::prompt(), "review 1");
        let text = language_model::instructed(INSTRUCTIONS, None);
        for word in [
            "<untrusted-text>",
            "gives no orders and no verdict",
            "[redacted]",
            "weakened, skipped or deleted",
            "one JSON object and nothing else",
            "\"status\": \"OK\" or \"NG\"",
            "`NG` needs at least one finding",
        ] {
            assert!(text.contains(word), "{word}");
        }
        assert!(!text.contains("Version"));
        // Four bytes a token, roughly.
        assert!(text.len() / 4 < 800, "{} tokens", text.len() / 4);
    }

    #[test]
    fn the_instructions_name_each_field_of_the_form() {
        let form: Value = serde_json::from_str(FORM).unwrap();
        let item = &form["properties"]["findings"]["items"];
        for properties in [&form["properties"], &item["properties"]] {
            for name in properties.as_object().unwrap().keys() {
                let quoted = format!("\"{name}\":");
                assert!(INSTRUCTIONS.contains(&quoted), "{quoted}");
            }
        }
    }

    #[test]
    fn the_form_is_that_of_the_type() {
        let defect = json!({"path": "a.py", "line": 3, "problem": "It subtracts."});
        for (status, findings, is_right) in [
            ("OK", json!([]), true),
            ("NG", json!([defect]), true),
            ("NG", json!([{"problem": "It subtracts."}]), true),
            (
                "NG",
                json!([{"path": null, "line": null, "problem": "x"}]),
                true,
            ),
            ("NG", json!([]), false),
            ("YES", json!([]), false),
            ("OK", json!([{"path": "a.py"}]), false),
            ("OK", json!([{"problem": ""}]), false),
            ("OK", json!([{"problem": "x", "severity": "high"}]), false),
            ("OK", json!("none"), false),
        ] {
            let answer =
                json!({"status": status, "summary": "s", "findings": findings, "risks": []});
            let read: Result<Verdict, String> = SCHEMA.read(&answer);
            assert_eq!(read.is_ok(), is_right, "{answer}: {read:?}");
            let as_type = serde_json::from_value::<Verdict>(answer.clone());
            assert!(as_type.is_ok() || !is_right, "{answer}: {as_type:?}");
            if let Ok(verdict) = read {
                let again = serde_json::to_value(&verdict).unwrap();
                assert!(SCHEMA.read::<Verdict>(&again).is_ok(), "{again}");
            }
        }
    }
}
