//! The loop: the model is asked, its calls are done in their order, and it is asked again with
//! their results, until it says that it is done or is stopped.
//!
//! However it ends, the files stay as they are: whoever stopped in the middle may have done enough,
//! and that is for the tests to say. A turn that was cut is never executed. Each turn is a line of
//! the log. Absent: retries, budgets and checkpoints, which belong to the [`Model`] that is asked.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchfleet_guard::{delimit_untrusted, redact, strip_hidden_markdown, visible_line};
use patchfleet_model::{
    Answer as Said, Broken, Model, ModelError, Part, Stop, Tool, ToolCall, ToolResult, Usage,
};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::guard::{Did, Guard, Judged};
use super::transcript::{Answered, Transcript};
use super::{Answer, Finish, Tools, cap, definitions, prompt};
use crate::draft::{DraftError, DraftRequest};
use crate::process::OnLine;

/// Most calls of one turn that are done.
const CALLS: usize = 64;
/// How many turns in a row may be of no use, such as those without a call.
const USELESS: u32 = 3;
/// Longest text of the model in a line of the log.
const LOGGED: usize = 300;

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

/// Comments of people that came while the model works, for before its next step.
#[derive(Debug, Clone, Default)]
pub struct FollowUps(Arc<Mutex<VecDeque<String>>>);

/// A model at work.
pub(crate) struct Turns<'a> {
    pub(crate) model: &'a dyn Model,
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

