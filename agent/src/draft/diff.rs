//! The mode `diff`: a model is shown the request and the files that it is about, and writes its change
//! in one answer, as blocks of plain text.
//!
//! Blocks are applied to the work tree by the rules of the tools, and the change is taken from there.
//! What did not apply is asked for once more, with the reasons; what does not apply then either is a
//! refused draft, which the next round is told of. An answer that was cut, or of which a block has no
//! end, is not applied at all. Absent: deleting and renaming, and any block that applies nearly.

mod prompt;

use patchfleet_model::{
    Answer, Broken, Conversation, EditFormat, Message, ModelError, Stop, Usage,
};

use super::blocks::{self, Block};
use super::tools::ModelWork;
use super::work_tree::{self, Now};
use super::{DraftError, DraftRequest, DraftSurroundings, Drafted, MODEL_SECTION};
use crate::config::DiffDraftConfig;
use crate::git::{InstalledFiles, ObjectId};
use crate::model::Allowed;
use crate::model::LanguageModel;
use crate::sandbox::Sandbox;
use crate::tools::{Scope, Tools};

/// Answers of one round: the first, and the one to what did not apply of it.
const ANSWERS: u32 = 2;
/// Longest account of a change that is kept, in characters.
const SAID: usize = 2000;
/// Most refused blocks whose reasons are told.
const REASONS: usize = 20;

/// A model that writes its change in one answer.
#[derive(Debug, Clone)]
pub struct DiffDraft {
    /// Who is asked.
    pub model: LanguageModel,
    /// How it writes changes best.
    pub format: EditFormat,
    /// The rules for children, of which there are none.
    pub sandbox: Sandbox,
}

/// A round of answers.
struct Round<'a> {
    draft: &'a DiffDraft,
    surroundings: &'a DraftSurroundings<'a>,
    allowed: Allowed,
    tools: Tools<'a>,
    answers: u32,
    usage: Usage,
}

/// How a round of answers ended.
enum End {
    /// All blocks were applied; what the model says of them.
    Applied(String),
    /// Why some were not.
    Refused(String),
}

/// What came of one answer.
enum Taken {
    Applied(String),
    /// What the model is told, and what people are told if there is no further answer.
    Again {
        told: String,
        error: Unusable,
    },
}

/// Why an answer can't be used.
enum Unusable {
    Cut,
    NoBlocks(String),
    Refused(String),
}

impl DiffDraft {
    /// The model that a configuration names.
    ///
    /// # Errors
    /// When its key can't be had, or its address can't be used.
    pub fn new(config: &DiffDraftConfig, sandbox: &Sandbox) -> anyhow::Result<Self> {
        Ok(Self {
            model: LanguageModel::new(&config.model, MODEL_SECTION)?,
            format: config.model.edit_format(),
            sandbox: sandbox.clone(),
        })
    }

