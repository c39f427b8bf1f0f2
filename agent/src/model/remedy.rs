//! What an error of a model means for the task, and what the operator can do about it, in the names that
//! the configuration has.
//!
//! One text for the doctor, for the comment on an issue and for the reason of an agent in error.

use patchfleet_domain::FailureKind;
use patchfleet_model::ModelError;

/// The task's failure that an error of a model is.
pub(crate) const fn of_model(error: &ModelError) -> FailureKind {
    match error {
        ModelError::RateLimited { .. }
        | ModelError::Overloaded { .. }
        | ModelError::Away { .. }
        | ModelError::TimedOut { .. } => FailureKind::RemoteUnavailable,
        // The operator's to mend: whatever the task, it would end like this here.
        ModelError::Quota { .. }
        | ModelError::Authentication { .. }
        | ModelError::UnknownModel { .. }
        | ModelError::Unsupported { .. } => FailureKind::ModelUnusable,
        ModelError::Cancelled => FailureKind::Interrupted,
        ModelError::ContextTooLong { .. }
        | ModelError::OutputCut
        | ModelError::Refused { .. }
        | ModelError::Rejected { .. }
        | ModelError::Malformed { .. }
        | ModelError::History { .. }
        | ModelError::Budget { .. } => FailureKind::DraftFailed,
    }
}

/// An error with its model and what mends it, for whoever reads how a task ended.
pub(crate) fn explained(model: &str, error: &ModelError, section: &str) -> String {
    if is_passing(error) {
        return format!("{model} can't go on: {error}");
    }
    format!("{model} can't go on: {error}; {}", remedy(error, section))
}

/// The same of a model that a draft command chose and asked through the gateway.
pub(crate) fn explained_of_command(model: &str, error: &ModelError, section: &str) -> String {
    match error {
        ModelError::Quota { .. }
        | ModelError::Authentication { .. }
        | ModelError::Away { .. }
        | ModelError::TimedOut { .. }
        | ModelError::RateLimited { .. }
        | ModelError::Overloaded { .. } => explained(model, error, section),
        _ => format!(
            "{model} can't go on: {error}; have agents.draft.command ask for another model, by its \
             own options, or mend {section}.url"
        ),
    }
}

/// True when it may pass by itself, and tasks wait for that.
pub(crate) const fn is_passing(error: &ModelError) -> bool {
    matches!(
        error,
        ModelError::RateLimited { .. } | ModelError::Overloaded { .. }
    )
}

/// What the operator can do about it, where that section of the configuration names the model.
pub(crate) fn remedy(error: &ModelError, section: &str) -> String {
    match error {
        ModelError::Authentication { .. } => {
            format!("put a key that the provider accepts where {section}.key says, or mend that")
        }
        ModelError::UnknownModel { .. } => format!(
            "write the provider's own name for the model into {section}.model (of Ollama: `ollama \
             pull NAME` first), or mend {section}.url"
        ),
        ModelError::Unsupported { parameter } if parameter == "tools" => format!(
            "choose a model that calls tools by {section}.model, or another agents.draft.mode"
        ),
        ModelError::Malformed { .. } => format!(
            "mend {section}.url and {section}.provider: what is there speaks another protocol, or is \
             no server of models"
        ),
        ModelError::Away { .. } => format!(
            "start the server, or mend {section}.url; and HTTPS_PROXY and NO_PROXY, if there is a \
             proxy between"
        ),
        ModelError::TimedOut { .. } => format!(
            "raise {section}.answer_timeout, or choose a faster model: one of your own server may be \
             too large for its host"
        ),
        ModelError::Quota { .. } => {
            format!("raise it at the provider, or choose another model by {section}.model")
        }
        ModelError::RateLimited { .. } | ModelError::Overloaded { .. } => {
            "nothing, if it passes: drafts wait and try again".to_owned()
        }
        ModelError::ContextTooLong { .. } => format!(
            "give the server a larger window ({section}.window has to say the same), or choose \
             another model"
        ),
        ModelError::OutputCut => {
            format!("raise {section}.max_output, or ask for less in one issue")
        }
        ModelError::Refused { .. }
        | ModelError::Unsupported { .. }
        | ModelError::Rejected { .. }
        | ModelError::History { .. }
        | ModelError::Budget { .. }
        | ModelError::Cancelled => {
            format!("mend {section} as the provider says, or choose another model")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_error_that_a_person_has_to_mend_names_the_field_of_the_configuration() {
        let section = "agents.review.model";
        for (error, said) in [
            (
                ModelError::Authentication {
                    why: "no such key (401)".to_owned(),
                },
                "p/m can't go on: the provider does not accept the key: no such key (401); put a key \
                 that the provider accepts where agents.review.model.key says, or mend that",
            ),
            (
                ModelError::TimedOut {
                    limit: Duration::from_mins(10),
                },
                "p/m can't go on: the answer took longer than the 600s of `answer_timeout`; raise \
                 agents.review.model.answer_timeout, or choose a faster model",
            ),
            (
                ModelError::UnknownModel {
                    why: "`m`: not found (404)".to_owned(),
                },
                "the provider's own name for the model into agents.review.model.model (of Ollama",
            ),
            (
                ModelError::Malformed {
                    what: "a page".to_owned(),
                },
                "mend agents.review.model.url and agents.review.model.provider",
            ),
        ] {
            let text = explained("p/m", &error, section);
            assert!(text.contains(said), "{text}");
            for name in ["api_key", "base_url", "can't be reached"] {
                assert!(!text.contains(name), "{text}");
            }
        }
        let busy = explained("p/m", &ModelError::Overloaded { after: None }, section);
        assert_eq!(busy, "p/m can't go on: the provider is overloaded");
    }

    #[test]
    fn the_name_of_a_commands_model_is_the_commands_own() {
        let unknown = ModelError::UnknownModel {
            why: "`m`: not found (404)".to_owned(),
        };
        let text = explained_of_command("p/m", &unknown, "agents.draft.model");
        assert!(text.contains("agents.draft.command"), "{text}");
        assert!(!text.contains("agents.draft.model.model"), "{text}");
    }
}
