//! The loop: the model is asked, its calls are done in their order, and it is asked again with
//! their results, until it says that it is done or is stopped.
//!
//! However it ends, the files stay as they are: whoever stopped in the middle may have done enough,
//! and that is for the tests to say. A turn that was cut is never executed. Each turn is a line of
//! the log. Absent: retries, budgets and checkpoints, which belong to the [`Model`] that is asked.

mod calls;
mod going;
mod room;

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_model::{
    Answer as Said, Broken, Conversation, Model, ModelError, Stop, Tool, Usage,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::guard::Guard;
use super::transcript::Transcript;
use super::{Finish, Tools, definitions, prompt};
use crate::draft::{DraftError, DraftRequest};
use crate::follow_ups::{self, FollowUps};
use crate::model::record::{Asked, Record};
use crate::process::OnLine;
use going::Going;

/// How far a model may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Most answers.
    pub(crate) steps: u32,
    /// How long all of it may take; an answer or a program that was begun is waited for.
    pub(crate) time: Duration,
    /// Most tokens of an answer.
    pub(crate) max_output: u32,
    /// The model's window in tokens.
    pub(crate) window: u64,
}

/// A model at work.
pub(crate) struct Turns<'a> {
    pub(crate) model: &'a dyn Model,
    /// Where its turns stand among those of earlier attempts.
    pub(crate) record: &'a Record,
    pub(crate) bounds: Bounds,
    /// What the operator adds to the instructions.
    pub(crate) role: Option<&'a str>,
    pub(crate) temperature: Option<f64>,
    pub(crate) tools: Tools<'a>,
    pub(crate) follow_ups: FollowUps,
    pub(crate) on_line: OnLine,
    pub(crate) cancel: &'a CancellationToken,
}

/// How the work ended. The files are as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Worked {
    pub(crate) end: End,
    pub(crate) steps: u32,
    /// Over all calls, also those without an answer.
    pub(crate) usage: Usage,
    /// How often a summary took the place of old turns.
    pub(crate) compactions: u32,
    /// The comments of people that entered the conversation.
    pub(crate) heard: BTreeSet<u64>,
}

/// Why the work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The model says so.
    Finished(Finish),
    /// It was stopped; why.
    Stopped(String),
    /// The model can't be asked any more.
    Broken(ModelError),
}

