//! The mode `tools`: a model edits the work tree by the agent's own tools.
//!
//! The change is taken from the work tree, as that of a command is. Whoever was stopped in the
//! middle has changed something perhaps, which goes to the tests like any other draft, with a word
//! on why it was stopped.

use std::path::Path;
use std::time::Duration;

use patchfleet_model::{ModelError, Usage};
use serde::{Deserialize, Serialize};

use super::work_tree::{self, Now};
use super::{DraftError, DraftRequest, DraftSurroundings, Drafted, MODEL_SECTION};
use crate::config::ToolsDraftConfig;
use crate::disk;
use crate::git::{InstalledFiles, ObjectId};
use crate::model::LanguageModel;
use crate::sandbox::Sandbox;
use crate::tools::{
    Bounds, End, Finish, Scope, Tools, Turns, Worked, compact_version, prompt_version,
};

/// A model, and how far it may go.
#[derive(Debug, Clone)]
pub struct ToolsDraft {
    /// Who is asked.
    pub model: LanguageModel,
    /// Most answers of one draft.
    pub max_steps: u32,
    /// How long one draft may take.
    pub timeout: Duration,
    /// The rules for children.
    pub sandbox: Sandbox,
}

/// How a model worked on a draft, for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelWork {
    /// The provider and the model.
    pub model: String,
    /// The version of the instructions.
    pub prompt: String,
    /// How many steps it took.
    pub steps: u32,
    /// How often a summary took the place of old turns.
    #[serde(default)]
    pub compactions: u32,
    /// What it used.
    pub usage: Usage,
    /// What it says of its change.
    pub summary: Option<String>,
    /// Why it was stopped before it said that it was done.
    pub stopped: Option<String>,
}

impl ToolsDraft {
    /// The model that a configuration names.
    ///
    /// # Errors
    /// When its key can't be had, or its address can't be used.
    pub fn new(config: &ToolsDraftConfig, sandbox: &Sandbox) -> anyhow::Result<Self> {
        Ok(Self {
            model: LanguageModel::new(&config.model, MODEL_SECTION)?,
            max_steps: config.max_steps,
            timeout: config.timeout.0,
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
        let private = workspace.layout.draft_private();
        let installed = workspace.put_dependencies(&private).await?;
        let work = self.work(request, surroundings, (&start, &installed, &private));
        let worked = work.await;
        if let Err(left @ DraftError::Left(_)) = worked {
            return Err(left);
        }
        if let Err(error) = disk::remove_in_background(&private).await {
            tracing::warn!(folder = %private.display(), %error, "the home of what was run stays");
        }
        let now = match worked {
            Ok(_) | Err(DraftError::OverBudget { .. }) => {
                work_tree::now(workspace, installed, &surroundings.on_line).await?
            }
            Err(error) => return Err(error),
        };
        let worked = worked.map_err(|error| match error {
            DraftError::OverBudget { failure, .. } => DraftError::OverBudget {
                failure,
                diff: now.changed_since(&start),
            },
            other => other,
        })?;
        let comments = worked.heard.clone();
        let record = self.judge(worked, (&start, &now))?;
        if let Some(why) = &record.stopped {
            (surroundings.on_line)(&format!("the model was stopped, its work is kept: {why}"));
        }
        Ok(Drafted {
            diff: now.diff,
            refused: None,
            isolation: None,
            model: Some(record),
            comments,
        })
    }

    async fn work(
        &self,
        request: &DraftRequest,
        surroundings: &DraftSurroundings<'_>,
        (start, installed, private): (&ObjectId, &InstalledFiles, &Path),
    ) -> Result<Worked, DraftError> {
        let scope = Scope {
            workspace: surroundings.workspace,
            config: surroundings.config,
            sandbox: &self.sandbox,
            tests: &surroundings.tests,
            installed,
            private,
            on_line: surroundings.on_line.clone(),
            cancel: &surroundings.cancel,
        };
        let stage = request.round.to_string();
        let stage = (stage.as_str(), &surroundings.on_line);
        let allowed = surroundings.budgets.over(&self.model, stage);
        let mut turns = Turns {
            model: allowed.model.as_ref(),
            record: &allowed.record,
            bounds: Bounds {
                steps: self.max_steps,
                time: self.timeout,
                max_output: self.model.max_output,
                window: self.model.window,
            },
            role: self.model.role.as_deref(),
            temperature: self.model.temperature,
            tools: Tools::new(scope, start.clone()).await?,
            follow_ups: surroundings.follow_ups.clone(),
            on_line: surroundings.on_line.clone(),
            cancel: &surroundings.cancel,
        };
        let worked = turns.work(request).await?;
        match (&worked.end, allowed.stopped()) {
            (End::Broken(ModelError::Budget { .. }), Some(failure)) => {
                Err(DraftError::OverBudget {
                    failure,
                    diff: None,
                })
            }
            _ => Ok(worked),
        }
    }

    /// The record of a draft, or why there is none.
    fn judge(
        &self,
        worked: Worked,
        (start, now): (&ObjectId, &Now),
    ) -> Result<ModelWork, DraftError> {
        let is_changed = now.tree != *start && !now.diff.is_empty();
        let (summary, stopped) =
            match worked.end {
                End::Finished(Finish::Changed(summary)) if is_changed => (Some(summary), None),
                End::Finished(Finish::Changed(why) | Finish::NotNeeded(why)) => {
                    return Err(DraftError::NotNeeded { why });
                }
                End::Stopped(why) if is_changed => (None, Some(why)),
                End::Stopped(why) => return Err(DraftError::Stopped { why }),
                End::Broken(
                    error @ (ModelError::OutputCut | ModelError::ContextTooLong { .. }),
                ) if is_changed => (None, Some(error.to_string())),
                End::Broken(error) => {
                    let model = self.model.name();
                    return Err(DraftError::Model { model, error });
                }
            };
        Ok(ModelWork {
            model: self.model.name(),
            prompt: match worked.compactions {
                0 => format!("draft-tools {}", prompt_version()),
                _ => format!(
                    "draft-tools {}, compact {}",
                    prompt_version(),
                    compact_version()
                ),
            },
            steps: worked.steps,
            compactions: worked.compactions,
            usage: worked.usage,
            summary,
            stopped,
        })
    }
}

#[cfg(test)]
mod tests;
