//! Questions that a model answers in a fixed form: JSON that is held to a schema.
//!
//! An answer that is none is asked for once more with what is wrong with it; then there is none, and
//! the caller goes on by itself. Calls are allowed by budgets and kept like those of a draft. Absent:
//! code in answers, which models write worse within JSON.

use patchfleet_domain::outcome::Failure;
use patchfleet_guard::redact;
use patchfleet_model::{Answer, Broken, Conversation, Message, ModelError, Stop, Usage};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Budgets;
use super::language_model::LanguageModel;
use crate::process::OnLine;
use crate::schema::Schema;

/// Answers to one question: the first, and the one to what is wrong with it.
const ANSWERS: u32 = 2;
/// Longest part of an answer that is told as the reason why it is none, in characters.
const SHOWN: usize = 200;

/// Who is asked, and by whose leave.
pub(crate) struct Asking<'a> {
    pub(crate) model: &'a LanguageModel,
    pub(crate) budgets: &'a Budgets,
    /// The stage of the work, by which answers are kept.
    pub(crate) stage: String,
    pub(crate) on_line: OnLine,
    pub(crate) cancel: &'a CancellationToken,
}

/// An answer in its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fixed<T> {
    pub(crate) value: T,
    /// How many answers it took.
    pub(crate) answers: u32,
    /// What all of them used.
    pub(crate) usage: Usage,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The model's answers are not in the form; why the last is not.
    Malformed(String),
    /// The model can't be asked, or does not want to answer.
    Failed(ModelError),
    /// A budget does not allow another call.
    OverBudget(Failure),
}

impl Asking<'_> {
    /// Asks until there is an answer in the form.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        mut question: Conversation,
        form: &Schema,
    ) -> Result<Fixed<T>, Unanswered> {
        let allowed = self.budgets.over(self.model, (&self.stage, &self.on_line));
        let (mut usage, mut answers) = (Usage::default(), 0);
        loop {
            let answered = allowed.model.answer(&question, self.cancel).await;
            let (used, answer) = match answered {
                Ok(answer) => (answer.usage, Ok(answer)),
                Err(Broken {
                    error,
                    usage_so_far,
                    ..
                }) => (usage_so_far, Err(error)),
            };
            usage += used;
            answers += 1;
            (self.on_line)(&format!(
                "{}: {} answered [{} tokens in, {} out]",
                self.stage,
                self.model.name(),
                used.prompt(),
                used.output
            ));
            let answer = answer.map_err(|error| match (error, allowed.stopped()) {
                (ModelError::Budget { .. }, Some(failure)) => Unanswered::OverBudget(failure),
                (error, _) => Unanswered::Failed(error),
            })?;
            let why = match read(&answer, form)? {
                Ok(value) => {
                    return Ok(Fixed {
                        value,
                        answers,
                        usage,
                    });
                }
                Err(why) => why,
            };
            (self.on_line)(&format!("{}: the answer is refused: {why}", self.stage));
            if answers == ANSWERS {
                return Err(Unanswered::Malformed(why));
            }
            question
                .messages
                .push(Message::Assistant(answer.into_turn()));
            question.messages.push(Message::User(format!(
                "Your answer is refused: {why}. Answer again, with the JSON object alone."
            )));
        }
    }
}

/// The answer as a type; the inner error says what is wrong with it.
fn read<T: DeserializeOwned>(
    answer: &Answer,
    form: &Schema,
) -> Result<Result<T, String>, Unanswered> {
    if answer.stop == Stop::OutputCut {
        return Ok(Err("it was cut at the output limit; write less".to_owned()));
    }
    if let Some(error) = answer.stop.error() {
        return Err(Unanswered::Failed(error));
    }
    let text = answer.text();
    Ok(object(&text)
        .and_then(|value| form.read(&value))
        .map_err(|why| redact(&why).into_owned()))
}

/// The JSON object of an answer, without what some models put around it.
fn object(text: &str) -> Result<Value, String> {
    let braces = text.find('{').zip(text.rfind('}'));
    let Some((start, end)) = braces.filter(|(start, end)| start < end) else {
        let shown: String = text.trim().chars().take(SHOWN).collect();
        return Err(format!("it is no JSON object but `{shown}`"));
    };
    serde_json::from_str(&text[start..=end])
        .map_err(|error| format!("it is no JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use patchfleet_model::Part;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::tools::script::{Script, said};

    #[derive(Debug, PartialEq, Deserialize)]
    struct Form {
        count: u32,
    }

    fn form() -> Schema {
        Schema::new(&json!({
            "type": "object",
            "properties": {"count": {"type": "integer", "minimum": 1}},
            "required": ["count"],
        }))
    }

    async fn asked(
        answers: Vec<Result<Answer, Broken>>,
    ) -> (Result<Fixed<Form>, Unanswered>, Arc<Script>) {
        let script = Arc::new(Script::new(answers));
        let model = script.language_model();
        let asking = Asking {
            model: &model,
            budgets: &Budgets::none(),
            stage: "count".to_owned(),
            on_line: Arc::new(|_| {}),
            cancel: &CancellationToken::new(),
        };
        let question = model.question("Version: 1\nCount.", "How many?".to_owned());
        let answer = asking.ask(question, &form()).await;
        (answer, script)
    }

    fn text(text: &str) -> Result<Answer, Broken> {
        said(vec![Part::Text(text.to_owned())], Stop::End)
    }

    #[tokio::test]
    async fn an_answer_in_its_form_is_taken_also_from_a_fence() {
        for answer in [
            r#"{"count": 3}"#,
            "Here:\n```json\n{\"count\": 3}\n```\nDone.",
        ] {
            let (answer, script) = asked(vec![text(answer)]).await;
            let answer = answer.unwrap();
            assert_eq!((answer.value, answer.answers), (Form { count: 3 }, 1));
            assert_eq!(script.asked()[0].system, "Count.");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_asked_for_once_more_with_the_reason() {
        for (first, why) in [
            (text("Three."), "it is no JSON object but `Three.`"),
            (text("{\"count\": "), "it is no JSON object"),
            (
                text("{\"count\": 0}"),
                "`count`: 0 is less than the minimum of 1",
            ),
            (text("{}"), "\"count\" is a required property"),
            (
                said(
                    vec![Part::Text("{\"count\": 3}".to_owned())],
                    Stop::OutputCut,
                ),
                "it was cut at the output limit",
            ),
        ] {
            let (answer, script) = asked(vec![first.clone(), text("{\"count\": 2}")]).await;
            let answer = answer.unwrap();
            assert_eq!((answer.value, answer.answers), (Form { count: 2 }, 2));
            assert_eq!(answer.usage.input, 200);
            let told = script.told().join("\n");
            assert!(told.contains(why), "{told}");

            let (answer, script) = asked(vec![first.clone(), first]).await;
            let Err(Unanswered::Malformed(found)) = answer else {
                panic!("{answer:?}");
            };
            assert!(found.contains(why), "{found}");
            assert_eq!(script.asked().len(), 2);
        }
    }

    #[tokio::test]
    async fn a_model_that_cant_answer_is_no_malformed_answer() {
        let refused = said(Vec::new(), Stop::Refused("no".to_owned()));
        let away = Err(Broken::new(ModelError::Overloaded { after: None }));
        for answer in [refused, away] {
            let (answer, script) = asked(vec![answer]).await;
            assert!(matches!(answer, Err(Unanswered::Failed(_))), "{answer:?}");
            assert_eq!(script.asked().len(), 1);
        }
    }
}