impl Turns<'_> {
    /// Works on a request until the end.
    ///
    /// # Errors
    /// What has no result at all: it was called off, or the host fails.
    pub(crate) async fn work(&mut self, request: &DraftRequest) -> Result<Worked, DraftError> {
        let first = prompt::first(request, &mut self.tools).await?;
        let tools = definitions().map(|it| Tool {
            name: it.name.to_owned(),
            description: it.description.to_owned(),
            parameters: it.parameters.clone(),
        });
        let Bounds {
            window, max_output, ..
        } = self.bounds;
        let limits = (window, max_output, request.task.to_string());
        let system = prompt::system(self.role);
        let mut transcript = Transcript::new((system, tools.collect()), first, limits);
        transcript.set_temperature(self.temperature);
        let going = Going {
            guard: Guard::new(self.tools.start()),
            transcript,
            usage: Usage::default(),
            started: Instant::now(),
            step: 0,
            useless: 0,
            has_shrunk: false,
            has_compacted: false,
            compactions: 0,
            tree: Some(self.tools.start().clone()),
            heard: BTreeSet::new(),
            entered: Vec::new(),
        };
        self.go_on(going).await
    }

    async fn go_on(&mut self, mut going: Going) -> Result<Worked, DraftError> {
        let end = loop {
            if going.step == self.bounds.steps {
                break End::Stopped(format!("it took all of its {} steps", going.step));
            }
            if going.started.elapsed() >= self.bounds.time {
                let seconds = self.bounds.time.as_secs();
                break End::Stopped(format!("its {seconds} s are over"));
            }
            self.add_follow_ups(&mut going);
            self.make_room(&mut going);
            if let Err(error) = self.fit(&mut going).await? {
                break End::Broken(error);
            }
            going.step += 1;
            match self.ask(&mut going).await? {
                Ok(said) => {
                    if let Some(end) = self.take(said, &mut going).await? {
                        break end;
                    }
                }
                Err(ModelError::ContextTooLong { limit }) => {
                    if let Err(error) = self.shorten(&mut going, limit).await? {
                        break End::Broken(error);
                    }
                    // The same again, shorter; it is the same step.
                    going.step -= 1;
                }
                Err(error) => break End::Broken(error),
            }
        };
        Ok(Worked {
            end,
            steps: going.step,
            usage: going.usage,
            compactions: going.compactions,
            heard: going.heard,
        })
    }

    /// What the next turn was asked with in an earlier attempt that has paid for it. On other files its
    /// answer would make no sense: then its turns are left, and the model is asked.
    fn again(&self, going: &Going) -> Option<Asked> {
        let asked = self.record.next(going.transcript.conversation())?;
        let (then, now) = (asked.tree.as_ref(), going.tree.as_ref());
        if let Some((then, now)) = then.zip(now.map(ToString::to_string))
            && *then != now
        {
            let turn = self.record.leave();
            (self.on_line)(&format!(
                "the files are not what they were before answer {turn} of an earlier attempt (tree \
                 {now}, then {then}): it and what came after it is asked anew"
            ));
            return None;
        }
        Some(asked)
    }

    /// Adds what people said meanwhile. What entered before a turn of an earlier attempt enters before it
    /// again, and nothing else does until those turns are gone through.
    fn add_follow_ups(&self, going: &mut Going) {
        let new = match self.again(going) {
            Some(asked) => asked.follow_ups,
            None => self.follow_ups.except(&going.heard),
        };
        for follow_up in new {
            going
                .transcript
                .add_comment(follow_ups::prompt_text(&follow_up));
            going.guard.restart();
            going.useless = 0;
            going.heard.insert(follow_up.comment);
            going.entered.push(follow_up);
        }
    }

    /// True when the work goes on although the model finished it: an earlier attempt was answered further
    /// turns, or a comment came that the conversation does not hold yet.
    fn has_more_work(&self, going: &Going) -> bool {
        let again = self.record.next(going.transcript.conversation());
        again.is_some() || !self.follow_ups.except(&going.heard).is_empty()
    }

    async fn ask(&self, going: &mut Going) -> Result<Result<Said, ModelError>, DraftError> {
        let conversation = going.transcript.conversation();
        let (usage, answer) = self.put(conversation, (&*going, None)).await;
        let answer = self.account(usage, answer, going)?;
        if let Ok(said) = &answer {
            going.transcript.count(said.usage);
            going.has_shrunk = false;
            going.has_compacted = false;
        }
        Ok(answer)
    }

    /// Puts a question to the model: a step of the work, or one for a summary of so many messages.
    async fn put(
        &self,
        question: &Conversation,
        (going, summarized): (&Going, Option<usize>),
    ) -> (Usage, Result<Said, ModelError>) {
        self.record.enter(Asked {
            follow_ups: going.entered.clone(),
            tree: going.tree.as_ref().map(ToString::to_string),
            summarized,
        });
        match self.model.answer(question, self.cancel).await {
            Ok(said) => (said.usage, Ok(said)),
            Err(Broken {
                error,
                usage_so_far,
                ..
            }) => (usage_so_far, Err(error)),
        }
    }

    /// Takes note of what a call used, and that its answer is on record.
    fn account(
        &self,
        usage: Usage,
        answer: Result<Said, ModelError>,
        going: &mut Going,
    ) -> Result<Result<Said, ModelError>, DraftError> {
        going.usage += usage;
        if matches!(answer, Err(ModelError::Cancelled)) || self.cancel.is_cancelled() {
            return Err(DraftError::Interrupted);
        }
        if answer.is_ok() {
            going.entered.clear();
        }
        Ok(answer)
    }

    /// Does what the model asks for; the end, when that is it.
    async fn take(&mut self, said: Said, going: &mut Going) -> Result<Option<End>, DraftError> {
        self.tell(&said, going.step);
        match said.stop.clone() {
            Stop::Refused(why) => return Ok(Some(End::Broken(ModelError::Refused { why }))),
            Stop::ContextFull => {
                going.leave_undone(said);
                let shortened = self.shorten(going, None).await?;
                return Ok(shortened.err().map(End::Broken));
            }
            Stop::OutputCut => {
                going.leave_undone(said);
                let limit = self.bounds.max_output;
                let why = format!(
                    "Your answer was cut at {limit} tokens, and nothing of it was executed. Do less \
                     at once: one call, smaller edits, less text."
                );
                let end = End::Broken(ModelError::OutputCut);
                return Ok(going
                    .is_useless()
                    .then_some(end)
                    .or_else(|| going.tell(why)));
            }
            Stop::Paused => {
                going.leave_undone(said);
                let end = End::Stopped("the model paused again and again".to_owned());
                let go_on = "Go on.".to_owned();
                return Ok(going
                    .is_useless()
                    .then_some(end)
                    .or_else(|| going.tell(go_on)));
            }
            Stop::End | Stop::ToolCalls => {}
        }
        if said.calls().is_empty() {
            going.leave_undone(said);
            let why =
                "You called no tool. Go on by calling one; call `finish` when the work is done.";
            let end = End::Stopped("the model only talked and called no tool".to_owned());
            return Ok(going
                .is_useless()
                .then_some(end)
                .or_else(|| going.tell(why.to_owned())));
        }
        going.useless = 0;
        self.execute(said, going).await
    }
}

#[cfg(test)]
mod tests;
