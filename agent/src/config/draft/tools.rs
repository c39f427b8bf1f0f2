//! `[agents.draft]` with `mode = "tools"` or `mode = "diff"`: a model drafts that the agent asks itself.

use std::path::PathBuf;

use patchfleet_config::{Faults, HumanDuration};

use super::super::model::{LanguageModelConfig, Purpose};

/// The mode `tools`: the model edits the work tree by the agent's own tools.
#[derive(Debug, Clone)]
pub struct ToolsDraftConfig {
    /// `[agents.draft.model]`.
    pub model: LanguageModelConfig,
    /// Most answers of the model in one draft.
    pub max_steps: u32,
    /// How long one draft may take.
    pub timeout: HumanDuration,
    /// Where drafts are recorded.
    pub record: Option<PathBuf>,
}

/// The mode `diff`: the model writes its change in one answer.
#[derive(Debug, Clone)]
pub struct DiffDraftConfig {
    /// `[agents.draft.model]`.
    pub model: LanguageModelConfig,
    /// Where drafts are recorded.
    pub record: Option<PathBuf>,
}

impl ToolsDraftConfig {
    /// A model with the usual limits.
    pub const fn new(model: LanguageModelConfig) -> Self {
        Self {
            model,
            max_steps: 50,
            timeout: HumanDuration::from_secs(3600),
            record: None,
        }
    }

    pub(super) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        let time = "there is no time for it; write a duration such as `1h`";
        faults.rule(!self.timeout.0.is_zero(), &["timeout"], time);
        let steps = "no step can be taken; write 1 or more";
        faults.rule(self.max_steps > 0, &["max_steps"], steps);
        faults.section("model", self.model.faults(Purpose::Tools));
        faults
    }
}

impl DiffDraftConfig {
    pub(super) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        faults.section("model", self.model.faults(Purpose::Diff));
        faults
    }
}
