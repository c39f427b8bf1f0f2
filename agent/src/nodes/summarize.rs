//! `summarize`: the report on what was done, in the words of a second model where there is one. What is
//! missing is left out, and when nothing is there a plain line takes its place; the task does not fail
//! over its summary.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_flow::{Context, Node, NodeCall, NodeError};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::NodeDeps;
use super::context::optional;
use super::patch::PatchedFile;
use super::patch::binary::without_contents;
use super::review::ModelReview;
use super::summary::{self, Facts, Summary};
use super::test::TestResults;
use crate::model::fixed_answer::{Asking, Fixed, Unanswered};
use crate::sandbox::Isolation;
use crate::second_models::{Subject, Summarizer, Words};
use crate::setup::SetupReport;

/// The report when there is nothing to tell.
const FALLBACK: &str = "There is nothing to summarize: no change is known.";
/// How long a model may take for its words; the change is published by then.
const TIME: Duration = Duration::from_mins(2);

/// The node.
pub(super) struct Summarize(pub(super) Arc<NodeDeps>);

#[async_trait]
impl Node for Summarize {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let ctx = call.ctx;
        let files: Vec<PatchedFile> = present(ctx, "workspace.files").unwrap_or_default();
        let command: Vec<String> = present(ctx, "tests.command").unwrap_or_default();
        let risks: Vec<String> = present(ctx, "review.risks").unwrap_or_default();
        let setup: Option<SetupReport> = present(ctx, "setup");
        let drafted: Option<Isolation> = present(ctx, "draft.isolation");
        let review: Option<ModelReview> = present(ctx, "review.model");
        let (before, after): (Option<TestResults>, Option<TestResults>) =
            (present(ctx, "tests.before"), present(ctx, "tests.results"));
        let mut summary = Summary::of(&Facts {
            task: &self.0.task,
            files: &files,
            command: &command,
            before: before.as_ref(),
            after: after.as_ref(),
            risks: &risks,
            setup: setup.as_ref(),
            drafted: drafted.as_ref(),
            spent: self.0.budgets.spent(),
            review: review.as_ref(),
        });
        if files.is_empty() {
            return Ok(json!({ "summary": { "report": FALLBACK, "json": summary } }));
        }
        let tests = summary::endings(before.as_ref(), after.as_ref());
        let model = self.in_words(&call, (tests, &risks), &mut summary).await;
        summary.models = self.0.budgets.spent().words();
        let report = summary.to_markdown();
        Ok(json!({ "summary": { "report": report, "json": summary, "model": model } }))
    }
}

impl Summarize {
    /// Has a second model put the change into words, where there is one; the record of that.
    async fn in_words(
        &self,
        call: &NodeCall<'_>,
        (tests, risks): (Vec<String>, &[String]),
        summary: &mut Summary,
    ) -> Option<Value> {
        let deps = &self.0;
        let summarizer = deps.summarizer.as_ref()?;
        let model = summarizer.model.name();
        let record = |words: Value| json!({ "model": model, "prompt": Summarizer::prompt(), "result": words });
        let diff: String = present(call.ctx, "diff.accepted")?;
        let subject = Subject {
            repository: &deps.task.repository,
            title: &deps.task.title,
            body: &deps.task.body,
            follow_ups: deps.follow_ups.all(),
            tests,
            risks,
            marks: &[],
            earlier: Vec::new(),
            diff: &without_contents(&diff),
        };
        match self.ask(summarizer, &subject, call).await {
            Ok(answer) => {
                summary.put_into_words(&answer.value);
                Some(record(
                    json!({ "answers": answer.answers, "usage": answer.usage }),
                ))
            }
            Err(unanswered) => {
                let why = match unanswered {
                    Unanswered::Malformed(why) => why,
                    Unanswered::Failed(error) => error.to_string(),
                    Unanswered::OverBudget(failure) => failure.message,
                };
                deps.log
                    .line(&format!("the summary is that of the rules: {model}: {why}"));
                Some(record(json!({ "unusable": why })))
            }
        }
    }

    /// Asks, and calls the question off when it takes too long, so that it is accounted for.
    async fn ask(
        &self,
        summarizer: &Summarizer,
        subject: &Subject<'_>,
        call: &NodeCall<'_>,
    ) -> Result<Fixed<Words>, Unanswered> {
        let cancel = call.cancel.child_token();
        let asking = Asking {
            model: &summarizer.model,
            budgets: &self.0.budgets,
            stage: "summary".to_owned(),
            on_line: self.0.log.for_output(),
            cancel: &cancel,
        };
        let mut asked = std::pin::pin!(summarizer.summarize(subject, &asking));
        tokio::select! {
            answered = &mut asked => answered,
            () = tokio::time::sleep(TIME) => {
                cancel.cancel();
                asked.await
            }
        }
    }
}

/// What stands there, if it is what it should be.
fn present<T: DeserializeOwned>(ctx: &Context, path: &str) -> Option<T> {
    optional(ctx, path).ok().flatten()
}

#[cfg(test)]
mod tests;