impl FollowUps {
    /// Adds a comment.
    pub fn add(&self, comment: String) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(comment);
    }

    fn take(&self) -> Vec<String> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain(..).collect()
    }
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
            self.hear(&mut going);
            self.make_room(&mut going);
            if let Err(error) = self.fit(&mut going) {
                break End::Broken(error);
            }
            going.step += 1;
            match self.ask(&mut going).await? {
                Ok(said) => {
                    if let Some(end) = self.take(said, &mut going).await? {
                        break end;
                    }
                }
                // The same again, shorter; it is the same step.
                Err(ModelError::ContextTooLong { .. }) if self.shrink(&mut going) => {
                    going.step -= 1;
                }
                Err(error) => break End::Broken(error),
            }
        };
        Ok(Worked {
            end,
            steps: going.step,
            usage: going.usage,
        })
    }

    /// Adds what people said meanwhile.
    fn hear(&self, going: &mut Going) {
        for comment in self.follow_ups.take() {
            let comment = strip_hidden_markdown(&comment).text;
            let data = delimit_untrusted(&redact(&comment));
            going
                .transcript
                .say(format!("A person adds to the request:\n\n{data}"));
            going.guard.restart();
            going.useless = 0;
        }
    }

    /// Masks old output where that is worth it.
    fn make_room(&mut self, going: &mut Going) {
        if let Some(masked) = going.transcript.mask() {
            self.tools.forget(&masked.calls);
            let (before, after) = masked.bytes;
            let count = masked.calls.len();
            (self.on_line)(&format!(
                "old output of {count} calls is masked: {before} bytes are {after} now"
            ));
        }
    }

    /// Refuses to send what can't fit by what is known.
    fn fit(&mut self, going: &mut Going) -> Result<(), ModelError> {
        let limit = Some(self.bounds.window);
        if going.transcript.is_full() && !self.shrink(going) {
            return Err(ModelError::ContextTooLong { limit });
        }
        Ok(())
    }

    /// Masks all that can go; false when that takes too little, or was done for this step before.
    fn shrink(&mut self, going: &mut Going) -> bool {
        if std::mem::replace(&mut going.has_shrunk, true) {
            return false;
        }
        let Some(masked) = going.transcript.shrink() else {
            return false;
        };
        self.tools.forget(&masked.calls);
        let (before, after) = masked.bytes;
        (self.on_line)(&format!(
            "the window is full: {before} bytes are {after} now"
        ));
        true
    }

    async fn ask(&self, going: &mut Going) -> Result<Result<Said, ModelError>, DraftError> {
        let asked = self
            .model
            .answer(going.transcript.conversation(), self.cancel);
        let (usage, answer) = match asked.await {
            Ok(said) => (said.usage, Ok(said)),
            Err(Broken {
                error,
                usage_so_far,
                ..
            }) => (usage_so_far, Err(error)),
        };
        going.usage += usage;
        if matches!(answer, Err(ModelError::Cancelled)) || self.cancel.is_cancelled() {
            return Err(DraftError::Interrupted);
        }
        if let Ok(said) = &answer {
            going.transcript.count(said.usage);
            going.has_shrunk = false;
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
                let limit = Some(self.bounds.window);
                let is_over = !self.shrink(going);
                return Ok(is_over.then_some(End::Broken(ModelError::ContextTooLong { limit })));
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

    async fn execute(
        &mut self,
        mut said: Said,
        going: &mut Going,
    ) -> Result<Option<End>, DraftError> {
        give_own_ids(&mut said.parts);
        let turn = said.into_turn();
        let calls: Vec<ToolCall> = turn.calls().cloned().collect();
        let mut room = cap::TURN;
        let (mut answered, mut is_news, mut finish) = (Vec::new(), false, None);
        for call in &calls {
            let answer = if finish.is_some() {
                refusal("not executed: the work was finished before it")
            } else if answered.len() >= CALLS {
                refusal(&format!(
                    "not executed: at most {CALLS} calls are done in a turn"
                ))
            } else {
                self.call(call, (going.step, room)).await?
            };
            room = room.saturating_sub(answer.text.len());
            is_news |= answer.is_news;
            finish = finish.or(answer.finish);
            let result = ToolResult {
                call_id: call.id.clone(),
                content: answer.text,
                is_error: answer.is_error,
            };
            answered.push(Answered {
                result,
                tool: call.name.clone(),
                call: answer.number,
            });
        }
        let judged = if finish.is_some() {
            Judged::GoOn
        } else {
            self.judge(&calls, &answered, is_news, going).await?
        };
        let left = self.bounds.steps - going.step;
        if let Some(last) = answered.last_mut() {
            let _ = writeln!(last.result.content, "[{left} steps are left]");
        }
        going.transcript.turn(turn, going.step, answered);
        Ok(match (finish, judged) {
            (Some(finish), _) => Some(End::Finished(finish)),
            (None, Judged::Stop(why)) => Some(End::Stopped(why)),
            (None, Judged::Tell(text)) => going.tell(text),
            (None, Judged::GoOn) => None,
        })
    }

    async fn call(
        &mut self,
        call: &ToolCall,
        (step, room): (u32, usize),
    ) -> Result<Answer, DraftError> {
        match call.arguments.object() {
            Ok(arguments) => {
                let arguments = Value::Object(arguments.clone());
                self.tools.call((&call.name, &arguments), step, room).await
            }
            Err(why) => Ok(refusal(&format!("the arguments are refused: {why}"))),
        }
    }

    async fn judge(
        &self,
        calls: &[ToolCall],
        answered: &[Answered],
        is_news: bool,
        going: &mut Going,
    ) -> Result<Judged, DraftError> {
        let tree = match self.tools.tree().await {
            Ok(tree) => Some(tree),
            // The model is told when it asks for something that needs the tree.
            Err(crate::git::GitError::Unfit { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let calls = calls.iter().zip(answered).map(|(call, answered)| {
            let result = answered.result.content.as_str();
            (call.name.as_str(), call.arguments.text(), result)
        });
        let did = Did {
            calls: calls.collect(),
            tree: tree.as_ref(),
            is_news,
        };
        let judged = going.guard.judge(&did);
        if let Judged::Tell(why) | Judged::Stop(why) = &judged {
            (self.on_line)(&format!("the model goes in circles: {why}"));
        }
        Ok(judged)
    }

    /// A line of the log for a turn.
    fn tell(&self, said: &Said, step: u32) {
        let Usage {
            input,
            cache_read,
            cache_write,
            output,
            ..
        } = said.usage;
        let calls: Vec<_> = said
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::ToolCall(call) => Some(summary(call)),
                Part::Text(_) | Part::Opaque(_) => None,
            })
            .collect();
        let done = if calls.is_empty() {
            "no call".to_owned()
        } else {
            calls.join("; ")
        };
        let text: String = said.text().chars().take(LOGGED).collect();
        let text = visible_line(text.trim()).into_owned();
        let steps = self.bounds.steps;
        (self.on_line)(&format!(
            "step {step} of {steps}: {done} [{input} tokens in, {cache_read} read from cache, \
             {cache_write} written to it, {output} out] {text}"
        ));
    }
}

/// Where the loop is.
struct Going {
    guard: Guard,
    transcript: Transcript,
    usage: Usage,
    started: Instant,
    step: u32,
    useless: u32,
    /// The conversation was made shorter for this step.
    has_shrunk: bool,
}

impl Going {
    /// Counts a turn of no use; true when there were too many in a row.
    const fn is_useless(&mut self) -> bool {
        self.useless += 1;
        self.useless >= USELESS
    }

    /// A turn of which nothing is done; its calls are told so.
    fn leave_undone(&mut self, said: Said) {
        let turn = said.into_turn();
        let results = turn.calls().map(|call| Answered {
            result: ToolResult {
                call_id: call.id.clone(),
                content: "not executed: the answer was cut".to_owned(),
                is_error: true,
            },
            tool: call.name.clone(),
            call: 0,
        });
        let results = results.collect();
        self.transcript.turn(turn, self.step, results);
    }

    /// Says something to the model, which is no end.
    fn tell(&mut self, text: String) -> Option<End> {
        self.transcript.say(text);
        None
    }
}

fn refusal(why: &str) -> Answer {
    Answer {
        is_error: true,
        ..Answer::new(format!("{why}\n"))
    }
}

/// A call as the log has it: the name, and what it is about.
fn summary(call: &ToolCall) -> String {
    let about = call.arguments.object().ok().and_then(|arguments| {
        let names = ["path", "pattern", "program", "selector"];
        names.iter().find_map(|name| arguments.get(*name)?.as_str())
    });
    let about: String = about.unwrap_or_default().chars().take(80).collect();
    let line = format!("{} {about}", call.name.chars().take(80).collect::<String>());
    visible_line(line.trim()).into_owned()
}

/// Ids that a provider gave twice are made different: each call has a result of its own.
fn give_own_ids(parts: &mut [Part]) {
    let mut seen = BTreeSet::new();
    for part in parts {
        if let Part::ToolCall(call) = part {
            let given = call.id.clone();
            let mut again = 2;
            while !seen.insert(call.id.clone()) {
                call.id = format!("{given}-{again}");
                again += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
