//! A model that is asked by the agent itself: `[agents.draft.model]` of the modes `tools` and `diff`,
//! `[agents.review.model]` and `[agents.summary.model]`.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::LazyLock;

use patchfleet_config::{Faults, HumanDuration, Secret};
use patchfleet_model::{EditFormat, Entry, Origin, Protocol, Table, Target};
use serde::Deserialize;
use url::Url;

use crate::sandbox::egress;

/// The window of a model of which nothing is known.
const USUAL_WINDOW: u64 = 128_000;
/// That of a server of one's own, which has to be told and pays for it in memory.
const OWN_WINDOW: u64 = 32_768;
/// Usual room of an answer.
const USUAL_OUTPUT: u32 = 16_000;

/// The variable that names a table of the user's own; without it, this file where the agent starts.
const OWN_TABLE: (&str, &str) = ("PATCHFLEET_MODEL_TABLE", "patchfleet-models.json");

/// The table of models, and why the user's own is not in it.
static TABLE: LazyLock<(Table, Option<String>)> = LazyLock::new(|| match own_table() {
    Ok(None) => (Table::shipped(), None),
    Ok(Some(own)) => (Table::shipped().under(own), None),
    Err(why) => (Table::shipped(), Some(why)),
});

fn own_table() -> Result<Option<Table>, String> {
    let named = std::env::var_os(OWN_TABLE.0);
    let path = PathBuf::from(named.clone().unwrap_or_else(|| OWN_TABLE.1.into()));
    let failed = |error: &dyn Display| format!("the table of models {}: {error}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(text) => Table::import(&text).map(Some).map_err(|it| failed(&it)),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// What the table knows of a model.
pub(crate) fn known_model(target: &Target) -> Option<&'static Entry> {
    TABLE.0.lookup(target)
}

/// The section, with its defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelConfig {
    /// How its server is spoken to.
    pub provider: Protocol,
    /// The model's name, as its provider has it.
    pub model: String,
    /// Another server than the provider's own.
    pub url: Option<Url>,
    /// The key that the provider's server wants; a server of one's own may want none.
    pub key: Option<Secret>,
    /// What the operator adds to its instructions.
    pub role: Option<String>,
    /// Most tokens of an answer, thinking included.
    pub max_output: Option<u32>,
    /// Its window in tokens; the table's when absent.
    pub window: Option<u64>,
    /// How random the model's choice of tokens is; left to the provider when absent.
    pub temperature: Option<f64>,
    /// How long an answer may take.
    #[serde(default = "usual_answer_timeout")]
    pub answer_timeout: HumanDuration,
}

/// `[agents.review]` and `[agents.summary]`: a model beside the one that drafts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondModelConfig {
    /// The model that is asked, in the form of `[agents.draft.model]`.
    pub model: LanguageModelConfig,
}

impl SecondModelConfig {
    pub(super) fn faults(&self, purpose: Purpose) -> Faults {
        let mut faults = Faults::default();
        faults.section("model", self.model.faults(purpose));
        faults
    }
}

/// What a model is asked for, which says how much room it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Working by tools.
    Tools,
    /// A change in one answer.
    Diff,
    /// A judgement of a change.
    Review,
    /// A few words on a change.
    Summary,
}

impl Purpose {
    /// Smallest window in which a model can do it, in tokens.
    const fn least_window(self) -> u64 {
        match self {
            Self::Tools => 32_000,
            Self::Diff | Self::Review | Self::Summary => 8_000,
        }
    }

    /// Least room of an answer, thinking included.
    const fn least_output(self) -> u32 {
        match self {
            Self::Tools => 4_096,
            Self::Diff => 2_000,
            Self::Review | Self::Summary => 1_000,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Tools => "the mode `tools`",
            Self::Diff => "the mode `diff`",
            Self::Review => "a review",
            Self::Summary => "a summary",
        }
    }
}

impl LanguageModelConfig {
    /// A model at the provider's own server.
    pub const fn new(provider: Protocol, model: String) -> Self {
        Self {
            provider,
            model,
            url: None,
            key: None,
            role: None,
            max_output: None,
            window: None,
            temperature: None,
            answer_timeout: usual_answer_timeout(),
        }
    }

    /// The model at its server, without its key, and with what the table knows of it.
    pub fn target(&self) -> Target {
        let origin = Origin {
            provider: self.provider.name().to_owned(),
            model: self.model.clone(),
        };
        let mut target = Target::new(self.provider, origin);
        if let Some(url) = &self.url {
            target = target.at(url.clone());
        }
        target.window = self.window;
        let mut target = TABLE.0.fit(target);
        target.window = Some(self.window());
        target
    }

