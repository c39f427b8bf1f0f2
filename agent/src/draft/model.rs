//! The model that a draft command reaches, and nothing else: `[agents.draft.model]`.
//!
//! The command speaks HTTP to a port of its sandbox's own loopback. A unix socket leads from there
//! to the agent's [gateway](crate::gateway), which sends what may be sent to one fixed address, adds
//! the key and counts. Neither the key nor the address is in the sandbox.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use patchfleet_config::{Faults, HumanDuration, Rules, Secret};
use patchfleet_proxy::Proxies;
use serde::Deserialize;
use url::Url;

use super::{DraftRequest, recording};
use crate::gateway::{Credential, Gateway, Model, ModelLimits, ModelUpstream};
use crate::model::Budgets;
use crate::process::OnLine;
use crate::sandbox::egress::{self, URL_PLACEHOLDER};
use crate::sandbox::{Fact, MODEL_URL};

/// The section, with its defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Where the model is: the address below which `/v1/messages` and the like are.
    pub url: Url,
    /// The key that is added to each request; none is when it is left out.
    #[serde(default)]
    pub key: Option<Secret>,
    /// The header that shows it.
    #[serde(default)]
    pub header: KeyHeader,
    /// Variables of the command that lead it to the model, with `{url}` for the address.
    #[serde(default = "usual_variables")]
    pub variables: BTreeMap<String, String>,
    /// How long an answer may not begin, or pause.
    #[serde(default = "usual_answer")]
    pub answer_timeout: HumanDuration,
    /// The largest request, in MiB.
    #[serde(default = "usual_request")]
    pub request_mib: u32,
    /// What all requests of one draft together may have, and all answers, in MiB.
    #[serde(default = "usual_draft")]
    pub draft_mib: u32,
}

/// How a key is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyHeader {
    /// `x-api-key: KEY`.
    #[default]
    XApiKey,
    /// `authorization: Bearer KEY`.
    Bearer,
    /// `x-goog-api-key: KEY`.
    XGoogApiKey,
}

/// The model of one agent's draft commands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DraftModel {
    model: Model,
    variables: Vec<(String, String)>,
    /// Where the calls of each draft are recorded, if they are.
    record: Option<PathBuf>,
}

impl DraftModel {
    /// The model that a section names.
    ///
    /// # Errors
    /// When the key can't be had, or what is configured can't be used.
    pub fn new(config: &ModelConfig) -> anyhow::Result<Self> {
        let key = config.key.as_ref();
        let key = key.map(|key| key.reveal("agents.draft.model.key"));
        let credential = match (key.transpose()?, config.header) {
            (None, _) => Credential::None,
            (Some(key), KeyHeader::XApiKey) => Credential::ApiKey(key),
            (Some(key), KeyHeader::Bearer) => Credential::Bearer(key),
            (Some(key), KeyHeader::XGoogApiKey) => Credential::GoogleKey(key),
        };
        let upstream = ModelUpstream::new(&config.url, credential).context("agents.draft.model")?;
        let limits = ModelLimits {
            request: usize::try_from(u64::from(config.request_mib) << 20)?,
            bytes_up: u64::from(config.draft_mib) << 20,
            bytes_down: u64::from(config.draft_mib) << 20,
            answer: config.answer_timeout.0,
            ..ModelLimits::default()
        };
        let proxies = Proxies::from_environment()?;
        let model = Model::new(upstream, limits, &proxies).context("agents.draft.model")?;
        Ok(Self {
            model,
            variables: config.filled_variables().collect(),
            record: None,
        })
    }

    /// The same, whose calls are recorded below a folder.
    pub(super) fn recording(mut self, dir: Option<&Path>) -> Self {
        self.record = dir.map(Path::to_owned);
        self
    }

    /// The variables by which the command finds the model.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Starts the gateway of one draft, on a socket in a folder that keeps other users out.
    pub(super) fn open(
        &self,
        folder: &Path,
        request: &DraftRequest,
        (budgets, on_line): (Budgets, &OnLine),
    ) -> io::Result<Gateway> {
        let folder = folder.join("model");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let socket = folder.join("model.sock");
        // Left by an agent that was killed.
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let record = self.record.as_deref();
        let log = record.and_then(|dir| recording::calls(dir, request, on_line));
        Gateway::bind(&socket, self.model.clone(), budgets, log)
    }
}

impl ModelConfig {
    /// A model at an address, with the usual settings and no key.
    pub(crate) fn at(url: Url) -> Self {
        Self {
            url,
            key: None,
            header: KeyHeader::default(),
            variables: usual_variables(),
            answer_timeout: usual_answer(),
            request_mib: usual_request(),
            draft_mib: usual_draft(),
        }
    }

    /// The variables, with the address that the model has inside of the sandbox.
    pub fn filled_variables(&self) -> impl Iterator<Item = (String, String)> {
        let variables = self.variables.iter();
        variables.map(|(name, value)| (name.clone(), value.replace(URL_PLACEHOLDER, MODEL_URL)))
    }
}