    /// Edits the work tree, which is at the tree that the round begins with.
    pub(super) async fn edit(
        &self,
        request: &DraftRequest,
        (surroundings, start): (&DraftSurroundings<'_>, ObjectId),
    ) -> Result<Drafted, DraftError> {
        let workspace = surroundings.workspace;
        let (installed, private) = (InstalledFiles::default(), workspace.layout.draft_private());
        let scope = Scope {
            workspace,
            config: surroundings.config,
            sandbox: &self.sandbox,
            tests: &surroundings.tests,
            installed: &installed,
            private: &private,
            on_line: surroundings.on_line.clone(),
            cancel: &surroundings.cancel,
        };
        let stage = request.round.to_string();
        let mut round = Round {
            draft: self,
            surroundings,
            allowed: surroundings
                .budgets
                .over(&self.model, (&stage, &surroundings.on_line)),
            tools: Tools::new(scope, start.clone()).await?,
            answers: 0,
            usage: Usage::default(),
        };
        let end = round.work(request).await?;
        let (answers, usage) = (round.answers, round.usage);
        let now = work_tree::now(workspace, installed.clone(), &surroundings.on_line).await?;
        let (summary, refused) = match end {
            End::Applied(said) if is_changed(&now, &start) => (said, None),
            End::Applied(why) => return Err(DraftError::NotNeeded { why }),
            End::Refused(why) => (String::new(), Some(why)),
        };
        Ok(Drafted {
            diff: if refused.is_some() {
                String::new()
            } else {
                now.diff
            },
            refused,
            isolation: None,
            model: Some(ModelWork {
                model: self.model.name(),
                prompt: format!("draft-diff {}", prompt::version()),
                steps: answers,
                compactions: 0,
                usage,
                summary: Some(summary).filter(|it| !it.is_empty()),
                stopped: None,
            }),
            comments: request.comments(),
        })
    }
}

fn is_changed(now: &Now, start: &ObjectId) -> bool {
    now.tree != *start && !now.diff.is_empty()
}

impl Round<'_> {
    async fn work(&mut self, request: &DraftRequest) -> Result<End, DraftError> {
        let mut conversation = self.first(request).await?;
        loop {
            let answer = self.ask(&conversation).await?;
            let taken = self.take(&answer).await?;
            match taken {
                Taken::Applied(said) => return Ok(End::Applied(said)),
                Taken::Again { told, .. } if self.answers < ANSWERS => {
                    (self.surroundings.on_line)("the model is asked for what can't be applied");
                    let turn = answer.into_turn();
                    conversation.messages.push(Message::Assistant(turn));
                    conversation.messages.push(Message::User(told));
                }
                Taken::Again { error, .. } => return self.give_up(error),
            }
        }
    }

    /// How a round ends without a further answer.
    fn give_up(&self, error: Unusable) -> Result<End, DraftError> {
        let model = self.draft.model.name();
        match error {
            Unusable::Refused(why) => Ok(End::Refused(why)),
            Unusable::NoBlocks(said) => Err(DraftError::NoBlocks { model, said }),
            Unusable::Cut => Err(DraftError::Model {
                model,
                error: ModelError::OutputCut,
            }),
        }
    }

    /// The request with the files that it is about, as far as the window has room.
    async fn first(&self, request: &DraftRequest) -> Result<Conversation, DraftError> {
        let draft = self.draft;
        let instructions = prompt::instructions(draft.format);
        let text = request.to_markdown();
        let window = (draft.model.window, draft.model.max_output);
        let Some(room) = prompt::room(window, instructions.len() + text.len()) else {
            let limit = Some(draft.model.window);
            return Err(self.failed(ModelError::ContextTooLong { limit }));
        };
        let contents = self.tools.contents(request, room).await;
        let contents =
            contents.map_err(|why| crate::git::GitError::host("reading the work tree", why))?;
        (self.surroundings.on_line)(&format!(
            "{} is shown {} files and asked for the change",
            draft.model.name(),
            contents.files
        ));
        let text = prompt::first(&text, &contents);
        let mut conversation = draft.model.question(&instructions, text);
        conversation.cache_key = Some(request.task.to_string());
        Ok(conversation)
    }

    async fn ask(&mut self, conversation: &Conversation) -> Result<Answer, DraftError> {
        let cancel = &self.surroundings.cancel;
        let answered = self.allowed.model.answer(conversation, cancel).await;
        self.answers += 1;
        let (usage, answer) = match answered {
            Ok(answer) => (answer.usage, Ok(answer)),
            Err(Broken {
                error,
                usage_so_far,
                ..
            }) => (usage_so_far, Err(error)),
        };
        self.usage += usage;
        if cancel.is_cancelled() {
            return Err(DraftError::Interrupted);
        }
        let Usage {
            input,
            cache_read,
            cache_write,
            output,
            ..
        } = usage;
        (self.surroundings.on_line)(&format!(
            "answer {} of at most {ANSWERS} [{input} tokens in, {cache_read} read from cache, \
             {cache_write} written to it, {output} out]",
            self.answers
        ));
        answer.map_err(|error| self.failed(error))
    }

