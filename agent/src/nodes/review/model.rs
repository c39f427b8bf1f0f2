//! The review by a second model: what it is shown, and what becomes of its verdict.
//!
//! A verdict that can't be had for the model's own reasons leaves the rules alone to decide, and the
//! pull request says so. What an operator, a budget or time has to mend ends the attempt instead: what
//! was drafted is a checkpoint, and the next attempt begins with the review.

use patchfleet_domain::FailureKind;
use patchfleet_flow::{Context, NodeCall, NodeError};
use patchfleet_guard::{InjectionMark, injection_marks};
use patchfleet_model::{ModelError, Usage};
use serde::{Deserialize, Serialize};

use super::super::context::{failed, optional, permanent, required};
use super::super::finding::{Finding, Source};
use super::super::patch::binary::without_contents;
use super::super::summary::{self, code, prose};
use super::super::test::TestResults;
use super::super::{NodeDeps, TaskFacts};
use crate::model::fixed_answer::{Asking, Unanswered};
use crate::model::remedy::{explained, of_model};
use crate::second_models::{Reviewed, Reviewer, Status, Subject, Verdict};

/// A change that the rules let pass.
pub(super) struct Change<'a> {
    task: &'a TaskFacts,
    diff: String,
    tests: Vec<String>,
    earlier: Vec<Finding>,
    marks: Vec<(&'static str, InjectionMark)>,
}

/// `ctx.review.model`: what a second model said, or why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModelReview {
    /// The provider and the model.
    pub(crate) model: String,
    /// The version of the instructions.
    pub(crate) prompt: String,
    /// What it said; `null` when the rules alone decide.
    pub(crate) verdict: Option<Verdict>,
    /// Why there is no verdict.
    pub(crate) unusable: Option<String>,
    /// Bytes of the change that it did not see.
    pub(crate) left_out: usize,
    /// How many answers it gave.
    pub(crate) answers: u32,
    /// What it used.
    pub(crate) usage: Usage,
}

impl<'a> Change<'a> {
    pub(super) fn of(task: &'a TaskFacts, ctx: &Context) -> Result<Self, NodeError> {
        let diff: String = required(ctx, "diff.accepted")?;
        let diff = without_contents(&diff).into_owned();
        let before: Option<TestResults> = optional(ctx, "tests.before")?;
        let after: Option<TestResults> = optional(ctx, "tests.results")?;
        // Of the round before, whose findings are gone from `ctx.findings` once the patch applies.
        let earlier: Option<Vec<Finding>> = optional(ctx, "review.findings")?;
        let added: String = diff
            .lines()
            .filter_map(|line| Some(line.strip_prefix('+')?.to_owned() + "\n"))
            .collect();
        let request = format!("{}\n{}", task.title, task.body);
        let places = [("request", request.as_str()), ("change", added.as_str())];
        let marks = places.into_iter().flat_map(|(place, text)| {
            let marks = injection_marks(text).into_iter();
            marks.map(move |mark| (place, mark))
        });
        Ok(Self {
            task,
            tests: summary::endings(before.as_ref(), after.as_ref()),
            earlier: earlier.unwrap_or_default(),
            marks: marks.collect(),
            diff,
        })
    }

    /// Risks for those who merge, of the passages that speak to a model.
    pub(super) fn marked(&self) -> impl Iterator<Item = String> {
        self.marks.iter().map(|(place, mark)| {
            let passage = code(&mark.passage);
            format!("The {place} {}: `{passage}`", mark.what)
        })
    }