    /// What the table knows of the model.
    pub fn entry(&self) -> Option<&'static Entry> {
        let origin = Origin {
            provider: self.provider.name().to_owned(),
            model: self.model.clone(),
        };
        let target = Target::new(self.provider, origin);
        let target = match &self.url {
            Some(url) => target.at(url.clone()),
            None => target,
        };
        known_model(&target)
    }

    /// How it writes changes best. Of a model that nobody knows, whole files are asked for.
    pub fn edit_format(&self) -> EditFormat {
        self.entry().map(Entry::edit_format).unwrap_or_default()
    }

    /// Its window in tokens.
    pub fn window(&self) -> u64 {
        let known = || self.entry().and_then(Entry::window);
        let usual = match self.provider {
            Protocol::Ollama => OWN_WINDOW,
            Protocol::Anthropic | Protocol::Responses | Protocol::Chat | Protocol::Gemini => {
                USUAL_WINDOW
            }
        };
        self.window.or_else(known).unwrap_or(usual)
    }

    /// Most tokens of an answer.
    pub fn max_output(&self) -> u32 {
        let limit = self.output_limit().unwrap_or(u64::from(USUAL_OUTPUT));
        // It is taken from the window as well.
        let usual = limit.min(u64::from(USUAL_OUTPUT)).min(self.window() / 4);
        self.max_output
            .unwrap_or_else(|| u32::try_from(usual).unwrap_or(USUAL_OUTPUT))
    }

    fn output_limit(&self) -> Option<u64> {
        self.entry().and_then(Entry::output_limit)
    }

    pub(super) fn faults(&self, purpose: Purpose) -> Faults {
        let mut faults = Faults::default();
        let name = "the model has no name; write the one that its provider has for it";
        faults.rule(!self.model.trim().is_empty(), &["model"], name);
        let is_safe = |url: &Url| url.scheme() == "https" || egress::is_this_host(url);
        faults.rule(
            self.url.as_ref().is_none_or(is_safe),
            &["url"],
            "issues and code would be readable on the way; write `https://…`, or `http://` for this \
             host itself",
        );
        let is_own = self.url.is_some() || self.provider == Protocol::Ollama;
        faults.rule(
            self.key.is_some() || is_own,
            &["key"],
            format!(
                "the server of `{}` wants a key; write `key = {{ env = \"NAME\" }}` or \
                 `key = {{ file = \"/path\" }}`",
                self.provider
            ),
        );
        let why = TABLE.1.as_deref().unwrap_or_default();
        faults.rule(why.is_empty(), &["model"], why);
        let time = "there is no time for an answer; write a duration such as `10m`";
        faults.rule(!self.answer_timeout.0.is_zero(), &["answer_timeout"], time);
        let is_taken = |it: f64| (0.0..=2.0).contains(&it);
        let range = "a temperature is between 0 and 2";
        faults.rule(
            self.temperature.is_none_or(is_taken),
            &["temperature"],
            range,
        );
        faults.rule(
            purpose != Purpose::Tools || self.entry().is_none_or(Entry::tools),
            &["model"],
            format!(
                "`{}` can't call tools; choose another model, or the mode `diff`",
                self.model
            ),
        );
        self.size_faults(purpose, &mut faults);
        faults
    }

    fn size_faults(&self, purpose: Purpose, faults: &mut Faults) {
        let (window, output) = (self.window(), self.max_output());
        let (least_window, least_output) = (purpose.least_window(), purpose.least_output());
        let field = if self.window.is_some() {
            "window"
        } else {
            "model"
        };
        faults.rule(
            window >= least_window,
            &[field],
            format!(
                "the window has {window} tokens, and {} needs {least_window} or more; choose \
                 another model, or write `window` if its server has more",
                purpose.words()
            ),
        );
        faults.rule(
            output >= least_output,
            &["max_output"],
            format!("an answer needs room, and thinking counts; write {least_output} or more"),
        );
        faults.rule(
            u64::from(output) <= window / 2,
            &["max_output"],
            "the answer would take more than half of the window; write less",
        );
        let limit = self.output_limit().unwrap_or(u64::MAX);
        faults.rule(
            u64::from(output) <= limit,
            &["max_output"],
            format!("an answer of `{}` has {limit} tokens at most", self.model),
        );
    }
}

const fn usual_answer_timeout() -> HumanDuration {
    HumanDuration::from_secs(600)
}