    /// Why the model has no answer.
    fn failed(&self, error: ModelError) -> DraftError {
        match (error, self.allowed.stopped()) {
            (ModelError::Budget { .. }, Some(failure)) => DraftError::OverBudget {
                failure,
                // An answer of which a part did not apply is no change of its own.
                diff: None,
            },
            (ModelError::Cancelled, _) => DraftError::Interrupted,
            (error, _) => DraftError::Model {
                model: self.draft.model.name(),
                error,
            },
        }
    }

    async fn take(&mut self, answer: &Answer) -> Result<Taken, DraftError> {
        match &answer.stop {
            Stop::OutputCut => return Ok(cut(self.draft.model.max_output)),
            stop => {
                if let Some(error) = stop.error() {
                    return Err(self.failed(error));
                }
            }
        }
        let text = answer.text();
        let parsed = match blocks::parse(&text) {
            Ok(parsed) => parsed,
            Err(why) => return Ok(malformed(&why)),
        };
        if let Some(why) = parsed.no_change() {
            let why = why.to_owned();
            return Err(DraftError::NotNeeded { why });
        }
        if parsed.blocks.is_empty() {
            return Ok(no_blocks(&text));
        }
        let said = shortened(&parsed.said);
        Ok(self
            .apply(&parsed.blocks)
            .await?
            .unwrap_or(Taken::Applied(said)))
    }

    /// Applies blocks in their order; what comes of those that do not apply.
    async fn apply(&mut self, blocks: &[Block]) -> Result<Option<Taken>, DraftError> {
        let mut reasons = Vec::new();
        for (number, block) in (1..).zip(blocks) {
            let applied = match block {
                Block::Passage { path, old, new } => {
                    self.tools.replace_lines(path, (old, new)).await?
                }
                Block::File {
                    path,
                    content,
                    is_new,
                } => self.tools.write_file(path, (content, *is_new)).await?,
            };
            if let Err(why) = applied {
                let path = block.path();
                (self.surroundings.on_line)(&format!("block {number} (`{path}`) does not apply"));
                reasons.push(format!("Block {number} (`{path}`): {why}"));
            }
        }
        let (all, refused) = (blocks.len(), reasons.len());
        if refused == 0 {
            (self.surroundings.on_line)(&format!("{all} blocks are applied"));
            return Ok(None);
        }
        reasons.truncate(REASONS);
        let reasons = reasons.join("\n\n");
        let told = format!(
            "{} of your {all} blocks were applied and stay. {refused} were not; `old` is what they \
             look for, and `new` what comes in its place:\n\n{reasons}\n\nWrite those again so that \
             they apply, and no others.",
            all - refused
        );
        let error = Unusable::Refused(format!("{refused} of {all} blocks do not apply. {reasons}"));
        Ok(Some(Taken::Again { told, error }))
    }
}

fn cut(limit: u32) -> Taken {
    Taken::Again {
        told: format!(
            "Your answer was cut at {limit} tokens, and nothing of it was applied. Write the change \
             again, shorter: smaller blocks, fewer words."
        ),
        error: Unusable::Cut,
    }
}

fn malformed(why: &str) -> Taken {
    Taken::Again {
        told: format!(
            "Nothing of your answer was applied: {why}. Write all of the change again, each block as \
             you were told."
        ),
        error: Unusable::Refused(format!("the model's answer can't be read: {why}")),
    }
}

fn no_blocks(said: &str) -> Taken {
    Taken::Again {
        told: "Your answer has no block, so nothing was changed. Write the change as blocks, as you \
               were told; if nothing has to be changed, write the line `NO CHANGE NEEDED: ` and why."
            .to_owned(),
        error: Unusable::NoBlocks(shortened(said)),
    }
}

/// What a model said, as far as it is kept.
fn shortened(said: &str) -> String {
    said.trim().chars().take(SAID).collect()
}

#[cfg(test)]
mod tests;
