//! Doing what a turn asks for, in its order, and saying what came of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use patchfleet_guard::visible_line;
use patchfleet_model::{Answer as Said, Part, ToolCall, ToolResult, Usage};
use serde_json::Value;

use super::going::Going;
use super::{End, Turns};
use crate::draft::DraftError;
use crate::git::GitError;
use crate::tools::guard::{Did, Judged};
use crate::tools::transcript::Answered;
use crate::tools::{Answer, cap};

/// Most calls of one turn that are done.
const CALLS: usize = 64;
/// Longest text of the model in a line of the log.
const LOGGED: usize = 300;

impl Turns<'_> {
    pub(super) async fn execute(
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
        let left = self.bounds.steps - going.step;
        // What people added while the model came to its end is a part of the work, too.
        let finish = finish.filter(|_| left == 0 || !self.has_more_work(going));
        let judged = if finish.is_some() {
            Judged::GoOn
        } else {
            self.judge(&calls, &answered, is_news, going).await?
        };
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
            Err(GitError::Unfit { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        going.tree = match &tree {
            Some(tree) => Some(self.tools.tree_without_leftovers(tree).await?),
            None => None,
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
    pub(super) fn tell(&self, said: &Said, step: u32) {
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
