//! Whether a model that refused the agent takes its calls again, by one small call.
//!
//! Only after such a refusal: of a host that works nobody asks. The calls of refused keys cost nothing; the
//! one that is answered belongs to no task, so no budget counts it and the log tells what it used.

use patchfleet_domain::FailureKind;

use crate::config::{AgentConfig, DraftConfig, LanguageModelConfig};
use crate::draft::{MODEL_SECTION, ModelFault, ask_once};
use crate::model::remedy::{explained, of_model};
use crate::second_models::Reviewer;

/// The models that the agent itself asks for a draft or a review.
#[derive(Debug)]
pub(super) struct Models(Vec<Asked>);

#[derive(Debug)]
struct Asked {
    /// The section of the configuration that names it.
    section: &'static str,
    config: LanguageModelConfig,
    calls_tools: bool,
}

impl Models {
    pub(super) fn of(config: &AgentConfig) -> Self {
        let draft = match &config.draft {
            DraftConfig::Tools(draft) => Some((&draft.model, true)),
            DraftConfig::Diff(draft) => Some((&draft.model, false)),
            // A command chooses its model by itself.
            DraftConfig::Cli(_) | DraftConfig::Replay { .. } => None,
        };
        let draft = draft.map(|(model, calls_tools)| Asked {
            section: MODEL_SECTION,
            config: model.clone(),
            calls_tools,
        });
        let review = config.review.as_ref().map(|review| Asked {
            section: Reviewer::SECTION,
            config: review.model.clone(),
            calls_tools: false,
        });
        Self(draft.into_iter().chain(review).collect())
    }

    /// The first that can't be used, and how that is mended. One that is only busy or away can be.
    pub(super) async fn fault(&self) -> Option<String> {
        for asked in &self.0 {
            if let Some(fault) = asked.fault().await {
                return Some(fault);
            }
        }
        None
    }
}

impl Asked {
    async fn fault(&self) -> Option<String> {
        let config = &self.config;
        let model = format!("{}/{}", config.provider.name(), config.model);
        match ask_once(config, self.section, self.calls_tools).await {
            Ok(answer) => {
                let (input, output) = (answer.usage.prompt(), answer.usage.output);
                tracing::info!(
                    model,
                    input,
                    output,
                    "the model answers; this call is counted by no budget"
                );
                None
            }
            Err(ModelFault::Call(error)) => {
                let is_unusable = of_model(&error) == FailureKind::ModelUnusable;
                is_unusable.then(|| explained(&model, &error, self.section))
            }
            Err(setup @ ModelFault::Setup(_)) => Some(setup.to_string()),
            // It did not refuse.
            Err(ModelFault::Slow(_)) => None,
        }
    }
}