    pub(super) async fn review(
        &self,
        deps: &NodeDeps,
        reviewer: &Reviewer,
        call: &NodeCall<'_>,
        risks: &[String],
    ) -> Result<ModelReview, NodeError> {
        let subject = Subject {
            repository: &self.task.repository,
            title: &self.task.title,
            body: &self.task.body,
            follow_ups: deps.follow_ups.all(),
            tests: self.tests.clone(),
            risks,
            marks: &self.marks,
            earlier: self.earlier.iter().map(|it| it.message.clone()).collect(),
            diff: &self.diff,
        };
        let asking = Asking {
            model: &reviewer.model,
            budgets: &deps.budgets,
            stage: format!("review/{}", call.visit),
            on_line: deps.log.for_output(),
            cancel: &call.cancel,
        };
        let mut review = ModelReview {
            model: reviewer.model.name(),
            prompt: Reviewer::prompt(),
            verdict: None,
            unusable: None,
            left_out: 0,
            answers: 0,
            usage: Usage::default(),
        };
        match reviewer.review(&subject, &asking).await {
            Ok(Reviewed { answer, left_out }) => {
                review.left_out = left_out;
                review.answers = answer.answers;
                review.usage = answer.usage;
                review.verdict = Some(answer.value);
            }
            Err(unanswered) => {
                let why = unusable(unanswered, &review.model)?;
                deps.log.line(&format!("the rules alone review: {why}"));
                review.unusable = Some(why);
            }
        }
        Ok(review)
    }
}

/// Why there is no verdict, when the rules may decide alone.
fn unusable(unanswered: Unanswered, model: &str) -> Result<String, NodeError> {
    match unanswered {
        Unanswered::Malformed(why) => Ok(format!("it did not answer in its form: {why}")),
        Unanswered::OverBudget(failure) => Err(failed(failure)),
        Unanswered::Failed(
            error @ (ModelError::Refused { .. }
            | ModelError::ContextTooLong { .. }
            | ModelError::OutputCut
            | ModelError::Rejected { .. }
            | ModelError::Malformed { .. }
            | ModelError::History { .. }),
        ) => Ok(error.to_string()),
        Unanswered::Failed(error) => Err(permanent(
            of_model(&error),
            format!(
                "the review by {}",
                explained(model, &error, Reviewer::SECTION)
            ),
        )),
    }
}

impl ModelReview {
    /// What those who merge should know.
    pub(super) fn risks(&self) -> Vec<String> {
        let of_model = self.verdict.iter().flat_map(|verdict| {
            // What is wrong with a change that may be published is for those who merge.
            let found = match verdict.status {
                Status::Ok => verdict.findings.as_slice(),
                Status::NotGood => &[],
            };
            let found = found.iter().map(|defect| prose(&defect.message()));
            verdict.risks.iter().map(|risk| prose(risk)).chain(found)
        });
        let unseen = (self.left_out > 0).then(|| {
            format!(
                "`{}` did not see all of the change: {} bytes had no room in its window",
                code(&self.model),
                self.left_out
            )
        });
        let without = self.unusable.as_ref().map(|why| {
            format!(
                "Only rules reviewed the change, because the review by `{}` can't be used: {}",
                code(&self.model),
                prose(why)
            )
        });
        of_model.chain(unseen).chain(without).collect()
    }

    /// What whoever drafts has to mend.
    pub(super) fn refusals(&self) -> Vec<Finding> {
        let refused = self.verdict.iter();
        let refused = refused.filter(|verdict| verdict.status == Status::NotGood);
        let defects = refused.flat_map(|verdict| &verdict.findings);
        let finding = |message| Finding {
            source: Source::Review,
            code: FailureKind::ReviewRefused,
            message,
        };
        defects.map(|defect| finding(defect.message())).collect()
    }

    /// The verdict as a line for those who merge; its words are made inert.
    pub(crate) fn words(&self) -> Option<String> {
        let verdict = self.verdict.as_ref()?;
        let status = match verdict.status {
            Status::Ok => "OK",
            Status::NotGood => "NG",
        };
        let (model, prompt) = (code(&self.model), &self.prompt);
        let summary = prose(&verdict.summary);
        Some(format!("`{model}` ({prompt}) says {status}: {summary}"))
    }
}

#[cfg(test)]
mod tests;