impl ModelConfig {
    /// What the command is given, for `sandbox explain`.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let variables = self.filled_variables();
        let mut facts: Vec<_> = variables
            .map(|(name, value)| Fact::set(name, value))
            .collect();
        let key = match (&self.key, self.header) {
            (None, _) => "without a key",
            (Some(_), KeyHeader::XApiKey) => {
                "with the operator's key as `x-api-key`, added outside"
            }
            (Some(_), KeyHeader::Bearer) => {
                "with the operator's key as `authorization: Bearer`, added outside"
            }
            (Some(_), KeyHeader::XGoogApiKey) => {
                "with the operator's key as `x-goog-api-key`, added outside"
            }
        };
        let Self {
            url,
            request_mib,
            draft_mib,
            answer_timeout,
            ..
        } = self;
        let much = format!(
            "{url} and nothing else, {key}; {request_mib} MiB a request, {draft_mib} MiB a draft \
             each way, {answer_timeout} for an answer"
        );
        facts.push(Fact::set("model", much));
        facts
    }
}

impl Rules for ModelConfig {
    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        let base = ModelUpstream::new(&self.url, Credential::None);
        let why = base.err().map(|error| error.to_string());
        faults.rule(why.is_none(), &["url"], why.unwrap_or_default());
        faults.rule(
            self.url.scheme() == "https" || egress::is_this_host(&self.url),
            &["url"],
            "issues and code would be readable on the way; write `https://…`, or `http://` for this \
             host itself",
        );
        let is_name = |name: &String| {
            let mut bytes = name.bytes();
            bytes
                .next()
                .is_some_and(|it| it.is_ascii_alphabetic() || it == b'_')
                && bytes.all(|it| it.is_ascii_alphanumeric() || it == b'_')
        };
        faults.rule(
            self.variables.keys().all(is_name),
            &["variables"],
            "a variable's name has letters, digits and `_`",
        );
        let mut values = self.variables.values();
        faults.rule(
            values.any(|value| value.contains(URL_PLACEHOLDER)),
            &["variables"],
            "no variable has the model's address; write `{url}` in one, as in \
             `ANTHROPIC_BASE_URL = \"{url}\"`",
        );
        let time = "there is no time for an answer; write a duration such as `10m`";
        faults.rule(!self.answer_timeout.0.is_zero(), &["answer_timeout"], time);
        let room = "no request has room; write 1 or more";
        faults.rule(self.request_mib > 0, &["request_mib"], room);
        faults.rule(self.draft_mib > 0, &["draft_mib"], room);
        faults
    }
}

fn usual_variables() -> BTreeMap<String, String> {
    egress::model_variables().into_iter().collect()
}

const fn usual_answer() -> HumanDuration {
    HumanDuration::from_secs(600)
}

const fn usual_request() -> u32 {
    32
}

const fn usual_draft() -> u32 {
    1024
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(more: Value) -> ModelConfig {
        let mut section = json!({"url": "https://model.example/api"});
        for (name, value) in more.as_object().into_iter().flatten() {
            section[name] = value.clone();
        }
        serde_json::from_value(section).unwrap()
    }

    fn blamed(more: Value) -> String {
        let faults = config(more).faults();
        faults
            .first()
            .map_or_else(String::new, |it| it.fields.join(" "))
    }

    #[test]
    fn what_can_not_be_used_is_named_by_its_field() {
        for (more, field) in [
            (json!({}), ""),
            (json!({"url": "http://127.0.0.1:8000"}), ""),
            (json!({"url": "http://localhost:8000"}), ""),
            (json!({"url": "http://10.0.0.1:8000"}), "url"),
            (json!({"url": "https://user:word@model.example"}), "url"),
            (json!({"url": "https://model.example/?key=x"}), "url"),
            (json!({"url": "ftp://model.example"}), "url"),
            (json!({"variables": {"MODEL": "here"}}), "variables"),
            (json!({"variables": {"A B": "{url}"}}), "variables"),
            (json!({"variables": {}}), "variables"),
            (json!({"answer_timeout": "0s"}), "answer_timeout"),
            (json!({"request_mib": 0}), "request_mib"),
            (json!({"draft_mib": 0}), "draft_mib"),
        ] {
            assert_eq!(blamed(more.clone()), field, "{more}");
        }
    }

    #[test]
    fn variables_lead_to_the_sandboxs_own_loopback_and_have_no_key() {
        let usual: BTreeMap<_, _> = config(json!({"key": "hush"})).filled_variables().collect();
        assert_eq!(usual["ANTHROPIC_BASE_URL"], MODEL_URL);
        assert_eq!(usual["OPENAI_BASE_URL"], format!("{MODEL_URL}/v1"));
        assert!(
            usual
                .values()
                .all(|value| !value.contains("hush") && !value.contains("model.example"))
        );
        let own = config(json!({"variables": {"MODEL": "{url}/x"}}));
        let own: Vec<_> = own.filled_variables().collect();
        assert_eq!(own, [("MODEL".to_owned(), format!("{MODEL_URL}/x"))]);
    }

    #[test]
    fn a_key_that_is_not_there_is_named_by_its_field() {
        let absent = config(json!({"key": {"env": "PATCHFLEET_TEST_NO_SUCH_KEY"}}));
        let error = DraftModel::new(&absent).unwrap_err().to_string();
        assert!(error.starts_with("agents.draft.model.key: "), "{error}");
        let broken = DraftModel::new(&config(json!({"key": "a\nb"}))).unwrap_err();
        assert!(
            format!("{broken:#}").contains("no header can have"),
            "{broken:#}"
        );
    }
}
